/* Two connections over a simulated byte pipe: that what is sent arrives, in which order, and at
 * what cost; and that a changed, cut, repeated or foreign byte never becomes a message.
 * TEST_SEED=n runs the random parts with another seed. */
#include "tests/proto/conn_by_hand.h"
#include "tests/proto/vectors.h"

#include <time.h>

static struct conn *a, *b;

static void open_with(struct conn_config ca, struct conn_config cb)
{
    assert_int_equal(conn_open(&a, &ca), ERR_OK);
    assert_int_equal(conn_open(&b, &cb), ERR_OK);
}

static void close_both(void)
{
    conn_close(a);
    conn_close(b);
    a = b = NULL;
}

/* Move at most max bytes of what from has to say, in one piece.  false: nothing to move. */
static bool move(struct conn *from, struct conn *to, size_t max, enum err *e, struct why *why)
{
    struct slice p = conn_pending(from);
    if (p.n > max) p.n = max;
    if (p.n == 0) return false;
    enum err got = conn_feed(to, p, 0, why);
    if (got && e && !*e) *e = got;
    conn_sent(from, p.n);
    return true;
}

/* Until nothing moves; both ends must be content. */
static void settle(void)
{
    enum err e = ERR_OK;
    struct why why = { "" };
    for (bool moved = true; moved;) {
        moved = move(a, b, SIZE_MAX, &e, &why);
        moved |= move(b, a, SIZE_MAX, &e, &why);
    }
    if (e) fail_msg("%s", why.text);
}

static void open_pair(void)
{
    open_with(config_a(), config_b());
    settle();
    assert_int_equal(conn_state(a), CONN_OPEN);
    assert_int_equal(conn_state(b), CONN_OPEN);
}

static struct msg ping(uint64_t stamp)
{
    struct msg m = { .type = MSG_PING };
    m.u.PING.stamp = stamp;
    return m;
}

/* Rows for session number s; x is filled so that its bytes depend on where they are. */
static struct msg act(uint8_t s, uint32_t step, size_t n)
{
    static uint8_t x[ACT_BYTES_MAX], session[SESSION_BYTES];
    for (size_t i = 0; i < n; i += 997) x[i] = (uint8_t)(i + step);
    memset(session, s, sizeof session);
    struct msg m = { .type = MSG_ACT };
    m.u.ACT.session = slice_of(session, sizeof session);
    m.u.ACT.rows = 1;
    m.u.ACT.step = step;
    m.u.ACT.x = slice_of(x, n);
    return m;
}

static void send_ok(struct conn *c, struct msg m)
{
    assert_int_equal(conn_send(c, &m), ERR_OK);
}

static bool next(struct conn *c, struct msg *m)
{
    struct slice s;
    struct why why;
    if (!conn_next(c, &s)) return false;
    if (msg_decode(m, s, &why)) fail_msg("%s", why.text);
    return true;
}

/* --- the good case --- */

static void test_open(void **state)
{
    struct msg m;
    (void)state;

    open_with(config_a(), config_b());
    assert_int_equal(conn_state(a), CONN_HANDSHAKE);
    m = ping(1);
    assert_int_equal(conn_send(a, &m), ERR_CLOSED); /* not before OPEN */
    settle();
    assert_int_equal(conn_state(a), CONN_OPEN);
    assert_int_equal(conn_state(b), CONN_OPEN);
    assert_true(node_id_equal(conn_peer(a), &bob.id));
    assert_true(node_id_equal(conn_peer(b), &alice.id));
    assert_true(slice_is(conn_hello(a)->agent, "b/1"));
    assert_true(slice_is(conn_hello(b)->agent, "a/1"));
    assert_int_equal(conn_hello(a)->role, 1);
    assert_int_equal(conn_hello(b)->role, 2);
    assert_int_equal(conn_hello(a)->observed.n, 0);
    assert_int_equal(conn_hello(b)->observed.n, 6);
    send_ok(a, ping(7));
    send_ok(b, ping(8));
    settle();
    assert_true(next(b, &m) && m.u.PING.stamp == 7);
    assert_true(next(a, &m) && m.u.PING.stamp == 8);
    assert_false(next(a, &m) || next(b, &m));
    close_both();
}

static void test_anyone(void **state)
{
    struct conn_config ca = config_a();
    (void)state;

    ca.expect = NULL;
    ca.class_ = CONN_BULK;
    open_with(ca, config_b());
    settle();
    assert_int_equal(conn_state(b), CONN_OPEN);
    assert_int_equal(conn_class(b), CONN_BULK); /* the responder takes it over */
    assert_true(node_id_equal(conn_peer(a), &bob.id));
    close_both();
}

/* Many messages of all sizes both ways, over a pipe that cuts anywhere; each arrives once, whole,
 * and in the order of its session. */
