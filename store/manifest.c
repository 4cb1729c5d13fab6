/* The body is a msgpack map with fixed keys in a fixed order, integers in their shortest form: one
 * manifest has one encoding, so a model has one id.
 *
 * msgpack-c writes; its unpacker allocates from counts that a body merely claims, so reading is a
 * cursor of our own that knows the five kinds of value there can be and never allocates.  That the
 * form is canonical is checked by writing what was read and comparing. */
#include "store/manifest.h"

#include <msgpack.h>
#include <stdlib.h>

/* --- the fields, once --- */

enum kind { K_U32, K_U64, K_BOOL, K_F32, K_F64 };

struct field {
    const char *key;
    enum kind kind;
    size_t at; /* offset in struct manifest */
};

#define AT(member) offsetof(struct manifest, member)
#define TYPE_AT(role) (AT(arch.type) + (role) * sizeof(enum wtype))
_Static_assert(sizeof(enum wtype) == sizeof(uint32_t), "enums are read and written as uint32_t");
_Static_assert(sizeof(enum arch_family) == sizeof(uint32_t), "as above");
_Static_assert(sizeof(enum ftype) == sizeof(uint32_t), "as above");

static const struct field FIELDS[] = {
    { "family", K_U32, AT(arch.family) },
    { "layers", K_U32, AT(arch.n_layers) },
    { "predict_layers", K_U32, AT(arch.n_predict) },
    { "hidden", K_U32, AT(arch.hidden) },
    { "vocab", K_U32, AT(arch.vocab) },
    { "heads", K_U32, AT(arch.n_heads) },
    { "kv_heads", K_U32, AT(arch.n_kv) },
    { "head_dim", K_U32, AT(arch.head_dim) },
    { "inter", K_U32, AT(arch.inter) },
    { "mlp_parts", K_U32, AT(arch.mlp_parts) },
    { "dense_layers", K_U32, AT(arch.n_dense) },
    { "experts", K_U32, AT(arch.n_experts) },
    { "top_k", K_U32, AT(arch.top_k) },
    { "shared", K_U32, AT(arch.n_shared) },
    { "moe_inter", K_U32, AT(arch.moe_inter) },
    { "groups", K_U32, AT(arch.n_group) },
    { "top_groups", K_U32, AT(arch.topk_group) },
    { "context", K_U32, AT(arch.context) },
    { "attn_bias", K_BOOL, AT(arch.attn_bias) },
    { "qk_norm", K_BOOL, AT(arch.qk_norm) },
    { "norm_topk", K_BOOL, AT(arch.norm_topk) },
    { "tied", K_BOOL, AT(arch.tied) },
    { "sandwich", K_BOOL, AT(arch.sandwich) },
    { "rope_interleaved", K_BOOL, AT(arch.rope_interleaved) },
    { "eps", K_F32, AT(arch.eps) },
    { "routed_scale", K_F32, AT(arch.routed_scale) },
    { "rope_scale", K_F64, AT(arch.rope_scale) },
    { "type_attn", K_U32, TYPE_AT(WR_ATTN) },
    { "type_dense", K_U32, TYPE_AT(WR_DENSE) },
    { "type_shared", K_U32, TYPE_AT(WR_SHARED) },
    { "type_experts", K_U32, TYPE_AT(WR_EXPERTS) },
    { "type_embed", K_U32, TYPE_AT(WR_EMBED) },
    { "type_head", K_U32, TYPE_AT(WR_HEAD) },
    { "exchange", K_U32, AT(arch.exchange) },
    { "kv", K_U32, AT(arch.kv) },
    { "sample", K_BOOL, AT(sampling.sample) },
    { "temperature", K_F64, AT(sampling.temperature) },
    { "top_p", K_F64, AT(sampling.top_p) },
    { "min_p", K_F64, AT(sampling.min_p) },
    { "sample_top_k", K_U32, AT(sampling.top_k) },
    { "tokenizer_bytes", K_U64, AT(tokenizer_bytes) },
};
_Static_assert(WR_COUNT == 6, "a role without a field");
enum {
    N_FIELDS = sizeof FIELDS / sizeof FIELDS[0],
    N_KEYS = 1 + N_FIELDS + 6, /* arith first; rope, chat, eos, tokenizer, tables, ends last */
};

