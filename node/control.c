#include "node/control.h"

#include "base/log.h"

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
    struct msg no = { .type = MSG_ERROR, .rid = m->m.rid };
    no.u.ERROR.code = WIRE_NOT_ALLOWED;
    no.u.ERROR.text = slice_str("only the user who runs this node may control it");
    if (net_send(c->net, &m->from, &no)) log_debug("a stranger has gone before the answer");
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

void control_on_mail(struct control *c, struct mail *m)
{
    bool is_drain = m->m.type == MSG_DRAIN;
    struct slice token = is_drain ? m->m.u.DRAIN.token : m->m.u.STATUS_GET.token;
    if (!is_right(c, token)) {
        refuse(c, m);
        is_drain = false;
    } else {
        answer(c, m);
    }
    m->note.drop(&m->note);
    if (is_drain) c->drain(c->arg);
}