static void run_pipe(enum conn_class class_, size_t cut, size_t big)
{
    enum { N = 60, SESSIONS = 5 };
    uint32_t sent[2][SESSIONS] = { { 0 } }, got[2][SESSIONS] = { { 0 } };
    struct conn_config ca = config_a(), cb = config_b();
    struct conn *ends[2];
    unsigned total = 0, arrived = 0;

    ca.class_ = class_;
    ca.rekey_records = cb.rekey_records = 7;
    open_with(ca, cb);
    ends[0] = a;
    ends[1] = b;
    for (bool more = true; more || total < N;) {
        for (unsigned i = 0; i < 2; i++) {
            struct msg m;
            enum err e = ERR_OK;
            struct why why = { "" };
            if (total < N && conn_state(ends[i]) == CONN_OPEN) {
                uint8_t s = (uint8_t)pick(SESSIONS);
                size_t n = pick(4) ? 1 + pick(3000) : 1 + pick(big);
                struct msg out = act(s, sent[i][s]++, n);
                static uint8_t copy[ACT_BYTES_MAX];
                memset(copy, s + (int)out.u.ACT.step, n);
                out.u.ACT.x.p = copy;
                send_ok(ends[i], out);
                total++;
            }
            more = move(ends[i], ends[1 - i], 1 + pick(cut), &e, &why) || (i && more);
            if (e) fail_msg("%s", why.text);
            while (next(ends[1 - i], &m)) {
                uint8_t s = m.u.ACT.session.p[0];
                assert_int_equal(m.u.ACT.step, got[i][s]++);
                for (size_t k = 0; k < m.u.ACT.x.n; k++)
                    assert_int_equal(m.u.ACT.x.p[k], (uint8_t)(s + m.u.ACT.step));
                arrived++;
            }
        }
    }
    assert_int_equal(arrived, N);
    assert_int_equal(conn_queued(a) + conn_queued(b), 0);
    close_both();
}

static void test_pipe(void **state)
{
    const char *text = getenv("TEST_SEED");
    (void)state;

    world_seed[2] = text ? strtoull(text, NULL, 10) : 33;
    print_message("seed %llu\n", (unsigned long long)world_seed[2]);
    run_pipe(CONN_FAST, 1, 40000); /* a byte at a time */
    run_pipe(CONN_FAST, 50, 100000);
    run_pipe(CONN_FAST, 100000, 1 << 20);
    run_pipe(CONN_BULK, 5000, 300000);
    run_pipe(CONN_BULK, 1 << 20, 1 << 20);
}

static void test_largest(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct conn_config ca = config_a();
        struct msg m, out = act(1, 5, ACT_BYTES_MAX);
        ca.class_ = i ? CONN_BULK : CONN_FAST;
        open_with(ca, config_b());
        settle();
        send_ok(a, out);
        settle();
        assert_true(next(b, &m));
        assert_int_equal(m.u.ACT.x.n, ACT_BYTES_MAX);
        assert_memory_equal(m.u.ACT.x.p, out.u.ACT.x.p, ACT_BYTES_MAX);
        close_both();
    }
}

/* A PING passes a long ACT, the fence does not; a session's messages never pass each other. */
static void test_short_passes_long(void **state)
{
    struct msg m, trim = { .type = MSG_KV_TRIM };
    (void)state;

    open_pair();
    struct msg rows = act(3, 1, 1 << 20);
    send_ok(a, rows);
    trim.u.KV_TRIM.session = rows.u.ACT.session;
    send_ok(a, trim);
    send_ok(a, ping(CONN_FENCE));
    send_ok(a, act(4, 2, 1000));
    send_ok(b, ping(9));
    struct msg error = { .type = MSG_ERROR, .rid = 77 };
    error.u.ERROR.code = WIRE_BUSY;
    error.u.ERROR.text = slice_str("x");
    send_ok(a, error);
    settle();
    assert_true(next(b, &m) && m.type == MSG_ACT && m.u.ACT.step == 2);
    assert_true(next(b, &m) && m.type == MSG_ERROR && m.rid == 77);
    assert_true(next(b, &m) && m.type == MSG_ACT && m.u.ACT.step == 1);
    assert_true(next(b, &m) && m.type == MSG_KV_TRIM);
    assert_true(next(b, &m) && m.type == MSG_PING && m.u.PING.stamp == CONN_FENCE);
    assert_false(next(b, &m));

    send_ok(a, act(3, 3, 1 << 20));
    send_ok(a, ping(5));
    settle();
    assert_true(next(b, &m) && m.type == MSG_PING);
    assert_true(next(b, &m) && m.u.ACT.step == 3);
    close_both();
}

