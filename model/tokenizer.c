#include "model/tokenizer_impl.h"
#include "model/unicode.h"
#include "model/unicode_nfc.h"

#include <stdlib.h>

enum { TEXT_MAX = 1 << 28 }; /* bytes in one call; positions fit 32 bits with room */

/* ---- pieces ---------------------------------------------------------------------------- */

/* One call's scratch.  A tokenizer itself is never written to, so threads may share it. */
struct encoding {
    const struct tokenizer *t;
    struct ids *out;
    struct bpe_run run;
    struct pattern_cutter cutter[STEPS_MAX]; /* by step */
    struct text spaced[STEPS_MAX];           /* by step: a piece with its prefix space */
};

static enum err encode_piece(struct encoding *e, uint32_t step, struct slice piece);

static enum err cut_by_pattern(struct encoding *e, uint32_t step, struct slice piece)
{
    struct pattern_cutter *c = &e->cutter[step];
    struct slice part;
    enum err err = pattern_cut_start(c, e->t->step[step].pattern, piece);
    while (!err) {
        err = pattern_cut(c, &part);
        if (err || part.n == 0) break;
        err = encode_piece(e, step + 1, part);
    }
    return err;
}

/* Runs of digits and of others, or each digit by itself. */
static enum err cut_by_digits(struct encoding *e, uint32_t step, struct slice piece)
{
    size_t from = 0, len;
    bool bad, last = false;
    for (size_t i = 0; i < piece.n; i += len) {
        bool digit = unicode_is_number(utf8_get(piece.p + i, piece.n - i, &len, &bad));
        if (i > from && (digit != last || (digit && e->t->step[step].alone))) {
            enum err err = encode_piece(e, step + 1, slice_of(piece.p + from, i - from));
            if (err) return err;
            from = i;
        }
        last = digit;
    }
    return encode_piece(e, step + 1, slice_of(piece.p + from, piece.n - from));
}

static enum err prefix_space(struct encoding *e, uint32_t step, struct slice piece)
{
    struct text *t = &e->spaced[step];
    if (piece.p[0] == ' ') return encode_piece(e, step + 1, piece);
    t->n = 0;
    text_str(t, " ");
    text_add(t, piece.p, piece.n);
    return t->failed ? ERR_NOMEM : encode_piece(e, step + 1, slice_of(t->p, t->n));
}

/* piece goes through the steps from step on.  Never empty. */
static enum err encode_piece(struct encoding *e, uint32_t step, struct slice piece)
{
    if (step == e->t->n_steps) return bpe_encode(&e->t->bpe, &e->run, piece, e->out);
    switch (e->t->step[step].kind) {
    case STEP_PATTERN: return cut_by_pattern(e, step, piece);
    case STEP_DIGITS: return cut_by_digits(e, step, piece);
    case STEP_PREFIX_SPACE: return prefix_space(e, step, piece);
    }
    return ERR_OK;
}

/* ---- added tokens ---------------------------------------------------------------------- */

/* What the second pass looks at, and where in it tokens count. */
struct gap {
    struct text normal;
    struct span *span; /* owned */
    uint32_t n_spans;
};

/* Normalize piece by the parts that lie inside and outside of spans.  If that gives the same text
 * as the whole, the parts' places are the spans; if not, a character has grown together across an
 * edge, and no token is recognised. */
static enum err normalize_gap(struct gap *g, struct slice piece, size_t base,
                              const struct span *span, uint32_t n_spans)
{
    struct text parts = { 0 };
    size_t at = 0;
    g->normal = (struct text){ 0 };
    g->n_spans = 0;
    g->span = malloc(((size_t)n_spans + 1) * sizeof *g->span);
    unicode_nfc(piece, &g->normal);
    if (n_spans == 0) return g->span && !g->normal.failed ? ERR_OK : ERR_NOMEM;
    for (uint32_t i = 0; i < n_spans && at < piece.n; i++) {
        if (span[i].hi <= base) continue;
        size_t lo = span[i].lo > base ? span[i].lo - base : 0, hi = span[i].hi - base;
        if (lo >= piece.n) break;
        if (hi > piece.n) hi = piece.n;
        unicode_nfc(slice_of(piece.p + at, lo - at), &parts);
        size_t from = parts.n;
        unicode_nfc(slice_of(piece.p + lo, hi - lo), &parts);
        if (g->span) g->span[g->n_spans++] = (struct span){ from, parts.n };
        at = hi;
    }
    unicode_nfc(slice_of(piece.p + at, piece.n - at), &parts);
    bool ok = g->span && !parts.failed && !g->normal.failed;
    if (ok && (parts.n != g->normal.n || memcmp(parts.p, g->normal.p, parts.n) != 0))
        g->n_spans = 0;
    free(parts.p);
    return ok ? ERR_OK : ERR_NOMEM;
}

