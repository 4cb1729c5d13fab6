#include "model/tokenizer_pattern.h"

#include "base/json.h"
#include "model/tokenizer_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>

enum { KINDS_MAX = 256 };

struct pattern {
    pcre2_code *code;              /* owned */
    uint8_t kind[UNICODE_MAX + 1]; /* of each code point */
};

/* ---- kinds ----------------------------------------------------------------------------- */

struct signature {
    uint64_t in[REGEX_SETS_MAX / 64]; /* bit i: in set i */
};

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Where membership of any set may change; owned by the caller; NULL when out of memory. */
static uint32_t *edges(const struct regex *r, size_t *n)
{
    size_t cap = 1;
    for (uint32_t i = 0; i < r->n_sets; i++) cap += 2 * (size_t)r->set[i].n;
    uint32_t *e = malloc(cap * sizeof *e);
    if (!e) return NULL;
    size_t k = 0;
    e[k++] = 0;
    for (uint32_t i = 0; i < r->n_sets; i++)
        for (uint32_t j = 0; j < r->set[i].n; j++) {
            e[k++] = r->set[i].r[j].lo;
            e[k++] = r->set[i].r[j].hi + 1;
        }
    qsort(e, k, sizeof *e, by_value);
    *n = k;
    return e;
}

static void sign(const struct regex *r, uint32_t *next, uint32_t c, struct signature *s)
{
    *s = (struct signature){ 0 };
    for (uint32_t i = 0; i < r->n_sets; i++) {
        const struct uset *set = &r->set[i];
        while (next[i] < set->n && set->r[next[i]].hi < c) next[i]++;
        if (next[i] < set->n && set->r[next[i]].lo <= c) s->in[i / 64] |= 1ull << (i % 64);
    }
}

/* Give every code point its kind; kinds[k] says which sets hold kind k. */
static enum err find_kinds(struct regex *r, struct pattern *out, struct signature *kinds,
                           uint32_t *n_kinds)
{
    uint32_t next[REGEX_SETS_MAX] = { 0 };
    size_t n;
    uint32_t *edge = edges(r, &n);
    if (!edge) return ERR_NOMEM;
    *n_kinds = 0;
    for (size_t i = 0; i < n && !r->e; i++) {
        uint32_t lo = edge[i], hi = i + 1 < n ? edge[i + 1] : UNICODE_MAX + 1;
        if (lo == hi || lo > UNICODE_MAX) continue;
        struct signature s;
        sign(r, next, lo, &s);
        uint32_t k = 0;
        while (k < *n_kinds && memcmp(&kinds[k], &s, sizeof s) != 0) k++;
        if (k == KINDS_MAX)
            regex_refuse(r, ERR_UNSUPPORTED, "so many different characters are not supported,");
        else if (k == *n_kinds)
            kinds[(*n_kinds)++] = s;
        memset(out->kind + lo, (int)k, hi - lo);
    }
    free(edge);
    return r->e;
}

/* A set as a class of kinds. */
static void write_set(struct text *t, const struct signature *kinds, uint32_t n_kinds, uint32_t set)
{
    bool any = false;
    text_str(t, "[");
    for (uint32_t lo = 0; lo < n_kinds; lo++) {
        if (!(kinds[lo].in[set / 64] >> (set % 64) & 1)) continue;
        uint32_t hi = lo;
        while (hi + 1 < n_kinds && kinds[hi + 1].in[set / 64] >> (set % 64) & 1) hi++;
        text_printf(t, "\\x%02x-\\x%02x", lo, hi);
        lo = hi;
        any = true;
    }
    text_str(t, any ? "]" : "^\\x00-\\xff]");
}

static enum err compile(struct regex *r, struct pattern *out)
{
    struct signature kinds[KINDS_MAX];
    uint32_t n_kinds;
    enum err e = find_kinds(r, out, kinds, &n_kinds);
    if (e) return e;

    struct text t = { 0 };
    text_str(&t, "");
    for (uint32_t i = 0; i < r->n_items; i++) {
        char c = (char)r->item[i];
        if (r->item[i] < REGEX_SET)
            text_add(&t, &c, 1);
        else
            write_set(&t, kinds, n_kinds, r->item[i] - REGEX_SET);
    }
    int code = 0;
    size_t at = 0;
    if (!t.failed)
        out->code = pcre2_compile((PCRE2_SPTR)t.p, t.n, PCRE2_NO_AUTO_CAPTURE, &code, &at, NULL);
    bool failed = t.failed;
    free(t.p);
    if (failed) return ERR_NOMEM;
    if (!out->code) {
        char text[128];
        if (pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text) < 0) text[0] = 0;
        r->at = r->src.n;
        regex_refuse(r, ERR_UNSUPPORTED, text);
        return r->e;
    }
    /* Without JIT (another CPU, or a system that forbids it) PCRE2 interprets: slower, same cuts.
     */
    pcre2_jit_compile(out->code, PCRE2_JIT_COMPLETE);
    return ERR_OK;
}

