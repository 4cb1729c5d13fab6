"""Checkpoints with something wrong in them.

Each must be refused in one sentence that names the thing, and leave no model in the store and no
tile; or, where the reference takes it too, give the reference's logits.  Nothing may crash or hang.
"""

import json
import math
import os
import shutil
import struct

import torch

from common import Wrong, one_sentence, seeded
from folder import Folder
from models import MOST, differences, ours

# ---- what can be wrong: each changes the folder and says which words the sentence must have

NUMBERS = [
    'vocab_size',
    'hidden_size',
    'intermediate_size',
    'num_hidden_layers',
    'num_attention_heads',
    'num_key_value_heads',
    'head_dim',
    'max_position_embeddings',
    'rms_norm_eps',
    'rope_theta',
    'partial_rotary_factor',
    'moe_intermediate_size',
    'n_routed_experts',
    'num_experts_per_tok',
    'n_shared_experts',
    'n_group',
    'topk_group',
    'first_k_dense_replace',
    'routed_scaling_factor',
    'num_nextn_predict_layers',
]
FLAGS = ['attention_bias', 'tie_word_embeddings', 'norm_topk_prob', 'use_qk_norm']
VALUES = [
    '-1',
    '-0.5',
    '0',
    '1',
    '2',
    '3',
    '2.5',
    '1e3',
    '1e30',
    '4294967296',
    '4294967297',
    '2147483648',
    '18446744073709551616',
    '99999999999999999999999999',
    '1e-30',
    '0.3',
    '1e999',
    'NaN',
    'Infinity',
    'null',
    'true',
    'false',
    '"64"',
    '""',
    '[]',
    '[64]',
    '{}',
    '16.0',
    '1.6e1',
    '-0',
    '0x10',
    '007',
    '+1',
    '.5',
    '1.',
]


def number(r, f):
    key = r.choice([k for k in NUMBERS + FLAGS if k in f.config])
    value = r.choice(VALUES)
    f.note = '%s %s' % (key, value)
    f.text = json.dumps(dict(f.config, **{key: '@'})).replace('"@"', value)
    return ()


def missing_key(r, f):
    # (Where the tensors say whether there are biases, norms or a head, we believe them.)
    f.note = r.choice([k for k in f.config if k not in FLAGS + ['pad_token_id']])
    del f.config[f.note]
    return ()


def twice(r, f):
    key = r.choice(NUMBERS[:8])
    f.text = json.dumps(f.config)[:-1] + ', "%s": %s}' % (key, r.choice(['7', str(f.config[key] * 2)]))
    return 'config.json', key


def setting(r, f):
    key, value = r.choice(
        [
            ('hidden_act', 'gelu'),
            ('hidden_act', 'relu'),
            ('quantization_config', {'bits': 4}),
            ('model_type', 'llama'),
            ('architectures', ['LlamaForCausalLM']),
            ('architectures', []),
            ('rope_scaling', {'rope_type': 'dynamic', 'factor': 2.0}),
            ('rope_scaling', {'type': 'longrope', 'factor': 2.0}),
            ('rope_scaling', 'yarn'),
            ('rope_parameters', {'full_attention': {'rope_theta': 1e4}}),
            ('rope_parameters', {'rope_type': 'proportional'}),
            ('scoring_func', 'softmax'),
            ('topk_method', 'greedy'),
            ('sliding_window', 128),
            ('use_sliding_window', True),
            ('mlp_bias', True),
            ('architectures', 'Glm4ForCausalLM'),
            ('eos_token_id', -1),
            ('eos_token_id', 1000),
            ('eos_token_id', 'x'),
            ('eos_token_id', [1.5]),
            ('num_nextn_predict_layers', 2),
        ]
    )
    f.config[key], f.note = value, '%s %s' % (key, value)
    if key == 'eos_token_id' or (key == 'num_nextn_predict_layers' and not f.moe):
        return (
            None
            if key != 'eos_token_id'
            else ('eos' if value in (-1, 'x') or isinstance(value, list) else 'end token',)
        )
    return (key if key != 'rope_scaling' and key != 'rope_parameters' else 'rope_',)


