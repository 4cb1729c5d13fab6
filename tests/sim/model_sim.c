#include "tests/sim/model_sim.h"

#include "base/json.h"
#include "model/chat.h"
#include "model/share.h"
#include "model/tokenizer.h"
#include "stage/compute.h"
#include "tests/sim/world.h"
#include "weights/warm.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EMBEDDING = 1001, SEALED = 1002, PROMPT = 1003, HEAD = 1004 };

/* --- rows --- */

static uint64_t get64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static void put_row(uint8_t *x, uint64_t v)
{
    uint64_t seal = mix(v, SEALED);
    memcpy(x, &v, sizeof v);
    memcpy(x + 8, &seal, sizeof seal);
}

bool sim_rows_are_real(const uint8_t *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++, x += SIM_ROW_BYTES)
        if (get64(x + 8) != mix(get64(x), SEALED)) return false;
    return true;
}

void sim_embed(int32_t id, uint8_t *x)
{
    put_row(x, mix(EMBEDDING, (uint64_t)id));
}

int32_t sim_pick(const uint8_t *x, const struct sampling *s, uint64_t position)
{
    uint64_t seed = s->temperature > 0 ? s->seed : 0;
    return (int32_t)(mix(mix(get64(x), seed + HEAD), position) % SIM_VOCAB);
}

enum err ends_embed(struct ends *e, const int32_t *ids, uint32_t n, void *x)
{
    (void)e;
    for (uint32_t i = 0; i < n; i++) sim_embed(ids[i], (uint8_t *)x + i * SIM_ROW_BYTES);
    return ERR_OK;
}

/* --- history --- */

struct kv {
    uint32_t lo, hi, cap, len;
    uint64_t history[]; /* [hi - lo][cap] */
};

enum err kv_open(struct kv **out, const struct arch *a, uint32_t lo, uint32_t hi, uint32_t cap)
{
    (void)a;
    if (cap == 0) return ERR_RANGE;
    struct kv *kv = calloc(1, sizeof *kv + (size_t)(hi - lo) * cap * sizeof(uint64_t));
    if (!kv) return ERR_NOMEM;
    kv->lo = lo;
    kv->hi = hi;
    kv->cap = cap;
    *out = kv;
    return ERR_OK;
}

void kv_close(struct kv *kv)
{
    free(kv);
}

uint32_t kv_len(const struct kv *kv)
{
    return kv->len;
}

uint32_t kv_cap(const struct kv *kv)
{
    return kv->cap;
}

void kv_trim(struct kv *kv, uint32_t len)
{
    assert(len <= kv->len);
    kv->len = len;
}

uint64_t kv_cost(const struct arch *a, uint32_t lo, uint32_t hi, uint32_t cap)
{
    uint64_t blocks = (cap + KV_BLOCK - 1) / KV_BLOCK;
    return arch_kv_bytes(a) * (hi - lo) * blocks * KV_BLOCK;
}

/* As kept: [layer][position] and bytes that nobody looks at. */
void kv_save(const struct kv *kv, uint32_t pos, uint32_t n, void *out)
{
    assert(pos + n <= kv->cap);
    memset(out, 0, (size_t)(kv->hi - kv->lo) * n * SIM_KV_BYTES);
    for (uint32_t l = 0; l < kv->hi - kv->lo; l++)
        memcpy((uint8_t *)out + (size_t)l * n * SIM_KV_BYTES,
               kv->history + (size_t)l * kv->cap + pos, n * sizeof(uint64_t));
}

void kv_load(struct kv *kv, uint32_t pos, uint32_t n, const void *in)
{
    assert(pos == kv->len && n <= kv->cap - pos);
    for (uint32_t l = 0; l < kv->hi - kv->lo; l++)
        memcpy(kv->history + (size_t)l * kv->cap + pos,
               (const uint8_t *)in + (size_t)l * n * SIM_KV_BYTES, n * sizeof(uint64_t));
    kv->len = pos + n;
}

