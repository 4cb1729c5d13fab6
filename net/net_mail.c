#include "net/net_impl.h"

#include "base/log.h"

#include <stdlib.h>

/* A mail with the account it is booked on. */
struct booked {
    struct tally *tally;
    size_t bytes;
    struct mail mail; /* last: it ends in the message's bytes */
};

/* --- the account --- */

struct tally *tally_new(void)
{
    struct tally *t = calloc(1, sizeof *t);
    if (t) t->refs = 1;
    return t;
}

static void tally_take(struct tally *t, size_t bytes)
{
    __atomic_add_fetch(&t->refs, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&t->bytes, bytes, __ATOMIC_RELAXED);
}

void tally_release(struct tally *t)
{
    if (__atomic_sub_fetch(&t->refs, 1, __ATOMIC_ACQ_REL) == 0) free(t);
}

bool tally_full(const struct tally *t)
{
    return __atomic_load_n(&t->bytes, __ATOMIC_RELAXED) > NET_HELD_MAX;
}

bool tally_low(const struct tally *t)
{
    return __atomic_load_n(&t->bytes, __ATOMIC_RELAXED) < NET_HELD_MAX / 2;
}

/* --- mails --- */

static void mail_drop(struct note *note)
{
    struct booked *b = (struct booked *)(void *)((char *)note - offsetof(struct booked, mail.note));
    if (b->tally) {
        __atomic_sub_fetch(&b->tally->bytes, b->bytes, __ATOMIC_RELAXED);
        tally_release(b->tally);
    }
    free(b);
}

/* A mail with room for n bytes, booked on t (NULL: on nobody). */
static struct mail *mail_new(struct tally *t, const struct node_id *from, bool loopback, size_t n)
{
    struct booked *b = malloc(sizeof *b + n);
    if (!b) return NULL;
    b->tally = t;
    b->bytes = sizeof *b + n;
    if (t) tally_take(t, b->bytes);
    b->mail.note = (struct note){ .drop = mail_drop };
    b->mail.from = *from;
    b->mail.loopback = loopback;
    b->mail.n = n;
    return &b->mail;
}

enum err mail_to_self(struct net *n, const struct msg *m)
{
    size_t bound = msg_bound(m), len;
    struct mail *mail = mail_new(NULL, &n->cfg.me->id, true, bound);

    if (!mail) return ERR_NOMEM;
    enum err e = msg_encode(m, mail->bytes, bound, &len);
    if (!e) {
        mail->n = len;
        e = msg_decode(&mail->m, slice_of(mail->bytes, len), NULL);
    }
    if (!e) e = actor_post(&n->self, &mail->note);
    if (e) mail_drop(&mail->note);
    return e;
}

/* --- what arrives --- */

static void answer_error(struct sock *s, uint32_t rid, unsigned code, const char *text)
{
    struct msg m = { .type = MSG_ERROR, .rid = rid };
    size_t n = strlen(text);

    m.u.ERROR.code = code;
    m.u.ERROR.text = slice_of(text, n < 300 ? n : 300);
    if (sock_send(s, &m)) log_debug("net: no room for an ERROR");
}

static void answer_ping(struct sock *s, const struct msg_PING *ping)
{
    struct msg m = { .type = MSG_PONG, .u.PONG.stamp = ping->stamp };

    if (sock_send(s, &m)) log_debug("net: no room for a PONG");
    if (ping->stamp == CONN_FENCE && s->state == SOCK_OPEN) peer_fence_read(s);
}

/* The middle of the last ones (of two the lower): one that met a busy moment does not count. */
static void note_trip(struct peer *p, uint64_t us)
{
    uint32_t sorted[NET_TRIPS_MAX];
    unsigned n = 0;

    p->trip_us[p->n_trips++ % NET_TRIPS_MAX] =
        us < UINT32_MAX - 1 ? (uint32_t)us : UINT32_MAX - 1;
    for (unsigned i = 0; i < p->n_trips && i < NET_TRIPS_MAX; i++) {
        unsigned at = n++;
        for (; at > 0 && sorted[at - 1] > p->trip_us[i]; at--) sorted[at] = sorted[at - 1];
        sorted[at] = p->trip_us[i];
    }
    p->rtt_us = sorted[(n - 1) / 2];
}

static void take_pong(struct sock *s, const struct msg_PONG *pong)
{
    if (pong->stamp == CONN_FENCE) {
        peer_fence_answered(s);
        return;
    }
    if (!s->ping_stamp || pong->stamp != s->ping_stamp) return; /* late, or made up */
    s->ping_stamp = 0;

    note_trip(s->peer, (uv_hrtime() - s->ping_ns) / 1000);
    if (s->peer->n_trips < NET_TRIPS_FIRST && s->state == SOCK_OPEN) sock_measure(s);
}

static void refuse(struct sock *s, const struct msg *m, enum err e, const char *why)
{
    if (e == ERR_UNSUPPORTED) {
        answer_error(s, m->rid, WIRE_UNSUPPORTED, wire_error_text(WIRE_UNSUPPORTED));
        return;
    }
    answer_error(s, 0, WIRE_BAD_MESSAGE, why);
    if (s->state == SOCK_OPEN) peer_strike(s->net, s->peer, why);
}

void mail_arrived(struct sock *s, struct slice bytes)
{
    struct why why = { "" };
    struct mail *mail = mail_new(s->peer->tally, &s->peer->id, s->loopback, bytes.n);

    if (!mail) {
        sock_drop(s, ERR_NOMEM, err_text(ERR_NOMEM));
        return;
    }
    memcpy(mail->bytes, bytes.p, bytes.n);
    mail->m = (struct msg){ .rid = 0 };
    enum err e = msg_decode(&mail->m, slice_of(mail->bytes, bytes.n), &why);
    if (!e && mail->m.type == MSG_HELLO)
        e = fail(&why, ERR_MALFORMED, "HELLO belongs to the handshake");
    if (e) {
        refuse(s, &mail->m, e, why.text);
    } else if (mail->m.type == MSG_PING) {
        answer_ping(s, &mail->m.u.PING);
    } else if (mail->m.type == MSG_PONG) {
        take_pong(s, &mail->m.u.PONG);
    } else {
        s->mail_ms = net_now(s->net);
        s->net->cfg.on_mail(s->net->cfg.arg, mail);
        return;
    }
    mail_drop(&mail->note);
}
