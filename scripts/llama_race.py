#!/usr/bin/env python3
"""llama_race.py - a GGUF file in llama.cpp, timed or asked for logits, one request a line.

For `swarm-bench race`, which starts it and writes requests to its standard input, and for
tests/llama.py, which compares logits.  Needs llama-cpp-python (its low-level API).

    llama_race.py FILE.gguf --threads N --context LONGEST [--ubatch N] [--kv f32|f16] [--map-only]

Every line in and out is a JSON object.  The first line out is {"ready": ..., "load_s": ...}; then

    {"do": "prefill", "tokens": n, "flash": bool}              -> {"s": seconds}
    {"do": "fill", "context": n, "flash": bool}                -> {"s": seconds}
    {"do": "decode", "context": n, "tokens": k, "flash": bool} -> {"s": seconds for k tokens}
    {"do": "logits", "ids": [..], "out": FILE}                 -> {} (f32, [len(ids)][vocabulary])
    {"do": "greedy", "ids": [..], "tokens": k}                 -> {"ids": [k ids]}
    {"do": "stop"}

Settings are those in which llama.cpp is fastest: threads as given, flash attention on and off (the
caller takes the better one), its default map of the file with weights repacked at load, K and V in
f16, no more logits than needed.

How a long context is filled without computing every token of it: 512 tokens are computed once;
their K and V are saved and put back as another sequence as often as needed, moved to their
positions with llama.cpp's own position shift (which rotates K), and joined to one sequence.  What
lies in the cache is then as long and of the same kind as after a real prompt; only its contents
repeat, on which no product's time depends.  Its length is checked before and after.
"""
import argparse
import ctypes
import json
import sys
import time

import llama_cpp as L

CHUNK = 512  # tokens that are computed to fill a context
SEQ, SPARE = 0, 1
KV_TYPES = {"f32": 0, "f16": 1}  # ggml's numbers


@L.llama_log_callback
def silent(_level, _text, _data):
    pass


class Context:
    def __init__(self, model, args, flash):
        p = L.llama_context_default_params()
        p.n_ctx = args.context
        p.n_batch = p.n_ubatch = args.ubatch
        p.n_seq_max = 2
        p.kv_unified = True
        p.n_threads = p.n_threads_batch = args.threads
        p.flash_attn_type = int(flash)
        p.type_k = p.type_v = KV_TYPES[args.kv]
        p.no_perf = True
        self.ctx = L.llama_init_from_model(model, p)
        if not self.ctx:
            raise RuntimeError("llama.cpp cannot make a context of %d tokens" % args.context)
        self.memory = L.llama_get_memory(self.ctx)
        self.batch = L.llama_batch_init(args.ubatch, 0, 1)
        self.vocab = L.llama_vocab_n_tokens(L.llama_model_get_vocab(model))
        self.ubatch = args.ubatch
        self.filled = 0
        self.state = None
        self.never_again = args.map_only  # other tokens each time: the same would find their experts
        self.made = 0

    def length(self):
        return L.llama_memory_seq_pos_max(self.memory, SEQ) + 1

    def compute(self, ids, want_all=False):
        """Decode ids at the end of the sequence; logits of the last one, or of all."""
        at = self.length()
        b = self.batch
        b.n_tokens = len(ids)
        for i, token in enumerate(ids):
            b.token[i] = token
            b.pos[i] = at + i
            b.n_seq_id[i] = 1
            b.seq_id[i][0] = SEQ
            b.logits[i] = want_all or i + 1 == len(ids)
        r = L.llama_decode(self.ctx, b)
        if r != 0:
            raise RuntimeError("llama_decode returned %d" % r)
        L.llama_synchronize(self.ctx)

    def made_up(self, n):
        return [(i * 7919 + 13) % self.vocab for i in range(n)]

    def clear(self):
        L.llama_memory_clear(self.memory, True)
        self.filled = 0

    def keep(self, n):
        L.llama_memory_seq_rm(self.memory, SEQ, n, -1)

    def prefill(self, n):
        self.clear()
        ids = self.made_up(n)
        start = time.perf_counter()
        for i in range(0, n, self.ubatch):
            self.compute(ids[i : i + self.ubatch])
        s = time.perf_counter() - start
        self.clear()
        return s

    def save_chunk(self):
        self.clear()
        ids = self.made_up(CHUNK)
        for i in range(0, CHUNK, self.ubatch):
            self.compute(ids[i : i + self.ubatch])
        self.state = (ctypes.c_uint8 * L.llama_state_seq_get_size(self.ctx, SEQ))()
        L.llama_state_seq_get_data(self.ctx, self.state, len(self.state), SEQ)
        self.clear()

    def fill(self, n):
        """Make the sequence n tokens long."""
        if self.filled == n:
            self.keep(n)
            return
        self.clear()
        if n and not self.state:
            self.save_chunk()
        for at in range(0, n, CHUNK):
            if not L.llama_state_seq_set_data(self.ctx, self.state, len(self.state), SPARE):
                raise RuntimeError("llama.cpp does not take its own state back")
            if at:
                L.llama_memory_seq_add(self.memory, SPARE, 0, -1, at)
            L.llama_memory_seq_cp(self.memory, SPARE, SEQ, -1, -1)
            L.llama_memory_seq_rm(self.memory, SPARE, -1, -1)
        self.keep(n)
        self.filled = n
        self.compute([1])  # applies the shifts
        self.keep(n)
        if self.length() != n:
            raise RuntimeError("a context of %d tokens, not %d" % (self.length(), n))

    def decode(self, context, n):
        self.fill(context)
        self.compute([1])
        self.keep(context)
        ids = self.made_up(self.made + n)[self.made :]
        self.made += n if self.never_again else 0
        start = time.perf_counter()
        for token in ids:
            self.compute([token])
        s = time.perf_counter() - start
        if self.length() != context + n:
            raise RuntimeError("the context is %d tokens long, not %d" % (self.length(), context + n))
        self.keep(context)
        return s

    def logits(self, ids, out):
        self.clear()
        with open(out, "wb") as f:
            for i in range(0, len(ids), self.ubatch):
                some = ids[i : i + self.ubatch]
                self.compute(some, want_all=True)
                p = L.llama_get_logits(self.ctx)
                f.write(ctypes.string_at(p, len(some) * self.vocab * 4))

    def greedy(self, ids, n):
        self.clear()
        for i in range(0, len(ids), self.ubatch):
            self.compute(ids[i : i + self.ubatch])
        got = []
        while len(got) < n:
            p = L.llama_get_logits_ith(self.ctx, -1)
            got.append(max(range(self.vocab), key=lambda j: p[j]))
            self.compute([got[-1]])
        return got