/* Nobody shares layers here: all head groups. */
enum err kv_open_heads(struct kv **out, const struct arch *a, uint32_t lo, uint32_t hi,
                       uint32_t g_lo, uint32_t g_hi, uint32_t cap)
{
    (void)g_lo, (void)g_hi;
    return kv_open(out, a, lo, hi, cap);
}

uint64_t kv_cost_heads(const struct arch *a, uint32_t lo, uint32_t hi, uint32_t g_lo, uint32_t g_hi,
                       uint32_t cap)
{
    (void)g_lo, (void)g_hi;
    return kv_cost(a, lo, hi, cap);
}

enum err sim_layers(struct kv *kv, uint32_t lo, uint32_t hi, uint32_t pos, uint32_t n, uint8_t *x)
{
    if (pos != kv->len || n > kv->cap - pos) return ERR_RANGE;
    for (uint32_t i = 0; i < n; i++, x += SIM_ROW_BYTES) {
        uint64_t v = get64(x);
        for (uint32_t l = lo; l < hi; l++) {
            uint64_t *h = kv->history + (size_t)(l - kv->lo) * kv->cap + pos + i;
            *h = mix(pos + i > 0 ? h[-1] : 0, v + l);
            v = mix(v, *h);
        }
        put_row(x, v);
    }
    kv->len += n;
    return ERR_OK;
}

/* --- the oracle --- */

void sim_prompt(int32_t *ids, uint32_t n, uint64_t seed)
{
    for (uint32_t i = 0; i < n; i++)
        ids[i] = (int32_t)(mix(mix(seed, PROMPT), i) % (SIM_VOCAB - 8)) + 8;
}

uint32_t sim_oracle(int32_t *ids, uint32_t n_prompt, uint32_t max_new, uint32_t n_layers,
                    const struct sampling *s)
{
    struct kv *kv;
    uint8_t x[SIM_ROW_BYTES];
    uint32_t n = n_prompt;
    if (kv_open(&kv, NULL, 0, n_layers, n_prompt + max_new)) abort();
    for (uint32_t i = 0; i < n && n < n_prompt + max_new; i++) {
        sim_embed(ids[i], x);
        if (sim_layers(kv, 0, n_layers, i, 1, x)) abort();
        if (i + 1 < n_prompt) continue;
        ids[n++] = sim_pick(x, s, i + 1);
        if (ids[n - 1] == SIM_EOS) break;
    }
    kv_close(kv);
    return n;
}

/* --- what a store would say --- */

enum err weights_open_held(struct weights *w, struct store *st, const char *model,
                           const struct holding *h, struct why *why)
{
    static struct tensor none;
    (void)model, (void)why;
    memset(w, 0, sizeof *w);
    struct arch *a = &w->manifest.arch;
    a->family = ARCH_GLM4;
    a->n_layers = a->n_dense = st->n_layers;
    a->hidden = SIM_ROW_BYTES / 2;
    a->exchange = a->kv = FT_F16;
    a->n_heads = a->n_kv = 1;
    a->head_dim = SIM_KV_BYTES / 4;
    a->inter = 160; /* so that a layer is about as large as the ends */
    a->mlp_parts = 1;
    for (unsigned i = 0; i < WR_COUNT; i++) a->type[i] = WT_Q80;
    a->vocab = SIM_VOCAB;
    a->context = 4096;
    assert(arch_row_bytes(a) == SIM_ROW_BYTES && arch_kv_bytes(a) == SIM_KV_BYTES);
    snprintf(w->manifest.chat, sizeof w->manifest.chat, "glm-4");
    w->manifest.n_eos = 1;
    w->manifest.eos[0] = SIM_EOS;
    w->manifest.tokenizer_bytes = 1;
    snprintf(w->name.name, sizeof w->name.name, "hashes");
    memset(w->name.id.b, SIM_MODEL_BYTE, HASH_BYTES);
    w->held = *h;
    w->lo = h->lo;
    w->hi = h->hi;
    if (h->ends) w->ends.t = &none;
    return ERR_OK;
}

