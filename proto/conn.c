#include "proto/conn_impl.h"

#include <assert.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* The invariants of conn.h, as far as they can be seen from here. */
static void conn_check(const struct conn *c)
{
    size_t cap = SEALED + plain_max(c), queued = 0;

    assert(c->opened || (!c->inbox && !c->handed && !c->n_queued)); /* 1 */
    assert(c->opened || (!c->rx && !c->out) || c->stage == ENDED);  /* 4 */
    assert(c->stage != ENDED || c->shutting || c->n_queued == 0);   /* 2 */
    assert(!c->last_n || !c->n_queued);                             /* 2 */
    assert(!c->send.has_key || c->send.n == c->sealed);             /* 3 */
    assert(c->rx_n < cap && c->in_n < FRAME_MAX);                   /* 4 */
    assert(c->out_at <= c->out_n && c->out_n <= OUT_RECORDS * cap);
    assert(c->hs_at <= c->hs_n && c->hs_n <= sizeof c->hs_out && c->last_at <= c->last_n);
    for (unsigned i = 0; i < CONN_HALVES_MAX; i++) {
        const struct half *f = &c->half[i];
        assert(!f->m || (f->m->n < f->n && f->m->n <= f->cap && f->cap <= f->n)); /* 4 */
    }
    for (unsigned s = 0; s < STREAMS; s++) queued += c->queue[s].first != NULL;
    assert((queued == 0) == (c->n_queued == 0) && c->queued <= CONN_QUEUE_MAX);
    assert(c->bulk_queued <= c->queued);
    assert((c->bulk_queued == 0) == (c->queue[STREAM_BULK].first == NULL));
    (void)cap, (void)queued;
}

enum err conn_open(struct conn **out, const struct conn_config *config)
{
    struct conn *c = calloc(1, sizeof *c);

    *out = NULL;
    if (!c) return ERR_NOMEM;
    c->me = config->me;
    c->swarm = config->swarm;
    c->expects = config->initiator && config->expect;
    if (c->expects) c->expect = *config->expect;
    c->initiator = config->initiator;
    c->class_ = config->class_;
    c->bulk_left = UINT64_MAX;
    snprintf(c->agent, sizeof c->agent, "%s", config->agent ? config->agent : "");
    c->role = config->role;
    c->instance = config->instance;
    if (config->observed.n && config->observed.n <= ADDR_MAX) {
        memcpy(c->observed, config->observed.p, config->observed.n);
        c->observed_n = config->observed.n;
    }
    c->random = config->random;
    c->born_ms = c->now_ms = config->now_ms;
    c->unix_s = config->unix_s;
    c->rekey_records = config->rekey_records ? config->rekey_records : CONN_REKEY_RECORDS;
    c->inbox_last = &c->inbox;

    enum err e = handshake_begin(c);
    if (e) {
        conn_close(c);
        return e;
    }
    *out = c;
    conn_check(c);
    return ERR_OK;
}

void conn_close(struct conn *c)
{
    if (!c) return;
    records_drop(c);
    for (struct letter *m = c->inbox, *next; m; m = next) {
        next = m->next;
        free(m);
    }
    free(c->handed);
    if (c->rx) sodium_memzero(c->rx, SEALED + plain_max(c)); /* the last plaintext */
    free(c->rx);
    free(c->out);
    sodium_memzero(c, sizeof *c);
    free(c);
}

enum err conn_die(struct conn *c, enum err e, int code, const char *fmt, ...)
{
    char text[sizeof c->why.text];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)fail(&c->why, e, "%s", text); /* which also makes control characters harmless */
    c->end = e;
    c->stage = ENDED;
    c->shutting = false;
    records_drop(c);
    if (c->send.has_key && !c->last_n && code != WIRE_SILENT) records_say_close(c, code);
    noise_fini(&c->noise);
    sodium_memzero(&c->send, sizeof c->send);
    sodium_memzero(&c->receive, sizeof c->receive);
    c->rx_n = 0;
    return e;
}

void conn_shutdown(struct conn *c)
{
    if (c->stage == ENDED) return;
    if (c->stage != READY) {
        (void)conn_die(c, ERR_CLOSED, WIRE_SILENT, "the connection was given up here");
        return;
    }
    (void)fail(&c->why, ERR_CLOSED, "the connection was closed here");
    c->end = ERR_CLOSED;
    c->stage = ENDED;
    c->shutting = true;
    sodium_memzero(&c->receive, sizeof c->receive);
    c->rx_n = 0;
    records_drop_bulk(c);
    records_pump(c);
    conn_check(c);
}

