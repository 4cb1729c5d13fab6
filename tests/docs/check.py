#!/usr/bin/env python3
"""What the documentation says against what there is: check.py BIN SOURCE

- commands stand in blocks marked sh, which run.py runs, and every option in them, in `quoted commands` and alone
  (`--option`) is one that the program's --help knows; also in blocks that do not run
- a node.conf that a page shows is one that swarm-node takes
- every page is in the navigation of the site, links lead somewhere
- every message in a table headed `it says` is one of the programs'
- the gateway's parameters and paths are those that its pages name
"""
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import pages
from pages import PROGRAMS, Wrong

BIN, SRC = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
WITH_COMMANDS = ("swarm-node", "swarm-store", "swarm-eval", "swarm-bench")
NODE_ID = "swm1kd803d8dsvul47mvn96tthd0ndwczwd8p7cuvy86esnuwcp8ptrqj8zy4z"  # for swm1...
OTHERS = {"--exclude", "--network", "--prefix"}  # of other people's programs
FOLDERS = ("base", "kernels", "arch", "model", "proto", "store", "home", "net", "peers", "weights", "stage", "ask", "node",
           "gateway", "tools")
PAGES = pages.names(SRC)
checked = {"options": 0, "links": 0, "messages": 0, "parameters": 0, "settings": 0}


@cache
def options_of(program, command):
    """The options that --help of a program, or of one of its commands, or of a script, shows."""
    if program not in PROGRAMS:
        path = SRC / program
        if not path.exists():
            raise Wrong(f"there is no {program}")
        return set(re.findall(r"(?<![\w-])(--[a-z][\w-]*)", path.read_text()))
    words = [program] + ([command] if command else [])
    done = subprocess.run([BIN / words[0], *words[1:], "--help"], capture_output=True, text=True)
    if done.returncode:
        raise Wrong(f"there is no '{' '.join(words)}'")
    found = set(re.findall(r"(?<![\w-])(--[a-z][\w-]*)", done.stdout)) | {"--help", "--version", "--man"}
    for name in re.findall(r"--\[no-\]([\w-]+)", done.stdout):
        found |= {f"--{name}", f"--no-{name}"}
    for line in done.stdout.splitlines():
        named = re.match(r" +--([a-z][\w-]*).*\[no-\]", line)
        if named:
            found.add(f"--no-{named[1]}")
    return found


@cache
def all_options():
    found = set()
    for program in PROGRAMS:
        found |= options_of(program, None)
        if program in WITH_COMMANDS:
            text = subprocess.run([BIN / program, "--help"], capture_output=True, text=True).stdout
            for command in re.findall(r"(?m)^  ([a-z][a-z-]+)  ", text):
                try:
                    found |= options_of(program, command)
                except Wrong:
                    pass
    for script in (SRC / "scripts").glob("*.sh"):
        found |= options_of(f"scripts/{script.name}", None)
    return found


def check_command(words, place):
    """One command's options."""
    ours = pages.program_of(words)
    if not ours:
        return
    program, rest = ours
    command = None
    if program in WITH_COMMANDS and rest and re.fullmatch(r"[a-z][a-z-]+", rest[0]):
        command = rest[0]
    try:
        known = options_of(program, command)
    except Wrong as e:
        raise Wrong(f"{place}: {e}") from e
    for word in rest:
        if re.match(r"--[a-z]", word):
            checked["options"] += 1
            if word.split("=")[0] not in known:
                raise Wrong(f"{place}: '{' '.join([program] + ([command] if command else []))}' knows no {word.split('=')[0]}")


def looks_like_a_command(line):
    words = line.removeprefix("$ ").split()
    ours = pages.program_of(words) if words else None
    return ours and not any(w.endswith(":") for w in words[:2]) and (not ours[1] or re.match(r"[a-z\"<'-]", ours[1][0]))


def check_blocks(page):
    for block in pages.blocks(SRC, page):
        if block.lang == "sh":
            for words in pages.words(block.text, block.place):
                check_command(words, block.place)
        elif block.lang == "python":
            try:
                compile(block.text, block.place, "exec")
            except SyntaxError as e:
                raise Wrong(f"{block.place}: {e}") from e
        elif any(d in ("skip", "prints", "fails") for d, _ in block.said):
            raise Wrong(f"{block.place}: a directive for a block that is not marked sh")
        if block.lang in ("", "bash", "shell", "console", "text"):
            for line in block.text.splitlines():
                if looks_like_a_command(line):
                    raise Wrong(f"{block.place}: commands stand in blocks marked sh: {line}")


def check_settings(page):
    """Blocks that are a node.conf are ones that a node takes."""
    for block in pages.blocks(SRC, page):
        if block.lang != "ini" or not block.text.startswith("# node.conf"):
            continue
        checked["settings"] += sum("=" in line for line in block.text.splitlines())
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write(block.text.replace("swm1...", NODE_ID))
            file.flush()
            done = subprocess.run([BIN / "swarm-node", "check-config", file.name], capture_output=True, text=True)
        if done.returncode:
            raise Wrong(f"{block.place}: {done.stderr.strip()}")


def prose(page):
    """The page's text without its fenced blocks."""
    return re.sub(r"(?ms)^( *)```.*?^ *```\s*$", "", (SRC / page).read_text())