/* --- writing --- */

static void put_key(msgpack_packer *p, const char *key)
{
    msgpack_pack_str(p, strlen(key));
    msgpack_pack_str_body(p, key, strlen(key));
}

static void put_field(msgpack_packer *p, const struct field *f, const void *at)
{
    put_key(p, f->key);
    switch (f->kind) {
    case K_U32: msgpack_pack_uint32(p, *(const uint32_t *)at); break;
    case K_U64: msgpack_pack_uint64(p, *(const uint64_t *)at); break;
    case K_F32: msgpack_pack_float(p, *(const float *)at); break;
    case K_F64: msgpack_pack_double(p, *(const double *)at); break;
    case K_BOOL:
        if (*(const bool *)at)
            msgpack_pack_true(p);
        else
            msgpack_pack_false(p);
        break;
    }
}

static void put_bin(msgpack_packer *p, const char *key, const void *bytes, size_t n)
{
    put_key(p, key);
    msgpack_pack_bin(p, n);
    msgpack_pack_bin_body(p, bytes, n);
}

static void put_all(msgpack_packer *p, const struct manifest *m)
{
    msgpack_pack_map(p, N_KEYS);
    put_key(p, "arith");
    msgpack_pack_uint32(p, ARITH_VERSION);
    for (int i = 0; i < N_FIELDS; i++) put_field(p, &FIELDS[i], (const uint8_t *)m + FIELDS[i].at);

    put_key(p, "rope");
    msgpack_pack_array(p, m->arch.rope_half);
    for (uint32_t i = 0; i < m->arch.rope_half; i++) msgpack_pack_double(p, m->arch.rope_freq[i]);
    put_key(p, "chat");
    msgpack_pack_str(p, strlen(m->chat));
    msgpack_pack_str_body(p, m->chat, strlen(m->chat));
    put_key(p, "eos");
    msgpack_pack_array(p, m->n_eos);
    for (uint32_t i = 0; i < m->n_eos; i++) msgpack_pack_uint32(p, (uint32_t)m->eos[i]);
    put_bin(p, "tokenizer", m->tokenizer, (size_t)m->n_tokenizer * HASH_BYTES);
    put_bin(p, "tables", m->table, (size_t)arch_all_layers(&m->arch) * HASH_BYTES);
    put_bin(p, "ends", &m->ends, HASH_BYTES);
}

/* msgpack_sbuffer forgets failures of its writer; this one remembers. */
struct sink {
    msgpack_sbuffer buf;
    bool failed;
};

static int sink_write(void *arg, const char *bytes, size_t n)
{
    struct sink *s = arg;
    if (s->failed || msgpack_sbuffer_write(&s->buf, bytes, n) != 0) s->failed = true;
    return s->failed ? -1 : 0;
}

enum err manifest_encode(const struct manifest *m, uint8_t **out, size_t *n)
{
    struct sink s = { 0 };
    msgpack_packer p;

    msgpack_packer_init(&p, &s, sink_write);
    put_all(&p, m);
    if (s.failed || s.buf.size > MANIFEST_BYTES_MAX) {
        msgpack_sbuffer_destroy(&s.buf);
        return s.failed ? ERR_NOMEM : ERR_RANGE;
    }
    *n = s.buf.size;
    *out = (uint8_t *)msgpack_sbuffer_release(&s.buf);
    return ERR_OK;
}

/* --- reading --- */

/* Bytes left; bad once anything was not as expected, and then everything reads as 0. */
struct cursor {
    const uint8_t *p;
    size_t n;
    bool bad;
};

static const uint8_t *get_bytes(struct cursor *c, size_t n)
{
    if (c->bad || n > c->n) {
        c->bad = true;
        return NULL;
    }
    const uint8_t *p = c->p;
    c->p += n;
    c->n -= n;
    return p;
}

/* n bytes, big endian. */
static uint64_t get_be(struct cursor *c, size_t n)
{
    const uint8_t *p = get_bytes(c, n);
    uint64_t v = 0;
    for (size_t i = 0; p && i < n; i++) v = v << 8 | p[i];
    return v;
}

