#include "tools/status_view.h"

#include "proto/identity.h"
#include "tools/progress.h"
#include "tools/terminal.h"

#include <stdio.h>
#include <stdlib.h>

/* --- characters --- */

/* The character at p (n bytes left) and its length; U+FFFD for a malformed byte. */
static size_t next_character(const uint8_t *p, size_t n, uint32_t *c)
{
    size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;

    *c = 0xfffd;
    if (len == 0 || len > n || p[0] > 0xf4) return 1;
    uint32_t v = len == 1 ? p[0] : p[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) return 1;
        v = v << 6 | (p[i] & 0x3f);
    }
    *c = v;
    return len;
}

/* Columns of a character, well enough for a table: East Asian and emoji are wide; what joins the
 * character before it, has no width or changes the direction of writing is not shown at all. */
static int columns_of(uint32_t c)
{
    if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad) return -1;
    if ((c >= 0x300 && c <= 0x36f) || (c >= 0x1ab0 && c <= 0x1aff) || (c >= 0x20d0 && c <= 0x20ff))
        return -1; /* combining marks */
    if ((c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
        (c >= 0x2060 && c <= 0x206f) || (c >= 0xfe00 && c <= 0xfe2f) || c == 0xfeff || c == 0x61c ||
        (c >= 0xfff0 && c < 0xfffd) || c >= 0xe0000)
        return -1;
    if ((c >= 0x1100 && c <= 0x115f) || (c >= 0x2e80 && c <= 0xa4cf) ||
        (c >= 0xac00 && c <= 0xd7a3) || (c >= 0xf900 && c <= 0xfaff) ||
        (c >= 0xfe30 && c <= 0xfe6f) || (c >= 0xff00 && c <= 0xff60) ||
        (c >= 0x1f300 && c <= 0x1faff) || (c >= 0x20000 && c <= 0x3fffd))
        return 2;
    if ((c >= 0x300 && c < 0x370) || (c >= 0x590 && c <= 0x8ff)) return -1; /* right to left */
    return 1;
}

/* One character, or '?' where it cannot be shown; its columns. */
static unsigned show(struct text *out, const uint8_t *p, size_t len, uint32_t c, bool utf8)
{
    int columns = columns_of(c);
    if (c == 0xfffd || columns < 0 || (c >= 0x80 && !utf8)) {
        text_str(out, "?");
        return 1;
    }
    text_add(out, p, len);
    return (unsigned)columns;
}

static unsigned width_of(struct slice s, bool utf8)
{
    struct text scratch = { 0 };
    unsigned w = 0;
    uint32_t c;

    for (size_t i = 0, len; i < s.n; i += len) {
        len = next_character(s.p + i, s.n - i, &c);
        w += show(&scratch, s.p + i, len, c, utf8);
    }
    free(scratch.p);
    return w;
}

void view_cell(struct text *out, struct slice s, unsigned columns, bool utf8)
{
    bool is_cut = width_of(s, utf8) > columns;
    unsigned room = is_cut && columns ? columns - 1 : columns, at = 0;
    uint32_t c;

    for (size_t i = 0, len; i < s.n; i += len) {
        len = next_character(s.p + i, s.n - i, &c);
        int w = c == 0xfffd || (c >= 0x80 && !utf8) ? 1 : columns_of(c);
        if (at + (unsigned)(w < 0 ? 1 : w) > room) break;
        at += show(out, s.p + i, len, c, utf8);
    }
    if (is_cut && columns) {
        text_str(out, "~");
        at++;
    }
    text_printf(out, "%*s", (int)(columns - at), "");
}

/* --- what the JSON says --- */

static struct slice string(const struct json *v, const char *key)
{
    const struct json *s = json_get(v, key);
    return s && s->type == JSON_STRING ? s->text : slice_of("", 0);
}

static const struct json *list(const struct json *v, const char *key)
{
    const struct json *l = json_get(v, key);
    return l && l->type == JSON_ARRAY ? l->child : NULL;
}

/* "swm1abcd...wxyz" of a whole id. */
static struct slice short_id(const struct json *v, char out[NODE_ID_SHORT])
{
    char text[NODE_ID_TEXT];
    struct node_id id;
    struct slice s = string(v, "id");