enum conn_state conn_state(const struct conn *c)
{
    if (c->stage == READY) return CONN_OPEN;
    return c->stage == ENDED ? CONN_DEAD : CONN_HANDSHAKE;
}

enum conn_class conn_class(const struct conn *c)
{
    return c->class_;
}

const struct node_id *conn_peer(const struct conn *c)
{
    return &c->peer;
}

const struct msg_HELLO *conn_hello(const struct conn *c)
{
    return &c->hello.u.HELLO;
}

/* --- in --- */

static enum err ended(const struct conn *c, struct why *why)
{
    if (why) *why = c->why;
    return c->end;
}

enum err conn_feed(struct conn *c, struct slice bytes, uint64_t now_ms, struct why *why)
{
    enum err e = ERR_OK;

    c->now_ms = now_ms;
    free(c->handed);
    c->handed = NULL;
    if (c->stage == ENDED) return ended(c, why);
    while (!e && bytes.n)
        e = c->stage == READY ? records_feed(c, &bytes) : handshake_feed(c, &bytes);
    conn_check(c);
    return e ? ended(c, why) : ERR_OK;
}

bool conn_next(struct conn *c, struct slice *message)
{
    free(c->handed);
    c->handed = c->inbox;
    if (!c->handed) return false;
    c->inbox = c->handed->next;
    if (!c->inbox) c->inbox_last = &c->inbox;
    *message = slice_of(c->handed->bytes, c->handed->n);
    return true;
}

/* --- out --- */

enum err conn_send(struct conn *c, const struct msg *m)
{
    if (c->stage != READY) return ERR_CLOSED;
    enum err e = records_queue(c, m);
    if (!e) records_pump(c);
    conn_check(c);
    return e;
}

size_t conn_queued(const struct conn *c)
{
    return c->queued;
}

size_t conn_bulk_queued(const struct conn *c)
{
    return c->bulk_queued;
}

void conn_bulk_limit(struct conn *c, uint64_t bytes)
{
    c->bulk_left = bytes;
    if (c->stage == READY) records_pump(c);
    conn_check(c);
}

uint64_t conn_bulk_left(const struct conn *c)
{
    return c->bulk_left;
}

struct slice conn_pending(const struct conn *c)
{
    if (c->hs_at < c->hs_n) return slice_of(c->hs_out + c->hs_at, c->hs_n - c->hs_at);
    if (c->out_at < c->out_n) return slice_of(c->out + c->out_at, c->out_n - c->out_at);
    return slice_of(c->last + c->last_at, c->last_n - c->last_at);
}

void conn_sent(struct conn *c, size_t n)
{
    assert(n <= conn_pending(c).n);
    if (c->hs_at < c->hs_n) {
        c->hs_at += n;
    } else if (c->out_at < c->out_n) {
        c->out_at += n;
        if (c->out_at == c->out_n) c->out_at = c->out_n = 0;
    } else {
        c->last_at += n;
    }
    if (c->stage == READY || c->shutting) records_pump(c);
    conn_check(c);
}

/* --- the clock --- */

uint64_t conn_deadline_ms(const struct conn *c)
{
    switch (c->stage) {
    case WAIT_PREAMBLE:
    case WAIT_MSG1: return c->born_ms + CONN_FIRST_MS;
    case WAIT_MSG2:
    case WAIT_MSG3: return c->born_ms + CONN_HANDSHAKE_MS;
    case READY: return c->since_rekey ? c->rekeyed_ms + CONN_REKEY_MS : UINT64_MAX;
    case ENDED: break;
    }
    return UINT64_MAX;
}

enum err conn_tick(struct conn *c, uint64_t now_ms, struct why *why)
{
    c->now_ms = now_ms;
    if (c->stage == ENDED) return ended(c, why);
    if (c->stage == READY) {
        records_pump(c);
    } else if (now_ms >= conn_deadline_ms(c)) {
        (void)conn_die(c, ERR_TIMEOUT, WIRE_SILENT,
                       "the handshake was not finished in %llu s; the other side is slow or no "
                       "swarm node",
                       (unsigned long long)(conn_deadline_ms(c) - c->born_ms) / 1000);
        return ended(c, why);
    }
    conn_check(c);
    return ERR_OK;
}
