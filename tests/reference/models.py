"""Random small checkpoints, converted and computed by us and by transformers.

f32     weights, exchange, keys and values in f32: only the order of sums differs.
users   the same weights with the exchange and the cache that users have: looser bounds.
q80 q40 the reference computes with the dequantized weights and with activations rounded as
        docs/arithmetic.md says, so again little more than the order of sums differs; only where a
        sum lies on the edge between two roundings, or two experts are as good, do logits move.
"""

import json
import math
import os

import torch
import torch.nn.functional as F
import transformers
from transformers import Glm4Config, Glm4ForCausalLM, Glm4MoeConfig, Glm4MoeForCausalLM
from transformers.models.glm4_moe.modeling_glm4_moe import Glm4MoeDecoderLayer, Glm4MoeRMSNorm

from common import Wrong, read_safetensors, seeded, write_json, write_safetensors

torch.set_num_threads(1)
torch.set_grad_enabled(False)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

DTYPES = {
    'bfloat16': ('BF16', torch.bfloat16),
    'float16': ('F16', torch.float16),
    'float32': ('F32', torch.float32),
}

# In standard deviations of the logits.
MOST = 5e-4


# ---- drawing


def draw_rope(r, head_dim):
    """The rope settings that the class is given."""
    partial = r.choice([0.5, 0.5, 1.0, 0.25])
    while int(head_dim * partial) % 2 or int(head_dim * partial) < 2:
        partial = r.choice([0.5, 1.0])
        if head_dim % 4:
            partial = 1.0
    rope = {
        'rope_type': 'default',
        'rope_theta': r.choice([10000.0, 1000000.0, 500.0, 12345.678]),
        'partial_rotary_factor': partial,
    }
    kind = r.choice(['default'] * 6 + ['linear', 'llama3', 'yarn'])
    rope['rope_type'] = kind
    if kind != 'default':
        rope['factor'] = r.choice([2.0, 4.0, 8.5])
    if kind in ('llama3', 'yarn'):
        rope['original_max_position_embeddings'] = r.choice([64, 128, 8192])
    if kind == 'llama3':
        rope.update(low_freq_factor=1.0, high_freq_factor=4.0)
    if kind == 'yarn' and r.random() < 0.5:
        rope.update(beta_fast=16.0, beta_slow=2.0, attention_factor=1.25)
    return rope


