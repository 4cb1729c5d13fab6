"""A small good checkpoint in a folder, to be spoilt before it is written."""

import json
import os
import struct

import torch

from common import write_json
from models import Glm4Config, Glm4ForCausalLM, Glm4MoeConfig, Glm4MoeForCausalLM, randomize

DENSE = dict(
    vocab_size=60,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
    attention_bias=True,
    tie_word_embeddings=False,
    pad_token_id=0,
    eos_token_id=[1, 2],
    hidden_act='silu',
)
MOE = dict(
    DENSE,
    moe_intermediate_size=32,
    n_routed_experts=4,
    num_experts_per_tok=2,
    n_shared_experts=1,
    n_group=1,
    topk_group=1,
    first_k_dense_replace=1,
    norm_topk_prob=True,
    routed_scaling_factor=1.5,
    use_qk_norm=True,
    num_nextn_predict_layers=0,
)
ROPE = dict(rope_theta=10000.0, partial_rotary_factor=0.5)


class Folder:
    """A good checkpoint, to be spoilt before it is written."""

    def __init__(self, r, seed):
        self.moe = r.random() < 0.7
        self.cls = Glm4MoeForCausalLM if self.moe else Glm4ForCausalLM
        c = dict(MOE if self.moe else DENSE)
        model = self.cls(
            (Glm4MoeConfig if self.moe else Glm4Config)(**c, rope_parameters=dict(ROPE, rope_type='default'))
        )
        randomize(model.float(), seed, torch.bfloat16)
        self.config = dict(
            c, **ROPE, architectures=[self.cls.__name__], model_type=self.cls.config_class.model_type
        )
        self.text = None  # of config.json, instead
        self.tensors = {}
        for k, v in model.state_dict().items():
            head, _, tail = k.rpartition('.')
            if not head.endswith('mlp.experts'):
                self.tensors[k] = v
                continue
            for e in range(v.shape[0]):
                for name, p in (
                    zip(('gate_proj', 'up_proj'), v[e].chunk(2, 0))
                    if tail == 'gate_up_proj'
                    else [('down_proj', v[e])]
                ):
                    self.tensors['%s.%d.%s.weight' % (head, e, name)] = p.clone()
        self.note = ''
        self.files = None  # name -> list of tensors' names
        self.index = lambda index: index
        self.header = lambda header: header
        self.bytes = lambda data: data
        self.after = lambda folder: None
        self.convert = ['--type', 'f32', '--exchange', 'f32', '--kv', 'f32']

    def write(self, folder):
        os.mkdir(folder)
        with open(folder + '/config.json', 'w') as f:
            f.write(self.text if self.text is not None else json.dumps(self.config))
        files = self.files or {'model.safetensors': list(self.tensors)}
        for name, names in files.items():
            self.write_file(folder + '/' + name, names)
        if self.files:
            write_json(
                folder + '/model.safetensors.index.json',
                self.index(
                    {'metadata': {}, 'weight_map': {k: f for f, names in files.items() for k in names}}
                ),
            )
        self.after(folder)

    def write_file(self, path, names):
        header, data, at = {}, b'', 0
        for k in names:
            t = self.tensors[k]
            b = (
                bytes(t.to(torch.bfloat16).contiguous().view(torch.uint8).numpy())
                if t.dtype == torch.float32
                else bytes(t.contiguous().view(torch.uint8).numpy())
            )
            header[k] = {
                'dtype': 'BF16' if t.dtype == torch.float32 else 'F64',
                'shape': list(t.shape),
                'data_offsets': [at, at + len(b)],
            }
            at, data = at + len(b), data + b
        text = self.header(header)
        text = text if isinstance(text, bytes) else json.dumps(text).encode()
        text += b' ' * (-len(text) % 8)
        with open(path, 'wb') as f:
            f.write(self.bytes(struct.pack('<Q', len(text)) + text + data))
