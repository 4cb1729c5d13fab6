#!/usr/bin/env python3
"""doc_pictures.py BIN SVG_DIR - the pictures of docs/tutorial.md, drawn from what the programs print.

Three nodes hold atlas, with lines of 10 ms each way between them (swarm-proxy); a fourth can take over for the last.
plan.svg is swarm-ask --plan, pause.svg an answer whose last stage is killed, pcs.svg swarm-node plan for PCs that
are described.  Standard library only.
"""
import html
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BIN, OUT = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
SOURCE = Path(__file__).resolve().parent.parent
WIDTH, LEFT, RIGHT = 640, 132, 24
INK, FAINT, WAY, WORK, LOST = "#1f2937", "#d1d5db", "#93c5fd", "#1d4ed8", "#c2410c"


# --- drawing ---

class Picture:
    def __init__(self, title, height):
        self.height = height
        self.parts = [f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>']
        self.title = title
        self.text(16, 24, title, size=14, weight="bold")

    def text(self, x, y, text, size=12, anchor="start", color=INK, weight="normal"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{color}" '
                          f'font-weight="{weight}">{html.escape(text)}</text>')

    def bar(self, x, y, w, h, color):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(w, 1):.1f}" height="{h}" fill="{color}"/>')

    def line(self, points, color, width=2, dash=""):
        at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{at}" fill="none" stroke="{color}" stroke-width="{width}" '
                          f'stroke-dasharray="{dash}"/>')

    def write(self, name):
        OUT.mkdir(parents=True, exist_ok=True)
        head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" role="img" '
                f'aria-label="{html.escape(self.title)}" font-family="sans-serif">')
        (OUT / name).write_text("\n".join([head, *self.parts, "</svg>"]) + "\n")
        print(OUT / name)


def ticks(most):
    step = next(s * 10 ** e for e in range(-3, 7) for s in (1, 2, 5) if most <= 6 * s * 10 ** e)
    return [i * step for i in range(int(most / step) + 1)]


def axes(p, x_of, y_of, xs, ys, x_name, y_name, bottom):
    for x in xs:
        p.line([(x_of(x), 52), (x_of(x), bottom)], FAINT, 1)
        p.text(x_of(x), bottom + 16, f"{x:g}", anchor="middle")
    for y in ys:
        p.line([(60, y_of(y)), (WIDTH - RIGHT, y_of(y))], FAINT, 1)
        p.text(54, y_of(y) + 4, f"{y:g}", anchor="end")
    p.text(WIDTH - RIGHT, bottom + 32, x_name, anchor="end")
    p.text(16, 44, y_name)


# --- the swarm ---

def run(*words, **more):
    return subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True, **more).stdout