def draw_config(r):
    """(class, configuration as a dictionary of the class's own names)"""
    moe = r.random() < 0.65
    kv = r.choice([1, 1, 2, 3, 4])
    head_dim = r.choice([2, 8, 16, 24, 32, 32, 36, 64, 64, 128])
    c = dict(
        vocab_size=r.choice([17, 100, 257, 512, r.randrange(50, 700)]),
        hidden_size=r.choice([16, 32, 48, 64, 96, 128, 160, r.randrange(9, 150)]),
        intermediate_size=r.choice([32, 64, 256, 37, 1, r.randrange(1, 500)]),
        num_hidden_layers=r.choice([1, 2, 3, 4, 5]),
        num_attention_heads=kv * r.choice([1, 1, 2, 3, 4]),
        num_key_value_heads=kv,
        head_dim=head_dim,
        max_position_embeddings=r.choice([128, 512, 1000, 131072]),
        rms_norm_eps=r.choice([1e-5, 1.5625e-07, 1e-6]),
        attention_bias=r.random() < 0.5,
        tie_word_embeddings=r.random() < 0.3,
        hidden_act='silu',
        pad_token_id=0,
        eos_token_id=r.choice([[1, 2], 3, [16, 0, 5]]),
        rope_parameters=draw_rope(r, head_dim),
    )
    if not moe:
        return Glm4ForCausalLM, Glm4Config, c
    groups = r.choice([1, 1, 1, 2, 4])
    experts = groups * r.choice([2, 2, 3, 4, 8])
    kept = r.randint(1, groups)
    dense = r.choice([0, 1, 1, 2, c['num_hidden_layers']])
    c.update(
        moe_intermediate_size=r.choice([32, 64, 5, 1, r.randrange(1, 130)]),
        n_routed_experts=experts,
        num_experts_per_tok=r.randint(1, experts // groups * kept),
        n_shared_experts=r.choice([0, 1, 1, 1, 2, 3]),
        n_group=groups,
        topk_group=kept,
        first_k_dense_replace=min(dense, c['num_hidden_layers']),
        norm_topk_prob=r.random() < 0.7,
        routed_scaling_factor=r.choice([1.0, 2.5, 0.3]),
        use_qk_norm=r.random() < 0.5,
        num_mtp_layers=r.choice([0, 0, 1]),
    )
    return Glm4MoeForCausalLM, Glm4MoeConfig, c


def written(r, cls, c):
    """config.json: as transformers 5 writes it, or as files of 2024 and 2025 are."""
    j = dict(c, architectures=[cls.__name__], model_type=cls.config_class.model_type)
    rope, moe = dict(j.pop('rope_parameters')), cls is Glm4MoeForCausalLM
    if moe:
        j['num_nextn_predict_layers'] = j.pop('num_mtp_layers')
        if r.random() < 0.2:
            j['num_local_experts'] = j.pop('n_routed_experts')
        if r.random() < 0.2:
            j['num_mtp_layers'] = j.pop('num_nextn_predict_layers')
    style = r.choice(['new', 'old', 'mixed'])
    if style == 'new':
        j['rope_parameters'] = rope
    else:
        j['rope_theta'], j['partial_rotary_factor'] = rope.pop('rope_theta'), rope.pop(
            'partial_rotary_factor'
        )
        if rope['rope_type'] == 'default' and r.random() < 0.8:
            rope = None
        elif r.random() < 0.5:
            rope['type'] = rope.pop('rope_type')
        j['rope_scaling' if style == 'old' else 'rope_parameters'] = rope
    if j['rms_norm_eps'] == 1e-5 and r.random() < 0.5:
        j['transformers_version'] = '4.54.0'
    for key, value in (('attention_dropout', 0.0), ('use_cache', True), ('initializer_range', 0.02)):
        if r.random() < 0.5:
            j[key] = value
    keys = list(j)
    r.shuffle(keys)
    return {k: j[k] for k in keys}


def randomize(model, seed, dtype):
    torch.manual_seed(seed)
    for name, p in list(model.named_parameters()) + list(model.named_buffers()):
        if 'inv_freq' in name or not p.numel():
            continue
        if 'e_score_correction_bias' in name:
            p.copy_((0.3 * torch.randn_like(p)).to(dtype).float())
            continue
        if p.ndim >= 2:
            scale = 1 if 'embed' in name else 1 / math.sqrt(p.shape[-1])
            p.copy_(torch.randn_like(p) * scale)
        elif 'norm' in name:
            p.copy_(1 + 0.2 * torch.randn_like(p))
        else:
            p.copy_(0.3 * torch.randn_like(p))
        p.copy_(p.to(dtype).float())


class Mtp(torch.nn.Module):
    """The prediction layer, whose tensors lie in layer L of a checkpoint."""

    def __init__(self, config):
        super().__init__()
        norm = lambda: Glm4MoeRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.enorm, self.hnorm = norm(), norm()
        self.shared_head = torch.nn.ModuleDict({'norm': norm()})
        self.eh_proj = torch.nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)
        self.block = Glm4MoeDecoderLayer(config, config.num_hidden_layers)

    def forward(self, model, ids):
        hidden, n = model.model(ids).last_hidden_state[:, :-1], ids.shape[1] - 1
        x = torch.cat([self.enorm(model.model.embed_tokens(ids[:, 1:])), self.hnorm(hidden)], -1)
        mask = torch.full((n, n), -math.inf).triu(1)[None, None]
        at = torch.arange(n)[None]
        x = self.block(
            self.eh_proj(x),
            attention_mask=mask,
            position_ids=at,
            position_embeddings=model.model.rotary_emb(x, at),
        )
        x = x[0] if isinstance(x, tuple) else x
        return model.lm_head(self.shared_head['norm'](x))