/* The second pass, over a gap that the first one left at byte base of the text. */
static enum err encode_gap(struct encoding *e, struct slice piece, size_t base,
                           const struct span *span, uint32_t n_spans)
{
    struct gap g = { 0 };
    enum err err = ERR_OK;
    if (e->t->added.normalized.n == 0) n_spans = 0; /* nothing to look for */
    if (e->t->nfc) {
        err = normalize_gap(&g, piece, base, span, n_spans);
        piece = slice_of(g.normal.p, g.normal.n);
        base = 0;
        span = g.span;
        n_spans = g.n_spans;
    }
    struct added_scan scan = {
        .added = &e->t->added,
        .pass = &e->t->added.normalized,
        .text = piece,
        .span = span,
        .n_spans = n_spans,
        .base = base,
    };
    const struct added_token *token;
    while (!err && added_next(&scan, &piece, &token))
        err = token ? ids_push(e->out, token->id) : encode_piece(e, 0, piece);
    free(g.normal.p);
    free(g.span);
    return err;
}

static enum err encode_text(struct encoding *e, struct slice text, const struct span *span,
                            uint32_t n_spans)
{
    struct added_scan scan = {
        .added = &e->t->added,
        .pass = &e->t->added.raw,
        .text = text,
        .span = span,
        .n_spans = n_spans,
    };
    struct slice piece;
    const struct added_token *token;
    enum err err = ERR_OK;
    while (!err && added_next(&scan, &piece, &token)) {
        size_t base = (size_t)(piece.p - text.p);
        while (!token && n_spans && span->hi <= base) { /* those behind us */
            span++;
            n_spans--;
        }
        err = token ? ids_push(e->out, token->id) : encode_gap(e, piece, base, span, n_spans);
    }
    return err;
}

/* ---- entry ----------------------------------------------------------------------------- */

/* text with malformed bytes as U+FFFD, and the spans moved along. */
static void make_valid(struct slice text, struct text *out, struct span *span, uint32_t n_spans)
{
    uint32_t lo = 0, hi = 0; /* spans whose begin and end are moved */
    size_t len;
    for (size_t i = 0; i < text.n; i += len) {
        bool bad;
        uint8_t c[4];
        uint32_t ch = utf8_get(text.p + i, text.n - i, &len, &bad);
        for (; lo < n_spans && span[lo].lo <= i; lo++) span[lo].lo = out->n;
        for (; hi < n_spans && span[hi].hi <= i; hi++) span[hi].hi = out->n;
        text_add(out, c, utf8_put(ch, c));
    }
    for (; lo < n_spans; lo++) span[lo].lo = out->n;
    for (; hi < n_spans; hi++) span[hi].hi = out->n;
}

/* spans within text, adjoining ones joined. */
static uint32_t join_spans(struct span *to, const struct span *span, uint32_t n, size_t text_n)
{
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct span s = span[i];
        if (s.hi > text_n) s.hi = text_n;
        if (k && s.lo < to[k - 1].hi) s.lo = to[k - 1].hi;
        if (s.lo >= s.hi) continue;
        if (k && s.lo == to[k - 1].hi)
            to[k - 1].hi = s.hi;
        else
            to[k++] = s;
    }
    return k;
}

