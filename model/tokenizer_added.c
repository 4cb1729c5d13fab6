#include "model/tokenizer_added.h"

#include "model/unicode.h"
#include "model/unicode_nfc.h"

#include <stdlib.h>

enum { ADDED_MAX = 1 << 17 };

/* ---- loading --------------------------------------------------------------------------- */

static enum err read_flag(const struct json *v, const char *name, bool *out, struct why *why)
{
    const struct json *f = json_get(v, name);
    if (!f || (f->type != JSON_TRUE && f->type != JSON_FALSE))
        return fail(why, ERR_MALFORMED, "tokenizer.json: an added token without \"%s\"", name);
    *out = f->type == JSON_TRUE;
    return ERR_OK;
}

static enum err read_token(const struct json *v, struct added_token *t, struct why *why)
{
    const struct json *content = json_get(v, "content");
    if (!content || content->type != JSON_STRING)
        return fail(why, ERR_MALFORMED, "tokenizer.json: an added token without \"content\"");
    *t = (struct added_token){ .content = content->text };
    enum err e = read_flag(v, "special", &t->special, why);
    if (!e) e = read_flag(v, "single_word", &t->single_word, why);
    if (!e) e = read_flag(v, "lstrip", &t->lstrip, why);
    if (!e) e = read_flag(v, "rstrip", &t->rstrip, why);
    if (!e) e = read_flag(v, "normalized", &t->normalized, why);
    return e;
}

static int compare(struct slice a, struct slice b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

/* Equal texts by their order. */
static int by_text(const void *a, const void *b)
{
    const struct added_key *x = a, *y = b;
    int c = compare(x->text, y->text);
    return c ? c : (x->order > y->order) - (x->order < y->order);
}

static void sort_pass(struct added_pass *p)
{
    qsort(p->key, p->n, sizeof *p->key, by_text);
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n; i++) /* of equal texts the first counts */
        if (n == 0 || compare(p->key[n - 1].text, p->key[i].text) != 0) p->key[n++] = p->key[i];
    p->n = n;
    uint32_t i = 0;
    for (uint32_t c = 0; c <= 256; c++) {
        while (i < n && p->key[i].text.p[0] < c) i++;
        p->first[c] = i;
    }
}

/* Drop empty contents.  Of equal ones the last counts, in the place of the first. */
static enum err drop_equal(struct added *a)
{
    struct added_key *key = malloc((a->n + 1) * sizeof *key);
    bool *drop = calloc(a->n + 1, sizeof *drop);
    if (key && drop) {
        for (uint32_t i = 0; i < a->n; i++)
            key[i] = (struct added_key){ a->token[i].content, i, i };
        qsort(key, a->n, sizeof *key, by_text);
        for (uint32_t i = 0, first = 0; i < a->n; i++) {
            bool again = i > 0 && compare(key[i - 1].text, key[i].text) == 0;
            if (!again) first = key[i].token;
            a->token[first] = a->token[key[i].token];
            drop[key[i].token] = again || key[i].text.n == 0;
        }
        uint32_t n = 0;
        for (uint32_t i = 0; i < a->n; i++)
            if (!drop[i]) a->token[n++] = a->token[i];
        a->n = n;
    }
    bool ok = key && drop;
    free(key);
    free(drop);
    return ok ? ERR_OK : ERR_NOMEM;
}

static enum err give_ids(struct added *a, const struct bpe *bpe)
{
    /* A new one's id follows from how many there are, whatever ids the vocabulary's have. */
    int32_t max = -1, next = (int32_t)bpe->n_strings;
    for (uint32_t i = 0; i < a->n; i++) {
        struct added_token *t = &a->token[i];
        t->id = bpe_find_text(bpe, t->content);
        if (t->id < 0) t->id = next++;
        if (t->id > max) max = t->id;
    }
    a->n_by_id = (uint32_t)(max + 1);
    a->by_id = malloc(((size_t)a->n_by_id + 1) * sizeof *a->by_id);
    if (!a->by_id) return ERR_NOMEM;
    memset(a->by_id, 0xff, ((size_t)a->n_by_id + 1) * sizeof *a->by_id);
    for (uint32_t i = 0; i < a->n; i++) a->by_id[a->token[i].id] = (int32_t)i;
    return ERR_OK;
}

static struct slice keep(uint8_t **to, const void *p, size_t n)
{
    struct slice s = slice_of(*to, n);
    if (n) memcpy(*to, p, n);
    *to += n;
    return s;
}

