#include "node/control.h"

#include "base/log.h"
#include "net/words.h"

#include <stdlib.h>

/* As long for every wrong token. */
static bool is_right(const struct control *c, struct slice token)
{
    unsigned wrong = token.n != TOKEN_BYTES;
    for (size_t i = 0; i < TOKEN_BYTES && i < token.n; i++) wrong |= token.p[i] ^ c->token[i];
    return wrong == 0;
}

static void refuse(struct control *c, const struct mail *m)
{
    words_refuse(c->net, &m->from, m->m.rid, WIRE_NOT_ALLOWED,
                 "only the user who runs this node may control it");
    net_strike(c->net, &m->from, "a wrong token");
}

static void answer(struct control *c, const struct mail *m)
{
    struct msg ok = { .type = MSG_STATUS, .rid = m->m.rid };
    struct text json = { 0 };
    c->describe(c->arg, &json);
    if (!json.failed) ok.u.STATUS.status = slice_of(json.p, json.n);
    if (json.failed || net_send(c->net, &m->from, &ok)) log_debug("a status was not sent");
    free(json.p);
}

static struct slice token_of(const struct msg *m)
{
    if (m->type == MSG_DRAIN) return m->u.DRAIN.token;
    if (m->type == MSG_PAUSE) return m->u.PAUSE.token;
    return m->type == MSG_HOLD ? m->u.HOLD.token : m->u.STATUS_GET.token;
}

static enum err hold(struct control *c, const struct msg_HOLD *m, struct why *why)
{
    struct holding h = { .lo = (uint32_t)m->layer_lo,
                         .hi = (uint32_t)m->layer_hi,
                         .ends = m->ends != 0 };
    return c->hold(c->arg, &h, why);
}

void control_on_mail(struct control *c, struct mail *m)
{
    bool is_drain = m->m.type == MSG_DRAIN;
    struct why why;
    if (!is_right(c, token_of(&m->m))) {
        refuse(c, m);
        is_drain = false;
    } else if (m->m.type == MSG_HOLD && hold(c, &m->m.u.HOLD, &why)) {
        words_refuse(c->net, &m->from, m->m.rid, WIRE_BAD_REQUEST, why.text);
    } else {
        if (m->m.type == MSG_PAUSE) c->pause(c->arg, m->m.u.PAUSE.stay != 0);
        answer(c, m);
    }
    m->note.drop(&m->note);
    if (is_drain) c->drain(c->arg);
}
