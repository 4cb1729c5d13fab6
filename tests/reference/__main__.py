"""Do we make of a checkpoint, a tokenizer, a conversation what the reference makes of them?

    PYTHON tests/reference BIN SOURCE SEEDS [PART [FIRST]]

BIN has our programs, SOURCE is the project, PYTHON has torch, transformers, tokenizers and jinja2.
Each seed draws one of each part: models.py, tokens.py, chats.py, hostile.py.  What is found wrong
is printed with its seed: PART and FIRST repeat it alone.  SHOW=1 in the environment prints what was
refused, too.  Exit status 1 when anything was wrong.
"""

import importlib
import shutil
import sys
import tempfile
import traceback

from common import Tools, Wrong

PARTS = ('models', 'tokens', 'chats', 'hostile')


def run(part, tools, first, n):
    module, seen, wrong = importlib.import_module(part), {}, 0
    for seed in range(first, first + n):
        dir_ = tempfile.mkdtemp(dir=tools.dir)
        try:
            module.one(tools, seed, dir_, seen)
        except Wrong as e:
            wrong += 1
            print('%s, seed %d: %s' % (part, seed, e), flush=True)
        except Exception:
            wrong += 1
            print('%s, seed %d:' % (part, seed), flush=True)
            traceback.print_exc()
        shutil.rmtree(dir_)
    try:
        found = module.summary(seen)
    except Wrong as e:
        wrong, found = wrong + 1, str(e)
    print('%s: %d seeds from %d, %d wrong; %s' % (part, n, first, wrong, found), flush=True)
    return wrong


def main():
    bin_, source, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
    parts = sys.argv[4:5] or PARTS
    first = int(sys.argv[5]) if len(sys.argv) > 5 else 1
    tools, wrong = Tools(bin_, source), 0
    try:
        for part in parts:
            wrong += run(part, tools, first, n)
    finally:
        tools.close()
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
