#include "gateway/logprobs.h"

#include "proto/mp.h"

#include <math.h>
#include <stdlib.h>

/* --- the wire's form --- */

struct entry {
    float logprob;
    struct slice bytes;
};

/* false: they are not whole. */
static bool get_entry(struct slice *s, struct entry *out)
{
    enum { HEAD = 5 };
    if (s->n < HEAD || s->n < HEAD + (size_t)s->p[4]) return false;
    uint32_t u = 0;
    for (unsigned i = 0; i < 4; i++) u |= (uint32_t)s->p[i] << 8 * i;
    memcpy(&out->logprob, &u, sizeof u);
    out->bytes = slice_of(s->p + HEAD, s->p[4]);
    *s = slice_of(s->p + HEAD + out->bytes.n, s->n - HEAD - out->bytes.n);
    return isfinite(out->logprob);
}

/* Bytes of the first token of s, with its alternatives; 0: it is not whole. */
static size_t token_bytes(struct slice s, struct slice *text)
{
    struct slice at = s;
    struct entry e;
    if (at.n < 2 || at.p[0] == 0) return 0;
    unsigned n = at.p[0];
    at = slice_of(at.p + 1, at.n - 1);
    for (unsigned i = 0; i < n; i++) {
        if (!get_entry(&at, &e)) return 0;
        if (i == 0) *text = e.bytes;
    }
    return s.n - at.n;
}

void logprobs_feed(struct logprobs *l, struct slice wire)
{
    size_t n, from = l->fed;
    struct slice text = { 0 };
    for (; (n = token_bytes(wire, &text)) > 0; wire = slice_of(wire.p + n, wire.n - n)) {
        if (l->n_waiting == l->cap) {
            uint32_t cap = 2 * l->cap + 16;
            struct logprobs_at *p = realloc(l->waiting, cap * sizeof *p);
            if (!p) return;
            l->waiting = p;
            l->cap = cap;
        }
        l->waiting[l->n_waiting++] = (struct logprobs_at){ from, n };
        text_add(&l->wire, wire.p, n);
        from += text.n;
    }
}

void logprobs_text(struct logprobs *l, size_t n)
{
    l->fed += n;
}

void logprobs_settle(struct logprobs *l, size_t n)
{
    l->said += n;
}

/* Of those that wait so many are settled, with so many bytes. */
static uint32_t count_settled(const struct logprobs *l, size_t *bytes)
{
    uint32_t n = 0;
    *bytes = 0;
    while (n < l->n_waiting && l->waiting[n].from < l->said) *bytes += l->waiting[n++].n;
    return n;
}

static void forget(struct logprobs *l, uint32_t n, size_t bytes)
{
    if (n == 0) return;
    l->n_waiting -= n;
    memmove(l->waiting, l->waiting + n, l->n_waiting * sizeof *l->waiting);
    l->wire.n -= bytes;
    memmove(l->wire.p, l->wire.p + bytes, l->wire.n);
}

void logprobs_drop(struct logprobs *l)
{
    size_t bytes;
    uint32_t n = count_settled(l, &bytes);
    forget(l, n, bytes);
}

void logprobs_fini(struct logprobs *l)
{
    free(l->wire.p);
    free(l->waiting);
    for (unsigned i = 0; i < 4; i++) free(l->list[i].p);
}

/* --- OpenAI's forms --- */

/* Part of a character is written as OpenAI writes it: bytes:\xe2\x80. */
static void write_token(struct text *out, struct slice bytes)
{
    if (utf8_is_valid(bytes)) {
        json_write_str(out, bytes);
        return;
    }
    text_str(out, "\"bytes:");
    for (size_t i = 0; i < bytes.n; i++) text_printf(out, "\\\\x%02x", bytes.p[i]);
    text_str(out, "\"");
}

static void write_number(struct text *out, float logprob)
{
    text_printf(out, "%.9g", (double)logprob);
}

static void separate(struct text *out)
{
    if (out->n > 0) text_str(out, ",");
}

static void write_body(struct text *out, const struct entry *e)
{
    text_str(out, "\"token\":");
    write_token(out, e->bytes);
    text_str(out, ",\"logprob\":");
    write_number(out, e->logprob);
    text_str(out, ",\"bytes\":[");
    for (size_t i = 0; i < e->bytes.n; i++)
        text_printf(out, i ? ",%u" : "%u", (unsigned)e->bytes.p[i]);
    text_str(out, "]");
}

