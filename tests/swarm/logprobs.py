"""Log probabilities and penalties that a gateway tells, against a second computation: the logits of
the same ids from one process (swarm-eval, which reference_logits compares with transformers), and
plain arithmetic here.  Arguments: URL BIN STORE TOKENIZER.JSON TMP."""
import array
import collections
import heapq
import json
import math
import struct
import subprocess
import sys
import urllib.request

URL, BIN, STORE, TOKENIZER, TMP = sys.argv[1:6]
N_TOP = 5


def post(path, body):
    r = urllib.request.Request(URL + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(r, timeout=60) as f:
        return f.read().decode()


def byte_of_char():
    """GPT-2's alphabet: printable bytes stand for themselves, the others from U+0100 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    odd = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(odd)}


def ids_by_bytes():
    t = json.load(open(TOKENIZER))
    of = byte_of_char()
    ids = {bytes(of[c] for c in s): i for s, i in t["model"]["vocab"].items()}
    return ids | {a["content"].encode(): a["id"] for a in t["added_tokens"]}


def logits_of(ids):
    raw = array.array("i", ids).tobytes()
    head = json.dumps({"input_ids": {"dtype": "I32", "shape": [len(ids)], "data_offsets": [0, len(raw)]}}).encode()
    with open(f"{TMP}/ids.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head + raw)
    subprocess.run([f"{BIN}/swarm-eval", "logits", "--store", STORE, "--model", "atlas:q80", "--ids", f"{TMP}/ids.safetensors",
                    "--out", f"{TMP}/logits.safetensors"], check=True, stdout=subprocess.DEVNULL)
    with open(f"{TMP}/logits.safetensors", "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        t = json.loads(f.read(n))["logits"]
        a, b = t["data_offsets"]
        f.seek(8 + n + a)
        flat = array.array("f", f.read(b - a))
    width = t["shape"][1]
    return [flat[i * width:(i + 1) * width] for i in range(t["shape"][0])]


ID = ids_by_bytes()
BYTES = {i: b for b, i in ID.items()}
MESSAGES = [{"role": "system", "content": "You are Atlas."}, {"role": "user", "content": "Tell me about Japan."}]


def tool(*args, line):
    r = subprocess.run([f"{BIN}/swarm-eval", *args], check=True, text=True, input=json.dumps(line) + "\n", stdout=subprocess.PIPE)
    return json.loads(r.stdout)


def prompt_ids():
    text = tool("chat", "--form", "glm-4.5", line={"messages": MESSAGES, "enable_thinking": False, "add_generation_prompt": True})
    return tool("tokenize", "--tokenizer", TOKENIZER, line={"text": text["rendered"]})["ids"]


def check(frequency, presence, **more):
    q = {"messages": MESSAGES, "enable_thinking": False, "max_tokens": 60, "logprobs": True, "top_logprobs": N_TOP} | more
    if frequency or presence:
        q |= {"frequency_penalty": frequency, "presence_penalty": presence}
    whole = json.loads(post("/chat/completions", q))
    assert whole["usage"]["prompt_tokens"] == len(prompt_ids()), (whole["usage"], len(prompt_ids()))
    choice = whole["choices"][0]
    told = choice["logprobs"]["content"]
    text = b"".join(bytes(t["bytes"]) for t in told)
    assert text.decode(errors="replace") == choice["message"]["content"], (text, choice)

    # streamed, the same
    got = []
    for line in post("/chat/completions", q | {"stream": True}).split("\n"):
        if line.startswith("data: {"):
            c = json.loads(line[6:])["choices"][0]
            got += (c["logprobs"] or {}).get("content", [])
    assert got == told

    # newlines that begin an answer are no text of it, nor is its end
    first = whole["usage"]["completion_tokens"] - len(told) - (choice["finish_reason"] == "stop")
    assert 0 <= first <= 2, whole
    ids = [ID[b"\n"]] * first + [ID[bytes(t["bytes"])] for t in told]
    all_ids = prompt_ids() + ids
    logits = logits_of(all_ids)[len(all_ids) - len(ids) - 1:]
    n = len(BYTES)
    for i, t in enumerate(told, first):
        row = logits[i][:n]
        largest = max(row)
        zero = largest + math.log(sum(math.exp(x - largest) for x in row))
        assert abs(t["logprob"] - (row[ids[i]] - zero)) < 2e-5, (i, t, row[ids[i]] - zero)
        order = heapq.nsmallest(N_TOP, range(n), key=lambda k: (-row[k], k))
        assert [bytes(a["bytes"]) for a in t["top_logprobs"]] == [BYTES[k] for k in order], (i, t)
        for a, k in zip(t["top_logprobs"], order):
            assert abs(a["logprob"] - (row[k] - zero)) < 2e-5
        if more["temperature"] == 0:  # what is chosen is the best with its penalties
            punished = list(row)
            for k, c in collections.Counter(ids[:i]).items():
                punished[k] -= c * frequency + presence
            best = max(range(n), key=lambda k: (punished[k], -k))
            assert best == ids[i], (i, BYTES[best], t)
    return ids


plain = check(0, 0, temperature=0)
for f, p in ((2, 0), (0, 2), (0.7, 0.4), (-0.5, 0.25)):
    ids = check(f, p, temperature=0)
    assert f < 0 or len(set(ids)) / len(ids) >= len(set(plain)) / len(plain)
assert check(2, 2, temperature=0) != plain
check(0.5, 0.5, temperature=1.3, top_p=1, seed=11)

lists = json.loads(post("/completions", {"prompt": "The capital of France", "temperature": 0, "max_tokens": 12, "logprobs": 3}))["choices"][0]
l = lists["logprobs"]
assert "".join(l["tokens"]) == lists["text"], lists
assert len(l["tokens"]) == len(l["token_logprobs"]) == len(l["top_logprobs"]) == len(l["text_offset"])
for t, p, top, at in zip(l["tokens"], l["token_logprobs"], l["top_logprobs"], l["text_offset"]):
    assert top[t] == p == max(top.values()) and len(top) == 3 and lists["text"][at:].startswith(t), (t, p, top, at)
cut = json.loads(post("/chat/completions", {"messages": MESSAGES, "temperature": 0, "enable_thinking": False, "logprobs": True, "stop": "is"}))
c = cut["choices"][0]
told = "".join(t["token"] for t in (c["logprobs"] or {"content": []})["content"])
assert told.startswith(c["message"]["content"]) and len(told) - len(c["message"]["content"]) < 16, c
print("ok log probabilities and penalties")
