#include "node/words.h"

#include <stdio.h>

struct slice words_for_wire(struct words *out, const char *text)
{
    size_t n = 0;
    for (; text[n] && n + 1 < sizeof out->text; n++)
        out->text[n] = text[n] >= 0x20 && text[n] < 0x7f ? text[n] : '?';
    out->text[n] = 0;
    return slice_of(out->text, n);
}

void words_stage(struct words *out, const struct node_id *id, uint32_t lo, uint32_t hi)
{
    char name[NODE_ID_SHORT];
    node_id_short(name, id);
    if (hi - lo == 1)
        snprintf(out->text, sizeof out->text, "node %s (layer %u)", name, lo);
    else
        snprintf(out->text, sizeof out->text, "node %s (layers %u-%u)", name, lo, hi - 1);
}
