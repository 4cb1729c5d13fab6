#!/usr/bin/env python3
"""plot_bench.py JSON_DIR SVG_DIR - the sweeps of scripts/bench.sh as plots; standard library only."""
import glob
import json
import math
import os
import re
import sys

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 560, 340, 62, 46, 34, 24
COLORS = {"moe": "#c2410c", "dense": "#1d4ed8"}
NAMES = {"moe": "GLM-4.5-Air, 1 dense + 4 MoE layers", "dense": "GLM-4-9B"}


def row_of(path, ending):
    """The first row whose name ends so: (name, bound, achieved)."""
    with open(path, encoding="utf-8") as f:
        for row in json.load(f)["rows"]:
            if row["what"].endswith(ending):
                return row["what"], row["bound"], row["achieved"]
    raise SystemExit(f"{path}: no row that ends with {ending!r}")


def sweep(folder, kind, what, ending):
    """Points (x, bound, achieved) of the files KIND-WHAT-X.json."""
    points = []
    for path in glob.glob(os.path.join(folder, f"{kind}-{what}-*.json")):
        x = int(re.search(r"-(\d+)\.json$", path).group(1))
        points.append((x,) + row_of(path, ending)[1:])
    return sorted(points)


def contexts(folder, kind):
    """The rows of KIND-kv.json by context."""
    path = os.path.join(folder, f"{kind}-kv.json")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as f:
        rows = json.load(f)["rows"]
    return sorted((int(re.match(r"context (\d+)", r["what"]).group(1)), r["bound"], r["achieved"])
                  for r in rows if r["what"].endswith(": decode"))


def ticks(top):
    step = 10 ** math.floor(math.log10(top))
    step = next(s for s in (step / 5, step / 2, step, step * 2) if top / s <= 6)
    return [i * step for i in range(int(top / step) + 1)]


def plot(title, x_name, y_name, series, log_x=True):
    """series: {kind: points}; the bound is dashed."""
    xs = sorted({x for points in series.values() for x, _, _ in points})
    top = 1.25 * max(max(b, a) for points in series.values() for _, b, a in points)
    scale = math.log if log_x and xs[0] > 0 else float

    def px(x):
        low, high = scale(xs[0]), scale(xs[-1])
        return LEFT + (WIDTH - LEFT - RIGHT) * ((scale(x) - low) / (high - low) if high > low else 0.5)

    def py(y):
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * y / top

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
           'font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           f'<text x="{LEFT}" y="18" font-weight="bold">{title}</text>']
    for y in ticks(top / 1.2):
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py(y):.1f}" y2="{py(y):.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{py(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in xs:
        out.append(f'<text x="{px(x):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x}</text>')
    out.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{x_name}</text>')
    out.append(f'<text x="14" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 14 {HEIGHT / 2})">{y_name}</text>')
    for i, (kind, points) in enumerate(series.items()):
        for which, dash in ((1, ' stroke-dasharray="5 4"'), (2, "")):
            if any(p[which] > 0 for p in points):
                path = " ".join(f"{px(p[0]):.1f},{py(p[which]):.1f}" for p in points)
                out.append(f'<polyline points="{path}" fill="none" stroke="{COLORS[kind]}" stroke-width="2"{dash}/>')
        out += [f'<circle cx="{px(x):.1f}" cy="{py(a):.1f}" r="3" fill="{COLORS[kind]}"/>' for x, _, a in points]
        out.append(f'<text x="{WIDTH - RIGHT - 4}" y="{TOP + 14 + 16 * i}" text-anchor="end" '
                   f'fill="{COLORS[kind]}">{NAMES[kind]} (dashed: bound)</text>')
    return "\n".join(out) + "\n</svg>\n"


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    folder, target = sys.argv[1:]
    os.makedirs(target, exist_ok=True)
    plots = [
        ("context", "Decoding behind a context", "positions before the token", "tokens/s",
         {k: contexts(folder, k) for k in NAMES}),
        ("batch", "Decoding several sessions together", "sessions", "tokens/s, all sessions",
         {k: sweep(folder, k, "batch", ": decode") for k in NAMES}),
        ("layers", "Cost of layers (with the output head)", "layers", "ms a token",
         {k: [(x, 1e3 / b, 1e3 / a) for x, b, a in sweep(folder, k, "layers", ": decode")] for k in NAMES}),
        ("experts", "Experts that a token chooses, of 128", "experts", "ms a token",
         {"moe": [(x, 1e3 / b, 1e3 / a) for x, b, a in sweep(folder, "moe", "experts", ": decode")]}),
        ("threads", "Threads", "threads", "tokens/s",
         {k: sweep(folder, k, "threads", ": decode") for k in NAMES}),
        ("prompt", "A prompt that goes through at once", "tokens", "tokens/s",
         {k: sweep(folder, k, "tokens", ": prefill") for k in NAMES}),
    ]
    for name, title, x_name, y_name, series in plots:
        series = {k: v for k, v in series.items() if v}
        if series:
            with open(os.path.join(target, name + ".svg"), "w", encoding="utf-8") as f:
                f.write(plot(title, x_name, y_name, series))


if __name__ == "__main__":
    main()