enum err tokenizer_encode_spans(const struct tokenizer *t, struct slice text,
                                const struct span *spans, uint32_t n_spans, struct ids *out)
{
    if (text.n > TEXT_MAX) return ERR_RANGE;
    struct span *span = malloc(((size_t)n_spans + 1) * sizeof *span);
    struct encoding *e = calloc(1, sizeof *e);
    struct text valid = { 0 };
    enum err err = span && e ? ERR_OK : ERR_NOMEM;
    if (!err) {
        *e = (struct encoding){ .t = t, .out = out };
        n_spans = join_spans(span, spans, n_spans, text.n);
        if (!utf8_valid(text)) {
            make_valid(text, &valid, span, n_spans);
            text = slice_of(valid.p, valid.n);
        }
        err = valid.failed ? ERR_NOMEM : encode_text(e, text, span, n_spans);
        for (uint32_t i = 0; i < STEPS_MAX; i++) {
            pattern_cutter_fini(&e->cutter[i]);
            free(e->spaced[i].p);
        }
        bpe_run_fini(&e->run);
    }
    free(valid.p);
    free(span);
    free(e);
    return err;
}

enum err tokenizer_encode(const struct tokenizer *t, struct slice text, bool special,
                          struct ids *out)
{
    struct span all = { 0, text.n };
    return tokenizer_encode_spans(t, text, &all, special ? 1 : 0, out);
}

enum err tokenizer_encode_document(const struct tokenizer *t, struct slice text, struct ids *out)
{
    enum err e = ERR_OK;
    for (uint32_t i = 0; i < t->n_before && !e; i++) e = ids_push(out, t->before[i]);
    if (!e) e = tokenizer_encode(t, text, true, out);
    for (uint32_t i = 0; i < t->n_after && !e; i++) e = ids_push(out, t->after[i]);
    return e;
}

/* ---- ids and bytes --------------------------------------------------------------------- */

uint32_t tokenizer_size(const struct tokenizer *t)
{
    return t->added.n_by_id > t->bpe.n_tokens ? t->added.n_by_id : t->bpe.n_tokens;
}

int32_t tokenizer_find(const struct tokenizer *t, const char *text)
{
    const struct added_token *a = added_by_text(&t->added, slice_str(text));
    return a ? a->id : bpe_find_text(&t->bpe, slice_str(text));
}

struct slice tokenizer_bytes(const struct tokenizer *t, int32_t id, bool skip_special)
{
    const struct added_token *a = added_by_id(&t->added, id);
    if (!a) return bpe_bytes(&t->bpe, id);
    return a->special && skip_special ? slice_of(NULL, 0) : a->bytes;
}

/* What is complete in bytes goes out; returns how many bytes at the end wait for more. */
static size_t put_complete(struct slice bytes, struct text *out)
{
    static const char replacement[] = "\xef\xbf\xbd";
    size_t len;
    for (size_t i = 0; i < bytes.n; i += len) {
        bool bad;
        utf8_get(bytes.p + i, bytes.n - i, &len, &bad);
        /* A sound beginning of a character that ends with the bytes may still become one. */
        bool lead = bytes.p[i] >= 0xc2 && bytes.p[i] <= 0xf4;
        if (bad && lead && i + len == bytes.n) return len;
        if (bad)
            text_str(out, replacement);
        else
            text_add(out, bytes.p + i, len);
    }
    return 0;
}

void utf8_stream_feed(struct utf8_stream *s, struct slice bytes, struct text *out)
{
    while (s->n && bytes.n) { /* the tail grows until it holds a character or a mistake */
        s->tail[s->n++] = *bytes.p;
        bytes = slice_of(bytes.p + 1, bytes.n - 1);
        size_t left = put_complete(slice_of(s->tail, s->n), out);
        memmove(s->tail, s->tail + s->n - left, left);
        s->n = (uint32_t)left;
    }
    if (s->n) return;
    size_t left = put_complete(bytes, out);
    if (left) memcpy(s->tail, bytes.p + bytes.n - left, left);
    s->n = (uint32_t)left;
}

void utf8_stream_flush(struct utf8_stream *s, struct text *out)
{
    if (s->n) text_str(out, "\xef\xbf\xbd");
    s->n = 0;
}