    snprintf(text, sizeof text, "%.*s", (int)(s.n < 80 ? s.n : 80), (const char *)s.p);
    snprintf(out, NODE_ID_SHORT, "?");
    if (!node_id_parse(&id, text, NULL)) node_id_short(out, &id);
    return slice_str(out);
}

/* --- lines --- */

struct screen {
    struct text *out;
    const struct view *v;
    unsigned lines; /* so far */
};

/* Is there room for n more lines, one kept for what is left out? */
static bool has_room(const struct screen *s, unsigned n)
{
    return s->v->height == 0 || s->lines + n < s->v->height;
}

/* One line of text, cut at the edge, without the blanks at its end. */
static void put_line(struct screen *s, struct text *line)
{
    struct text cell = { 0 };
    if (!line->failed && has_room(s, 0)) {
        view_cell(&cell, slice_of(line->p, line->n), s->v->width, s->v->utf8);
        while (cell.n > 0 && cell.p[cell.n - 1] == ' ') cell.n--;
        text_add(s->out, cell.p, cell.n);
        text_str(s->out, "\n");
        s->lines++;
    }
    free(cell.p);
    line->n = 0;
}

static void add_cell(struct text *line, const struct screen *s, const char *text, unsigned columns)
{
    view_cell(line, slice_str(text), columns, s->v->utf8);
    text_str(line, " ");
}

/* Right-aligned. */
static void add_right(struct text *line, const char *text, unsigned columns)
{
    text_printf(line, "%*s ", (int)columns, text);
}

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

/* --- the parts --- */

static void put_head(struct screen *s, const struct json *r, struct text *line)
{
    char id[NODE_ID_SHORT], up[SIZE_TEXT], used[SIZE_TEXT], all[SIZE_TEXT];
    struct slice name = string(r, "name"), state = string(r, "state");

    short_id(r, id);
    snprintf(up, sizeof up, "0 s");
    if (json_number_of(r, "uptime_s")) time_text(up, (double)json_number_of(r, "uptime_s"));
    text_printf(line, "node %s", id);
    if (name.n) {
        text_str(line, "  \"");
        text_add(line, name.p, name.n);
        text_str(line, "\"");
    }
    text_str(line, "  ");
    text_add(line, state.p, state.n);
    size_text(used, json_number_of(r, "memory"));
    size_text(all, json_number_of(r, "memory_of_machine"));
    text_printf(line, ", up %s, memory %s of %s", up, used, all);
    put_line(s, line);
}

static void add_range(struct text *line, uint64_t lo, uint64_t hi)
{
    if (hi <= lo)
        text_str(line, "none");
    else if (hi == lo + 1)
        text_printf(line, "%llu", (unsigned long long)lo);
    else
        text_printf(line, "%llu-%llu", (unsigned long long)lo, (unsigned long long)hi - 1);
}

static void put_sentence(struct screen *s, struct slice text, struct text *line)
{
    text_add(line, text.p, text.n);
    if (text.n) put_line(s, line);
}

static void put_gateway(struct screen *s, const struct json *g, struct text *line)
{
    if (!g || g->type != JSON_STRING) return;
    text_str(line, g->text.n ? "gateway at " : "its gateway is not up; the log says why");
    put_sentence(s, g->text.n ? g->text : slice_str(" "), line);
}

/* What earlier conversations left, when there is something. */
static void put_prefixes(struct screen *s, struct text *line, const struct json *p)
{
    char size[SIZE_TEXT];
    unsigned long long positions = json_number_of(p, "positions"), hits = json_number_of(p, "hits");

    if (positions == 0 && hits == 0) return;
    size_text(size, json_number_of(p, "bytes"));
    text_printf(line, "keeps %llu positions of earlier conversations (%s), used %llu time%s",
                positions, size, hits, plural(hits));
    put_line(s, line);
}

/* Why layers are not shared, and with whom not. */
static void put_not_shared(struct screen *s, const struct json *sharing, struct text *line)
{
    struct slice why = string(sharing, "why");

    if (why.n) {
        text_add(line, why.p, why.n);
        put_line(s, line);
    }
    for (const struct json *who = list(sharing, "refused"); who; who = who->next) {
        if (who->type != JSON_STRING) continue;
        text_str(line, "layers are not shared with ");
        text_add(line, who->text.p, who->text.n);
        put_line(s, line);
    }
}

