#include "model/tokenizer_bpe.h"

#include "model/unicode.h"

#include <stdlib.h>

enum {
    TOKENS_MAX = 1 << 21, /* ids; the largest published vocabularies have 262,144 */
    SPELLED_MAX = 0x144   /* one past the last character of GPT-2's table */
};

struct bpe_slot {
    uint32_t tag; /* high half of the hash */
    uint32_t id1; /* id + 1; 0: free */
};

struct bpe_merge {
    uint64_t pair; /* left id << 32 | right id */
    uint32_t rank; /* NO_RANK: free */
    uint32_t id;   /* what the pair becomes */
};

enum { NO_RANK = -1 }; /* as uint32_t: after every rank */

/* ---- GPT-2's spelling of bytes --------------------------------------------------------- */

static bool spelled_as_itself(unsigned byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/* The byte that a character spells, or -1: the others follow from U+0100, in order. */
static int spelled_byte(uint32_t c)
{
    static const uint8_t gap[] = { 0x7f, 0xa0, 0xad }; /* after the first 33 */
    if (c < 0x100) return spelled_as_itself(c) ? (int)c : -1;
    if (c >= SPELLED_MAX) return -1;
    uint32_t k = c - 0x100;
    if (k <= 0x20) return (int)k;
    if (k <= 0x20 + (uint32_t)(gap[1] - gap[0] + 1)) return (int)(gap[0] + (k - 0x21));
    return gap[2];
}

bool bpe_unspell(struct slice text, uint8_t *out, size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < text.n;) {
        size_t len;
        bool bad;
        int byte = spelled_byte(utf8_get(text.p + i, text.n - i, &len, &bad));
        if (byte < 0 || bad) return false;
        out[(*n)++] = (uint8_t)byte;
        i += len;
    }
    return true;
}

/* ---- tables ---------------------------------------------------------------------------- */

static uint64_t string_hash(const struct bpe *b, struct slice s, enum bpe_kind kind)
{
    return hash_bytes(s, &b->key) ^ (kind == BPE_TEXT ? 0x5555555555555555u : 0);
}

static int32_t find(const struct bpe *b, struct slice s, enum bpe_kind kind)
{
    uint64_t h = string_hash(b, s, kind);
    for (uint32_t i = (uint32_t)h & b->slot_mask; b->slot[i].id1; i = (i + 1) & b->slot_mask) {
        if (b->slot[i].tag != (uint32_t)(h >> 32)) continue;
        const struct bpe_token *t = &b->token[b->slot[i].id1 - 1];
        if (t->kind == kind && t->n == s.n && memcmp(b->pool + t->at, s.p, s.n) == 0)
            return (int32_t)(b->slot[i].id1 - 1);
    }
    return -1;
}

static void insert(struct bpe *b, uint32_t id)
{
    const struct bpe_token *t = &b->token[id];
    uint64_t h = string_hash(b, slice_of(b->pool + t->at, t->n), t->kind);
    uint32_t i = (uint32_t)h & b->slot_mask;
    while (b->slot[i].id1) i = (i + 1) & b->slot_mask;
    b->slot[i] = (struct bpe_slot){ (uint32_t)(h >> 32), id + 1 };
}

/* Where the pair is or would be. */
static struct bpe_merge *merge_slot(const struct bpe *b, uint64_t pair)
{
    uint32_t i = (uint32_t)hash_u64(pair, &b->key) & b->merge_mask;
    while (b->merge[i].rank != (uint32_t)NO_RANK && b->merge[i].pair != pair)
        i = (i + 1) & b->merge_mask;
    return &b->merge[i];
}

/* A power of two, at most two thirds full. */
static uint32_t table_size(uint32_t n)
{
    uint32_t size = 16;
    while (size / 3 * 2 < n) size *= 2;
    return size;
}

int32_t bpe_find_text(const struct bpe *b, struct slice text)
{
    uint8_t small[256], *bytes = text.n <= sizeof small ? small : malloc(text.n);
    size_t n;
    if (!bytes) return -1;
    int32_t id = bpe_unspell(text, bytes, &n) ? find(b, slice_of(bytes, n), BPE_BYTES)
                                              : find(b, text, BPE_TEXT);
    if (bytes != small) free(bytes);
    return id;
}

struct slice bpe_bytes(const struct bpe *b, int32_t id)
{
    if (id < 0 || (uint32_t)id >= b->n_tokens) return slice_of(NULL, 0);
    return slice_of(b->pool + b->token[id].at, b->token[id].n);
}