def two_ropes(r, f):
    """transformers takes rope_scaling where both are there."""
    f.config['rope_parameters'] = {
        'rope_type': 'default',
        'rope_theta': 10000.0,
        'partial_rotary_factor': 0.5,
    }
    f.config['rope_scaling'] = r.choice(
        [
            {'rope_type': 'linear', 'factor': 4.0},
            {'rope_type': 'default', 'rope_theta': 500.0},
            {},
            {'type': 'yarn', 'factor': 2.0, 'original_max_position_embeddings': 32},
        ]
    )
    f.note = str(f.config['rope_scaling'])
    return ()


def junk_config(r, f):
    good = json.dumps(f.config)
    f.text = r.choice(
        [
            '',
            '{',
            '[]',
            '7',
            good[:-1],
            good + 'x',
            good.replace(':', ';', 1),
            '[' * 100000,
            '{"a":' * 5000,
            good[:-1] + ',}',
            '\ufeff' + good,
            good.replace('"', "'"),
            '{"x": "\\ud800"' + ', ' + good[1:],
            'null',
        ]
    )
    f.note = f.text[:20] + ' ... ' + f.text[-20:]
    return ('config.json',) if f.text[:1] != '{' or 'ud800' not in f.text else ()


def shape(r, f):
    k = r.choice(list(f.tensors))
    t = f.tensors[k]
    f.tensors[k] = r.choice(
        [
            t[:-1],
            torch.cat([t, t[:1]]),
            t.reshape(1, *t.shape),
            t.reshape(-1)[:-1],
            t.reshape(-1, 1) if t.ndim == 1 else t.T.reshape(t.shape[1], -1)[:, :-1],
        ]
    ).contiguous()
    return (k,)


def no_tensor(r, f):
    k = r.choice(list(f.tensors))
    del f.tensors[k]
    return ()


def unknown_tensor(r, f):
    k = r.choice(
        [
            'model.layers.0.self_attn.o_proj.bias',
            'model.layers.9.input_layernorm.weight',
            'x',
            'model.layers.0.mlp.down_proj.bias',
            'model.layers.0.self_attn.q_proj.weight_scale',
            'model.layers.-1.mlp.gate.weight',
            'model.layers.00.input_layernorm.weight',
            'lm_head.bias',
        ]
    )
    f.tensors[k] = torch.zeros(8)
    return (k,)


def not_finite(r, f):
    k = r.choice([k for k in f.tensors])
    t = f.tensors[k].clone()
    t.view(-1)[r.randrange(t.numel())] = r.choice([math.nan, math.inf, -math.inf])
    f.tensors[k] = t
    f.convert[1] = r.choice(['f32', 'q80', 'q40', 'bf16', 'f16'])
    return (k,)


def too_large(r, f):
    k = r.choice([k for k in f.tensors if f.tensors[k].ndim == 2 and not k.endswith('mlp.gate.weight')])
    t = f.tensors[k].clone()
    f.convert[1] = r.choice(['q80', 'q40', 'f16'])
    t.view(-1)[r.randrange(t.numel())] = {'q80': 1e8, 'q40': 1e6, 'f16': 7e4}[f.convert[1]] * r.choice(
        [1, -1]
    )
    f.tensors[k] = t
    return (k,)


def other_dtype(r, f):
    k = r.choice(list(f.tensors))
    f.tensors[k] = f.tensors[k].double()
    return (k,)


def tie(r, f):
    if r.random() < 0.5:
        f.config['tie_word_embeddings'] = True  # and a head of its own
    else:
        del f.tensors['lm_head.weight']
    return ('tie_word_embeddings',)


def entry(r, f):
    k = r.choice(list(f.tensors))
    how = r.choice(
        [
            'dtype',
            'shape',
            'offsets',
            'negative',
            'fraction',
            'huge',
            'overlap',
            'hole',
            'swap',
            'no',
            'text',
            'big',
        ]
    )

    def spoil(h):
        e = h[k]
        a, b = e['data_offsets']
        e.update(
            {
                'dtype': dict(dtype=r.choice(['F8_E4M3', 'U8', 'I64', 'bf16', '', 7])),
                'shape': dict(shape=[e['shape'][0] + 1] + e['shape'][1:]),
                'offsets': dict(data_offsets=[a, b + 2]),
                'negative': dict(shape=[-x for x in e['shape']]),
                'fraction': dict(shape=[x + 0.5 for x in e['shape']]),
                'huge': dict(shape=[2**62, 4]),
                'overlap': dict(data_offsets=[max(a - 2, 0), b - min(a, 2)]),
                'hole': dict(data_offsets=[a + 2, b + 2]),
                'swap': dict(data_offsets=[b, a]),
                'no': dict(data_offsets=[a]),
                'text': dict(data_offsets=[str(a), str(b)]),
                'big': dict(data_offsets=[2**64 - 2, 2**64]),
            }[how]
        )
        if how == 'no' and r.random() < 0.5:
            del e['data_offsets']
        return h

    f.note = '%s of %s' % (how, k)
    if how == 'overlap' and k == next(iter(f.tensors)):
        how = 'hole'
    f.header = spoil
    return ('model.safetensors',)