static void put_hottest(struct screen *s, const struct json *sharing, struct text *line)
{
    const struct json *hot = list(sharing, "hottest");

    if (!hot) return;
    text_str(line, "most used experts:");
    for (const struct json *one = hot; one; one = one->next)
        text_printf(line, "%s %llu of layer %llu (%.0f %%)", one == hot ? "" : ",",
                    (unsigned long long)json_number_of(one, "expert"),
                    (unsigned long long)json_number_of(one, "layer"),
                    100 * json_real_of(one, "use"));
    put_line(s, line);
}

/* Parts of layers that it holds, and with whom it shares what it leads. */
static void put_sharing(struct screen *s, const struct json *r, struct text *line)
{
    const struct json *sharing = json_get(r, "sharing");
    struct slice parts = string(r, "parts"), predicted = string(sharing, "predicted");
    uint64_t n = json_number_of(sharing, "others");

    if (parts.n) {
        text_str(line, "in parts: ");
        text_add(line, parts.p, parts.n);
        put_line(s, line);
    }
    put_not_shared(s, sharing, line);
    if (!n) return;
    struct slice way = string(sharing, "way");
    text_printf(line, "layers are shared with %llu other%s", (unsigned long long)n, plural(n));
    if (way.n == 7 && memcmp(way.p, "experts", 7) == 0) text_str(line, ", but for head groups");
    put_line(s, line);
    text_str(line, predicted.n ? "by prediction " : "");
    text_add(line, predicted.p, predicted.n);
    if (predicted.n) put_line(s, line);
    put_hottest(s, sharing, line);
}

static void put_model(struct screen *s, const struct json *r, struct text *line)
{
    const struct json *m = json_get(r, "model");
    char used[SIZE_TEXT], all[SIZE_TEXT], waiting[40] = "";

    if (!m) {
        text_str(line, "it serves nothing yet");
        put_line(s, line);
        return;
    }
    struct slice name = string(m, "name");
    text_add(line, name.p, name.n);
    text_str(line, ": layers ");
    add_range(line, json_number_of(m, "lo"), json_number_of(m, "hi"));
    text_printf(line, " of 0-%llu%s", (unsigned long long)json_number_of(m, "layers") - 1,
                json_is_true(json_get(m, "ends")) ? " and the ends; it can be asked" : "");
    double layer_us = (double)json_number_of(m, "layer_us");
    if (layer_us >= 1000)
        text_printf(line, "; a layer takes %.1f ms", layer_us / 1e3);
    else if (layer_us > 0)
        text_printf(line, "; a layer takes %.0f us", layer_us);
    put_line(s, line);
    uint64_t n_waiting = json_number_of(r, "waiting");
    if (n_waiting > 0)
        snprintf(waiting, sizeof waiting, " (%llu waiting)", (unsigned long long)n_waiting);
    size_text(used, json_number_of(r, "kv_used"));
    size_text(all, json_number_of(r, "kv_limit"));
    text_printf(
        line,
        "%llu session%s, %llu question%s%s; conversations take %s of %s, room for %llu positions",
        (unsigned long long)json_number_of(r, "sessions"), plural(json_number_of(r, "sessions")),
        (unsigned long long)json_number_of(r, "requests"), plural(json_number_of(r, "requests")),
        waiting, used, all, (unsigned long long)json_number_of(r, "free_positions"));
    put_line(s, line);
    put_prefixes(s, line, json_get(r, "prefixes"));
    put_sharing(s, r, line);
}

static void put_blank(struct screen *s)
{
    struct text none = { 0 };
    if (has_room(s, 1)) put_line(s, &none);
}

static void count_text(char out[SIZE_TEXT], double n, bool is_bytes)
{
    if (is_bytes)
        size_text(out, (uint64_t)n);
    else if (n < 100 && n != (double)(uint64_t)n)
        snprintf(out, SIZE_TEXT, "%.1f", n);
    else if (n < 1e7)
        snprintf(out, SIZE_TEXT, "%.0f", n);
    else
        snprintf(out, SIZE_TEXT, "%.4gM", n / 1e6);
}