/* ---- loading --------------------------------------------------------------------------- */

static int shown(struct slice s)
{
    return (int)(s.n < 80 ? s.n : 80);
}

/* The largest id and the bytes of all strings. */
static enum err measure_vocab(struct bpe *b, const struct json *vocab, size_t *bytes,
                              struct why *why)
{
    *bytes = 1;
    for (const struct json *v = vocab->child; v; v = v->next) {
        uint64_t id;
        if (!json_u64(v, &id) || id >= TOKENS_MAX)
            return fail(why, ERR_RANGE,
                        "tokenizer.json: the id of token \"%.*s\" is no number below %d",
                        shown(v->key), (const char *)v->key.p, TOKENS_MAX);
        if (id >= b->n_tokens) b->n_tokens = (uint32_t)id + 1;
        *bytes += v->key.n;
    }
    b->n_strings = vocab->n;
    return *bytes < UINT32_MAX ? ERR_OK : fail(why, ERR_RANGE, "tokenizer.json: too large");
}

static enum err load_vocab(struct bpe *b, const struct json *vocab, struct why *why)
{
    size_t bytes, used = 0;
    enum err e = measure_vocab(b, vocab, &bytes, why);
    if (e) return e;
    uint32_t slots = table_size(vocab->n);
    b->pool = malloc(bytes);
    b->token = calloc((size_t)b->n_tokens + 1, sizeof *b->token);
    b->slot = calloc(slots, sizeof *b->slot);
    b->slot_mask = slots - 1;
    if (!b->pool || !b->token || !b->slot) return ERR_NOMEM;

    for (const struct json *v = vocab->child; v; v = v->next) {
        uint64_t id = 0;
        size_t n;
        (void)json_u64(v, &id); /* measure_vocab has seen that it is one */
        struct bpe_token *t = &b->token[id];
        if (t->kind)
            return fail(why, ERR_MALFORMED, "tokenizer.json: two tokens have id %u", (unsigned)id);
        t->kind = BPE_BYTES;
        if (!bpe_unspell(v->key, b->pool + used, &n)) {
            t->kind = BPE_TEXT;
            n = v->key.n;
            if (n) memcpy(b->pool + used, v->key.p, n);
        }
        t->at = (uint32_t)used;
        t->n = (uint32_t)n;
        used += n;
        insert(b, (uint32_t)id);
    }
    for (unsigned i = 0; i < 256; i++) {
        uint8_t byte = (uint8_t)i;
        b->byte_id[i] = find(b, slice_of(&byte, 1), BPE_BYTES);
    }
    return ERR_OK;
}

/* The two sides of a merge: ["a", "b"], or the older "a b" (no token has a space of its own). */
static bool merge_sides(const struct json *m, struct slice side[2])
{
    if (m->type == JSON_ARRAY) {
        const struct json *a = m->child;
        if (m->n != 2 || a->type != JSON_STRING || a->next->type != JSON_STRING) return false;
        side[0] = a->text;
        side[1] = a->next->text;
        return true;
    }
    if (m->type != JSON_STRING) return false;
    const uint8_t *space = m->text.n ? memchr(m->text.p, ' ', m->text.n) : NULL;
    if (!space) return false;
    size_t at = (size_t)(space - m->text.p);
    side[0] = slice_of(m->text.p, at);
    side[1] = slice_of(space + 1, m->text.n - at - 1);
    return !memchr(side[1].p, ' ', side[1].n);
}

/* The id of the two sides together, as the vocabulary spells it. */
static int32_t find_joined(const struct bpe *b, const int32_t id[2], const struct slice side[2],
                           struct text *scratch)
{
    scratch->n = 0;
    const struct bpe_token *l = &b->token[id[0]], *r = &b->token[id[1]];
    if (l->kind == BPE_BYTES && r->kind == BPE_BYTES) {
        text_add(scratch, b->pool + l->at, l->n);
        text_add(scratch, b->pool + r->at, r->n);
    } else {
        text_add(scratch, side[0].p, side[0].n);
        text_add(scratch, side[1].p, side[1].n);
    }
    if (scratch->failed) return -1;
    struct slice joined = slice_of(scratch->p, scratch->n);
    bool bytes = l->kind == BPE_BYTES && r->kind == BPE_BYTES;
    return find(b, joined, bytes ? BPE_BYTES : BPE_TEXT);
}

static enum err load_merges(struct bpe *b, const struct json *merges, struct why *why)
{
    uint32_t slots = table_size(merges->n), rank = 0, number = 0;
    b->merge = malloc(slots * sizeof *b->merge);
    b->merge_mask = slots - 1;
    if (!b->merge) return ERR_NOMEM;
    memset(b->merge, 0xff, slots * sizeof *b->merge);