def published(r, model, mtp, c):
    """Tensors by the names that checkpoints have; in the files experts mostly lie one by one."""
    tensors = dict(model.state_dict())
    if mtp:
        for k, v in mtp.state_dict().items():
            tensors['model.layers.%d.%s' % (c['num_hidden_layers'], k.replace('block.', ''))] = v
        if r.random() < 0.5:  # copies, as GLM-4.5 has them
            tensors['model.layers.%d.embed_tokens.weight' % c['num_hidden_layers']] = tensors[
                'model.embed_tokens.weight'
            ]
            tensors['model.layers.%d.shared_head.head.weight' % c['num_hidden_layers']] = tensors[
                'lm_head.weight'
            ]
    if c['tie_word_embeddings'] and r.random() < 0.7:
        del tensors['lm_head.weight']
    out, fused = {}, r.random() < 0.15
    for k, v in tensors.items():
        head, _, tail = k.rpartition('.')
        if fused or not head.endswith('mlp.experts'):
            out[k] = v
        else:
            for e in range(v.shape[0]):
                parts = (
                    {'gate_proj': v[e].chunk(2, 0)[0], 'up_proj': v[e].chunk(2, 0)[1]}
                    if tail == 'gate_up_proj'
                    else {'down_proj': v[e]}
                )
                out.update({'%s.%d.%s.weight' % (head, e, n): p for n, p in parts.items()})
    if r.random() < 0.1:
        out['model.layers.0.self_attn.rotary_emb.inv_freq'] = torch.rand(4)
    return out


def write_weights(r, folder, tensors, dtype):
    """In one file or several, in any order."""
    names = list(tensors)
    r.shuffle(names)

    def entry(k):
        t = tensors[k]
        to = torch.float32 if 'e_score' in k and r.random() < 0.5 or 'inv_freq' in k else dtype
        if to != torch.float32 and r.random() < 0.03 and t.ndim == 1:
            to = torch.float32  # norms of some checkpoints
        name = next(n for n, d in DTYPES.values() if d == to)
        data = t.to(to).contiguous().reshape(-1).view(torch.uint8) if t.numel() else torch.zeros(0)
        return k, name, tuple(t.shape), bytes(data.numpy()) if t.numel() else b''

    shards = r.choice([1, 1, 2, 3, 7])
    if shards == 1:
        write_safetensors(folder + '/model.safetensors', [entry(k) for k in names])
        return
    index = {}
    for i in range(shards):
        file = 'model-%05d-of-%05d.safetensors' % (i + 1, shards)
        part = names[i::shards]
        if part:
            write_safetensors(folder + '/' + file, [entry(k) for k in part], r.random() < 0.8)
        index.update({k: file for k in part})
    write_json(
        folder + '/model.safetensors.index.json',
        {'metadata': {'total_size': r.choice([0, 12345])}, 'weight_map': index},
    )


# ---- quantized arithmetic


def blocks(x, segments, f):
    """f of blocks of 32 along the last dimension, anew at each segment; short ones padded by 0."""
    out = []
    for part in x.split(segments, -1):
        n = part.shape[-1]
        b = F.pad(part, (0, -n % 32)).unflatten(-1, (-1, 32))
        out.append(f(b).flatten(-2)[..., :n])
    return torch.cat(out, -1) if out else x


def q80_weights(b):
    d = b.abs().amax(-1, keepdim=True) / 127
    q = torch.where(d > 0, b * (1 / d), torch.zeros_like(b))
    q = torch.trunc(q + torch.copysign(torch.full_like(q, 0.5), q))
    d = d.half().float()
    return torch.where(d > 0, q * d, torch.zeros_like(b))


