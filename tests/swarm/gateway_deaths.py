"""Streams through gateways while others die.  Commands:
  whole URL SEED            the answer, one JSON line: text, reasoning, log probabilities, end
  stream URL SEED FILE      the same as a stream; FILE gets a byte a piece, so that others see how far it is
  json URL SEED             the whole answer's choices and usage, not streamed"""
import http.client
import json
import sys
import urllib.parse

command, url, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
ASK = {"messages": [{"role": "user", "content": "Tell me about Japan."}], "temperature": 1.4, "top_p": 1, "seed": seed,
       "max_tokens": 90, "logprobs": True, "top_logprobs": 4, "frequency_penalty": 0.6, "presence_penalty": 0.3,
       "enable_thinking": False}


def post(body):
    at = urllib.parse.urlsplit(url)
    c = http.client.HTTPConnection(at.hostname, at.port, timeout=120)
    c.request("POST", at.path + "/chat/completions", json.dumps(body))
    r = c.getresponse()
    if r.status != 200:
        sys.exit(f"status {r.status}: {r.read()}")
    return r


if command == "json":
    a = json.loads(post(ASK).read())
    print(json.dumps([a["choices"], {k: a["usage"][k] for k in ("prompt_tokens", "completion_tokens")}]))
    sys.exit()
text, told, finish, done = "", [], None, False
progress = open(sys.argv[4], "w") if command == "stream" else None
for line in post(ASK | {"stream": True}):
    line = line.decode().strip()
    done |= line == "data: [DONE]"
    if not line.startswith("data: {"):
        continue
    piece = json.loads(line[6:])
    if "error" in piece:
        sys.exit(f"an error: {piece}")
    c = piece["choices"][0]
    text += c["delta"].get("content") or ""
    told += (c["logprobs"] or {}).get("content", [])
    finish = c["finish_reason"] or finish
    if progress:
        progress.write(".")
        progress.flush()
if not done:
    sys.exit("the stream was cut")
assert "".join(bytes(t["bytes"]).decode("latin1") for t in told).encode("latin1").decode(errors="replace") == text, (text, told)
print(json.dumps([text, told, finish]))