    struct text scratch = { 0 };
    enum err e = ERR_OK;
    for (const struct json *m = merges->child; m && !e; m = m->next, number++) {
        struct slice side[2];
        if (m->type == JSON_STRING && m->text.n >= 8 && memcmp(m->text.p, "#version", 8) == 0)
            continue;
        if (!merge_sides(m, side)) {
            e = fail(why, ERR_MALFORMED, "tokenizer.json: merge %u is no pair", number);
            break;
        }
        int32_t id[2] = { bpe_find_text(b, side[0]), bpe_find_text(b, side[1]) };
        int32_t joined = id[0] < 0 || id[1] < 0 ? -1 : find_joined(b, id, side, &scratch);
        if (joined < 0) {
            e = fail(why, ERR_MALFORMED,
                     "tokenizer.json: merge %u, \"%.*s\" and \"%.*s\", is not of tokens in the "
                     "vocabulary",
                     number, shown(side[0]), (const char *)side[0].p, shown(side[1]),
                     (const char *)side[1].p);
            break;
        }
        uint64_t pair = (uint64_t)id[0] << 32 | (uint32_t)id[1];
        *merge_slot(b, pair) = (struct bpe_merge){ pair, rank++, (uint32_t)joined }; /* last wins */
    }
    free(scratch.p);
    return e;
}

static bool nothing(const struct json *v)
{
    return !v || v->type == JSON_NULL || json_is_str(v, "");
}

static bool alphabet_complete(const struct bpe *b)
{
    for (unsigned i = 0; i < 256; i++)
        if (b->byte_id[i] < 0) return false;
    return true;
}

/* What the file asks for beyond plain BPE, where it could change an id. */
static enum err check_options(const struct bpe *b, const struct json *model, struct why *why)
{
    static const char *const none[] = { "continuing_subword_prefix", "end_of_word_suffix" };
    static const char *const unknown[] = { "unk_token", "byte_fallback" };
    double d;
    for (size_t i = 0; i < 2; i++)
        if (!nothing(json_get(model, none[i])))
            return fail(why, ERR_UNSUPPORTED, "tokenizer.json: model.%s is not supported", none[i]);
    for (size_t i = 0; i < 2; i++) { /* without effect where every byte is a token */
        const struct json *v = json_get(model, unknown[i]);
        if (!nothing(v) && v->type != JSON_FALSE && !alphabet_complete(b))
            return fail(why, ERR_UNSUPPORTED, "tokenizer.json: model.%s is not supported",
                        unknown[i]);
    }
    const struct json *dropout = json_get(model, "dropout");
    if (!nothing(dropout) && (!json_double(dropout, &d) || d != 0))
        return fail(why, ERR_UNSUPPORTED, "tokenizer.json: model.dropout is not supported");
    return ERR_OK;
}

enum err bpe_init(struct bpe *b, const struct json *model, struct why *why)
{
    *b = (struct bpe){ 0 };
    const struct json *type = json_get(model, "type"), *vocab = json_get(model, "vocab"),
                      *merges = json_get(model, "merges");
    if (type && !json_is_str(type, "BPE"))
        return fail(why, ERR_UNSUPPORTED, "tokenizer.json: model type %.*s is not supported",
                    shown(type->text), (const char *)type->text.p);
    if (!vocab || vocab->type != JSON_OBJECT || !merges || merges->type != JSON_ARRAY)
        return fail(why, ERR_MALFORMED, "tokenizer.json: no model with \"vocab\" and \"merges\"");
    if (!hash_key_draw(&b->key))
        return fail(why, ERR_IO, "tokenizer.json: the system gives no random numbers");
    b->whole_first = json_is_true(json_get(model, "ignore_merges"));
    enum err e = load_vocab(b, vocab, why);
    if (!e) e = load_merges(b, merges, why);
    if (!e) e = check_options(b, model, why);
    return e;
}

void bpe_fini(struct bpe *b)
{
    free(b->pool);
    free(b->token);
    free(b->slot);
    free(b->merge);
    *b = (struct bpe){ 0 };
}

/* ---- the merge loop -------------------------------------------------------------------- */

struct bpe_symbol {
    uint32_t id;
    uint32_t prev, next;   /* neighbours; NO_SYMBOL at the ends */
    uint32_t rank, joined; /* of the pair with next; NO_RANK: they don't merge */
};

enum { NO_SYMBOL = -1 };