static uint64_t get_uint(struct cursor *c)
{
    uint8_t tag = (uint8_t)get_be(c, 1);

    if (tag < 0x80) return tag;
    if (tag >= 0xcc && tag <= 0xcf) return get_be(c, (size_t)1 << (tag - 0xcc));
    c->bad = true;
    return 0;
}

/* The length of a str, bin, array or map: short form `fix` with `bits` bits of length, or one of
 * the long tags, 8 << i bits each. */
static size_t get_len(struct cursor *c, uint8_t fix, uint8_t bits, uint8_t long_tag, int n_long)
{
    uint8_t tag = (uint8_t)get_be(c, 1);

    if (bits && tag >> bits == fix >> bits) return tag & (uint8_t)((1u << bits) - 1);
    for (int i = 0; i < n_long; i++)
        if (tag == long_tag + i) return (size_t)get_be(c, (n_long == 3 ? 1u : 2u) << i);
    c->bad = true;
    return 0;
}

static struct slice get_str(struct cursor *c)
{
    size_t n = get_len(c, 0xa0, 5, 0xd9, 3);
    const uint8_t *p = get_bytes(c, n);
    return p ? slice_of(p, n) : slice_of("", 0);
}

static void want_key(struct cursor *c, const char *key)
{
    if (!slice_is(get_str(c), key)) c->bad = true;
}

static bool get_bool(struct cursor *c)
{
    uint64_t tag = get_be(c, 1);
    if (tag != 0xc2 && tag != 0xc3) c->bad = true;
    return tag == 0xc3;
}

static void get_float(struct cursor *c, void *out, uint8_t tag, size_t n)
{
    if (get_be(c, 1) != tag) c->bad = true;
    uint64_t bits = get_be(c, n);
    uint32_t low = (uint32_t)bits;
    memcpy(out, n == 4 ? (const void *)&low : &bits, n);
}

static void get_field(struct cursor *c, const struct field *f, void *at)
{
    uint64_t v;

    want_key(c, f->key);
    switch (f->kind) {
    case K_U32:
        v = get_uint(c);
        if (v > UINT32_MAX) c->bad = true;
        *(uint32_t *)at = (uint32_t)v;
        break;
    case K_U64: *(uint64_t *)at = get_uint(c); break;
    case K_BOOL: *(bool *)at = get_bool(c); break;
    case K_F32: get_float(c, at, 0xca, 4); break;
    case K_F64: get_float(c, at, 0xcb, 8); break;
    }
}

/* Hashes into out, at most max; returns how many. */
static uint32_t get_hashes(struct cursor *c, const char *key, struct hash *out, uint32_t max)
{
    want_key(c, key);
    size_t n = get_len(c, 0, 0, 0xc4, 3);
    const uint8_t *p = get_bytes(c, n);

    if (!p || n % HASH_BYTES || n / HASH_BYTES > max) {
        c->bad = true;
        return 0;
    }
    memcpy(out, p, n);
    return (uint32_t)(n / HASH_BYTES);
}

static void get_rope(struct cursor *c, struct arch *a)
{
    want_key(c, "rope");
    size_t n = get_len(c, 0x90, 4, 0xdc, 2);
    if (n > ARCH_ROPE_MAX) c->bad = true;
    for (size_t i = 0; i < n && !c->bad; i++) get_float(c, &a->rope_freq[i], 0xcb, 8);
    a->rope_half = c->bad ? 0 : (uint32_t)n;
}

static void get_chat(struct cursor *c, char out[16])
{
    want_key(c, "chat");
    struct slice s = get_str(c);

    if (s.n == 0 || s.n > 15) c->bad = true;
    for (size_t i = 0; i < s.n && !c->bad; i++)
        if (s.p[i] <= 0x20 || s.p[i] >= 0x7f) c->bad = true;
    if (!c->bad) memcpy(out, s.p, s.n);
}

static void get_eos(struct cursor *c, struct manifest *m)
{
    want_key(c, "eos");
    size_t n = get_len(c, 0x90, 4, 0xdc, 2);
    if (n > MANIFEST_EOS_MAX) c->bad = true;
    for (size_t i = 0; i < n && !c->bad; i++) {
        uint64_t v = get_uint(c);
        if (v > INT32_MAX) c->bad = true;
        m->eos[i] = (int32_t)v;
    }
    m->n_eos = c->bad ? 0 : (uint32_t)n;
}