static enum err make(struct pattern **out, struct slice src, bool literal, struct why *why)
{
    struct regex *r = calloc(1, sizeof *r);
    struct pattern *p = calloc(1, sizeof *p);
    enum err e = ERR_NOMEM;
    *out = NULL;
    if (r && p) {
        r->src = src;
        r->why = why;
        if (literal)
            regex_read_literal(r);
        else
            regex_read(r);
        if (!r->e) r->e = compile(r, p);
        e = r->e;
        regex_fini(r);
    }
    free(r);
    if (e == ERR_NOMEM) fail(why, e, "out of memory");
    if (e)
        pattern_close(p);
    else
        *out = p;
    return e;
}

enum err pattern_open(struct pattern **out, struct slice regex, struct why *why)
{
    return make(out, regex, false, why);
}

enum err pattern_open_literal(struct pattern **out, struct slice text, struct why *why)
{
    return make(out, text, true, why);
}

void pattern_close(struct pattern *p)
{
    if (!p) return;
    pcre2_code_free(p->code);
    free(p);
}

/* ---- cutting --------------------------------------------------------------------------- */

enum {
    JIT_STACK_MAX = 1 << 20, /* only patterns that backtrack through groups need more */
    HEAP_MAX_KB = 1 << 20,
    /* Steps of one match, so that a file with a vicious pattern ends in an error and not in a
     * coordinator that hangs.  Published patterns take a few a character of the longest run. */
    STEPS_MIN = 1 << 20,
    STEPS_PER_CHARACTER = 64
};

static enum err cutter_init(struct pattern_cutter *c)
{
    if (!c->match) c->match = pcre2_match_data_create(1, NULL);
    if (!c->context) c->context = pcre2_match_context_create(NULL);
    if (!c->stack) c->stack = pcre2_jit_stack_create(32 << 10, JIT_STACK_MAX, NULL);
    if (!c->match || !c->context) return ERR_NOMEM; /* no stack: there is no JIT */
    if (c->stack) pcre2_jit_stack_assign(c->context, NULL, c->stack);
    pcre2_set_heap_limit(c->context, HEAP_MAX_KB);
    return ERR_OK;
}

enum err pattern_cut_start(struct pattern_cutter *c, const struct pattern *p, struct slice text)
{
    enum err e = c->context ? ERR_OK : cutter_init(c);
    if (e) return e;
    if (text.n > c->cap) {
        size_t cap = text.n + text.n / 2 + 64;
        uint8_t *kind = malloc(cap);
        if (!kind) return ERR_NOMEM;
        free(c->kind);
        c->kind = kind;
        c->cap = cap;
    }
    size_t n = 0;
    for (size_t i = 0; i < text.n;) {
        size_t len = 1;
        uint32_t ch = text.p[i];
        bool bad;
        if (ch >= 0x80) ch = utf8_get(text.p + i, text.n - i, &len, &bad);
        c->kind[n++] = p->kind[ch];
        i += len;
    }
    uint64_t steps = STEPS_MIN + (uint64_t)STEPS_PER_CHARACTER * n;
    pcre2_set_match_limit(c->context, steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX);
    c->p = p;
    c->text = text.p;
    c->n = n;
    c->at = c->byte = c->search = 0;
    c->last_end = SIZE_MAX;
    c->waiting = c->done = false;
    return ERR_OK;
}

/* The next match, as Oniguruma's Rust binding walks through them: an empty one right where the
 * last one ended is passed over, and the search goes on a character later. */
static enum err find(struct pattern_cutter *c)
{
    while (c->search <= c->n) {
        int rc = pcre2_match(c->p->code, c->kind, c->n, c->search, 0, c->match, c->context);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its stack on the heap */
            rc = pcre2_match(c->p->code, c->kind, c->n, c->search, PCRE2_NO_JIT, c->match,
                             c->context);
        if (rc == PCRE2_ERROR_NOMATCH) break;
        if (rc == PCRE2_ERROR_NOMEMORY) return ERR_NOMEM;
        if (rc < 0) return ERR_RANGE;
        const size_t *v = pcre2_get_ovector_pointer(c->match);
        if (v[0] == v[1] && v[1] == c->last_end) {
            c->search++;
            continue;
        }
        c->lo = v[0];
        c->hi = v[1];
        c->search = c->last_end = v[1];
        c->waiting = true;
        return ERR_OK;
    }
    c->done = true;
    return ERR_OK;
}

/* Cut off the characters before end. */
static struct slice cut_to(struct pattern_cutter *c, size_t end)
{
    size_t byte = c->byte;
    for (; c->at < end; c->at++) byte += utf8_len(c->text[byte]);
    struct slice piece = slice_of(c->text + c->byte, byte - c->byte);
    c->byte = byte;
    return piece;
}

enum err pattern_cut(struct pattern_cutter *c, struct slice *piece)
{
    *piece = slice_of(NULL, 0);
    while (c->at < c->n) {
        if (!c->waiting && !c->done) {
            enum err e = find(c);
            if (e) return e;
        }
        size_t end = c->n;
        if (c->waiting) end = c->lo > c->at ? c->lo : c->hi;
        if (c->waiting && end == c->hi) c->waiting = false;
        if (end == c->at) continue;
        *piece = cut_to(c, end);
        return ERR_OK;
    }
    return ERR_OK;
}

void pattern_cutter_fini(struct pattern_cutter *c)
{
    free(c->kind);
    pcre2_match_data_free(c->match);
    pcre2_match_context_free(c->context);
    pcre2_jit_stack_free(c->stack);
    *c = (struct pattern_cutter){ 0 };
}