def header(r, f):
    def raw(h):
        good = json.dumps(h).encode()
        name = list(h)[0]
        again = json.dumps({name: h[name]}).encode()[1:]
        return r.choice(
            [
                b'',
                b'[]',
                good[:-1],
                good + b'x',
                b' ' + good,
                good.replace(b'{', b'{"\xff": 1,', 1),
                good[:-1] + b', ' + again,
                b'[' * 100000,
                good.replace(b'"dtype"', b'"type"', 1),
                b'\0' * 64,
                good + b'\0',
                b'7',
                good.replace(name.encode(), name.encode() + b'\\u0000', 1),
                b'{"__metadata__": {"a": 1}, ' + good[1:],
                b'{"": ' + json.dumps(h[name]).encode() + b', ' + good[1:],
            ]
        )

    f.header = raw
    return ('model.safetensors',)


def length(r, f):
    n = r.choice([0, 1, 7, 2**20, 2**31, 2**32, 2**63, 2**64 - 1, 2**64 - 8, 100_000_001])
    f.bytes = lambda data: struct.pack('<Q', n) + data[8:]
    return ('model.safetensors',)


def cut(r, f):
    f.bytes = r.choice(
        [
            lambda d: d[:-1],
            lambda d: d + b'\0',
            lambda d: d[:4],
            lambda d: b'',
            lambda d: d[: len(d) // 2],
            lambda d: d[:8],
            lambda d: d[1:],
        ]
    )
    return ('model.safetensors',)


def shards(r, f):
    names = list(f.tensors)
    half = len(names) // 2
    f.files = {'a-1.safetensors': names[:half], 'a-2.safetensors': names[half:]}
    k = r.choice(names)

    def remove(folder):
        os.remove(folder + '/a-2.safetensors')

    def map_to(value):
        def change(index):
            index['weight_map'][k] = value
            return index

        return change

    def unmap(index):
        del index['weight_map'][k]
        return index

    how = r.randrange(9)
    f.note = str(how)
    if how == 0:
        f.after = remove
        return ('a-2.safetensors',)
    if how == 1:
        f.index = map_to(
            r.choice(
                [
                    '../model.safetensors',
                    '/etc/passwd',
                    'a/b.safetensors',
                    '..',
                    '',
                    'a-1.safetensors\0',
                    7,
                    None,
                    'C:\\x.safetensors',
                    '.hidden.safetensors',
                    'passwd',
                ]
            )
        )
        return 'index.json', k
    if how == 2:
        f.index = map_to('a-9.safetensors')
        return ('a-9.safetensors',)
    if how == 3:
        f.index = map_to('a-2.safetensors' if k in names[:half] else 'a-1.safetensors')
        return ('index.json',)
    if how == 4:
        f.index = unmap
        return ('index.json',)
    if how == 5:
        f.files['a-2.safetensors'].append(names[0])
        return ()
    if how == 6:
        f.index = lambda index: r.choice(
            [{}, [], 7, {'weight_map': []}, {'weight_map': {}}, {'weight_map': 'x'}]
        )
        return ('index.json',)
    if how == 7:
        f.after = lambda folder: shutil.copy(folder + '/a-1.safetensors', folder + '/model.safetensors')
        return 'model.safetensors', 'index'
    f.index = lambda index: dict(index, weight_map=dict(index['weight_map'], extra='a-1.safetensors'))
    return ('extra',)


def strange_file(r, f):
    name = r.choice(
        [
            'model.safetensors',
            'config.json',
            'tokenizer.json',
            'generation_config.json',
            'tokenizer_config.json',
            'chat_template.jinja',
        ]
    )
    if name == 'chat_template.jinja':  # looked at only beside a tokenizer
        name = 'tokenizer.json'

    def make(folder):
        path = folder + '/' + name
        if os.path.exists(path):
            os.remove(path)
        how = r.choice(['fifo', 'directory', 'device', 'loop'])
        f.note = '%s %s' % (name, how)
        if how == 'fifo':
            os.mkfifo(path)
        elif how == 'directory':
            os.mkdir(path)
        else:
            os.symlink('/dev/zero' if how == 'device' else path, path)

    f.after = make
    return (name,)


def small_files(r, f):
    name, text, words = r.choice(
        [
            ('generation_config.json', '{"eos_token_id": 1e9}', ('generation_config.json',)),
            ('generation_config.json', '{', ('generation_config.json',)),
            ('generation_config.json', '{"temperature": -1}', ('temperature',)),
            ('generation_config.json', '{"top_p": 7}', ('top_p',)),
            ('generation_config.json', '{"top_k": 2.5}', ('top_k',)),
            ('tokenizer_config.json', '{"eos_token": 7}', ('eos_token',)),
            ('tokenizer_config.json', '[]', ('tokenizer_config.json',)),
            ('tokenizer.json', '{}', ('tokenizer.json',)),
            ('tokenizer.json', '{"model": {"type": "Unigram"}}', ('tokenizer.json',)),
            ('tokenizer.json', '', ('tokenizer.json',)),
        ]
    )

    def make(folder):
        with open(folder + '/' + name, 'w') as file:
            file.write(text)

    f.after = make
    return words


FAULTS = [number] * 8 + [
    missing_key,
    missing_key,
    twice,
    setting,
    setting,
    two_ropes,
    junk_config,
    shape,
    shape,
    no_tensor,
    unknown_tensor,
    not_finite,
    not_finite,
    too_large,
    other_dtype,
    tie,
    entry,
    entry,
    header,
    header,
    length,
    cut,
    shards,
    shards,
    strange_file,
    small_files,
]


def left_over(tools, store):
    """What a refused conversion left."""
    if not os.path.exists(store):
        return ''
    status, out, err = tools.run('swarm-store', 'list', '--store', store)
    return out.strip() + err.strip()


def one(tools, seed, dir_, seen):
    r = seeded('hostile', seed)
    f = Folder(r, seed)
    fault = FAULTS[seed % len(FAULTS)] if seed <= 2 * len(FAULTS) else r.choice(FAULTS)
    words = fault(r, f)
    folder = dir_ + '/folder'
    f.write(folder)
    status, out, err = tools.convert(folder, dir_ + '/store', 'm:x', *f.convert)
    where = '%s %s' % (fault.__name__, f.note)
    if status:
        try:
            line = one_sentence(status, err, *(words or ()))
        except Wrong as e:
            raise Wrong('%s: %s' % (where, e))
        left = left_over(tools, dir_ + '/store')
        if left and (not left.startswith('store ') or '\n' in left):
            raise Wrong('%s: the store holds %s after %s' % (where, left, line))
        seen.setdefault('refused', []).append((fault.__name__, line.replace(dir_, '')))
        return
    if words:
        raise Wrong('%s: taken, but it is not good: expected %s' % (where, words))
    try:
        theirs = f.cls.from_pretrained(
            folder, dtype=torch.float32, attn_implementation='eager', experts_implementation='eager'
        ).eval()
        ids = [
            r.randrange(min(theirs.config.vocab_size, f.config.get('vocab_size', 60)))
            for _ in range(min(12, theirs.config.max_position_embeddings))
        ]
        want = theirs(torch.tensor([ids])).logits[0]
    except Exception as e:
        if 'Validation error' in str(e):  # a whole number for a fraction, null for nothing: no harm
            seen.setdefault('taken', []).append(fault.__name__)
            return
        raise Wrong('%s: taken, but the reference says %s' % (where, str(e)[:300]))
    d = differences(want, ours(tools, dir_, 'm:x', ids)).max()
    if not d <= MOST:
        raise Wrong('%s: taken, and logits differ by %.3g standard deviations' % (where, d))
    seen.setdefault('taken', []).append(fault.__name__)


def summary(seen):
    if os.environ.get('SHOW'):
        for line in sorted(set(seen.get('refused', []))):
            print('  %s: %s' % line)
    return '%d refused in one sentence, %d taken with the logits of the reference' % (
        len(seen.get('refused', [])),
        len(seen.get('taken', [])),
    )