def check_quoted(page):
    for quoted in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose(page)):
        first = quoted.split()[0] if quoted.split() else ""
        if first in PROGRAMS or re.match(r"scripts/\w+\.(sh|py)$", first):
            if not any(w.endswith(":") for w in quoted.split()[:2]):
                check_command(quoted.replace("...", "").replace("…", "").replace("'", "").replace('"', "").split(), page)
        elif re.match(r"--[a-z][\w-]*", first):
            checked["options"] += 1
            name = re.match(r"--[a-z][\w-]*", first)[0]
            if name not in all_options() | OTHERS:
                raise Wrong(f"{page}: no program knows `{name}`")


def check_links(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)\s]*\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        checked["links"] += 1
        if not ((SRC / page).parent / target).exists():
            raise Wrong(f"{page}: the link to {target} leads nowhere")


def check_navigation():
    config = (SRC / "mkdocs.yml").read_text()
    named = re.findall(r"[\w-]+\.md", config)
    for path in sorted((SRC / "docs").glob("*.md")):
        if path.name not in named:
            raise Wrong(f"docs/{path.name} is not in the navigation (nav: in mkdocs.yml)")
    for name in named:
        if not (SRC / "docs" / name).exists() and name not in ("CONTRIBUTING.md", "CHANGELOG.md"):
            raise Wrong(f"mkdocs.yml names {name}, which is not there")


@cache
def messages():
    """Every string of the sources, neighbours joined, with … for what printf puts in."""
    literal = r'"(?:[^"\\\n]|\\.)*"'
    found = []
    for folder in FOLDERS:
        for path in sorted((SRC / folder).rglob("*.[ch]")):
            text = re.sub(rf"({literal})|/\*.*?\*/", lambda m: m[1] or " ", path.read_text(), flags=re.S)
            for joined in re.findall(rf"{literal}(?:\s*(?:{literal}|PRI\w+))*", text):
                s = "".join(p[1:-1] if p[0] == '"' else "u" for p in re.findall(rf"{literal}|PRI\w+", joined))
                s = s.replace('\\"', '"').replace("\\n", " ").replace("\\\\", "\\")
                s = re.sub(r"%[-+ #0]*(?:\*|\d+)?(?:\.(?:\*|\d+))?(?:hh|h|ll|l|j|z|t)?[a-zA-Z]", "…", s).replace("%%", "%")
                found.append(loose(s))
    return found


def loose(text):
    """With … for what differs from time to time: numbers, addresses, ids, names."""
    text = re.sub(r"swm1(\.\.\.|…)?|\d+([.:]\d+)*|\b(NAME|N|M)\b|\.\.\.", "…", text)
    return re.sub(r"\s*…[\s…]*", "…", text)


def check_messages(page):
    """The first column of tables with the head `it says`."""
    for table in re.findall(r"(?m)^\| it says \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", prose(page)):
        for quoted in re.findall(r"(?m)^\| `([^`]+)`", table):
            checked["messages"] += 1
            pieces = loose(quoted).strip("…").split("…")
            if sum(len(p) for p in pieces) < 8:
                raise Wrong(f"{page}: too little of '{quoted}' is fixed text")
            like = re.compile(".*?".join(re.escape(p) for p in pieces), re.S)
            if not any(like.search(s) for s in messages()):
                raise Wrong(f"{page}: no program says '{quoted}'")


def check_gateway():
    """Every parameter and path that the gateway takes is on its page, and the other way round."""
    read = "\n".join(p.read_text() for p in sorted((SRC / "gateway").glob("*.c")))
    taken = set(re.findall(r'\{ "(\w+)", FOR_', read))
    served = set(re.findall(r'"(/(?:v1/[\w/]+|health|metrics))"', read))
    text = (SRC / "docs/gateway.md").read_text() + (SRC / "docs/api.md").read_text()
    if len(taken) < 20 or not served:
        raise Wrong("the gateway's table of parameters is not where check.py looks for it")
    checked["parameters"] = len(taken) + len(served)
    for name in sorted(taken):
        if not re.search(rf"`\"?{name}\b", text):
            raise Wrong(f"docs/api.md: the gateway takes {name}, and no page says so")
    idle = re.search(r"only with the value that means nothing special: (.*?)\.\n", text, re.S)
    if set(re.findall(r"`(\w+)`", idle[1] if idle else "")) != set(re.findall(r'\{ "(\w+)", FOR_\w+, only_', read)):
        raise Wrong("docs/api.md: these are not the parameters that are only taken where they change nothing (only_... in openai_read.c)")
    for path in sorted(served):
        if path not in text:
            raise Wrong(f"docs/api.md: the gateway serves {path}, and no page says so")
    for row in re.findall(r"(?m)^\| (`[^|]+) \|", (SRC / "docs/gateway.md").read_text().split("## Parameters")[1].split("\n## ")[0]):
        for name in re.findall(r"`([a-z_]+)", row):
            if name not in taken and name not in ("auto", "none"):
                raise Wrong(f"docs/gateway.md: the gateway takes no {name}")


def main():
    wrong = []
    checks = [(f, p) for p in PAGES for f in (check_blocks, check_settings, check_quoted, check_links, check_messages)]
    for check, *page in checks + [(check_navigation,), (check_gateway,)]:
        try:
            check(*page)
        except Wrong as e:
            wrong.append(str(e))
    if checked["messages"] < 60 or checked["options"] < 300:
        wrong.append("hardly any messages or options are found in the pages; has their form changed?")
    for sentence in wrong:
        print(f"FAILED {sentence}")
    print(f"{len(PAGES)} pages: " + ", ".join(f"{n} {what}" for what, n in checked.items()))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
