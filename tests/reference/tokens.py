"""Random tokenizer.json files against the tokenizers library, on random texts, both ways.

A file is a vocabulary learned from random texts and any mixture of what such files have.  What we
refuse must be said in one sentence and lie in what we say that we do not do; all else must give the
library's ids, and its text when ids are decoded one by one.
"""

import functools
import json
import os
import sys

from common import Wrong, seeded

os.environ['RUST_BACKTRACE'] = '0'
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fixtures'))
from make_tokenizers import (
    GLM,
    O200K,
    QWEN,
    added,
    any_char,
    byte_level,
    digits,
    pre,
    random_text,
    split,
    template,
    tokenizer,
    train,
)
from tokenizers import Tokenizer

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = GLM
DEEPSEEK = [
    r'\p{N}{1,3}',
    '[一-龥\u3040-ゟ゠-ヿ]+',
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
    r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
]
QWEN35 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|"
    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS = [
    GLM,
    GLM,
    QWEN,
    O200K,
    GPT2,
    QWEN35,
    TEKKEN,
    r'\s?\w+|\W',
    r'\d|\D+',
    r'.|\n',
    r'(?<=a)b|[^\s]+|\s',
    r'\p{Han}+|\p{Hiragana}+|[^\p{Han}\p{Hiragana}]+',
    r'(?:ab|c)*?d|.',
    r'[\x20-\x7e]+|[^\x00-\x7f]{1,2}',
    r'\b\w',
    r'[[:alpha:]]+|[[:space:]]+',
    r'^a|x$|\A.|.\z',
    r'[\p{L}&&[^e]]+',
    r'\X',
    r'(?i)the|[A-Z]+',
    r'a++b|\p{^L}+',
    r'\P{L}+|\p{L}+',
    r'\h+|\R',
]

REFUSED = 'is not supported', 'are not supported', 'may not', 'cannot'


@functools.lru_cache(maxsize=None)
def learned(seed):
    return train(seed, (300, 450, 700)[seed % 3], (GLM, QWEN, O200K)[seed % 3])


