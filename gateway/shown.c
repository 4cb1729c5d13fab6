#include "gateway/shown.h"

#include "proto/identity.h"

#include <stdlib.h>
#include <string.h>

/* --- trees --- */

static bool is_known(struct slice key)
{
    static const char *const known[] = {
        /* nodes: ask/map.h */
        "model", "layers", "nodes", "id", "state", "here", "linked", "rtt_us", "coming", "parts",
        "ends", "together", "layer_us", "sessions", "more",
        /* plans: ask/report.h */
        "stages", "lo", "hi", "hop_us", "hop_known", "spares", "spare_token_us", "home_us",
        "head_us", "token_us", "tokens_per_s", "bottleneck", "left_out", "first_token", "prompt",
        "ms", "left", "why", "left_more", "single", "gap", "n_layers",
        /* times */
        "tokens", "now", "known", "predicted_tokens_per_s", "first_token_ms",
        "predicted_first_token_ms", "pick_ms", "steps", "compute_ms", "wait_ms", "hop_ms",
        "home_ms", "heals", "heal_ms", "heal_rows", "drafted", "accepted"
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (slice_is(key, known[i])) return true;
    return false;
}

static void add_id(struct text *out, struct slice text)
{
    struct node_id id;
    char whole[NODE_ID_TEXT + 1] = "", part[NODE_ID_SHORT] = "?";
    if (text.n < sizeof whole) memcpy(whole, text.p, text.n);
    if (node_id_parse(&id, whole, NULL) == ERR_OK) node_id_short(part, &id);
    json_write_str(out, slice_str(part));
}

static void add_value(struct text *out, const struct json *v);

/* As deep as the parser allows. */
static void add_members(struct text *out, const struct json *v)
{
    const bool is_object = v->type == JSON_OBJECT;
    bool any = false;
    text_str(out, is_object ? "{" : "[");
    for (const struct json *m = v->child; m; m = m->next) {
        if (is_object && !is_known(m->key)) continue;
        if (any) text_str(out, ",");
        any = true;
        if (is_object) {
            json_write_str(out, m->key);
            text_str(out, ":");
        }
        if (is_object && slice_is(m->key, "id") && m->type == JSON_STRING)
            add_id(out, m->text);
        else
            add_value(out, m);
    }
    text_str(out, is_object ? "}" : "]");
}

static void add_value(struct text *out, const struct json *v)
{
    if (v->type == JSON_OBJECT || v->type == JSON_ARRAY)
        add_members(out, v);
    else if (v->type == JSON_STRING)
        shown_text(out, v->text);
    else
        json_write(out, v, 0);
}

void shown_json(struct text *out, struct slice json)
{
    struct json_doc *doc = NULL;
    if (json_parse(&doc, json, "what the coordinator says", NULL) ||
        json_root(doc)->type != JSON_OBJECT)
        text_str(out, "null");
    else
        add_members(out, json_root(doc));
    json_free(doc);
}

/* --- sentences --- */

static bool is_of_address(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || c == '.' ||
           c == ':' || c == '[' || c == ']';
}

/* Three dots between numbers, or two colons: IPv4, IPv6, with or without a port. */
static bool is_address(const uint8_t *p, size_t n)
{
    unsigned dots = 0, colons = 0, digits = 0;
    for (size_t i = 0; i < n; i++) {
        dots += p[i] == '.';
        colons += p[i] == ':';
        digits += p[i] >= '0' && p[i] <= '9';
    }
    return (dots >= 3 && digits >= 4) || (colons >= 2 && n >= 3);
}

void shown_sentence(struct text *out, struct slice s)
{
    for (size_t i = 0, n; i < s.n; i += n) {
        for (n = 0; i + n < s.n && is_of_address(s.p[i + n]);) n++;
        if (n > 0 && is_address(s.p + i, n)) {
            text_str(out, "(address)");
        } else if (n > 0) {
            text_add(out, s.p + i, n);
        } else {
            char c = s.p[i] < ' ' ? ' ' : (char)s.p[i];
            text_add(out, &c, n = 1);
        }
    }
}

void shown_text(struct text *out, struct slice s)
{
    struct text line = { 0 };
    shown_sentence(&line, s);
    json_write_str(out, slice_of(line.p, line.n));
    free(line.p);
}