def q40_weights(b):
    most = b.gather(-1, b.abs().argmax(-1, keepdim=True))
    d = most / -8
    q = torch.where(d != 0, b * (1 / d), torch.zeros_like(b))
    q = torch.trunc(q + 8.5).clamp(0, 15) - 8
    d = d.half().float()
    return torch.where(d != 0, q * d, torch.zeros_like(b))


def activations(b):
    a = b.abs().amax(-1, keepdim=True)
    q = torch.round(b * (127 / a))
    return torch.where(a >= 2.0**-100, q * (a / 127), torch.zeros_like(b))


class Quantized:
    """Within: weights of the model rounded, and every product's input too."""

    def __init__(self, model, type_, c):
        self.rounding = {'q80': q80_weights, 'q40': q40_weights}[type_]
        group = c['num_attention_heads'] // c['num_key_value_heads'] * c['head_dim']
        self.segments, self.kept = {}, []
        seen = set()
        for name, p in model.named_parameters():
            if p.ndim < 2 or name.endswith('mlp.gate.weight') or p.data_ptr() in seen or not p.numel():
                continue
            seen.add(p.data_ptr())
            self.kept.append((p, p.clone()))
            width = group if 'o_proj' in name else p.shape[-1]
            p.copy_(blocks(p, width, self.rounding))
            self.segments[p.untyped_storage().data_ptr()] = width

    def __enter__(self):
        self.linear, self.exact = F.linear, False
        F.linear = self.product
        return self

    def __exit__(self, *_):
        F.linear = self.linear
        for p, was in self.kept:
            p.copy_(was)

    def product(self, x, w, b=None):
        width = self.segments.get(w.untyped_storage().data_ptr())
        return self.linear(blocks(x, width, activations) if width and not self.exact else x, w, b)


# ---- comparing


def differences(want, got):
    """The largest difference at each position, in standard deviations of all that is wanted."""
    if want.shape != got.shape:
        raise Wrong('logits of shape %s, expected %s' % (list(got.shape), list(want.shape)))
    d = (want - got).abs().amax(-1) / want.std()
    return torch.where(d.isnan(), torch.full_like(d, math.inf), d)


def id_tensor(ids):
    return 'input_ids', 'I32', [len(ids)], torch.tensor(ids, dtype=torch.int32).numpy().tobytes()


def ours(tools, dir_, name, ids):
    """Logits of all positions."""
    write_safetensors(dir_ + '/ids.safetensors', [id_tensor(ids)])
    files = ['--ids', dir_ + '/ids.safetensors', '--out', dir_ + '/out.safetensors']
    tools.must('swarm-eval', 'logits', '--store', dir_ + '/store', '--model', name, '--threads', 1, *files)
    _, shape, data = read_safetensors(dir_ + '/out.safetensors')['logits']
    return torch.frombuffer(bytearray(data), dtype=torch.float32).reshape(shape)


def check_predictions(tools, dir_, mtp, model, ids, seen):
    logits = mtp(model, torch.tensor([ids]))[0].contiguous()
    tensors = [('mtp_logits', 'F32', logits.shape, logits.numpy().tobytes()), id_tensor(ids)]
    write_safetensors(dir_ + '/mtp.safetensors', tensors)
    tools.must('predict_logits', dir_ + '/store', 'm:f32', dir_ + '/mtp.safetensors')
    seen.setdefault('prediction layers', []).append((0, 0))


