#include "net/words.h"

#include "base/log.h"

#include <stdio.h>

struct slice words_for_wire(struct words *out, const char *text)
{
    size_t n = 0;
    for (; text[n] && n + 1 < sizeof out->text; n++)
        out->text[n] = text[n] >= 0x20 && text[n] < 0x7f ? text[n] : '?';
    out->text[n] = 0;
    return slice_of(out->text, n);
}

void words_refuse(struct net *net, const struct node_id *to, uint32_t rid, enum wire_error code,
                  const char *text)
{
    struct msg m = { .type = MSG_ERROR, .rid = rid };
    struct words words;
    m.u.ERROR.code = code;
    m.u.ERROR.text = words_for_wire(&words, text);
    enum err e = net_send(net, to, &m);
    if (e) log_debug("a refusal was not sent: %s", err_text(e));
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