/* Eight streams at once, many in each: every message arrives. */
static void test_interleaved(void **state)
{
    uint32_t seen[16] = { 0 };
    struct msg m;
    (void)state;

    open_pair();
    for (uint32_t k = 0; k < 10; k++)
        for (uint8_t s = 0; s < 16; s++) send_ok(a, act(s, k, 20000 + 100u * s));
    settle();
    for (unsigned n = 0; n < 160; n++) {
        assert_true(next(b, &m));
        uint8_t s = m.u.ACT.session.p[0];
        assert_int_equal(m.u.ACT.step, seen[s]++);
        assert_int_equal(m.u.ACT.x.n, 20000 + 100u * s);
    }
    assert_false(next(b, &m));
    close_both();
}

static uint8_t bulk[3 << 20];

static struct msg tile(uint8_t first, size_t n)
{
    static uint8_t hash[256][HASH_WIRE];
    struct msg m = { .type = MSG_TILE, .rid = first };
    memset(hash[first], first, HASH_WIRE);
    m.u.TILE.hash = slice_of(hash[first], HASH_WIRE);
    m.u.TILE.data = slice_of(bulk, n);
    return m;
}

/* Bytes that a has ready for its socket go, so that it seals the next. */
static size_t take_pending(struct conn *c)
{
    size_t n = conn_pending(c).n;
    static enum err e;
    struct why why;
    move(a, b, n, &e, &why);
    return n;
}

/* Whatever else is sent passes tiles that wait, but for two records. */
static void test_bulk_yields(void **state)
{
    enum { RECORD = 16 << 10 };
    struct msg m;
    (void)state;

    open_pair();
    send_ok(a, tile(1, sizeof bulk));
    send_ok(a, tile(2, 1000));
    for (unsigned k = 0; k < 20; k++) {
        size_t ahead = take_pending(a);
        assert_true(ahead <= 2 * (RECORD + 64)); /* of the tile; not passed any more */
        send_ok(a, act(7, k, 8192));
        send_ok(a, ping(k));
        bool got_act = false, got_ping = false;
        for (unsigned turn = 0; turn < 3 && !(got_act && got_ping); turn++) {
            take_pending(a);
            while (next(b, &m)) {
                got_act |= m.type == MSG_ACT && m.u.ACT.step == k;
                got_ping |= m.type == MSG_PING;
            }
        }
        assert_true(got_act && got_ping);
        assert_true(conn_bulk_queued(a) > 0);
    }
    settle();
    assert_true(next(b, &m) && m.type == MSG_TILE && m.rid == 1);
    assert_int_equal(m.u.TILE.data.n, sizeof bulk);
    assert_true(next(b, &m) && m.type == MSG_TILE && m.rid == 2); /* in order */
    assert_int_equal(conn_bulk_queued(a), 0);
    close_both();
}

static void test_bulk_limit(void **state)
{
    struct msg m;
    (void)state;

    open_pair();
    assert_true(conn_bulk_left(a) == UINT64_MAX);
    conn_bulk_limit(a, 0);
    send_ok(a, tile(1, 100000));
    settle();
    size_t all = conn_bulk_queued(a);
    assert_true(all >= 100000); /* nothing has gone */
    conn_bulk_limit(a, 40000);
    settle();
    assert_int_equal(conn_bulk_left(a), 0);
    assert_in_range(all - conn_bulk_queued(a), 40000, 40000 + (16 << 10));
    send_ok(a, act(1, 1, 50000)); /* others are not held back */
    settle();
    assert_true(next(b, &m) && m.type == MSG_ACT);
    assert_false(next(b, &m));
    send_ok(a, ping(CONN_FENCE)); /* waits for the tile, so that may go */
    settle();
    assert_true(next(b, &m) && m.type == MSG_TILE);
    assert_true(next(b, &m) && m.type == MSG_PING);
    conn_bulk_limit(a, UINT64_MAX);
    send_ok(a, tile(3, 100000));
    settle();
    assert_true(next(b, &m) && m.type == MSG_TILE);
    assert_true(conn_bulk_left(a) == UINT64_MAX);
    close_both();
}

/* An orderly end does not wait for tiles. */
static void test_bulk_shutdown(void **state)
{
    struct msg m;
    struct why why;
    enum err e = ERR_OK;
    (void)state;

    open_pair();
    send_ok(a, tile(1, sizeof bulk));
    send_ok(a, act(1, 5, 3000));
    conn_shutdown(a);
    assert_int_equal(conn_bulk_queued(a), 0);
    while (move(a, b, SIZE_MAX, &e, &why)) {
    }
    assert_string_equal(why.text, "the other side closed the connection");
    assert_true(next(b, &m) && m.type == MSG_ACT);
    assert_false(next(b, &m));
    close_both();
}

