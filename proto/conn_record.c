/* Sealed records, and the messages in them.
 *
 *     clen u16 | AEAD( kind flags stream:2 dlen:2 0:2 mlen:4 | dlen bytes | zeros )
 *
 * A message goes in fragments of one stream, in order; streams take turns, a record each, so that a
 * long message delays a short one by at most the records already sealed.  A message of one fragment
 * is decrypted straight from the socket's bytes and copied once. */
#include "proto/conn_impl.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>

enum record_kind { RECORD_DATA, RECORD_PAD, RECORD_REKEY, RECORD_CLOSE };
enum { FIRST = 1, LAST = 2 };
static const uint64_t RECORDS_MAX_EVER = 1ull << 32; /* then reconnect: new Diffie-Hellman */

struct header {
    uint8_t kind, flags;
    uint16_t stream;
    size_t dlen;
    uint32_t mlen;
};

static size_t record_max(const struct conn *c)
{
    return SEALED + plain_max(c);
}

enum err records_open(struct conn *c)
{
    c->rx = malloc(record_max(c));
    c->out = malloc(OUT_RECORDS * record_max(c));
    c->inbox_last = &c->inbox;
    return c->rx && c->out ? ERR_OK : ERR_NOMEM;
}

/* --- out --- */

/* Seal one record of plain_n bytes (header and padding included) at to; returns its size. */
static size_t seal(struct conn *c, uint8_t *to, const struct header *h, const uint8_t *data,
                   size_t plain_n)
{
    uint8_t *p = to + 2;

    assert(!c->last_n); /* nothing follows CLOSE */
    put_be16(to, plain_n + NOISE_TAG);
    p[0] = h->kind;
    p[1] = h->flags;
    put_be16(p + 2, h->stream);
    put_be16(p + 4, h->dlen);
    put_be16(p + 6, 0);
    put_be16(p + 8, h->mlen >> 16);
    put_be16(p + 10, h->mlen & 0xffff);
    if (h->dlen) memcpy(p + HEADER, data, h->dlen);
    memset(p + HEADER + h->dlen, 0, plain_n - HEADER - h->dlen);
    enum err e = noise_seal(&c->send, slice_of(NULL, 0), slice_of(p, plain_n), p);
    if (e) abort(); /* the nonces end long after RECORDS_MAX_EVER */
    c->sealed++;
    c->since_rekey++;
    return SEALED + plain_n;
}

/* Is there room in out for a record?  Bytes are moved to the front only when at least as many have
 * been sent since, so moving costs less than sending. */
static bool has_room(struct conn *c)
{
    size_t cap = OUT_RECORDS * record_max(c), left = c->out_n - c->out_at;

    if (cap - c->out_n < record_max(c) && left <= c->out_at) {
        memmove(c->out, c->out + c->out_at, left);
        c->out_at = 0;
        c->out_n = left;
    }
    return cap - c->out_n >= record_max(c);
}

bool records_rekey_due(const struct conn *c)
{
    return c->since_rekey >= c->rekey_records ||
           (c->since_rekey > 0 && c->now_ms - c->rekeyed_ms >= CONN_REKEY_MS);
}

static void send_rekey(struct conn *c)
{
    const struct header h = { .kind = RECORD_REKEY };

    c->out_n += seal(c, c->out + c->out_n, &h, NULL, PAD_TO);
    noise_rekey(&c->send);
    c->since_rekey = 0;
    c->rekeyed_ms = c->now_ms;
}

void records_say_close(struct conn *c, int code)
{
    const struct header h = { .kind = RECORD_CLOSE, .dlen = 1, .mlen = 1 };
    uint8_t byte = (uint8_t)code;

    c->last_n = seal(c, c->last, &h, &byte, PAD_TO);
}

/* Does something that was queued before still wait? */
static bool is_behind(const struct conn *c, uint64_t order)
{
    for (unsigned s = 0; s < STREAMS; s++)
        if (c->queue[s].first && c->queue[s].first->order < order) return true;
    return false;
}

/* Bulk goes within its limit, and one record ahead of the socket only: what is sealed can't be
 * passed.  A fence waits for it, so then it goes at once. */
static bool bulk_may_go(const struct conn *c)
{
    const struct outgoing *zero = c->queue[0].first;

    if (!c->queue[STREAM_BULK].first || c->out_n - c->out_at >= record_max(c)) return false;
    return c->bulk_left > 0 || (zero && zero->fence);
}

