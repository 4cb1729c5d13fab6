#!/usr/bin/env python3
"""Run every command of the documentation: run.py BIN SOURCE [PAGE...]

Each page's ```sh blocks are one session, in order, in a scratch folder and a network namespace of its own, so the
ports in the guides are free.  GLM-4.5-Air is a stand-in of its shape (standin.py).  In a page `swarm://swm1...@HOST`
is the node that was started last, and `--trust-publisher swm1...` whoever made the last model.  Blocks marked `skip` are counted and listed; check.py checks their options.

Blocks of Python run too, where what they import is installed (SWARM_PYTHON names an interpreter that has it).

Exit status 77: network namespaces are not allowed here.
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import pages
import standin

PAGE_SECONDS = 300
AT_ONCE = 3  # pages
MARK = "<block>"
PYTHON = os.environ.get("SWARM_PYTHON", sys.executable)


def namespace():
    """The words before a command that give it a network of its own, or None."""
    for words in (["unshare", "-n"], ["unshare", "-rn"]):
        try:
            if subprocess.run([*words, "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0:
                return words
        except FileNotFoundError:
            pass
    return None


def lacking(block):
    """Why a block cannot run, or None."""
    if block.skip is not None or block.lang == "sh":
        return block.skip
    for name in sorted(set(re.findall(r"(?m)^(?:import|from) (\w+)", block.text))):
        if subprocess.run([PYTHON, "-c", f"import {name}"], capture_output=True).returncode:
            return f"{PYTHON} has no {name}"
    return None


def shell_of(block):
    """What bash runs for a block."""
    if block.lang == "python":
        return f"{quote(PYTHON)} - <<'END OF BLOCK'\n{block.text}END OF BLOCK"
    text = block.text.replace("build/bin/", "")
    text = re.sub(r"swarm://swm1(\.\.\.|…)(@[\w.:-]+)?", '"$link"', text)
    text = re.sub(r"--trust-publisher swm1(\.\.\.|…)", '--trust-publisher "$publisher"', text)
    text = re.sub(r"(?m)^((?:swarm-node -|swarm-gateway\b).*?) &(\s*(?:#.*)?)$", r"\1\2", text)
    if block.args("fails"):
        lines = text.rstrip("\n").split("\n")
        lines[-1] = "fails " + lines[-1]
        text = "\n".join(lines) + "\n"
    return text


def quote(text):
    return "'" + text.replace("'", "'\\''") + "'"


def script_of(blocks, runs):
    """A page's script; runs are the blocks whose output is looked at."""
    out = ['. "$src/tests/docs/session.sh"', "pc first"]
    for block in blocks:
        for directive, arg in block.said:
            if directive == "pc":
                out.append(f"pc {arg}")
            elif directive == "before":
                out.append(arg)
        if block in runs:
            out.append(f"echo; echo {quote(MARK + block.place)}; echo {quote(MARK + block.place)} >&2")
            out.append(shell_of(block).rstrip("\n"))
    return "\n".join(out) + "\n"


def lines_of(path):
    return path.read_text(errors="replace") if path.exists() else ""


def run_page(page, blocks, runs, where):
    """None, or what went wrong."""
    bin_dir, src, scratch, checkpoint, net = where
    folder = scratch / page.replace("/", "-")
    folder.mkdir()
    (folder / "script").write_text(script_of(blocks, runs))
    env = {"PATH": f"{bin_dir}:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "scratch": str(folder), "src": str(src),
           "checkpoint": str(checkpoint), "BIN": str(bin_dir), "SWARM_NODE_PAUSE_ON": "never", "SWARM_NODE_THREADS": "1",
           "SWARM_NODE_NO_PORTMAP": "yes", "TMPDIR": str(folder)}
    with open(folder / "out", "w") as out, open(folder / "err", "w") as err:
        child = subprocess.Popen([*net, "bash", "-c", "ip link set lo up; exec bash \"$1\"", "-", folder / "script"],
                                 stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env, start_new_session=True)
        try:
            status = child.wait(PAGE_SECONDS)
        except subprocess.TimeoutExpired:
            status = f"no end after {PAGE_SECONDS} s"
        finally:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    said = {}
    for name in ("out", "err"):
        for part in lines_of(folder / name).split(MARK)[1:]:
            place, _, text = part.partition("\n")
            said[place] = said.get(place, "") + text
    if status != 0:
        place = lines_of(folder / "err").rpartition(MARK)[2].partition("\n")[0] or page
        return f"{place}: ended with {status}:\n{lines_of(folder / 'err')[-1500:]}\n{lines_of(folder / 'out')[-500:]}"
    for block in runs:
        for text in block.args("prints"):
            if text not in said.get(block.place, ""):
                return f"{block.place}: does not print '{text}' but\n{said.get(block.place, '')[-2000:]}"
    return None


def timed(page, blocks, runs, where):
    begun = time.monotonic()
    wrong = run_page(page, blocks, runs, where)
    print(f"{page}: {'FAILED' if wrong else 'ok'} ({time.monotonic() - begun:.1f} s)", flush=True)
    return wrong


def main():
    bin_dir, src = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    net = namespace()
    if not net:
        print("SKIPPED: network namespaces are not allowed here, so the guides' commands do not run")
        return 77
    scratch = Path(tempfile.mkdtemp(prefix="swarm-docs.", dir=os.environ.get("TMPDIR", "/tmp")))
    failures, todo, ran, skipped = [], [], 0, []
    try:
        standin.write(scratch / "GLM-4.5-Air", src / "models/atlas")
        where = (bin_dir, src, scratch, scratch / "GLM-4.5-Air", net)
        for page in sys.argv[3:] or pages.names(src):
            blocks = pages.blocks(src, page)
            here = [(b, lacking(b)) for b in blocks if b.lang in ("sh", "python")]
            runs = [b for b, why in here if why is None]
            ran += len(runs)
            skipped += [(b, why) for b, why in here if why is not None]
            if runs:
                todo.append((page, blocks, runs, where))
        with ThreadPoolExecutor(AT_ONCE) as pool:  # they wait for nodes most of the time
            failures = [wrong for wrong in pool.map(lambda page: timed(*page), todo) if wrong]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for block, why in skipped:
        print(f"{block.place}: not run: {why}")
    for wrong in failures:
        print(f"\nFAILED {wrong}")
    print(f"\n{ran} blocks of commands in the documentation, {len(skipped)} more not run")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