/* What an observer sees of a short text is a multiple of 64. */
static void test_padding(void **state)
{
    (void)state;
    open_pair();
    for (size_t n = 0; n < 300; n++) {
        char text[300];
        memset(text, 'x', sizeof text);
        struct msg m = { .type = MSG_ASK_TEXT, .rid = 1 };
        m.u.ASK_TEXT.text = slice_of(text, n);
        send_ok(a, m);
        assert_int_equal((conn_pending(a).n - 2 - 16) % 64, 0);
        settle();
    }
    close_both();
}

static void test_shutdown(void **state)
{
    struct msg m;
    struct why why;
    enum err e = ERR_OK;
    (void)state;

    open_pair();
    send_ok(a, act(1, 0, 3 << 20));
    conn_shutdown(a);
    assert_int_equal(conn_state(a), CONN_DEAD);
    m = ping(1);
    assert_int_equal(conn_send(a, &m), ERR_CLOSED);
    assert_int_equal(conn_feed(a, slice_str("x"), 0, &why), ERR_CLOSED);
    while (move(a, b, SIZE_MAX, &e, &why)) {
    }
    assert_int_equal(e, ERR_CLOSED);
    assert_string_equal(why.text, "the other side closed the connection");
    assert_int_equal(conn_state(b), CONN_DEAD);
    assert_true(next(b, &m) && m.u.ACT.x.n == 3 << 20); /* what came before CLOSE is delivered */
    assert_int_equal(conn_pending(b).n, 0);
    close_both();

    open_with(config_a(), config_b()); /* in the middle of a handshake */
    conn_shutdown(b);
    assert_int_equal(conn_state(b), CONN_DEAD);
    assert_int_equal(conn_pending(b).n, 0);
    close_both();
}

/* CLOSE is the last record, whatever else falls due with it. */
static void test_shutdown_and_rekey(void **state)
{
    (void)state;
    for (uint32_t every = 1; every < 8; every++)
        for (unsigned n = 0; n < 8; n++) {
            struct conn_config ca = config_a();
            enum err e = ERR_OK;
            struct why why;
            struct msg m;
            unsigned got = 0;
            ca.rekey_records = every;
            open_with(ca, config_b());
            settle();
            for (unsigned i = 0; i < n; i++) send_ok(a, ping(i));
            conn_shutdown(a);
            while (move(a, b, 10, &e, &why)) {
            }
            assert_int_equal(e, ERR_CLOSED);
            while (next(b, &m)) got++;
            assert_int_equal(got, n);
            close_both();
        }
}

static void test_queue_limit(void **state)
{
    struct msg m = act(1, 0, ACT_BYTES_MAX), p;
    unsigned n = 0;
    (void)state;

    open_pair();
    while (conn_send(a, &m) == ERR_OK) n++;
    assert_int_equal(n, CONN_QUEUE_MAX / ACT_BYTES_MAX - 1); /* and a little for their heads */
    assert_int_equal(conn_send(a, &m), ERR_FULL);
    assert_in_range(conn_queued(a), 7u << 23, CONN_QUEUE_MAX);
    settle();
    for (unsigned i = 0; i < n; i++) assert_true(next(b, &p));
    assert_int_equal(conn_queued(a), 0);
    send_ok(a, m); /* room again */
    close_both();
}

static void test_refuses_own_mistakes(void **state)
{
    struct msg m = act(1, 0, 10);
    (void)state;

    open_pair();
    m.u.ACT.rows = ROWS_MAX + 1;
    assert_int_equal(conn_send(a, &m), ERR_RANGE);
    m.type = (enum msg_type)99;
    assert_int_equal(conn_send(a, &m), ERR_RANGE);
    assert_int_equal(conn_queued(a), 0);
    assert_int_equal(conn_pending(a).n, 0);
    close_both();
}

static void test_rekey_by_time(void **state)
{
    struct msg m;
    struct why why;
    (void)state;

    open_pair();
    assert_true(conn_deadline_ms(a) == UINT64_MAX); /* an idle key does not age */
    send_ok(a, ping(1));
    size_t one = conn_pending(a).n;
    settle();
    assert_int_equal(conn_deadline_ms(a), CONN_REKEY_MS);
    assert_int_equal(conn_tick(a, CONN_REKEY_MS - 1, &why), ERR_OK);
    assert_int_equal(conn_pending(a).n, 0);
    assert_int_equal(conn_tick(a, CONN_REKEY_MS, &why), ERR_OK);
    assert_int_equal(conn_pending(a).n, one); /* the REKEY record */
    send_ok(a, ping(2));
    settle();
    assert_true(next(b, &m) && next(b, &m) && m.u.PING.stamp == 2);
    assert_int_equal(conn_deadline_ms(a), 2 * CONN_REKEY_MS);
    close_both();
}