static void get_all(struct cursor *c, struct manifest *m, uint64_t *arith, uint32_t *n_tables)
{
    struct hash ends[1] = { 0 };

    if (get_len(c, 0x80, 4, 0xde, 2) != N_KEYS) c->bad = true;
    want_key(c, "arith");
    *arith = get_uint(c);
    for (int i = 0; i < N_FIELDS; i++) get_field(c, &FIELDS[i], (uint8_t *)m + FIELDS[i].at);
    get_rope(c, &m->arch);
    get_chat(c, m->chat);
    get_eos(c, m);
    m->n_tokenizer = get_hashes(c, "tokenizer", m->tokenizer, MANIFEST_TOKENIZER_TILES_MAX);
    *n_tables = get_hashes(c, "tables", m->table, ARCH_LAYERS_MAX + 1);
    if (get_hashes(c, "ends", ends, 1) != 1) c->bad = true;
    m->ends = ends[0];
    if (c->n) c->bad = true;
}

static bool is_fraction(double v)
{
    return v >= 0 && v <= 1;
}

static enum err check_rest(const struct manifest *m, uint32_t n_tables, struct why *why)
{
    uint64_t pieces = (m->tokenizer_bytes + TILE_BYTES - 1) / TILE_BYTES;

    if (n_tables != arch_all_layers(&m->arch))
        return fail(why, ERR_MALFORMED, "manifest: %u tile tables for %u layers", n_tables,
                    arch_all_layers(&m->arch));
    if (m->tokenizer_bytes > (uint64_t)MANIFEST_TOKENIZER_TILES_MAX * TILE_BYTES ||
        pieces != m->n_tokenizer)
        return fail(why, ERR_MALFORMED, "manifest: %u pieces for a tokenizer of %llu bytes",
                    m->n_tokenizer, (unsigned long long)m->tokenizer_bytes);
    for (uint32_t i = 0; i < m->n_eos; i++)
        if ((uint32_t)m->eos[i] >= m->arch.vocab || (i && m->eos[i] <= m->eos[i - 1]))
            return fail(why, ERR_RANGE, "manifest: end tokens are not ascending ids");
    const struct sampling_defaults *s = &m->sampling;
    if (!(s->temperature > 0 && s->temperature <= 1000) || !is_fraction(s->top_p) ||
        !is_fraction(s->min_p) || s->top_k > ARCH_VOCAB_MAX)
        return fail(why, ERR_RANGE, "manifest: a sampling default is out of range");
    return ERR_OK;
}

static enum err check_canonical(const struct manifest *m, struct slice body, struct why *why)
{
    uint8_t *again;
    size_t n;
    enum err e = manifest_encode(m, &again, &n);

    if (e) return fail(why, e, "manifest: %s", err_text(e));
    bool same = n == body.n && memcmp(again, body.p, n) == 0;
    free(again);
    return same ? ERR_OK : fail(why, ERR_MALFORMED, "manifest: not in its canonical form");
}

enum err manifest_decode(struct manifest *m, struct slice body, struct why *why)
{
    struct cursor c = { body.p, body.n, false };
    uint64_t arith = 0;
    uint32_t n_tables = 0;

    *m = (struct manifest){ 0 };
    if (body.n > MANIFEST_BYTES_MAX)
        return fail(why, ERR_RANGE, "manifest: %zu bytes, at most %d", body.n, MANIFEST_BYTES_MAX);
    get_all(&c, m, &arith, &n_tables);
    /* Another arithmetic may come with other fields, so this is said first; 0: not even that. */
    if (arith && arith != ARITH_VERSION)
        return fail(why, ERR_UNSUPPORTED, "manifest: arithmetic version %llu, this program has %d",
                    (unsigned long long)arith, ARITH_VERSION);
    if (c.bad) return fail(why, ERR_MALFORMED, "manifest: the bytes do not parse");

    enum err e = arch_check(&m->arch, why);
    if (!e) e = check_rest(m, n_tables, why);
    return e ? e : check_canonical(m, body, why);
}
