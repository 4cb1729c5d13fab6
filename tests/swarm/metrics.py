"""Prometheus text, read as strictly as its format is written (0.0.4).

metrics.py FILE...              each is well formed; the values of all, by name and labels, are
                                printed as one JSON object a line
metrics.py --named JSON GUIDE FILE...   ... and each metric that the dashboard or the guide names is in
                                one of them, and each of them is in the guide
"""
import json
import re
import sys

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"^({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)$")
UNITS = ("_seconds", "_bytes", "_total", "_per_second")


def fail(text):
    sys.exit(f"metrics.py: {text}")


def base(name, kind):
    """The metric that a sample belongs to."""
    return re.sub(r"_(bucket|sum|count)$", "", name) if kind == "histogram" else name


def check_histogram(name, values):
    """Buckets grow up to the count, for each set of other labels."""
    groups = {}
    for (sample, labels), value in values.items():
        bare = tuple(sorted(l for l in labels if not l.startswith('le="')))
        le = [l[4:-1] for l in labels if l.startswith('le="')]
        group = groups.setdefault(bare, {"bucket": []})
        if sample == name + "_bucket":
            group["bucket"].append((float(le[0]), value))
        else:
            group[sample[len(name) + 1:]] = value
    for bare, g in groups.items():
        bounds = [b for b, _ in g["bucket"]]
        counts = [n for _, n in g["bucket"]]
        if bounds != sorted(set(bounds)) or bounds[-1] != float("inf"):
            fail(f"{name}{bare}: bounds {bounds}")
        if counts != sorted(counts) or counts[-1] != g["count"]:
            fail(f"{name}{bare}: counts {counts}, {g['count']} in all")
        if g["sum"] < 0 or (g["count"] == 0) != (g["sum"] == 0):
            fail(f"{name}{bare}: sum {g['sum']} of {g['count']}")


def parse(path):
    text = open(path, "rb").read().decode("utf-8")
    if not text.endswith("\n"):
        fail(f"{path} does not end with a line")
    kinds, helped, done, current, values = {}, set(), set(), None, {}
    for line in text[:-1].split("\n"):
        words = line.split(" ", 3)
        if line.startswith("# HELP "):
            if words[2] in helped or len(words) < 4 or not words[3]:
                fail(f"{path}: {line}")
            helped.add(words[2])
        elif line.startswith("# TYPE "):
            name, kind = words[2], words[3]
            if name in kinds or name not in helped or kind not in ("counter", "gauge", "histogram"):
                fail(f"{path}: {line}")
            if (kind == "counter") != name.endswith("_total"):
                fail(f"{path}: {name} is a {kind}")
            if kind == "histogram" and not name.endswith(UNITS):
                fail(f"{path}: {name} has no unit")
            if current:
                done.add(current)
            kinds[name], current = kind, name
        else:
            m = SAMPLE.match(line)
            if not m:
                fail(f"{path}: {line!r}")
            labels = tuple(re.findall(LABEL, m[2] or ""))
            if current is None or base(m[1], kinds[current]) != current or current in done:
                fail(f"{path}: {line} stands apart from its TYPE")
            if len({l.split("=")[0] for l in labels}) != len(labels) or (m[1], labels) in values:
                fail(f"{path}: {line} is there twice")
            value = float(m[3])
            if value != value or (kinds[current] != "gauge" and value < 0):
                fail(f"{path}: {line}")
            values[m[1], labels] = value
    if helped != set(kinds):
        fail(f"{path}: HELP without TYPE: {helped ^ set(kinds)}")
    for name, kind in kinds.items():
        mine = {k: v for k, v in values.items() if base(k[0], kind) == name}
        if not mine:
            fail(f"{path}: {name} has no sample")
        if kind == "histogram":
            check_histogram(name, mine)
    return values


def expressions(node):
    """Every "expr" and "query" of a dashboard."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("expr", "query") and isinstance(value, str):
                yield value
            yield from expressions(value)
    elif isinstance(node, list):
        for value in node:
            yield from expressions(value)


def check_named(board, guide, known):
    named = set()
    for text in expressions(json.load(open(board))):
        named |= set(re.findall(r"\bswarm_[a-z_]+\b", text))
    said = set(re.findall(r"\bswarm_(?:node|gateway)_[a-z_]+\b", open(guide).read()))
    if not named or not said:
        fail("the dashboard or the guide names no metric")
    if (named | said) - known:
        fail(f"nobody exports {sorted((named | said) - known)}")
    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known}
    if bare - said:
        fail(f"{guide} lacks {sorted(bare - said)}")


def main():
    args = sys.argv[1:]
    board = guide = None
    if args[0] == "--named":
        _, board, guide, *args = args
    known = set()
    for path in args:
        values = parse(path)
        for name, _ in values:
            known |= {name, re.sub(r"_(bucket|sum|count)$", "", name)}
        print(json.dumps({f"{n}{{{','.join(l)}}}" if l else n: v for (n, l), v in values.items()}))
    if board:
        check_named(board, guide, known)


main()