static void test_timeouts(void **state)
{
    struct why why;
    enum err e = ERR_OK;
    (void)state;

    open_with(config_a(), config_b());
    assert_int_equal(conn_deadline_ms(a), CONN_HANDSHAKE_MS);
    assert_int_equal(conn_deadline_ms(b), CONN_FIRST_MS);
    assert_int_equal(conn_tick(b, CONN_FIRST_MS - 1, &why), ERR_OK);
    assert_int_equal(conn_tick(b, CONN_FIRST_MS, &why), ERR_TIMEOUT);
    assert_string_equal(why.text,
                        "the handshake was not finished in 2 s; the other side is slow or "
                        "no swarm node");
    assert_int_equal(conn_state(b), CONN_DEAD);
    assert_int_equal(conn_tick(a, CONN_HANDSHAKE_MS, &why), ERR_TIMEOUT);
    close_both();

    open_with(config_a(), config_b());
    while (move(a, b, SIZE_MAX, &e, &why)) {
    }
    assert_int_equal(conn_tick(b, CONN_FIRST_MS, &why), ERR_OK); /* msg1 has come */
    assert_int_equal(conn_tick(b, CONN_HANDSHAKE_MS, &why), ERR_TIMEOUT);
    assert_true(conn_deadline_ms(b) == UINT64_MAX);
    close_both();
}

/* --- the wrong peer --- */

/* Run a handshake that must fail; the sentences of both ends. */
static void refuse(struct conn_config ca, struct conn_config cb, enum err *ea, struct why *wa,
                   enum err *eb, struct why *wb)
{
    *ea = *eb = ERR_OK;
    wa->text[0] = wb->text[0] = 0;
    open_with(ca, cb);
    for (bool moved = true; moved;) {
        moved = move(a, b, SIZE_MAX, eb, wb);
        moved |= move(b, a, SIZE_MAX, ea, wa);
    }
    struct slice s;
    assert_false(conn_next(a, &s) || conn_next(b, &s));
    close_both();
}

static void test_wrong_swarm_key(void **state)
{
    struct swarm_key other = { { 1 } };
    struct conn_config ca = config_a();
    enum err ea, eb;
    struct why wa, wb;
    (void)state;

    ca.swarm = &other;
    refuse(ca, config_b(), &ea, &wa, &eb, &wb);
    assert_int_equal(eb, ERR_AUTH);
    assert_string_equal(wb.text, "the other side uses another swarm key, or is no swarm node");
    assert_int_equal(ea, ERR_OK); /* it hears nothing at all */
}

static void test_wrong_identity(void **state)
{
    struct identity carol;
    struct conn_config ca = config_a();
    enum err ea, eb;
    struct why wa, wb;
    char text[NODE_ID_SHORT];
    (void)state;

    identity_make(&carol);
    ca.expect = &carol.id;
    refuse(ca, config_b(), &ea, &wa, &eb, &wb);
    assert_int_equal(ea, ERR_AUTH);
    node_id_short(text, &carol.id);
    assert_memory_equal(wa.text, text, strlen(text));
    node_id_short(text, &bob.id);
    assert_non_null(strstr(wa.text, text));
    assert_non_null(strstr(wa.text, "was dialled but"));
    assert_int_equal(eb, ERR_OK); /* it sees the connection end */
}

/* Mallory says that she is Bob. */
static void test_wrong_certificate(void **state)
{
    struct identity mallory;
    struct conn_config ca = config_a(), cb = config_b();
    enum err ea, eb;
    struct why wa, wb;
    (void)state;

    identity_make(&mallory);
    mallory.id = bob.id;
    cb.me = &mallory;
    refuse(ca, cb, &ea, &wa, &eb, &wb);
    assert_int_equal(ea, ERR_AUTH);
    assert_non_null(
        strstr(wa.text, "does not verify: the other side does not hold that identity's"));

    mallory.id = alice.id;
    ca.me = &mallory;
    refuse(ca, config_b(), &ea, &wa, &eb, &wb);
    assert_int_equal(eb, ERR_AUTH);
    assert_non_null(strstr(wb.text, "does not verify"));
    assert_int_equal(ea, ERR_CLOSED); /* and the responder says so, sealed */
    assert_string_equal(wa.text,
                        "the other side closed the connection: a signature does not verify");
}

