"""What the parts of the comparison share: our programs, files, and the count of what was seen."""

import json
import os
import random
import shutil
import struct
import subprocess
import tempfile


class Wrong(Exception):
    """We and the reference disagree, or a program did what it must not."""


class Tools:
    """Our programs, with a home of their own."""

    def __init__(self, bin_, source):
        self.bin, self.source = bin_, source
        self.dir = tempfile.mkdtemp(prefix='swarm-reference-')
        home = os.path.join(self.dir, 'home')
        os.mkdir(home)
        self.env = {**os.environ, 'HOME': home, 'SWARM_HOME': home}

    def close(self):
        shutil.rmtree(self.dir)

    def run(self, program, *args, text=None, timeout=60):
        """(status, stdout, stderr)"""
        r = subprocess.run(
            [os.path.join(self.bin, program), *map(str, args)],
            env=self.env,
            input=None if text is None else text.encode(),
            timeout=timeout,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        return r.returncode, r.stdout.decode(), r.stderr.decode()

    def must(self, program, *args, text=None):
        status, out, err = self.run(program, *args, text=text)
        if status:
            raise Wrong('%s %s: status %d: %s' % (program, ' '.join(map(str, args)), status, err.strip()))
        return out

    def convert(self, folder, store, name, *options):
        return self.run(
            'swarm-convert', folder, '--store', store, '--name', name, '--quiet', '--threads', 1, *options
        )

    def lines(self, values, program, *args):
        """One JSON value a line in, one a line out."""
        out = self.must(program, *args, text=''.join(json.dumps(v) + '\n' for v in values))
        got = [json.loads(x) for x in out.split('\n') if x]
        if len(got) != len(values):
            raise Wrong('%s: %d lines in, %d out' % (program, len(values), len(got)))
        return got


def write_safetensors(path, tensors, metadata=True):
    """tensors: (name, dtype, shape, bytes) in the order in which they are to lie."""
    header, at = {'__metadata__': {'format': 'pt'}} if metadata else {}, 0
    for name, dtype, shape, data in tensors:
        header[name] = {'dtype': dtype, 'shape': list(shape), 'data_offsets': [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text)
        for t in tensors:
            f.write(t[3])


def read_safetensors(path):
    """name -> (dtype, shape, bytes)"""
    with open(path, 'rb') as f:
        (n,) = struct.unpack('<Q', f.read(8))
        header, data = json.loads(f.read(n)), f.read()
    header.pop('__metadata__', None)
    return {k: (v['dtype'], v['shape'], data[slice(*v['data_offsets'])]) for k, v in header.items()}


def write_json(path, value):
    with open(path, 'w', encoding='utf-8') as f:
        json.dump(value, f, indent=1)


def one_sentence(status, err, *words):
    """A refusal: status 1 or 2, one line, and every word in it."""
    line = err.strip()
    if status not in (1, 2) or not line or '\n' in line or not all(w in line for w in words):
        raise Wrong('not refused with %s: status %d: %s' % (', '.join(words) or 'a sentence', status, line))
    return line


def seeded(part, seed):
    return random.Random('%s %d' % (part, seed))