enum err ids_push(struct ids *ids, int32_t id)
{
    if (ids->n == ids->cap) {
        if (ids->cap > INT32_MAX / 2) return ERR_RANGE;
        uint32_t cap = ids->cap ? 2 * ids->cap : 64;
        int32_t *p = realloc(ids->p, cap * sizeof *p);
        if (!p) return ERR_NOMEM;
        ids->p = p;
        ids->cap = cap;
    }
    ids->p[ids->n++] = id;
    return ERR_OK;
}

static bool run_room(struct bpe_run *run, size_t n)
{
    if (n <= run->cap) return true;
    size_t cap = n < 256 ? 256 : n;
    free(run->symbol);
    free(run->heap);
    run->symbol = malloc(cap * sizeof *run->symbol);
    run->heap = malloc(3 * cap * sizeof *run->heap); /* n pairs, and two more a merge */
    run->cap = run->symbol && run->heap ? cap : 0;
    return run->cap != 0;
}

static void heap_push(struct bpe_run *run, uint64_t key)
{
    size_t i = run->n_heap++;
    while (i > 0 && run->heap[(i - 1) / 2] > key) {
        run->heap[i] = run->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    run->heap[i] = key;
}

static uint64_t heap_pop(struct bpe_run *run)
{
    uint64_t top = run->heap[0], last = run->heap[--run->n_heap];
    size_t i = 0, n = run->n_heap;
    for (size_t kid = 1; kid < n; kid = 2 * i + 1) {
        if (kid + 1 < n && run->heap[kid + 1] < run->heap[kid]) kid++;
        if (run->heap[kid] >= last) break;
        run->heap[i] = run->heap[kid];
        i = kid;
    }
    run->heap[i] = last;
    return top;
}

/* Rank the pair that begins at symbol i, and queue it: lowest rank first, then leftmost. */
static void look_at(const struct bpe *b, struct bpe_run *run, uint32_t i)
{
    struct bpe_symbol *s = &run->symbol[i];
    s->rank = (uint32_t)NO_RANK;
    if (s->next == (uint32_t)NO_SYMBOL) return;
    const struct bpe_merge *m = merge_slot(b, (uint64_t)s->id << 32 | run->symbol[s->next].id);
    s->rank = m->rank;
    s->joined = m->id;
    if (s->rank != (uint32_t)NO_RANK) heap_push(run, (uint64_t)s->rank << 32 | i);
}

static void merge_all(const struct bpe *b, struct bpe_run *run, uint32_t n)
{
    run->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) look_at(b, run, i);
    while (run->n_heap) {
        uint64_t key = heap_pop(run);
        uint32_t i = (uint32_t)key;
        struct bpe_symbol *s = &run->symbol[i];
        if (s->rank != key >> 32) continue; /* a neighbour has merged since */
        struct bpe_symbol *gone = &run->symbol[s->next];
        gone->rank = (uint32_t)NO_RANK;
        s->id = s->joined;
        s->next = gone->next;
        if (s->next != (uint32_t)NO_SYMBOL) run->symbol[s->next].prev = i;
        look_at(b, run, i);
        if (s->prev != (uint32_t)NO_SYMBOL) look_at(b, run, s->prev);
    }
}

enum err bpe_encode(const struct bpe *b, struct bpe_run *run, struct slice piece, struct ids *out)
{
    if (b->whole_first) {
        int32_t id = find(b, piece, BPE_BYTES);
        if (id >= 0) return ids_push(out, id);
    }
    if (piece.n >= UINT32_MAX / 4) return ERR_RANGE;
    if (!run_room(run, piece.n)) return ERR_NOMEM;

    uint32_t n = 0;
    for (size_t i = 0; i < piece.n; i++) {
        int32_t id = b->byte_id[piece.p[i]];
        if (id < 0) continue;
        run->symbol[n] = (struct bpe_symbol){ .id = (uint32_t)id, .prev = n - 1, .next = n + 1 };
        n++;
    }
    if (n == 0) return ERR_OK;
    run->symbol[n - 1].next = (uint32_t)NO_SYMBOL;
    merge_all(b, run, n);
    for (uint32_t i = 0; i != (uint32_t)NO_SYMBOL; i = run->symbol[i].next) {
        enum err e = ids_push(out, (int32_t)run->symbol[i].id);
        if (e) return e;
    }
    return ERR_OK;
}

void bpe_run_fini(struct bpe_run *run)
{
    free(run->symbol);
    free(run->heap);
    *run = (struct bpe_run){ 0 };
}
