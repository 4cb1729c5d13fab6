#include "ask/map.h"

#include <string.h>

enum { PARTS_SHOWN = 16 };

static void add_ranges(struct text *out, const char *key, const struct uints *l)
{
    if (l->n == 0) return;
    text_printf(out, ",\"%s\":[", key);
    for (uint32_t i = 0; i < l->n; i++) text_printf(out, i ? ",%u" : "%u", l->p[i]);
    text_str(out, "]");
}

static void add_parts(struct text *out, const struct record_body *b)
{
    static const char *const kinds[PART_KINDS] = { "trunk", "heads", "experts", "dense" };
    uint32_t n = record_n_parts(b);
    if (n == 0) return;
    text_str(out, ",\"parts\":[");
    for (uint32_t i = 0; i < n && i < PARTS_SHOWN; i++) {
        struct record_part p = record_part_nth(b, i);
        text_printf(out, "%s[\"%s\",%u,%u,%u,%u]", i ? "," : "", kinds[p.kind], p.lo, p.hi,
                    p.item_lo, p.item_hi);
    }
    text_str(out, "]");
}

static const char *state_of(const struct map_source *s, uint32_t i)
{
    static const char *const states[] = { "joining", "active", "draining", "gone" };
    if (s->measured[i].banned) return "banned";
    if (s->measured[i].lost) return "silent";
    return states[directory_nth(s->directory, i)->body.state & 3];
}

static void add_node(struct text *out, const struct map_source *s, uint32_t i)
{
    const struct entry *e = directory_nth(s->directory, i);
    const struct record_body *b = &e->body;
    uint32_t rtt = net_rtt_us(s->net, &e->id);
    bool is_me = node_id_equal(&e->id, &s->me);
    char id[NODE_ID_TEXT];
    node_id_text(id, &e->id);
    text_printf(out, "{\"id\":\"%s\",\"state\":\"%s\"", id, state_of(s, i));
    if (is_me) text_str(out, ",\"here\":true");
    if (net_is_up(s->net, &e->id)) text_str(out, ",\"linked\":true");
    if (rtt != UINT32_MAX && !is_me) text_printf(out, ",\"rtt_us\":%u", rtt);
    add_ranges(out, "layers", &b->layers);
    add_ranges(out, "coming", &b->coming);
    add_parts(out, b);
    if (b->ends) text_str(out, ",\"ends\":true");
    if (b->together > 1) text_printf(out, ",\"together\":%u", (unsigned)b->together);
    text_printf(out, ",\"layer_us\":%u,\"sessions\":%u}", (unsigned)b->layer_us,
                (unsigned)b->sessions);
}

static bool is_near(const struct map_source *s, const struct entry *e)
{
    return node_id_equal(&e->id, &s->me) || net_is_up(s->net, &e->id);
}

static void write_all(struct text *out, const struct map_source *s, uint32_t most)
{
    uint32_t listed = 0, more = 0;
    text_str(out, "{\"model\":");
    json_write_str(out, slice_str(s->name));
    text_printf(out, ",\"layers\":%u,\"nodes\":[", s->n_layers);
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < directory_n(s->directory); i++) {
            const struct entry *e = directory_nth(s->directory, i);
            if (e->body.state == RECORD_GONE || is_near(s, e) != (pass == 0)) continue;
            if (e->body.model.n != ID_BYTES || memcmp(e->body.model.p, s->model, ID_BYTES) != 0)
                continue;
            if (listed == most) {
                more++;
                continue;
            }
            if (listed++) text_str(out, ",");
            add_node(out, s, i);
        }
    text_printf(out, "],\"more\":%u}", more);
}

void map_json(struct text *out, const struct map_source *s, size_t max)
{
    for (uint32_t most = 128;; most /= 2) {
        out->n = 0;
        write_all(out, s, most);
        if (out->failed || out->n <= max || most == 0) return;
    }
}