static void put_counter(struct screen *s, const struct json *counters, const char *key,
                        const char *label, bool is_bytes, struct text *line)
{
    const struct json *c = json_get(counters, key);
    char per_s[SIZE_TEXT], now[SIZE_TEXT], total[SIZE_TEXT];
    double rate = 0;

    if (!c || !has_room(s, 1)) return;
    (void)json_double(json_get(c, "per_s"), &rate);
    count_text(per_s, rate, is_bytes);
    count_text(now, (double)json_number_of(c, "now"), is_bytes);
    count_text(total, (double)json_number_of(c, "total"), is_bytes);
    add_cell(line, s, label, 24);
    add_right(line, per_s, 12);
    add_right(line, now, 14);
    add_right(line, total, 14);
    put_line(s, line);
}

static void put_counters(struct screen *s, const struct json *r, struct text *line)
{
    const struct json *c = json_get(r, "counters");

    put_blank(s);
    add_cell(line, s, "", 24);
    add_right(line, "a second", 12);
    add_right(line, "since start", 14);
    add_right(line, "in all", 14);
    put_line(s, line);
    put_counter(s, c, "answers", "answers", false, line);
    put_counter(s, c, "tokens", "tokens of answers", false, line);
    put_counter(s, c, "rows_given", "rows given (x layers)", false, line);
    put_counter(s, c, "rows_taken", "rows taken (x layers)", false, line);
    put_counter(s, c, "weights_given", "weights given", true, line);
    put_counter(s, c, "weights_taken", "weights taken", true, line);
    put_counter(s, c, "bytes_out", "sent", true, line);
    put_counter(s, c, "bytes_in", "received", true, line);
}

/* "held by  0-3: 2 nodes  4-7: 1 node": ranges of layers with as many holders. */
static void put_holders(struct screen *s, const struct json *r, struct text *line)
{
    const struct json *m = json_get(r, "model");
    uint64_t at = 0, n = 0, next;

    if (!m) return;
    put_blank(s);
    text_str(line, "layers held by");
    for (const struct json *h = list(m, "holders"); h;) {
        uint64_t lo = at;
        if (!json_u64(h, &n)) break;
        do {
            h = h->next;
            at++;
        } while (h && json_u64(h, &next) && next == n);
        size_t before = line->n;
        text_str(line, "   ");
        add_range(line, lo, at);
        text_printf(line, ": %llu node%s", (unsigned long long)n, plural(n));
        if (line->n <= s->v->width) continue;
        struct text rest = { 0 }; /* this one begins the next line */
        text_str(&rest, "              ");
        text_add(&rest, line->p + before, line->n - before);
        line->n = before;
        put_line(s, line);
        text_add(line, rest.p, rest.n);
        free(rest.p);
    }
    text_printf(line, "   ends: %llu", (unsigned long long)json_number_of(m, "ends_holders"));
    put_line(s, line);
}

enum { C_ID = 16, C_RTT = 9, C_LAYERS = 12, C_STATE = 9, C_BYTES = 10 };

/* What is left for names and addresses, in a line of the terminal's width. */
static void share_width(const struct screen *s, unsigned *name, unsigned *address)
{
    unsigned fixed = C_ID + C_RTT + C_LAYERS + C_STATE + 2 * C_BYTES + 8;
    unsigned left = s->v->width > fixed ? s->v->width - fixed : 0;
    *address = left >= 36 ? 24 : left >= 24 ? left - 12 : 0;
    *name = left - *address > 32 ? 32 : left - *address;
}

static void put_peer_head(struct screen *s, struct text *line)
{
    unsigned name, address;
    share_width(s, &name, &address);
    add_cell(line, s, "node", C_ID);
    if (name) add_cell(line, s, "name", name);
    if (address) add_cell(line, s, "address", address);
    add_right(line, "rtt", C_RTT);
    add_cell(line, s, "layers", C_LAYERS);
    add_cell(line, s, "state", C_STATE);
    add_right(line, "in", C_BYTES);
    add_right(line, "out", C_BYTES);
    put_line(s, line);
}

