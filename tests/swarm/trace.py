"""trace.py FILE STAGES PIPELINES [whole]: a trace of swarm-ask is what docs/tracing.md says."""
import collections
import json
import sys

path, n_stages, n_plans = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
whole = "whole" in sys.argv
trace = json.load(open(path))
events = trace["traceEvents"]
assert not trace["otherData"]["cut"] and trace["otherData"]["left_out"] == 0, trace["otherData"]
assert {e["ph"] for e in events} == {"M", "X"}

who = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
row = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
spans = [e for e in events if e["ph"] == "X"]
assert all(e["pid"] in who and (e["pid"], e["tid"]) in row for e in spans)
assert all(e["ts"] >= -1000 and e["dur"] > 0 for e in spans)

# Nothing overlaps in a row.
end = collections.defaultdict(lambda: -1 << 60)
for e in sorted(spans, key=lambda e: (e["ts"], e["dur"])):
    assert e["ts"] >= end[e["pid"], e["tid"]], (e, row[e["pid"], e["tid"]])
    end[e["pid"], e["tid"]] = e["ts"] + e["dur"]

stages = [name for name in who.values() if name.startswith("stage ")]
first = [name for name in stages if "pipeline" not in name]
assert "coordinator" in who.values(), who
assert len(first) == n_stages or n_stages == 0, who  # 0: as many as there are
for i in range(len(first)):
    assert any(name.startswith(f"stage {i + 1} of {len(first)}: swm1") for name in first), first
later = {name.split("(pipeline ")[1] for name in stages if "(pipeline " in name}
assert len(later) >= n_plans - 1, who

answer = [e for e in spans if row[e["pid"], e["tid"]] == "answer"]
assert answer[0]["name"] == "first token" and answer[0]["ts"] == 0
if not whole:
    sys.exit()

# A token's time is what its way takes: what happened while it was made adds up to no more, and each
# stage computed for each of them (of the last ones the coordinator need not hear any more).
parts = ("way here", "queue", "computing", "way home", "head, sampler", "waiting")
tokens = answer[1:]
assert len(tokens) > 10 and all(e["args"]["n"] == 1 for e in tokens), len(tokens)
for token in tokens:
    start, stop = token["ts"], token["ts"] + token["dur"]
    total = 0
    for e in spans:
        if row[e["pid"], e["tid"]].split("/")[0] in parts:
            total += max(0, min(stop, e["ts"] + e["dur"]) - max(start, e["ts"]))
    assert total <= token["dur"] + 40, (token, total)  # each of them is rounded
for pid, name in who.items():
    computed = [e for e in spans if e["pid"] == pid and row[pid, e["tid"]] == "computing"]
    if name.startswith("stage "):
        assert len(computed) >= len(tokens) - 3, (name, len(computed), len(tokens))