def draw_pre(r):
    """(pre_tokenizer, is it one that we must do)"""
    x = r.random()
    if x < 0.35:
        return pre(split(r.choice([GLM, QWEN, LLAMA3, O200K, QWEN35, TEKKEN])), byte_level()), True
    if x < 0.45:
        return byte_level(use_regex=True, add_prefix_space=r.random() < 0.3), True
    if x < 0.55:
        return pre(*[split(p) for p in DEEPSEEK], byte_level()), True
    if x < 0.6:
        return pre(digits(r.random() < 0.5), byte_level(use_regex=True)), True
    steps = [split(r.choice(PATTERNS)) for _ in range(r.randint(1, 3))]
    if r.random() < 0.3:
        steps.append(split(text=r.choice(['a', ' ', '<|', '\u0301', 'the'])))
    sure = False
    if r.random() < 0.2:
        steps[-1]['behavior'] = r.choice(['Removed', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'])
    if r.random() < 0.1:
        steps[-1]['invert'] = True
    if r.random() < 0.15:
        steps.insert(
            r.randrange(len(steps)),
            r.choice(
                [
                    {'type': 'Whitespace'},
                    {'type': 'Punctuation', 'behavior': 'Isolated'},
                    {'type': 'Metaspace', 'replacement': '▁', 'prepend_scheme': 'always', 'split': True},
                    {'type': 'UnicodeScripts'},
                    {'type': 'BertPreTokenizer'},
                    digits(True),
                ]
            ),
        )
    return pre(*steps, byte_level(use_regex=r.random() < 0.2, add_prefix_space=r.random() < 0.2)), sure


def draw_normalizer(r):
    return r.choice(
        [(None, True)] * 6
        + [({'type': 'NFC'}, True)] * 3
        + [
            ({'type': 'Sequence', 'normalizers': [{'type': 'NFC'}, {'type': 'NFC'}]}, True),
            ({'type': 'Sequence', 'normalizers': []}, True),
            ({'type': 'NFKC'}, False),
            ({'type': 'Lowercase'}, False),
            ({'type': 'Replace', 'pattern': {'String': ' '}, 'content': '▁'}, False),
            ({'type': 'Strip', 'strip_left': True, 'strip_right': True}, False),
            ({'type': 'Prepend', 'prepend': 'x'}, False),
        ]
    )


def draw_added(r, vocab):
    """Added tokens of every kind, with texts that begin, end and hold one another."""
    contents = [
        '<|endoftext|>',
        '<|user|>',
        '<think>',
        '</think>',
        '/nothink',
        '[X]',
        '[XX]',
        ' [',
        '<',
        '<mask>',
        'the',
        'word',
        'e\u0301',
        '\n',
        '  ',
        'Ġa',
        '\u3000',
        '👩\u200d',
        '0',
        "'s",
        'nai\u0308ve',
        '<|im_start|>',
        '<|im_end|>',
        '각',
        '\u1100',
        'a b',
    ]
    # (Of two that NFC makes one, the library takes now this, now that.)
    contents += [k for k in r.sample(list(vocab), 3) if not {'é', 'e'} & set(k)]
    some = r.sample(contents, r.randint(0, 12))
    tokens = [
        (
            c,
            {
                'special': r.random() < 0.6,
                'lstrip': r.random() < 0.2,
                'rstrip': r.random() < 0.2,
                'single_word': r.random() < 0.15,
                'normalized': r.random() < 0.25,
            },
        )
        for c in some
    ]
    if tokens and r.random() < 0.1:
        flags = dict(r.choice(tokens)[1], normalized=tokens[0][1]['normalized'])
        tokens.append((tokens[0][0], flags))
    return added(max(vocab.values()) + 1, *tokens)


def draw_model(r, vocab, merges):
    """Vocabulary and merges in their spellings; (vocab, merges, flags, sure)"""
    flags, sure = {'ignore_merges': r.random() < 0.4}, True
    vocab = dict(vocab)
    if r.random() < 0.3:  # words that no merge makes
        for w in ('xyzzy', 'Ġxyzzy', 'worldÃ©', 'ĊĊĊĊ', '日本'):
            vocab[w] = len(vocab)
    if r.random() < 0.2:  # ids in another order
        ids = list(vocab.values())
        r.shuffle(ids)
        vocab = dict(zip(vocab, ids))
    if r.random() < 0.3:
        merges = r.sample(merges, len(merges))
        made = set(k for k in vocab if len(k) == 1)
        merges = [m for m in merges if m[0] in vocab and m[1] in vocab and m[0] + m[1] in vocab or not made]
    if r.random() < 0.3:
        merges = [' '.join(m) for m in merges]
    if r.random() < 0.3:
        flags.update(continuing_subword_prefix='', end_of_word_suffix='')
    x = r.random()
    if x < 0.05:
        flags['dropout'], sure = r.choice([0.0, 0.1]), False
    elif x < 0.1:
        flags['byte_fallback'], sure = True, False
    elif x < 0.15:
        flags[r.choice(['continuing_subword_prefix', 'end_of_word_suffix'])], sure = '##', False
    elif x < 0.2:
        flags.update(unk_token=r.choice(['a', 'b', '<unk>']), fuse_unk=r.random() < 0.5)
        sure = False
    if r.random() < 0.1:  # letters missing
        gone = set(r.sample([k for k in vocab if len(k) == 1], 5))
        vocab = {k: v for k, v in vocab.items() if not gone & set(k)}
        merges = [m for m in merges if not gone & set(''.join(m))]
    return vocab, merges, flags, sure


def draw(r):
    """(tokenizer.json as a value, is it one that we must do)"""
    vocab, merges, flags, sure = draw_model(r, *learned(r.randrange(9)))
    steps, sure_pre = draw_pre(r)
    normalizer, sure_normalizer = draw_normalizer(r)
    tokens = draw_added(r, vocab)
    post = r.choice([None, None, byte_level(), template(('a', [1]), 'A'), template('A', ('a', [1, 2]))])
    if r.random() < 0.1:
        post = {'type': 'Sequence', 'processors': [byte_level(), template(('b', [3]), 'A')]}
    spec = tokenizer(vocab, merges, steps, tokens, normalizer, post, **flags)
    if r.random() < 0.1:
        spec['decoder'] = {'type': 'Sequence', 'decoders': [spec['decoder']]}
    return spec, sure and sure_pre and sure_normalizer


def draw_text(r, spec):
    words = [t['content'] for t in spec['added_tokens']]
    x = r.random()
    if x < 0.8:
        return random_text(r, words)
    if x < 0.86:
        return ''.join(any_char(r) for _ in range(r.randint(1, 60)))
    if x < 0.9:  # a very long word
        return r.choice(['a', 'abc', 'é', '你', ' ', '\n', '0', '=-', '\u0301', 'e\u0301']) * r.randint(
            1, 3000
        )
    if x < 0.95:
        return ''.join(
            r.choice(' \t\n\r\u3000\xa0\u2028') * r.randint(1, 9) for _ in range(r.randint(1, 9))
        ) + r.choice(['', 'x', '.'])
    return ''.join(r.choice(words + ['a', ' ']) for _ in range(r.randint(1, 20)))


def one(tools, seed, dir_, seen, texts=40):
    r = seeded('tokens', seed)
    spec, sure = draw(r)
    path = dir_ + '/tokenizer.json'
    with open(path, 'w', encoding='utf-8') as f:
        json.dump(spec, f, ensure_ascii=r.random() < 0.5, indent=r.choice([None, 2]))
    try:
        theirs = Tokenizer.from_file(path)
    except BaseException:  # the library panics on what its own regular expressions cannot do
        seen['unreadable'] = seen.get('unreadable', 0) + 1
        return
    texts = [''] + [draw_text(r, spec) for _ in range(texts)]
    try:
        want = [theirs.encode(x).ids for x in texts]
    except BaseException:
        seen['unreadable'] = seen.get('unreadable', 0) + 1
        return
    status, out, err = tools.run(
        'swarm-eval',
        'tokenize',
        '--tokenizer',
        path,
        text=''.join(json.dumps({'text': x}) + '\n' for x in texts),
    )
    if status:
        line = err.strip()
        if sure or '\n' in line or status != 1:
            raise Wrong('refused: %s' % line)
        seen['refused'] = seen.get('refused', 0) + 1
        seen.setdefault('why', {}).setdefault(line[:160], seed)
        return
    got = [json.loads(x)['ids'] for x in out.split('\n') if x]
    for x, a, b in zip(texts, want, got):
        if a != b:
            raise Wrong('%r: they %s, we %s' % (x[:200], a[:40], b[:40]))
    n = theirs.get_vocab_size()
    some = want[:10] + [[r.randrange(n + 3) for _ in range(r.randint(1, 20))] for _ in texts]
    decoded = tools.lines(
        [{'ids': x} for x in some], 'swarm-eval', 'tokenize', '--tokenizer', path, '--decode'
    )
    for x, b in zip(some, decoded):
        a = theirs.decode(x, skip_special_tokens=False)
        if a != b['text']:
            raise Wrong('%s: they %r, we %r' % (x, a, b['text']))
    seen['texts'] = seen.get('texts', 0) + len(texts) + len(some)
    seen['files'] = seen.get('files', 0) + 1


def summary(seen):
    if os.environ.get('SHOW'):
        for line, seed in sorted(seen.get('why', {}).items()):
            print('  refused (seed %d): %s' % (seed, line))
    return '%d files of which %d were refused and %d are unreadable to the library; %d texts equal' % (
        seen.get('files', 0) + seen.get('refused', 0) + seen.get('unreadable', 0),
        seen.get('refused', 0),
        seen.get('unreadable', 0),
        seen.get('texts', 0),
    )