def load(args):
    L.llama_log_set(silent, ctypes.c_void_p(0))
    L.llama_backend_init()
    p = L.llama_model_default_params()
    p.n_gpu_layers = 0
    if args.map_only:
        p.use_extra_bufts = False
        args.ubatch = min(args.ubatch, 32)
    start = time.perf_counter()
    model = L.llama_model_load_from_file(args.file.encode(), p)
    if not model:
        raise RuntimeError("llama.cpp cannot load %s" % args.file)
    return model, time.perf_counter() - start


def answer(contexts, model, args, q):
    flash = bool(q.get("flash", False))
    if flash not in contexts:
        contexts[flash] = Context(model, args, flash)
    c = contexts[flash]
    if q["do"] == "prefill":
        return {"s": c.prefill(q["tokens"])}
    if q["do"] == "fill":
        start = time.perf_counter()
        c.fill(q["context"])
        return {"s": time.perf_counter() - start}
    if q["do"] == "decode":
        return {"s": c.decode(q["context"], q["tokens"])}
    if q["do"] == "logits":
        c.logits(q["ids"], q["out"])
        return {}
    if q["do"] == "greedy":
        return {"ids": c.greedy(q["ids"], q["tokens"])}
    raise RuntimeError("unknown request %r" % q["do"])


def main():
    a = argparse.ArgumentParser(description="A GGUF file in llama.cpp, one JSON request a line.")
    a.add_argument("file")
    a.add_argument("--threads", type=int, required=True)
    a.add_argument("--context", type=int, required=True, help="tokens of the longest context")
    a.add_argument("--ubatch", type=int, default=512)
    a.add_argument("--map-only", action="store_true",
                   help="weights stay in the file's map, not repacked; batches of 32")
    a.add_argument("--kv", choices=KV_TYPES, default="f16")
    args = a.parse_args()
    contexts = {}

    try:
        model, seconds = load(args)
        system = L.llama_print_system_info().decode()
        print(json.dumps({"ready": L.__version__, "load_s": seconds, "system": system}), flush=True)
        for line in sys.stdin:
            q = json.loads(line)
            if q["do"] == "stop":
                break
            print(json.dumps(answer(contexts, model, args, q)), flush=True)
    except (RuntimeError, OSError, KeyError, ValueError) as e:
        print(json.dumps({"error": str(e)}), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