static void test_clocks(void **state)
{
    const int64_t day = 86400;
    enum err ea, eb;
    struct why wa, wb;
    (void)state;

    for (int64_t days = -3; days <= 3; days++) {
        struct conn_config ca = config_a();
        ca.unix_s = (uint64_t)(NOW_S + days * day);
        open_with(ca, config_b());
        settle();
        assert_int_equal(conn_state(b), CONN_OPEN);
        close_both();
    }
    struct conn_config ca = config_a();
    ca.unix_s = (uint64_t)(NOW_S + 4 * day); /* Bob's certificate has expired then */
    refuse(ca, config_b(), &ea, &wa, &eb, &wb);
    assert_int_equal(ea, ERR_AUTH);
    assert_non_null(strstr(wa.text, "expired 12 hours ago; is the clock"));
    ca.unix_s = (uint64_t)(NOW_S - 4 * day);
    refuse(ca, config_b(), &ea, &wa, &eb, &wb);
    assert_int_equal(ea, ERR_AUTH);
    assert_non_null(strstr(wa.text, "lies more than 7 days ahead; is the clock"));
}

static void test_other_version(void **state)
{
    struct why why;
    uint8_t first[8];
    (void)state;

    for (unsigned i = 0; i < 2; i++) {
        open_with(config_a(), config_b());
        memcpy(first, conn_pending(a).p, 8);
        first[4 + i] = 9;
        assert_int_equal(conn_feed(b, slice_of(first, 8), 0, &why), ERR_UNSUPPORTED);
        assert_non_null(strstr(why.text, i ? "version 1 (suite 9), this program version 1"
                                           : "version 9 (suite 1), this program version 1"));
        struct slice hint = conn_pending(b);
        assert_int_equal(hint.n, 8);
        assert_memory_equal(hint.p, "SWRM\xff\x01\x01", 8);
        for (size_t k = 0; k < 7; k++)
            assert_int_equal(conn_feed(a, slice_of(hint.p + k, 1), 0, &why), ERR_OK);
        assert_int_equal(conn_feed(a, slice_of(hint.p + 7, 1), 0, &why), ERR_UNSUPPORTED);
        assert_non_null(
            strstr(why.text, "speaks protocol versions 1 to 1, this program version 1"));
        close_both();
    }
}

/* A stranger learns nothing: no byte comes back. */
static void test_strangers(void **state)
{
    static const char *const texts[] = {
        "GET / HTTP/1.1\r\n\r\n", "SSH-2.0-x\r\n",       "\x16\x03\x01", "S", "SWR", "SWRX",
        "SWRM\x01\x01\x02",       "SWRM\x01\x01\x01\x01"
    };
    struct why why;
    (void)state;

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        open_with(config_a(), config_b());
        enum err e = conn_feed(b, slice_of(texts[i], strlen(texts[i]) + (i == 6)), 0, &why);
        assert_int_equal(e, i == 3 || i == 4 ? ERR_OK : ERR_MALFORMED);
        assert_int_equal(conn_pending(b).n, 0);
        assert_int_not_equal(conn_feed(a, slice_str("HTTP/1.1 400"), 0, &why), ERR_OK);
        close_both();
    }
    for (size_t n = 0; n < 65536; n += 13) { /* every length of a first frame */
        open_with(config_a(), config_b());
        uint8_t bytes[10] = { 'S', 'W', 'R', 'M', 1, 1, 0, 0, (uint8_t)(n >> 8), (uint8_t)n };
        assert_int_equal(conn_feed(b, slice_of(bytes, 10), 0, &why),
                         n < 48 || n > 112 ? ERR_MALFORMED : ERR_OK);
        assert_int_equal(conn_pending(b).n, 0);
        close_both();
    }
}

/* --- changed bytes --- */

/* A recorded conversation: what each end said, and where its records begin. */
struct tape {
    uint8_t bytes[2][8192];
    size_t n[2], handshake[2];
    size_t record[32];
    unsigned records;
};

static void put_on_tape(struct tape *t, unsigned who, struct conn *from, struct conn *to)
{
    struct slice p;
    while ((p = conn_pending(from)).n) {
        memcpy(t->bytes[who] + t->n[who], p.p, p.n);
        t->n[who] += p.n;
        assert_int_equal(conn_feed(to, p, 0, NULL), ERR_OK);
        conn_sent(from, p.n);
    }
}

enum { TAPE_RECORDS = 20 };

static void record_tape(struct tape *t)
{
    *t = (struct tape){ 0 };
    world_init();
    open_with(config_a(), config_b());
    for (int i = 0; i < 3; i++) {
        put_on_tape(t, 0, a, b);
        put_on_tape(t, 1, b, a);
    }
    t->handshake[0] = t->n[0];
    t->handshake[1] = t->n[1];
    for (unsigned i = 0; i < TAPE_RECORDS; i++) {
        t->record[t->records++] = t->n[0];
        send_ok(a, ping(i));
        put_on_tape(t, 0, a, b);
    }
    close_both();
}

/* Play bytes to a fresh end (0: to Bob, 1: to Alice) with the randomness of the recording.  Returns
 * how many messages came out, each checked to be the next of the tape. */
