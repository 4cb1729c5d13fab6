#!/usr/bin/env python3
"""Write model/unicode_table.c: what the reference tokenizer's regex engine takes for each code point.

usage: unicode_table.py > model/unicode_table.c      (needs: pip install tokenizers)

Token ids depend on the engine's Unicode tables (version 16 in tokenizers 0.23.3), so the tables are
read out of the engine itself: each class is matched against all code points.
"""
import unicodedata

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

CATEGORIES = ('Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cs Co '
              'Cn').split()
SCRIPTS = ['Han', 'Hiragana', 'Katakana', 'Hangul']
EVERY = ''.join(chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF)


def members(pattern):
    split = pre_tokenizers.Split(Regex(pattern), 'removed', invert=True)
    return {ord(c) for piece, _ in split.pre_tokenize_str(EVERY) for c in piece}


def normalizing():
    """Code points that normalization changes, moves or composes in the reference, whose tables are
    older than ours and Python's."""
    nfd = normalizers.NFD()
    last = '\u0345'  # the mark of the highest class: every other goes before it
    known = {ord(last)} | {ord(c) for c in EVERY
                           if unicodedata.combining(c) and nfd.normalize_str(last + c)[0] != last}
    for c in EVERY:
        parts = nfd.normalize_str(c)
        if parts != c:
            known.update(map(ord, c + parts))
    return known


def ranges(points):
    out = []
    for c in sorted(points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def rows(cells, per_line):
    return ''.join('    ' + ' '.join(cells[i:i + per_line]) + '\n' for i in range(0, len(cells), per_line))


def main():
    category = {c: 'Cs' for c in range(0xD800, 0xE000)}
    for name in CATEGORIES:
        if name != 'Cs':
            for c in members(r'\p{%s}+' % name):
                assert c not in category, (hex(c), name, category[c])
                category[c] = name
    assert len(category) == 0x110000

    starts = [c for c in range(0x110000) if c == 0 or category[c] != category[c - 1]]
    print(f'''/* unicode_table.c - made by tools/unicode_table.py from tokenizers {tokenizers.__version__}; do not edit. */
#include "model/unicode_table.h"

/* clang-format off */
#define C(lo, name) lo << 5 | UNICODE_##name,

const uint32_t unicode_category[] = {{''')
    print(rows([f'C(0x{c:05x}, {category[c]})' for c in starts], 5), end='')
    print('};\nconst uint32_t unicode_category_n = sizeof unicode_category / sizeof *unicode_category;')

    letters = {c for c in category if category[c][0] == 'L' or category[c] == 'Nl'}
    lists = [('alphabetic', members(r'\p{Alphabetic}+') - letters), ('space', members(r'\s+'))]
    lists += [('normalizing', normalizing())]
    lists += [(name.lower(), members(r'\p{%s}+' % name)) for name in SCRIPTS]
    for name, points in lists:
        cells = ['{0x%05x, 0x%05x},' % (lo, hi) for lo, hi in ranges(points)]
        print(f'\nconst struct urange unicode_{name}[] = {{')
        print(rows(cells, 5), end='')
        print(f'}};\nconst uint32_t unicode_{name}_n = sizeof unicode_{name} / sizeof *unicode_{name};')


main()