/* The normalized form of every token that wants one, one after the other; end[i] is where that of
 * token i ends. */
static void normalize_all(const struct added *a, bool nfc, struct text *out, size_t *end)
{
    text_str(out, "");
    for (uint32_t i = 0; i < a->n; i++) {
        const struct added_token *t = &a->token[i];
        if (t->normalized && nfc)
            unicode_nfc(t->content, out);
        else if (t->normalized)
            text_add(out, t->content.p, t->content.n);
        end[i] = out->n;
    }
}

/* Copy the strings of token i to *to: its content, what is looked for in a text, and what it
 * decodes to (the reference takes a text that GPT-2's table can spell for such a spelling). */
static void keep_token(struct added *a, uint32_t i, struct slice normal, uint8_t **to)
{
    struct added_token *t = &a->token[i];
    struct added_pass *p = t->normalized ? &a->normalized : &a->raw;
    uint32_t order = t->special ? i : ADDED_MAX + i; /* as the reference lists them */
    size_t n;
    t->content = keep(to, t->content.p, t->content.n);
    struct slice text = t->normalized ? keep(to, normal.p, normal.n) : t->content;
    t->bytes = bpe_unspell(text, *to, &n) ? slice_of(*to, n) : text;
    *to += text.n;
    p->key[p->n++] = (struct added_key){ text, i, order };
}

/* Copy every string out of the JSON. */
static enum err keep_strings(struct added *a, bool nfc)
{
    size_t total = 1, *end = calloc(a->n + 1, sizeof *end);
    struct text normal = { 0 };
    if (!end) return ERR_NOMEM;
    normalize_all(a, nfc, &normal, end);
    for (uint32_t i = 0; i < a->n; i++) total += 2 * a->token[i].content.n;
    a->pool = normal.failed ? NULL : malloc(total + 2 * normal.n);
    uint8_t *to = a->pool;
    for (uint32_t i = 0; a->pool && i < a->n; i++) {
        size_t from = i ? end[i - 1] : 0;
        keep_token(a, i, slice_of(normal.p + from, end[i] - from), &to);
    }
    free(end);
    free(normal.p);
    return a->pool ? ERR_OK : ERR_NOMEM;
}

static enum err read_list(struct added *a, const struct json *list, struct why *why)
{
    if (list && list->type != JSON_NULL && list->type != JSON_ARRAY)
        return fail(why, ERR_MALFORMED, "tokenizer.json: added_tokens is no list");
    uint32_t n = list ? list->n : 0;
    if (n > ADDED_MAX)
        return fail(why, ERR_RANGE, "tokenizer.json: more than %d added tokens", ADDED_MAX);
    a->token = calloc(n + 1, sizeof *a->token);
    a->raw.key = calloc(n + 1, sizeof *a->raw.key);
    a->normalized.key = calloc(n + 1, sizeof *a->normalized.key);
    if (!a->token || !a->raw.key || !a->normalized.key) return ERR_NOMEM;
    for (const struct json *v = n ? list->child : NULL; v; v = v->next) {
        enum err e = read_token(v, &a->token[a->n++], why);
        if (e) return e;
    }
    return ERR_OK;
}

enum err added_init(struct added *a, const struct json *list, const struct bpe *bpe, bool nfc,
                    struct why *why)
{
    *a = (struct added){ 0 };
    enum err e = read_list(a, list, why);
    if (!e) e = drop_equal(a);
    if (!e) e = give_ids(a, bpe);
    if (!e) e = keep_strings(a, nfc);
    if (e) return e;
    sort_pass(&a->raw);
    sort_pass(&a->normalized);
    return ERR_OK;
}

void added_fini(struct added *a)
{
    free(a->token);
    free(a->raw.key);
    free(a->normalized.key);
    free(a->pool);
    free(a->by_id);
    *a = (struct added){ 0 };
}

const struct added_token *added_by_id(const struct added *a, int32_t id)
{
    if (id < 0 || (uint32_t)id >= a->n_by_id || a->by_id[id] < 0) return NULL;
    return &a->token[a->by_id[id]];
}

const struct added_token *added_by_text(const struct added *a, struct slice text)
{
    for (uint32_t i = 0; i < a->n; i++)
        if (compare(a->token[i].content, text) == 0) return &a->token[i];
    return NULL;
}