/* own and then n more in rest: one element of "content". */
static void take_chat(struct logprobs *l, const struct entry *own, struct slice rest, unsigned n)
{
    struct text *out = &l->list[0];
    struct entry e;
    separate(out);
    text_str(out, "{");
    write_body(out, own);
    text_str(out, ",\"top_logprobs\":[");
    for (unsigned i = 0; i < n && get_entry(&rest, &e); i++) {
        text_str(out, i ? ",{" : "{");
        write_body(out, &e);
        text_str(out, "}");
    }
    text_str(out, "]}");
}

/* The names in an object so far, one after the other. */
struct names {
    struct text all; /* owned */
    size_t end[UINT8_MAX + 1];
    unsigned n;
};

/* false: it is there already. */
static bool add_name(struct names *k, struct slice bytes)
{
    size_t from = k->all.n, at = 0;
    write_token(&k->all, bytes);
    if (k->all.failed) return false;
    struct slice name = slice_of(k->all.p + from, k->all.n - from);
    for (unsigned i = 0; i < k->n; at = k->end[i++])
        if (slice_equal(name, slice_of(k->all.p + at, k->end[i] - at))) {
            k->all.n = from;
            return false;
        }
    k->end[k->n++] = k->all.n;
    return true;
}

static void add_top(struct text *top, struct names *k, const struct entry *e)
{
    if (!add_name(k, e->bytes)) return;
    if (k->n > 1) text_str(top, ",");
    write_token(top, e->bytes);
    text_str(top, ":");
    write_number(top, e->logprob);
}

/* One element of each of four lists; the token itself is among the alternatives. */
static void take_lists(struct logprobs *l, const struct entry *own, struct slice rest, unsigned n)
{
    struct text *const token = &l->list[0], *logprob = &l->list[1], *top = &l->list[2];
    struct names names = { .n = 0 };
    struct entry e;
    size_t n_characters = 0;
    for (unsigned i = 0; i < 4; i++) separate(&l->list[i]);
    write_token(token, own->bytes);
    write_number(logprob, own->logprob);
    text_str(top, "{");
    for (unsigned i = 0; i < n && get_entry(&rest, &e); i++) add_top(top, &names, &e);
    add_top(top, &names, own);
    text_str(top, "}");
    free(names.all.p);
    text_printf(&l->list[3], "%zu", l->offset);
    for (size_t i = 0; i < own->bytes.n; i++) n_characters += (own->bytes.p[i] & 0xc0) != 0x80;
    l->offset += n_characters;
}

void logprobs_take(struct logprobs *l, enum endpoint endpoint)
{
    size_t bytes;
    uint32_t n = count_settled(l, &bytes);
    struct slice all = slice_of(l->wire.p, bytes);
    for (uint32_t i = 0; i < n; i++) {
        unsigned more = all.p[0] - 1u;
        struct slice rest = slice_of(all.p + 1, l->waiting[i].n - 1);
        struct entry own;
        if (!get_entry(&rest, &own)) break;
        if (endpoint == ENDPOINT_COMPLETIONS)
            take_lists(l, &own, rest, more);
        else
            take_chat(l, &own, rest, more);
        all = slice_of(all.p + l->waiting[i].n, all.n - l->waiting[i].n);
    }
    forget(l, n, bytes);
}

bool logprobs_write(struct logprobs *l, enum endpoint endpoint, struct text *out)
{
    static const char *const names[4] = { "tokens", "token_logprobs", "top_logprobs",
                                          "text_offset" };
    bool is_lists = endpoint == ENDPOINT_COMPLETIONS;
    unsigned n = is_lists ? 4 : 1;
    if (l->list[0].n == 0) return false;
    for (unsigned i = 0; i < n; i++) {
        text_printf(out, "%s\"%s\":[", i ? "," : "{", is_lists ? names[i] : "content");
        text_add(out, l->list[i].p, l->list[i].n);
        text_str(out, "]");
        l->list[i].n = 0;
    }
    text_str(out, is_lists ? "}" : ",\"refusal\":null}");
    return true;
}