static void peer_layers(struct text *out, const struct json *p)
{
    if (!json_is_true(json_get(p, "same_model"))) {
        struct slice model = string(p, "model");
        if (model.n)
            text_add(out, model.p, model.n);
        else
            text_str(out, "-");
        return;
    }
    const char *before = "";
    for (const struct json *l = list(p, "layers"); l && l->next; l = l->next->next) {
        uint64_t lo = 0, hi = 0;
        if (!json_u64(l, &lo) || !json_u64(l->next, &hi)) break;
        text_str(out, before);
        add_range(out, lo, hi);
        before = ",";
    }
    if (json_is_true(json_get(p, "ends"))) text_str(out, *before ? "+ends" : "ends");
}

static void put_peer(struct screen *s, const struct json *p, struct text *line)
{
    unsigned name, address;
    uint64_t rtt;
    char id[NODE_ID_SHORT], text[SIZE_TEXT];
    struct text layers = { 0 };
    bool is_up = json_is_true(json_get(p, "connected"));

    share_width(s, &name, &address);
    short_id(p, id);
    peer_layers(&layers, p);
    add_cell(line, s, id, C_ID);
    if (name) view_cell(line, string(p, "name"), name, s->v->utf8), text_str(line, " ");
    if (address) view_cell(line, string(p, "address"), address, s->v->utf8), text_str(line, " ");
    snprintf(text, sizeof text, "-");
    if (json_u64(json_get(p, "rtt_us"), &rtt))
        snprintf(text, sizeof text, "%.1f ms", (double)rtt / 1e3);
    add_right(line, text, C_RTT);
    view_cell(line, slice_of(layers.p, layers.n), C_LAYERS, s->v->utf8);
    text_str(line, " ");
    if (is_up)
        view_cell(line, string(p, "state"), C_STATE, s->v->utf8);
    else
        view_cell(line, slice_str("far"), C_STATE, false); /* known, no connection */
    text_str(line, " ");
    size_text(text, json_number_of(p, "bytes_in"));
    add_right(line, text, C_BYTES);
    size_text(text, json_number_of(p, "bytes_out"));
    add_right(line, text, C_BYTES);
    put_line(s, line);
    free(layers.p);
}

static void put_peers(struct screen *s, const struct json *r, struct text *line)
{
    uint64_t known = json_number_of(r, "peers_known"), shown = 0;

    put_blank(s);
    text_printf(line, "%llu other node%s known, connected to %llu", (unsigned long long)known,
                plural(known), (unsigned long long)json_number_of(r, "peers_connected"));
    put_line(s, line);
    const struct json *p = list(r, "peers");
    if (p) put_peer_head(s, line);
    for (; p && has_room(s, 2); p = p->next, shown++) put_peer(s, p, line);
    if (shown >= known) return;
    text_printf(line, "and %llu more", (unsigned long long)(known - shown));
    put_line(s, line);
}

static void put_warnings(struct screen *s, const struct json *r, struct text *line)
{
    for (const struct json *w = list(r, "warnings"); w; w = w->next) {
        if (w->type != JSON_STRING) continue;
        text_str(line, "! ");
        text_add(line, w->text.p, w->text.n);
        put_line(s, line);
    }
}

enum err status_view(struct text *out, struct slice json, const struct view *v)
{
    struct json_doc *doc = NULL;
    enum err e = json_parse(&doc, json, "the status", NULL);
    const struct json *r = e ? NULL : json_root(doc);

    if (!e && r->type != JSON_OBJECT) e = ERR_MALFORMED;
    if (!e) {
        struct screen s = { .out = out, .v = v };
        struct text line = { 0 };
        put_head(&s, r, &line);
        put_sentence(&s, string(r, "reach"), &line);
        put_gateway(&s, json_get(r, "gateway"), &line);
        put_model(&s, r, &line);
        put_sentence(&s, string(r, "pause"), &line);
        put_sentence(&s, string(r, "progress"), &line);
        put_warnings(&s, r, &line);
        put_counters(&s, r, &line);
        put_holders(&s, r, &line);
        put_peers(&s, r, &line);
        free(line.p);
    }
    json_free(doc);
    return e;
}