static unsigned play(unsigned who, struct slice bytes, enum err *e)
{
    struct conn_config config = who == 0 ? config_b() : config_a();
    struct conn *c;
    struct msg m;
    unsigned n = 0;

    world_init();
    assert_int_equal(conn_open(&c, &config), ERR_OK);
    *e = conn_feed(c, bytes, 0, NULL);
    while (next(c, &m)) assert_int_equal(m.u.PING.stamp, n++);
    if (*e) assert_int_equal(conn_state(c), CONN_DEAD);
    conn_close(c);
    return n;
}

/* A flip in a length may only make the receiver wait for bytes that never come. */
static void flip_all(struct tape *t, unsigned who, size_t from, size_t to, size_t length_at)
{
    for (size_t bit = from * 8; bit < to * 8; bit++) {
        enum err e;
        t->bytes[who][bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(play(who, slice_of(t->bytes[who], t->n[who]), &e), 0);
        bool is_length = bit / 8 == length_at || bit / 8 == length_at + 1;
        if (!is_length) assert_int_not_equal(e, ERR_OK);
        t->bytes[who][bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void test_flips_in_handshake(void **state)
{
    static struct tape t;
    enum err e;
    (void)state;

    record_tape(&t);
    assert_int_equal(play(0, slice_of(t.bytes[0], t.n[0]), &e), TAPE_RECORDS);
    assert_int_equal(e, ERR_OK);
    size_t msg3 = 8 + 2 + 48;
    flip_all(&t, 0, 0, 8, SIZE_MAX - 1);
    flip_all(&t, 0, 8, msg3, 8);
    flip_all(&t, 0, msg3, t.handshake[0], msg3);
    flip_all(&t, 1, 0, t.handshake[1], 0);
}

/* Each bit of twenty records, among them a message of three fragments and a REKEY: what came before
 * is delivered, what comes from there on is not. */
static void test_flips_in_records(void **state)
{
    static uint8_t wire[1 << 16];
    size_t n = 0, end[TAPE_RECORDS], at = 0;
    unsigned whole[TAPE_RECORDS] = { 0 };
    struct conn_config config = config_b();
    (void)state;

    config.rekey_records = 12;
    a = conn_by_hand(config);
    for (unsigned i = 0; i < TAPE_RECORDS - 3; i++) /* and two fragments more, and a REKEY */
        send_ok(a, i == 4 ? act(1, 9, 33000) : ping(i));
    for (struct slice p; (p = conn_pending(a)).n; conn_sent(a, p.n)) {
        memcpy(wire + n, p.p, p.n);
        n += p.n;
    }
    conn_close(a);
    b = conn_by_hand(config_b()); /* where records end, and how many messages are whole then */
    for (unsigned i = 0, count = 0; i < TAPE_RECORDS; i++) {
        struct slice s;
        size_t len = 2 + ((size_t)wire[at] << 8 | wire[at + 1]);
        assert_int_equal(conn_feed(b, slice_of(wire + at, len), 0, NULL), ERR_OK);
        whole[i] = count;
        while (conn_next(b, &s)) count++;
        end[i] = at += len;
    }
    assert_int_equal(at, n);
    conn_close(b);

    for (size_t bit = 0; bit < n * 8; bit++) {
        unsigned i = 0, count = 0;
        struct slice s;
        while (bit / 8 >= end[i]) i++;
        size_t begin = i ? end[i - 1] : 0;
        if (end[i] - begin > 1000 && bit % 61 && bit / 8 > begin + 20 && bit / 8 + 20 < end[i])
            continue; /* of the long fragments the ends in full, of the rest every 61st bit */
        wire[bit / 8] ^= (uint8_t)(1u << bit % 8);
        b = conn_by_hand(config_b());
        enum err e = conn_feed(b, slice_of(wire, n), 0, NULL);
        while (conn_next(b, &s)) count++;
        assert_int_equal(count, whole[i]);
        if (bit / 8 > begin + 1) assert_int_equal(e, ERR_AUTH);
        conn_close(b);
        wire[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

/* Cut anywhere: what was whole before the cut is delivered, nothing else, and no error. */
static void test_truncated(void **state)
{
    static struct tape t;
    (void)state;

    record_tape(&t);
    for (size_t n = 0; n < t.n[0]; n++) {
        unsigned whole = 0;
        enum err e;
        if (n < t.handshake[0] && n % 7) continue; /* those cost a handshake each */
        while (whole + 1 < t.records && t.record[whole + 1] <= n) whole++;
        assert_int_equal(play(0, slice_of(t.bytes[0], n), &e), n < t.record[0] ? 0 : whole);
        assert_int_equal(e, ERR_OK);
    }
}

/* Repeated, left out, exchanged: refused at that place. */
static void test_replayed_records(void **state)
{
    static struct tape t;
    uint8_t bytes[8192];
    enum err e;
    (void)state;

    record_tape(&t);
    size_t one = t.record[1] - t.record[0];
    for (unsigned i = 1; i < t.records; i++) {
        size_t at = t.record[i], rest = t.n[0] - at;
        memcpy(bytes, t.bytes[0], at); /* the one before again */
        memcpy(bytes + at, t.bytes[0] + at - one, one);
        memcpy(bytes + at + one, t.bytes[0] + at, rest);
        assert_int_equal(play(0, slice_of(bytes, t.n[0] + one), &e), i);
        assert_int_equal(e, ERR_AUTH);

        memcpy(bytes + at - one, t.bytes[0] + at, rest); /* it is missing */
        assert_int_equal(play(0, slice_of(bytes, t.n[0] - one), &e), i - 1);
        assert_int_equal(e, ERR_AUTH);

        memcpy(bytes, t.bytes[0], t.n[0]); /* it comes after this one */
        memcpy(bytes + at, t.bytes[0] + at - one, one);
        memcpy(bytes + at - one, t.bytes[0] + at, one);
        assert_int_equal(play(0, slice_of(bytes, t.n[0]), &e), i - 1);
        assert_int_equal(e, ERR_AUTH);
    }
}

/* The whole capture, played into either end of a later connection. */
static void test_replayed_capture(void **state)
{
    static struct tape t;
    struct slice s;
    (void)state;

    record_tape(&t);
    world_seed[0] = 1000; /* later: other randomness */
    world_seed[1] = 2000;
    open_with(config_a(), config_b());
    assert_int_equal(conn_feed(b, slice_of(t.bytes[0], t.n[0]), 0, NULL), ERR_AUTH);
    assert_int_equal(conn_feed(a, slice_of(t.bytes[1], t.n[1]), 0, NULL), ERR_AUTH);
    assert_false(conn_next(a, &s) || conn_next(b, &s));
    close_both();
    open_pair(); /* and into one that is open */
    assert_int_equal(conn_feed(b, slice_of(t.bytes[0] + t.record[0], 200), 0, NULL), ERR_AUTH);
    assert_false(conn_next(b, &s));
    close_both();
}

/* Nothing of a text is on the wire in clear. */
static void test_wire_is_opaque(void **state)
{
    static const char secret[] = "the quick brown fox jumps over the lazy dog";
    (void)state;

    open_pair();
    struct msg m = { .type = MSG_ASK_TEXT, .rid = 1 };
    m.u.ASK_TEXT.text = slice_str(secret);
    send_ok(a, m);
    struct slice p = conn_pending(a);
    assert_null(memmem(p.p, p.n, secret, 8));
    close_both();
}

static void test_speed(void **state)
{
    enum { N = 2000 };
    struct timespec t0, t1;
    struct msg m, out = act(1, 0, 8192);
    (void)state;

    open_pair();
    clock_gettime(CLOCK_MONOTONIC, &t0);
    for (unsigned i = 0; i < N; i++) {
        send_ok(a, out);
        settle();
        assert_true(next(b, &m));
    }
    clock_gettime(CLOCK_MONOTONIC, &t1);
    double us = ((double)(t1.tv_sec - t0.tv_sec) * 1e9 + (double)(t1.tv_nsec - t0.tv_nsec)) / 1e3;
    print_message("8 KiB of activations, sent, received and decoded: %.1f us\n", us / N);
    close_both();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_anyone),
        cmocka_unit_test(test_pipe),
        cmocka_unit_test(test_largest),
        cmocka_unit_test(test_short_passes_long),
        cmocka_unit_test(test_interleaved),
        cmocka_unit_test(test_bulk_yields),
        cmocka_unit_test(test_bulk_limit),
        cmocka_unit_test(test_bulk_shutdown),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_shutdown),
        cmocka_unit_test(test_shutdown_and_rekey),
        cmocka_unit_test(test_queue_limit),
        cmocka_unit_test(test_refuses_own_mistakes),
        cmocka_unit_test(test_rekey_by_time),
        cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_wrong_swarm_key),
        cmocka_unit_test(test_wrong_identity),
        cmocka_unit_test(test_wrong_certificate),
        cmocka_unit_test(test_clocks),
        cmocka_unit_test(test_other_version),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_flips_in_handshake),
        cmocka_unit_test(test_flips_in_records),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_replayed_records),
        cmocka_unit_test(test_replayed_capture),
        cmocka_unit_test(test_wire_is_opaque),
        cmocka_unit_test(test_speed),
    };
    if (proto_init()) return 2;
    world_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
