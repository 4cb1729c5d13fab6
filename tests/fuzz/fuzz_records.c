/* Records of a peer with good keys, and the calls of conn.h between them.
 *
 *     class, then steps: what, n (u16 LE), n bytes
 *         0 a record with these bytes as its plaintext     1 a record with a header made to fit:
 *         2 bytes that nobody sealed                         flags, stream, mlen (u24 LE), data
 *         3 send a message of n bytes       4 take n pending bytes      5 a tick     6 shut down
 */
#include "tests/proto/conn_by_hand.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct conn *c;
static struct raw peer;
static uint64_t now;

static void open_by_hand(enum conn_class class_)
{
    struct conn_config config = config_b();

    world_init();
    now = 0;
    config.class_ = class_;
    config.rekey_records = 5;
    c = conn_by_hand(config);
    memset(&peer, 0, sizeof peer);
    peer.send = peer.receive = c->send;
}

/* All that c says must open, and be records of ours. */
static void hear(void)
{
    static uint8_t plain[1 << 16];
    for (size_t n; (n = raw_unseal(&peer, plain));) {
        if (n < 12 || plain[0] > 3) abort();
        if (plain[0] == 2) noise_rekey(&peer.receive);
    }
}

static void take_pending(size_t n)
{
    struct slice p = conn_pending(c);

    if (n > p.n) n = p.n;
    if (n > sizeof peer.in - peer.n) n = sizeof peer.in - peer.n;
    memcpy(peer.in + peer.n, p.p, n);
    peer.n += n;
    conn_sent(c, n);
    hear();
}

static void feed(struct slice bytes)
{
    struct slice first = slice_of(bytes.p, bytes.n / 3), message;
    struct msg m;
    struct why why = { "" };

    enum err e = conn_feed(c, first, now, &why); /* in two pieces, the second with the end */
    if (!e) e = conn_feed(c, slice_of(bytes.p + first.n, bytes.n - first.n), now, &why);
    if (e && (conn_state(c) != CONN_DEAD || !why.text[0])) abort();
    while (conn_next(c, &message)) {
        if (message.n == 0 || message.n > msg_limit(message)) abort();
        (void)!msg_decode(&m, message, &why);
    }
}

static void send_record(struct raw_record d)
{
    static uint8_t wire[1 << 17];
    bool rekeys = d.kind == 2;
    size_t n = raw_seal(&peer, &d, wire);
    feed(slice_of(wire, n));
    if (rekeys) noise_rekey(&peer.send); /* if c did not agree it is dead, and hears no more */
}

/* The bytes are all of the plaintext, its header too. */
static void send_plain(struct slice s)
{
    struct raw_record d = { 0 };
    if (s.n < 12 || s.n > 65519) return;
    d.kind = s.p[0];
    d.flags = s.p[1];
    d.stream = get_be16(s.p + 2);
    d.dlen = get_be16(s.p + 4);
    d.reserved = s.p[6];
    d.mlen = (uint32_t)get_be16(s.p + 8) << 16 | get_be16(s.p + 10);
    d.data = slice_of(s.p + 12, s.n - 12);
    send_record(d);
}

static void send_fitting(struct slice s)
{
    if (s.n < 5 || s.n > 5 + 65507) return;
    send_record(
        (struct raw_record){ .flags = s.p[0] & 3,
                             .stream = s.p[1] & 15,
                             .mlen = s.p[2] | (uint32_t)s.p[3] << 8 | (uint32_t)s.p[4] << 16,
                             .dlen = (uint32_t)(s.n - 5),
                             .data = slice_of(s.p + 5, s.n - 5) });
}

static void send_message(size_t n, uint8_t salt)
{
    static uint8_t x[1 << 16];
    uint8_t session[SESSION_BYTES] = { salt };
    struct msg m = { .type = salt & 1 ? MSG_ACT : MSG_PING };

    if (salt & 1) {
        m.u.ACT.session = slice_of(session, sizeof session);
        m.u.ACT.rows = 1;
        m.u.ACT.x = slice_of(x, n + 1 < sizeof x ? n + 1 : sizeof x);
    } else if (salt & 2) {
        m.u.PING.stamp = CONN_FENCE;
    }
    enum err e = conn_send(c, &m);
    if ((e == ERR_CLOSED) != (conn_state(c) != CONN_OPEN)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct slice in = slice_of(data, n), pending;

    if (n < 1 || proto_init()) return 0;
    open_by_hand(data[0] & 1 ? CONN_BULK : CONN_FAST);
    (void)slice_take(&in, 1);
    while (in.n >= 3) {
        struct slice head = slice_take(&in, 3);
        size_t len = head.p[1] | (size_t)head.p[2] << 8;
        uint8_t what = head.p[0];
        struct slice s = what % 7 < 3 ? slice_take(&in, len) : slice_of(NULL, 0);
        switch (what % 7) {
        case 0: send_plain(s); break;
        case 1: send_fitting(s); break;
        case 2: feed(s); break;
        case 3: send_message(len, what / 7); break;
        case 4: take_pending(len); break;
        case 5: (void)!conn_tick(c, now += (uint64_t)len * 100, NULL); break;
        case 6: conn_shutdown(c); break;
        }
    }
    while ((pending = conn_pending(c)).n && sizeof peer.in > peer.n) take_pending(pending.n);
    if (peer.n) abort(); /* all that was sealed is whole records */
    conn_close(c);
    return 0;
}