class Swarm:
    """Nodes behind proxies of so many milliseconds; stopped at the end of the with."""

    def __init__(self, folder, delay):
        self.folder, self.delay, self.running = Path(folder), delay, []
        os.environ |= {"HOME": folder, "XDG_RUNTIME_DIR": folder + "/run", "SWARM_NODE_PAUSE_ON": "never"}
        for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
            os.environ.pop(name, None)
        os.mkdir(folder + "/run", 0o700)
        run(BIN / "swarm-convert", SOURCE / "models/atlas", "--store", self.folder / "store", "--name", "atlas:q80",
            "--type", "q80", "--quiet")

    def start(self, words, first):
        """A process, and its first line."""
        log = open(self.folder / "log", "a", encoding="utf-8")
        child = subprocess.Popen([str(w) for w in words], stdout=subprocess.PIPE, stderr=log,
                                 stdin=None if first else subprocess.DEVNULL, text=True)
        self.running.append(child)
        line = child.stdout.readline().strip()
        if not line:
            sys.exit(f"{words[0]} does not start: {(self.folder / 'log').read_text()}")
        return child, line

    def node(self, name, *options, delay=None):
        """A node that others reach through a proxy: (process, link)."""
        proxy = subprocess.Popen([BIN / "swarm-proxy", "--listen", "127.0.0.1:0", "--target", "127.0.0.2:0", "--delay",
                                  str(delay or self.delay)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
        self.running.append(proxy)
        at = proxy.stdout.readline().strip()
        return self.start([BIN / "swarm-node", "--store", self.folder / "store", "--identity",
                           self.folder / (name + ".key"), "--listen", "127.0.0.2:" + at.rpartition(":")[2],
                           "--advertise", at, "--threads", "1", "--no-lan", "--no-portmap", *options], False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.running:
            child.send_signal(signal.SIGKILL)
            child.wait()


def draw_plan(plan):
    stages = plan["stages"]
    rows, now = [], 0
    for s in stages:
        work = s["layer_us"] * (s["hi"] - s["lo"])
        rows.append((f"layers {s['lo']}-{s['hi'] - 1}", now, s["hop_us"], work))
        now += s["hop_us"] + work
    rows.append(("head, sampler", now, plan["home_us"], plan["head_us"]))
    all_us = now + plan["home_us"] + plan["head_us"]
    p = Picture(f"One token of {plan['model']} through {len(stages)} PCs: {all_us / 1000:.1f} ms", 96 + 34 * len(rows))
    scale = (WIDTH - LEFT - RIGHT) / all_us
    for i, (name, begin, hop, work) in enumerate(rows):
        y = 44 + 34 * i
        p.text(16, y + 15, name)
        p.bar(LEFT + begin * scale, y, hop * scale, 20, WAY)
        p.bar(LEFT + (begin + hop) * scale, y, work * scale, 20, WORK)
    y = 56 + 34 * len(rows)
    p.bar(LEFT, y, 14, 12, WAY)
    p.text(LEFT + 20, y + 11, "on the way")
    p.bar(LEFT + 120, y, 14, 12, WORK)
    p.text(LEFT + 140, y + 11, "computing")
    p.write("plan.svg")


def draw_pause(points, killed):
    """points: (seconds, characters so far)."""
    bottom, most = 250, points[-1][0]
    times = [s for s, _ in points]
    pause = max(b - max(a, killed) for a, b in zip(times, times[1:]) if b > killed)
    usual = sorted(b - a for a, b in zip(times, times[1:]))[len(times) // 2]
    p = Picture("An answer whose last stage is killed", 300)

    def x_of(s):
        return 60 + (WIDTH - 60 - RIGHT) * s / most

    def y_of(n):
        return bottom - (bottom - 60) * n / points[-1][1]

    axes(p, x_of, y_of, ticks(most), ticks(points[-1][1]), "seconds", "characters of the answer", bottom)
    stairs = [(0, 0)]
    for s, n in points:
        stairs += [(s, stairs[-1][1]), (s, n)]
    p.line([(x_of(s), y_of(n)) for s, n in stairs], WORK)
    p.line([(x_of(killed), 52), (x_of(killed), bottom)], LOST, 2, "5 4")
    p.text(x_of(killed) + 6, bottom - 8, f"killed: no text for {1000 * pause:.0f} ms, usually for {1000 * usual:.0f}", color=LOST)
    p.write("pause.svg")


def draw_pcs(lines):
    """lines: {name: [(PCs, tokens/s)]}"""
    bottom = 270
    top = max(t for points in lines.values() for _, t in points)
    p = Picture("GLM-4.5-Air in q40 on equal PCs that read 60 GB/s, one answer", 320)

    def x_of(n):
        return 60 + (WIDTH - 160 - RIGHT) * (n - 2) / 8

    def y_of(t):
        return bottom - (bottom - 60) * t / top

    axes(p, x_of, y_of, range(2, 11, 2), ticks(top), "PCs", "tokens/s", bottom)
    for (name, points), color in zip(lines.items(), (WORK, "#047857", "#b45309", LOST)):
        p.line([(x_of(n), y_of(t)) for n, t in points], color)
        p.text(x_of(points[-1][0]) + 6, y_of(points[-1][1]) + 4, name, color=color)
    p.write("pcs.svg")


def plan_of(link, others):
    """The plan when so many others are known and lines are measured: a question first connects the stages."""
    until = time.monotonic() + 60
    while True:
        try:
            run(BIN / "swarm-ask", link, "--greedy", "--draft", "off", "What is the capital of France?", timeout=60)
            plan = json.loads(run(BIN / "swarm-ask", link, "--plan", "--json"))["plan"]
            if len(plan["stages"]) == 3 and plan["left_out"] == others and all(s["hop_known"] for s in plan["stages"]):
                return plan
        except subprocess.CalledProcessError as e:
            if time.monotonic() > until:
                sys.exit(e.stderr)
        if time.monotonic() > until:
            sys.exit("the nodes do not find each other")
        time.sleep(0.2)


def answer_with_a_kill(link, victim):
    """Characters by time, and when the node was killed; None when the answer did not run through it."""
    ask = subprocess.Popen([BIN / "swarm-ask", link, "--draft", "off", "--no-think", "--greedy", "Tell me about Japan."],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    begun, points, killed, n = time.monotonic(), [], None, 0
    while piece := os.read(ask.stdout.fileno(), 4096):
        now = time.monotonic() - begun
        n += len(piece.decode(errors="replace"))
        points.append((now, n))
        if killed is None and n > 60:
            victim.send_signal(signal.SIGKILL)
            killed = time.monotonic() - begun
    said = ask.stderr.read().decode()
    if ask.wait():
        sys.exit(f"the answer did not go on: {said}")
    return (points, killed) if "layers 6-7 are now computed by" in said else None


def pcs(ms):
    out = []
    for n in range(2, 11):
        try:
            plan = json.loads(run(BIN / "swarm-node", "plan", "--json", "--pc", f"{max(1, round(66 / n) + 3)}G,60GB/s,{ms}ms x{n}"))
        except subprocess.CalledProcessError:
            continue
        out.append((len(plan["stages"]), plan["tokens_per_s"]))
    return sorted(dict(out).items())


def main():
    with tempfile.TemporaryDirectory() as folder, Swarm(folder, 10) as swarm:
        _, link = swarm.node("first", "--layers", "0-2")
        join = ("--no-ends", "--join", link)
        swarm.node("second", "--layers", "3-5", *join)
        last = [swarm.node("third", "--layers", "6-7", *join)]
        draw_plan(plan_of(link, 0))
        last.append(swarm.node("spare", "--layers", "6-7", *join, delay=12))
        for again in range(5):  # on a busy machine an answer may go another way than the plan before it
            used = plan_of(link, 1)["stages"][-1]["id"]
            victim = next(node for node in last if used in node[1])
            if healed := answer_with_a_kill(link, victim[0]):
                break
            last.remove(victim)
            last.append(swarm.node(f"third{again}", "--layers", "6-7", *join))
        else:
            sys.exit("the answers did not run through the node that was killed")
        draw_pause(*healed)
    draw_pcs({name: pcs(ms) for name, ms in (("0.5 ms", 0.5), ("20 ms", 20), ("40 ms", 40), ("80 ms", 80))})


if __name__ == "__main__":
    main()