/* The stream whose turn it is; STREAMS when none may send now. */
static unsigned pick_stream(struct conn *c)
{
    for (unsigned k = 0; k < STREAM_BULK; k++) {
        unsigned s = (c->turn + k) % STREAM_BULK;
        const struct outgoing *m = c->queue[s].first;
        if (!m || (m->fence && is_behind(c, m->order))) continue;
        c->turn = (s + 1) % STREAM_BULK;
        return s;
    }
    return bulk_may_go(c) ? STREAM_BULK : STREAMS;
}

static void spend_bulk(struct conn *c, size_t n)
{
    c->bulk_queued -= n;
    if (c->bulk_left != UINT64_MAX) c->bulk_left -= n < c->bulk_left ? n : c->bulk_left;
}

static void seal_next(struct conn *c, unsigned s)
{
    struct outgoing *m = c->queue[s].first;
    size_t room = plain_max(c) - HEADER, left = m->n - m->sent;
    struct header h = { .kind = RECORD_DATA, .stream = (uint16_t)s, .mlen = m->n };

    h.dlen = left < room ? left : room;
    h.flags = (uint8_t)((m->sent == 0 ? FIRST : 0) | (h.dlen == left ? LAST : 0));
    size_t plain_n = HEADER + h.dlen;
    if (!m->plain) plain_n = (plain_n + PAD_TO - 1) / PAD_TO * PAD_TO;
    if (plain_n > plain_max(c)) plain_n = plain_max(c);
    c->out_n += seal(c, c->out + c->out_n, &h, m->bytes + m->sent, plain_n);
    m->sent += (uint32_t)h.dlen;
    if (s == STREAM_BULK) spend_bulk(c, h.dlen);
    if (m->sent < m->n) return;

    c->queue[s].first = m->next;
    if (!m->next) c->queue[s].last = NULL;
    c->queued -= sizeof *m + m->n;
    c->n_queued--;
    free(m);
}

void records_pump(struct conn *c)
{
    while (c->send.has_key && !c->last_n && has_room(c)) {
        if (c->send.n >= RECORDS_MAX_EVER) {
            (void)conn_die(c, ERR_FULL, 0, "the connection has carried 2^32 records; reconnect");
            return;
        }
        unsigned s = c->n_queued ? pick_stream(c) : STREAMS;
        if (records_rekey_due(c))
            send_rekey(c);
        else if (s < STREAMS)
            seal_next(c, s);
        else
            break;
    }
    if (c->shutting && !c->n_queued && !c->last_n && c->send.has_key) records_say_close(c, 0);
}

static bool is_bulk(const struct msg *m)
{
    return m->type == MSG_TILE || m->type == MSG_MANIFEST;
}

/* Messages that must not pass each other share a stream: those of a session (the field "s" is the
 * first of its messages) and those of a request.  Stream 0 is for what belongs to neither. */
static unsigned stream_of(const struct msg *m)
{
    const struct message *t = message_find(m->type);

    if (is_bulk(m)) return STREAM_BULK;
    if (m->type == MSG_PING || m->type == MSG_PONG) return 0;
    if (t->n_fields && strcmp(t->fields[0].key, "s") == 0 && t->fields[0].type == FIELD_BIN) {
        const struct slice *id =
            (const struct slice *)(const void *)((const uint8_t *)&m->u + t->fields[0].offset);
        return id->n ? 1 + id->p[0] % (STREAM_BULK - 1) : 0;
    }
    return m->rid ? 1 + m->rid % (STREAM_BULK - 1) : 0;
}

enum err records_queue(struct conn *c, const struct msg *m)
{
    size_t bound = msg_bound(m), n;

    if (bound == 0) return ERR_RANGE;
    if (bound > CONN_QUEUE_MAX || c->queued + sizeof(struct outgoing) > CONN_QUEUE_MAX - bound)
        return ERR_FULL;
    struct outgoing *o = malloc(sizeof *o + bound);
    if (!o) return ERR_NOMEM;
    enum err e = msg_encode(m, o->bytes, bound, &n);
    if (e) {
        free(o);
        return e;
    }
    o->next = NULL;
    o->order = c->order++;
    o->n = (uint32_t)n;
    o->sent = 0;
    o->fence = m->type == MSG_PING && m->u.PING.stamp == CONN_FENCE;
    o->plain =
        m->type == MSG_ACT || m->type == MSG_SHARE_WORK || m->type == MSG_SHARE_DONE || is_bulk(m);

