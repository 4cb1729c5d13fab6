"""A checkpoint with GLM-4.5-Air's numbers of layers, heads and experts and next to no width, so that the commands
of the guides run as they are written. Its weights are noise; its tokenizer and chat form are atlas's."""
import array
import json
import random
import shutil
import struct

HIDDEN, EXPERT, LAYERS, EXPERTS, HEADS, KV, HEAD = 32, 32, 46, 128, 16, 8, 16


def shapes(vocab):
    """Name and shape of every tensor."""
    def attention(at):
        for name, rows in (("q", HEADS * HEAD), ("k", KV * HEAD), ("v", KV * HEAD)):
            yield f"{at}.self_attn.{name}_proj.weight", (rows, HIDDEN)
            yield f"{at}.self_attn.{name}_proj.bias", (rows,)
        yield f"{at}.self_attn.o_proj.weight", (HIDDEN, HEADS * HEAD)
        yield f"{at}.input_layernorm.weight", (HIDDEN,)
        yield f"{at}.post_attention_layernorm.weight", (HIDDEN,)

    def mlp(at, inner):
        yield f"{at}.gate_proj.weight", (inner, HIDDEN)
        yield f"{at}.up_proj.weight", (inner, HIDDEN)
        yield f"{at}.down_proj.weight", (HIDDEN, inner)

    yield "model.embed_tokens.weight", (vocab, HIDDEN)
    yield "lm_head.weight", (vocab, HIDDEN)
    yield "model.norm.weight", (HIDDEN,)
    for i in range(LAYERS):
        at = f"model.layers.{i}"
        yield from attention(at)
        if i == 0:
            yield from mlp(f"{at}.mlp", 8 * EXPERT)
            continue
        yield f"{at}.mlp.gate.weight", (EXPERTS, HIDDEN)
        yield f"{at}.mlp.gate.e_score_correction_bias", (EXPERTS,)
        yield from mlp(f"{at}.mlp.shared_experts", EXPERT)
        for e in range(EXPERTS):
            yield from mlp(f"{at}.mlp.experts.{e}", EXPERT)


def write(folder, atlas):
    folder.mkdir(parents=True)
    config = json.loads((atlas / "config.json").read_text())
    config |= {"hidden_size": HIDDEN, "intermediate_size": 8 * EXPERT, "num_hidden_layers": LAYERS,
               "num_attention_heads": HEADS, "num_key_value_heads": KV, "head_dim": HEAD, "n_routed_experts": EXPERTS,
               "num_experts_per_tok": 8, "moe_intermediate_size": EXPERT, "num_nextn_predict_layers": 0}
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copy(atlas / name, folder)

    dice = random.Random(1)
    noise = array.array("f", (dice.uniform(-0.3, 0.3) for _ in range(1 << 16))).tobytes()
    bf16 = bytearray(len(noise) // 2)
    bf16[0::2], bf16[1::2] = noise[2::4], noise[3::4]
    header, at, parts = {}, 0, []
    for name, shape in shapes(config["vocab_size"]):
        f32 = name.endswith("correction_bias")
        size = (4 if f32 else 2) * (shape[0] * (shape[1] if len(shape) > 1 else 1))
        header[name] = {"dtype": "F32" if f32 else "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
        start = 4 * dice.randrange(1 << 10)
        while size:
            piece = (noise if f32 else bf16)[start:start + size]
            parts.append(piece)
            size, start = size - len(piece), 0
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        out.writelines(parts)