enum err weights_open_predict(struct weights *w, struct why *why)
{
    (void)w, (void)why;
    return ERR_OK;
}

const struct manifest *sim_manifest(uint32_t n_layers)
{
    static struct weights w;
    struct store st = { n_layers };
    if (weights_open_held(&w, &st, NULL, &(struct holding){ .lo = 0 }, NULL)) abort();
    return &w.manifest;
}

void weights_close(struct weights *w)
{
    (void)w;
}

enum err store_tokenizer(struct store *st, const struct manifest *m, uint8_t **json, size_t *n,
                         struct why *why)
{
    (void)st, (void)m, (void)why;
    *json = NULL;
    *n = 0;
    return ERR_OK;
}

enum err warm_open(struct warm **out, const struct weights *w, uint64_t fits_bytes,
                   const char *learnt)
{
    (void)w, (void)fits_bytes, (void)learnt;
    *out = NULL;
    return ERR_OK;
}

void warm_close(struct warm *m)
{
    (void)m;
}

struct pager *warm_pager(struct warm *m)
{
    (void)m;
    return NULL;
}

uint64_t warm_room(void)
{
    return 0;
}

/* --- words --- */

enum err chat_render(enum chat_form f, const struct json *messages, const struct json *tools,
                     enum think think, bool add_generation_prompt, struct chat_text *out,
                     struct why *why)
{
    (void)f, (void)tools, (void)think, (void)add_generation_prompt;
    const struct json *content = messages->child ? json_get(messages->child, "content") : NULL;
    if (!content) return fail(why, ERR_MALFORMED, "no content");
    text_add(&out->text, content->text.p, content->text.n);
    return ERR_OK;
}

enum err chat_plain(enum chat_form f, struct slice text, struct chat_text *out, struct why *why)
{
    (void)f;
    text_add(&out->text, text.p, text.n);
    return out->text.failed ? fail(why, ERR_NOMEM, "out of memory") : ERR_OK;
}

void chat_text_fini(struct chat_text *c)
{
    free(c->text.p);
}

enum err chat_encode(const struct tokenizer *t, const struct chat_text *c, struct ids *out)
{
    unsigned n;
    unsigned long long seed;
    (void)t;
    if (sscanf(c->text.p, "%u %llu", &n, &seed) != 2) return ERR_MALFORMED;
    out->p = malloc((n + 1) * sizeof *out->p);
    if (!out->p) return ERR_NOMEM;
    sim_prompt(out->p, n, seed);
    out->n = n;
    out->cap = n + 1;
    return ERR_OK;
}

bool chat_form_parse(const char *name, enum chat_form *out)
{
    (void)name;
    *out = CHAT_GLM4;
    return true;
}

enum err tokenizer_open(struct tokenizer **out, struct slice json, struct why *why)
{
    static int any;
    (void)json, (void)why;
    *out = (struct tokenizer *)(void *)&any;
    return ERR_OK;
}

void tokenizer_close(struct tokenizer *t)
{
    (void)t;
}

uint32_t tokenizer_size(const struct tokenizer *t)
{
    (void)t;
    return SIM_VOCAB;
}

int32_t tokenizer_find(const struct tokenizer *t, const char *text)
{
    (void)t, (void)text;
    return -1;
}

struct slice tokenizer_bytes(const struct tokenizer *t, int32_t id, bool skip_special)
{
    static char word[16];
    (void)t, (void)skip_special;
    return slice_of(word, (size_t)snprintf(word, sizeof word, "%d ", id));
}

void utf8_stream_feed(struct utf8_stream *s, struct slice bytes, struct text *out)
{
    (void)s;
    text_add(out, bytes.p, bytes.n);
}

void utf8_stream_flush(struct utf8_stream *s, struct text *out)
{
    (void)s, (void)out;
}