    struct queue *q = &c->queue[stream_of(m)];
    if (q->last)
        q->last->next = o;
    else
        q->first = o;
    q->last = o;
    c->n_queued++;
    c->queued += sizeof *o + n;
    if (is_bulk(m)) c->bulk_queued += n;
    return ERR_OK;
}

void records_drop_bulk(struct conn *c)
{
    struct queue *q = &c->queue[STREAM_BULK];

    for (struct outgoing *m = q->first, *next; m; m = next) {
        next = m->next;
        c->queued -= sizeof *m + m->n;
        c->n_queued--;
        free(m);
    }
    *q = (struct queue){ 0 };
    c->bulk_queued = 0;
}

/* --- in --- */

static void deliver(struct conn *c, struct letter *m)
{
    m->next = NULL;
    *c->inbox_last = m;
    c->inbox_last = &m->next;
}

/* Make room for n more bytes: at least doubled, so that copying stays linear, and never more than
 * twice what has arrived. */
static bool grow(struct half *f, size_t n)
{
    size_t have = f->m ? f->m->n : 0, want = have + n, cap = 2 * (size_t)f->cap;

    if (want <= f->cap) return true;
    if (cap < want) cap = want;
    if (cap > f->n) cap = f->n;
    struct letter *m = realloc(f->m, sizeof *m + cap);
    if (!m) return false;
    if (!f->m) m->n = 0;
    f->m = m;
    f->cap = (uint32_t)cap;
    return true;
}

static struct half *half_find(struct conn *c, uint16_t stream)
{
    for (unsigned i = 0; i < CONN_HALVES_MAX; i++)
        if (c->half[i].m && c->half[i].stream == stream) return &c->half[i];
    return NULL;
}

static struct half *half_free(struct conn *c)
{
    for (unsigned i = 0; i < CONN_HALVES_MAX; i++)
        if (!c->half[i].m) return &c->half[i];
    return NULL;
}

/* The slot for a message's first fragment: all that the peer claims is bounded here. */
static enum err half_begin(struct conn *c, const struct header *h, const uint8_t *data,
                           struct half **out)
{
    uint32_t limit = msg_limit(slice_of(data, h->dlen));

    if (half_find(c, h->stream))
        return conn_die(c, ERR_MALFORMED, WIRE_BAD_MESSAGE,
                        "the other side began a message inside another on stream %u", h->stream);
    if (limit == 0)
        return conn_die(c, ERR_MALFORMED, WIRE_BAD_MESSAGE,
                        "the other side sent bytes that begin no message");
    if (h->mlen > limit)
        return conn_die(c, ERR_RANGE, WIRE_TOO_BIG,
                        "the other side announced a message of %u bytes, at most %u of its type",
                        h->mlen, limit);
    *out = half_free(c);
    if (!*out)
        return conn_die(c, ERR_RANGE, WIRE_TOO_BIG,
                        "the other side began more than %d messages at once", CONN_HALVES_MAX);
    **out = (struct half){ .n = h->mlen, .stream = h->stream };
    return ERR_OK;
}

static enum err take_fragment(struct conn *c, const struct header *h, const uint8_t *data)
{
    struct half *f = NULL;

    if (h->flags & FIRST) {
        enum err e = half_begin(c, h, data, &f);
        if (e) return e;
    } else {
        f = half_find(c, h->stream);
    }
    size_t have = f && f->m ? f->m->n : 0;
    if (!f || h->mlen != f->n || h->dlen == 0 || h->dlen > f->n - have ||
        (have + h->dlen == f->n) != ((h->flags & LAST) != 0))
        return conn_die(c, ERR_MALFORMED, WIRE_BAD_MESSAGE,
                        "the other side sent fragments that do not fit together");
    if (!grow(f, h->dlen)) return conn_die(c, ERR_NOMEM, WIRE_NO_MEMORY, "out of memory");
    memcpy(f->m->bytes + have, data, h->dlen);
    f->m->n += (uint32_t)h->dlen;
    if (h->flags & LAST) {
        deliver(c, f->m);
        f->m = NULL;
    }
    return ERR_OK;
}

static bool is_bare(const struct header *h)
{
    return h->flags == 0 && h->stream == 0 && h->dlen == 0 && h->mlen == 0;
}