/* ---- scanning -------------------------------------------------------------------------- */

/* The longest key at the start of text, or NULL.  The keys in [lo, hi) agree with text up to depth
 * and each step narrows them to those with the next byte. */
static const struct added_key *longest(const struct added_pass *p, struct slice text)
{
    const struct added_key *best = NULL;
    if (text.n == 0) return NULL;
    uint32_t lo = p->first[text.p[0]], hi = p->first[text.p[0] + 1];
    for (size_t depth = 1; lo < hi; depth++) {
        if (p->key[lo].text.n == depth) best = &p->key[lo++]; /* the shortest sorts first */
        if (depth == text.n) break;
        uint8_t c = text.p[depth];
        uint32_t a = lo, b = hi;
        while (a < b) { /* the first with a byte >= c */
            uint32_t mid = a + (b - a) / 2;
            if (p->key[mid].text.p[depth] < c)
                a = mid + 1;
            else
                b = mid;
        }
        lo = a;
        b = hi;
        while (a < b) { /* the first with a byte > c */
            uint32_t mid = a + (b - a) / 2;
            if (p->key[mid].text.p[depth] <= c)
                a = mid + 1;
            else
                b = mid;
        }
        hi = b;
    }
    return best;
}

static uint32_t char_before(struct slice text, size_t at)
{
    size_t from = at - 1, len;
    bool bad;
    while (from > 0 && (text.p[from] & 0xc0) == 0x80) from--;
    return utf8_get(text.p + from, at - from, &len, &bad);
}

static bool touches_word(struct slice text, size_t lo, size_t hi)
{
    size_t len;
    bool bad;
    if (lo > 0 && unicode_is_word(char_before(text, lo))) return true;
    return hi < text.n && unicode_is_word(utf8_get(text.p + hi, text.n - hi, &len, &bad));
}

static size_t strip_left(struct slice text, size_t at, size_t not_before)
{
    while (at > not_before && unicode_is_space(char_before(text, at))) {
        at--;
        while ((text.p[at] & 0xc0) == 0x80) at--;
    }
    return at;
}

static size_t strip_right(struct slice text, size_t at)
{
    size_t len;
    bool bad;
    while (at < text.n && unicode_is_space(utf8_get(text.p + at, text.n - at, &len, &bad)))
        at += len;
    return at;
}

/* Find the next match that counts. */
static bool find_match(struct added_scan *s)
{
    while (s->n_spans && s->at < s->text.n) {
        size_t here = s->base + s->at;
        if (here >= s->span->hi) {
            s->span++;
            s->n_spans--;
            continue;
        }
        if (here < s->span->lo) {
            if (s->span->lo - s->base >= s->text.n) break;
            s->at = s->span->lo - s->base;
            continue;
        }
        size_t end = s->span->hi - s->base < s->text.n ? s->span->hi - s->base : s->text.n;
        const struct added_key *k = longest(s->pass, slice_of(s->text.p + s->at, end - s->at));
        if (!k) {
            s->at++;
            continue;
        }
        const struct added_token *t = &s->added->token[k->token];
        size_t lo = s->at, hi = lo + k->text.n;
        s->at = hi;
        if (t->single_word && touches_word(s->text, lo, hi)) continue;
        if (t->lstrip) lo = strip_left(s->text, lo, s->gap < lo ? s->gap : lo);
        if (t->rstrip) hi = strip_right(s->text, hi);
        /* What the last token took is not there for this one's left, and perhaps nothing is. */
        if (t->lstrip && lo < s->gap) lo = s->gap;
        if (hi <= lo) continue;
        s->waiting = t;
        s->lo = lo;
        s->hi = hi;
        return true;
    }
    s->at = s->text.n;
    return false;
}

bool added_next(struct added_scan *s, struct slice *piece, const struct added_token **token)
{
    *token = NULL;
    if (!s->waiting && !find_match(s)) {
        if (s->gap >= s->text.n) return false;
        *piece = slice_of(s->text.p + s->gap, s->text.n - s->gap);
        s->gap = s->text.n;
        return true;
    }
    if (s->gap < s->lo) {
        *piece = slice_of(s->text.p + s->gap, s->lo - s->gap);
        s->gap = s->lo;
        return true;
    }
    *token = s->waiting;
    *piece = slice_of(s->text.p + s->lo, s->hi - s->lo);
    s->gap = s->hi;
    s->waiting = NULL;
    return true;
}