def check(tools, folder, dir_, model, c, ids, name, options, seen):
    """name: f32, q80 or q40, or one of the last two with -users: bf16 exchanged, K and V in f16."""
    type_, users = name[:3], name.endswith('users')
    exact_kinds = [] if users else ['--exchange', 'f32', '--kv', 'f32']
    status, _, err = tools.convert(
        folder, dir_ + '/store', 'm:' + name, '--type', type_, *exact_kinds, *options
    )
    if status:
        raise Wrong('%s is refused: %s' % (name, err.strip()))
    batch = torch.tensor([ids])
    want = noise = model(batch).logits[0]
    if type_ != 'f32':
        with Quantized(model, type_, c) as q:
            want = model(batch).logits[0]
            q.exact = True
            noise = model(batch).logits[0]
    d = differences(want, ours(tools, dir_, 'm:' + name, ids))
    seen.setdefault(name, []).append((d[0].item(), d.max().item()))

    # With everything in f32 every position is the same.  Else it is, or a few roundings fell
    # otherwise, and move it less than all of them do together; those of bf16 come on top.
    bound, what = MOST, d.max()
    if type_ != 'f32':
        bound = max(differences(noise, want).median() * (4 if users else 1.5), MOST)
        what = d.median()
    if c['intermediate_size'] < 16 and 'n_routed_experts' not in c:
        # The norm behind so narrow an MLP makes a whole vector turn with one rounding.
        bound, what = (MOST if type_ == 'f32' else math.inf), d.median()
    if not what <= bound:
        words = name, what, bound, c, ' '.join(options), ['%.2g' % x for x in d]
        raise Wrong('%s: logits differ by %.3g standard deviations, allowed %.3g: %s %s %s' % words)


def one(tools, seed, dir_, seen):
    r = seeded('models', seed)
    cls, config_class, c = draw_config(r)
    dtype_name = r.choice(['bfloat16', 'bfloat16', 'float16', 'float32'])
    _, dtype = DTYPES[dtype_name]
    config = config_class(**c, attn_implementation='eager', experts_implementation='eager')
    model = cls(config).float().eval()
    randomize(model, seed, dtype)
    mtp = None
    if c.get('num_mtp_layers') and c['num_hidden_layers'] >= c['first_k_dense_replace'] and r.random() < 0.7:
        mtp = Mtp(config).float().eval()
        randomize(mtp, seed + 1, dtype)
    folder = dir_ + '/folder'
    os.mkdir(folder)
    j = written(r, cls, c)
    j['torch_dtype' if r.random() < 0.5 else 'dtype'] = dtype_name
    write_json(folder + '/config.json', j)
    tensors = published(r, model, mtp, c)
    write_weights(r, folder, tensors, dtype)
    # What the reference makes of this folder, not what we meant.
    model = cls.from_pretrained(
        folder, dtype=torch.float32, attn_implementation='eager', experts_implementation='eager'
    ).eval()
    if r.random() < 0.1:
        with open(folder + '/generation_config.json', 'w') as f:
            json.dump({'eos_token_id': [1, 4], 'temperature': 0.6, 'top_p': 0.95, 'do_sample': True}, f)
    n = r.choice([1, 9, 24, 40, 70])
    if c['max_position_embeddings'] > 600 and r.random() < 0.1:
        n = 530
    ids = [r.randrange(c['vocab_size']) for _ in range(n)]
    parts = ['--mlp-parts', str(r.choice([1, 2, 8, 8, 64]))]
    for name in ('f32', 'q80', 'q40', r.choice(['q80-users', 'q40-users'])):
        check(tools, folder, dir_, model, c, ids, name, parts, seen)
    if mtp and 8 < len(ids) < 200:
        check_predictions(tools, dir_, mtp, model, ids, seen)


def summary(seen):
    def line(type_, v):
        same = sum(x <= MOST for x, _ in v)
        if len(v) >= 20 and same < len(v) / 2 and 'users' not in type_:
            raise Wrong(
                '%s: in %d of %d models even the first position differs' % (type_, len(v) - same, len(v))
            )
        return '%s %d models, %d with the same first position, largest difference %.2g' % (
            type_,
            len(v),
            same,
            max(y for _, y in v),
        )

    return '; '.join(line(t, v) for t, v in seen.items())