static enum err on_close(struct conn *c, uint8_t code)
{
    if (code == 0)
        return conn_die(c, ERR_CLOSED, WIRE_SILENT, "the other side closed the connection");
    return conn_die(c, ERR_CLOSED, WIRE_SILENT, "the other side closed the connection: %s",
                    wire_error_text(code));
}

static bool is_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i]) return false;
    return true;
}

static enum err take_record(struct conn *c, const uint8_t *p, size_t n)
{
    struct header h = { .kind = p[0],
                        .flags = p[1],
                        .stream = get_be16(p + 2),
                        .dlen = get_be16(p + 4),
                        .mlen = (uint32_t)get_be16(p + 8) << 16 | get_be16(p + 10) };
    const uint8_t *data = p + HEADER;

    if (h.dlen <= n - HEADER && get_be16(p + 6) == 0 &&
        is_zero(data + h.dlen, n - HEADER - h.dlen)) {
        if (h.kind == RECORD_DATA && (h.flags & ~(FIRST | LAST)) == 0)
            return take_fragment(c, &h, data);
        if (h.kind == RECORD_PAD && is_bare(&h)) return ERR_OK;
        if (h.kind == RECORD_REKEY && is_bare(&h)) {
            noise_rekey(&c->receive);
            return ERR_OK;
        }
        if (h.kind == RECORD_CLOSE && h.flags == 0 && h.stream == 0 && h.dlen == 1 && h.mlen == 1)
            return on_close(c, data[0]);
    }
    return conn_die(c, ERR_MALFORMED, WIRE_BAD_MESSAGE,
                    "the other side sent a record that follows no rule of the protocol");
}

static enum err open_record(struct conn *c, struct slice sealed)
{
    uint8_t *plain = c->rx + 2; /* where sealed lies too, unless it came in one piece */

    if (c->receive.n >= RECORDS_MAX_EVER)
        return conn_die(c, ERR_RANGE, WIRE_BAD_MESSAGE,
                        "the connection has carried 2^32 records; reconnect");
    if (noise_unseal(&c->receive, slice_of(NULL, 0), sealed, plain))
        return conn_die(c, ERR_AUTH, WIRE_BAD_MESSAGE,
                        "a record does not verify: it was changed, lost or repeated on the way");
    return take_record(c, plain, sealed.n - NOISE_TAG);
}

static enum err check_clen(struct conn *c, size_t clen)
{
    if (clen >= HEADER + NOISE_TAG && clen <= plain_max(c) + NOISE_TAG) return ERR_OK;
    return conn_die(c, ERR_MALFORMED, WIRE_BAD_MESSAGE,
                    "a record of %zu bytes, between %d and %zu expected", clen, HEADER + NOISE_TAG,
                    plain_max(c) + NOISE_TAG);
}

/* One record, or all of the bytes towards one. */
enum err records_feed(struct conn *c, struct slice *bytes)
{
    enum err e;

    if (c->rx_n == 0 && bytes->n >= 2) { /* in one piece? then without a copy */
        size_t clen = get_be16(bytes->p);
        if ((e = check_clen(c, clen))) return e;
        if (bytes->n - 2 >= clen) {
            struct slice record = slice_take(bytes, 2 + clen);
            return open_record(c, slice_of(record.p + 2, clen));
        }
    }
    size_t want = c->rx_n < 2 ? 2 : 2 + (size_t)get_be16(c->rx);
    struct slice s = slice_take(bytes, want - c->rx_n);
    memcpy(c->rx + c->rx_n, s.p, s.n);
    c->rx_n += s.n;
    if (c->rx_n < want) return ERR_OK;
    if (want == 2) return check_clen(c, get_be16(c->rx));
    c->rx_n = 0;
    return open_record(c, slice_of(c->rx + 2, want - 2));
}

void records_drop(struct conn *c)
{
    for (unsigned s = 0; s < STREAMS; s++) {
        for (struct outgoing *m = c->queue[s].first, *next; m; m = next) {
            next = m->next;
            free(m);
        }
        c->queue[s] = (struct queue){ 0 };
    }
    c->n_queued = 0;
    c->queued = 0;
    c->bulk_queued = 0;
    for (unsigned i = 0; i < CONN_HALVES_MAX; i++) {
        free(c->half[i].m);
        c->half[i].m = NULL;
    }
}
