/* A peer that holds good keys and follows no rule: every record that the protocol does not know,
 * and floods.  The peer is made by hand (conn_world.h), which also shows that a second
 * implementation of the handshake and the records agrees with conn.c. */
#include "tests/proto/conn_world.h"
#include "tests/proto/vectors.h"

#include <malloc.h>

static struct conn *c;
static struct raw r;

static enum err meet(const struct raw_setup *s, struct why *why)
{
    struct conn_config config = config_b();
    world_init();
    assert_int_equal(conn_open(&c, &config), ERR_OK);
    return raw_open(&r, s, c, why);
}

static void open_raw(enum conn_class class_)
{
    struct raw_setup s = { .me = &alice, .class_ = class_ };
    struct why why = { "" };
    if (meet(&s, &why)) fail_msg("%s", why.text);
    assert_int_equal(conn_state(c), CONN_OPEN);
}

/* Send one record; what c says to it. */
static enum err say(const struct raw_record *d, struct why *why)
{
    static uint8_t wire[1 << 17];
    return conn_feed(c, slice_of(wire, raw_seal(&r, d, wire)), 0, why);
}

/* The code of the CLOSE record with which c ended, -1: it did not say CLOSE. */
static int close_code(void)
{
    static uint8_t plain[1 << 16];
    int code = -1;
    raw_collect(&r, c);
    for (size_t n; (n = raw_unseal(&r, plain));) code = plain[0] == 3 ? plain[12] : -1;
    return code;
}

/* [MSG_PING, 0, {"t": 5}] */
static const uint8_t PING[] = { 0x93, 2, 0, 0x81, 0xa1, 't', 5 };
enum { FIRST = 1, LAST = 2, DATA = 0, PAD = 1, REKEY = 2, CLOSE = 3 };

static struct raw_record data(uint8_t flags, uint16_t stream, struct slice s, uint32_t mlen)
{
    return (struct raw_record){
        .flags = flags, .stream = stream, .dlen = (uint32_t)s.n, .mlen = mlen, .data = s
    };
}

static void test_agrees(void **state)
{
    static uint8_t plain[1 << 16];
    struct raw_record ping = data(FIRST | LAST, 0, slice_of(PING, sizeof PING), sizeof PING);
    struct slice s;
    struct msg m;
    (void)state;

    open_raw(CONN_FAST);
    assert_true(node_id_equal(conn_peer(c), &alice.id));
    assert_int_equal(say(&ping, NULL), ERR_OK);
    assert_true(conn_next(c, &s));
    assert_int_equal(msg_decode(&m, s, NULL), ERR_OK);
    assert_int_equal(m.u.PING.stamp, 5);

    m.type = MSG_PONG; /* and back: header, message, zeros to 64 */
    m.rid = 3;
    m.u.PONG = (struct msg_PONG){ .stamp = 5 };
    assert_int_equal(conn_send(c, &m), ERR_OK);
    raw_collect(&r, c);
    assert_int_equal(raw_unseal(&r, plain), 64);
    static const uint8_t want[64] = { 0, FIRST | LAST, 0, 0, 0,    7,    0,   0, 0, 0, 0,
                                      7, 0x93,         3, 3, 0x81, 0xa1, 't', 5 };
    assert_memory_equal(plain, want, 64);
    conn_close(c);
}

/* How c cuts a message: sizes, flags and streams on the wire. */
static void test_fragments_on_the_wire(void **state)
{
    static uint8_t x[100000], plain[1 << 16];
    (void)state;

    for (int bulk = 0; bulk < 2; bulk++) {
        size_t max = bulk ? 65519 : 16396, got = 0, n;
        open_raw(bulk ? CONN_BULK : CONN_FAST);
        struct msg m = { .type = MSG_ACT };
        m.u.ACT.session = slice_str("0123456789abcdef");
        m.u.ACT.rows = 1;
        m.u.ACT.x = slice_of(x, sizeof x);
        assert_int_equal(conn_send(c, &m), ERR_OK);
        uint32_t mlen = 0;
        for (bool last = false; !last; got += n - 12) {
            raw_collect(&r, c);
            n = raw_unseal(&r, plain);
            assert_in_range(n, 13, max);
            if (got == 0)
                mlen = (uint32_t)plain[8] << 24 | (uint32_t)plain[9] << 16 |
                       (uint32_t)plain[10] << 8 | plain[11];
            assert_int_equal(plain[8] << 24 | plain[9] << 16 | plain[10] << 8 | plain[11], mlen);
            assert_int_equal(plain[4] << 8 | plain[5], n - 12);
            assert_int_equal((plain[1] & FIRST) != 0, got == 0);
            last = plain[1] & LAST;
            if (!last) assert_int_equal(n, max);
            assert_int_equal(plain[3], 1 + '0' % 6);
        }
        assert_int_equal(got, mlen);
        conn_close(c);
    }
}

/* REKEY comes after exactly so many records, and both go on under the new key. */
static void test_rekey_boundary(void **state)
{
    static uint8_t plain[1 << 16];
    struct conn_config config = config_b();
    struct raw_setup s = { .me = &alice };
    struct msg m = { .type = MSG_PING };
    (void)state;

    world_init();
    config.rekey_records = 5;
    assert_int_equal(conn_open(&c, &config), ERR_OK);
    assert_int_equal(raw_open(&r, &s, c, NULL), ERR_OK);
    for (unsigned i = 1; i <= 40; i++) {
        assert_int_equal(conn_send(c, &m), ERR_OK);
        raw_collect(&r, c);
        assert_int_equal(raw_unseal(&r, plain), 64);
        assert_int_equal(plain[0], DATA);
        if (i % 5 == 0) {
            assert_int_equal(raw_unseal(&r, plain), 64);
            assert_int_equal(plain[0], REKEY);
            noise_rekey(&r.receive);
        }
        assert_int_equal(raw_unseal(&r, plain), 0);
    }

    struct raw_record rekey = { .kind = REKEY, .zeros = 52 };
    struct raw_record ping = data(FIRST | LAST, 0, slice_of(PING, sizeof PING), sizeof PING);
    struct slice bytes;
    for (unsigned i = 0; i < 5; i++) { /* and ours, whenever we like */
        assert_int_equal(say(&rekey, NULL), ERR_OK);
        noise_rekey(&r.send);
        assert_int_equal(say(&ping, NULL), ERR_OK);
        assert_true(conn_next(c, &bytes));
    }
    noise_rekey(&r.send); /* without saying so */
    assert_int_equal(say(&ping, NULL), ERR_AUTH);
    assert_int_equal(close_code(), WIRE_BAD_MESSAGE);
    conn_close(c);
}

/* The real threshold. */
static void test_rekey_default(void **state)
{
    static uint8_t plain[1 << 16];
    struct msg m = { .type = MSG_PING };
    unsigned rekeys = 0;
    (void)state;

    open_raw(CONN_FAST);
    for (unsigned i = 1; i < CONN_REKEY_RECORDS + 10; i++) {
        assert_int_equal(conn_send(c, &m), ERR_OK);
        raw_collect(&r, c);
        while (raw_unseal(&r, plain))
            if (plain[0] == REKEY) {
                assert_int_equal(i, CONN_REKEY_RECORDS);
                noise_rekey(&r.receive);
                rekeys++;
            }
    }
    assert_int_equal(rekeys, 1);
    conn_close(c);
}

static void test_bad_records(void **state)
{
    static uint8_t big[70000];
    struct slice p = slice_of(PING, sizeof PING), none = { 0 };
    uint32_t n = sizeof PING;
    struct raw_record reserved = data(FIRST | LAST, 0, p, n), kind = reserved, tail = reserved,
                      past = reserved, before = reserved, pad_stream = { .kind = PAD, .stream = 1 };
    (void)state;

    reserved.reserved = 1;
    kind.kind = 4;
    tail.tail = "x";
    past.dlen++;
    before.dlen--;
    memcpy(big, (uint8_t[]){ 0x93, MSG_ACT, 0 }, 3);
    const struct {
        const char *what;
        struct raw_record d;
        enum err e;
        int code;
    } bad[] = {
        { "an unknown kind", kind, ERR_MALFORMED, WIRE_BAD_MESSAGE },
        { "reserved bytes", reserved, ERR_MALFORMED, WIRE_BAD_MESSAGE },
        { "padding that is not zero", tail, ERR_MALFORMED, WIRE_BAD_MESSAGE },
        { "dlen past the end", past, ERR_MALFORMED, WIRE_BAD_MESSAGE },
        { "dlen short of the data", before, ERR_MALFORMED, WIRE_BAD_MESSAGE },
        { "an unknown flag", data(7, 0, p, n), ERR_MALFORMED, WIRE_BAD_MESSAGE },
        { "mlen larger, but LAST", data(3, 0, p, n + 1), ERR_MALFORMED, WIRE_BAD_MESSAGE },
        { "mlen smaller", data(3, 0, p, n - 1), ERR_MALFORMED, WIRE_BAD_MESSAGE },
        { "mlen 0", data(3, 0, p, 0), ERR_MALFORMED, WIRE_BAD_MESSAGE },
        { "whole, but not LAST", data(FIRST, 0, p, n), ERR_MALFORMED, WIRE_BAD_MESSAGE },
        { "no FIRST", data(LAST, 0, p, n), ERR_MALFORMED, WIRE_BAD_MESSAGE },
        { "no flags", data(0, 0, p, n), ERR_MALFORMED, WIRE_BAD_MESSAGE },
        { "nothing", data(3, 0, none, 0), ERR_MALFORMED, WIRE_BAD_MESSAGE },
        { "no message", data(3, 0, slice_str("hello"), 5), ERR_MALFORMED, WIRE_BAD_MESSAGE },
        { "half a head", data(FIRST, 0, slice_of(PING, 1), n), ERR_MALFORMED, WIRE_BAD_MESSAGE },
        { "a PING of 65 bytes", data(FIRST, 0, p, 65), ERR_RANGE, WIRE_TOO_BIG },
        { "a PING of 4 GiB", data(FIRST, 0, p, UINT32_MAX), ERR_RANGE, WIRE_TOO_BIG },
        { "an ACT one byte too long", data(FIRST, 0, slice_of(big, 100), ACT_BYTES_MAX + 513),
          ERR_RANGE, WIRE_TOO_BIG },
        { "an unknown type of 64 KiB + 1",
          data(FIRST, 0, slice_of((uint8_t[]){ 0x93, 99, 0 }, 3), 65537), ERR_RANGE, WIRE_TOO_BIG },
        { "a PAD on a stream", pad_stream, ERR_MALFORMED, WIRE_BAD_MESSAGE },
        { "a PAD with data",
          { .kind = PAD, .dlen = 1, .mlen = 1, .zeros = 1 },
          ERR_MALFORMED,
          WIRE_BAD_MESSAGE },
        { "a REKEY with flags", { .kind = REKEY, .flags = 1 }, ERR_MALFORMED, WIRE_BAD_MESSAGE },
        { "a CLOSE without code", { .kind = CLOSE }, ERR_MALFORMED, WIRE_BAD_MESSAGE },
        { "a CLOSE with flags",
          { .kind = CLOSE, .flags = 3, .dlen = 1, .mlen = 1, .zeros = 1 },
          ERR_MALFORMED,
          WIRE_BAD_MESSAGE },
        { "a record too long for its class", data(FIRST, 0, slice_of(big, 16385), 20000),
          ERR_MALFORMED, WIRE_BAD_MESSAGE },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct slice s;
        struct why why = { "" };
        open_raw(CONN_FAST);
        enum err e = say(&bad[i].d, &why);
        if (e != bad[i].e) fail_msg("%s: %s (%s)", bad[i].what, err_text(e), why.text);
        assert_true(strlen(why.text) > 20);
        assert_false(conn_next(c, &s));
        assert_int_equal(conn_state(c), CONN_DEAD);
        if (close_code() != bad[i].code) fail_msg("%s: wrong CLOSE", bad[i].what);
        conn_close(c);
    }
}

/* Records whose length alone is wrong, never opened. */
static void test_bad_lengths(void **state)
{
    (void)state;
    for (int bulk = 0; bulk < 2; bulk++)
        for (unsigned n = 0; n < 65536;
             n += n < 40 || n > 65500 || (n > 16400 && n < 16420) ? 1 : 97) {
            uint8_t bytes[2] = { (uint8_t)(n >> 8), (uint8_t)n };
            open_raw(bulk ? CONN_BULK : CONN_FAST);
            enum err e = conn_feed(c, slice_of(bytes, 2), 0, NULL);
            assert_int_equal(e, n < 28 || (!bulk && n > 16412) ? ERR_MALFORMED : ERR_OK);
            conn_close(c);
        }
}

static void test_bad_sequences(void **state)
{
    static uint8_t big[20000] = { 0x93, MSG_ACT, 0 };
    struct slice part = slice_of(big, 1000);
    struct raw_record begin = data(FIRST, 5, part, 3000);
    const struct raw_record after[] = {
        data(FIRST, 5, part, 3000),               /* another inside */
        data(0, 6, part, 3000),                   /* of a stream that began nothing */
        data(0, 5, part, 3001),                   /* another size */
        data(0, 5, slice_of(NULL, 0), 3000),      /* no progress */
        data(LAST, 5, part, 3000),                /* ends too early */
        data(0, 5, slice_of(big, 2000), 3000),    /* is whole but goes on */
        data(LAST, 5, slice_of(big, 2001), 3000), /* is more than whole */
    };
    (void)state;

    for (size_t i = 0; i < sizeof after / sizeof *after; i++) {
        struct slice s;
        open_raw(CONN_FAST);
        assert_int_equal(say(&begin, NULL), ERR_OK);
        assert_int_equal(say(&after[i], NULL), ERR_MALFORMED);
        assert_false(conn_next(c, &s));
        assert_int_equal(close_code(), WIRE_BAD_MESSAGE);
        conn_close(c);
    }
}

static size_t heap(void)
{
    return mallinfo2().uordblks + mallinfo2().hblkhd;
}

/* Eight halves of the largest type hold what arrived and no more; the ninth ends it. */
static void test_flood_of_first_fragments(void **state)
{
    static uint8_t big[1000] = { 0x93, MSG_ACT, 0 };
    struct why why;
    (void)state;

    open_raw(CONN_FAST);
    size_t before = heap();
    for (uint16_t s = 0; s < 8; s++) {
        struct raw_record d = data(FIRST, (uint16_t)(s * 1000), slice_of(big, 1000), ACT_BYTES_MAX);
        assert_int_equal(say(&d, &why), ERR_OK);
    }
    size_t claimed = 8u * ACT_BYTES_MAX, taken = heap() - before;
    print_message("64 MiB claimed, %zu bytes taken\n", taken);
    assert_true(taken < 32768 && taken < claimed);
    struct raw_record d = data(FIRST, 9, slice_of(big, 1000), ACT_BYTES_MAX);
    assert_int_equal(say(&d, &why), ERR_RANGE);
    assert_non_null(strstr(why.text, "more than 8 messages at once"));
    assert_int_equal(close_code(), WIRE_TOO_BIG);
    conn_close(c);
}

/* A fragment of one byte at a time: linear work, at most twice the memory. */
static void test_drip(void **state)
{
    static uint8_t big[100] = { 0x93, MSG_ACT, 0 };
    struct slice s;
    (void)state;

    open_raw(CONN_FAST);
    struct raw_record d = data(FIRST, 0, slice_of(big, 100), 100000);
    assert_int_equal(say(&d, NULL), ERR_OK);
    size_t before = heap();
    for (uint32_t n = 100; n < 100000; n++) {
        d = data(n + 1 == 100000 ? LAST : 0, 0, slice_of(big + 3, 1), 100000);
        assert_int_equal(say(&d, NULL), ERR_OK);
        assert_true(heap() - before < 2 * n + 8192);
    }
    assert_true(conn_next(c, &s));
    assert_int_equal(s.n, 100000);
    conn_close(c);
}

static void test_pads_and_close(void **state)
{
    struct raw_record pad = { .kind = PAD, .zeros = 16384 };
    struct raw_record bye = { .kind = CLOSE,
                              .dlen = 1,
                              .mlen = 1,
                              .data = slice_of((uint8_t[]){ WIRE_SHUTTING_DOWN }, 1),
                              .zeros = 51 };
    struct raw_record ping = data(FIRST | LAST, 0, slice_of(PING, sizeof PING), sizeof PING);
    struct slice s;
    struct why why;
    (void)state;

    open_raw(CONN_FAST);
    for (int i = 0; i < 100; i++) assert_int_equal(say(&pad, NULL), ERR_OK);
    assert_int_equal(say(&ping, NULL), ERR_OK);
    assert_int_equal(say(&bye, &why), ERR_CLOSED);
    assert_string_equal(why.text,
                        "the other side closed the connection: this node is shutting down");
    assert_true(conn_next(c, &s)); /* what came before */
    assert_int_equal(say(&ping, &why), ERR_CLOSED);
    assert_false(conn_next(c, &s)); /* and nothing after */
    assert_int_equal(close_code(), -1);
    conn_close(c);
}

/* The hello of someone who knows the swarm key and lies. */
static void test_bad_hellos(void **state)
{
    static const uint8_t ping[] = { 0x93, 2, 0, 0x81, 0xa1, 't', 5 };
    const struct {
        struct raw_setup s;
        enum err e;
        int code;
        const char *text;
    } bad[] = {
        { { .me = &alice, .id = &bob.id }, ERR_AUTH, WIRE_BAD_SIGNATURE, "does not verify" },
        { { .me = &alice, .other_key = true }, ERR_AUTH, WIRE_BAD_SIGNATURE, "does not verify" },
        { { .me = &alice, .until = NOW_S - 7300 }, ERR_AUTH, WIRE_EXPIRED, "expired 2 hours ago" },
        { { .me = &alice, .until = NOW_S + 8 * 86400 }, ERR_AUTH, WIRE_EXPIRED, "days ahead" },
        { { .me = &alice, .until = UINT64_MAX }, ERR_AUTH, WIRE_EXPIRED, "days ahead" },
        { { .me = &alice, .hello = slice_of(ping, sizeof ping) },
          ERR_MALFORMED,
          WIRE_BAD_MESSAGE,
          "it is no hello" },
        { { .me = &alice, .hello = slice_str("x") }, ERR_MALFORMED, WIRE_BAD_MESSAGE, "unusable" },
        { { .me = &alice, .hello = slice_str("\xdf\xff\xff\xff\xff") },
          ERR_MALFORMED,
          WIRE_BAD_MESSAGE,
          "unusable" },
    };
    (void)state;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct why why = { "" };
        struct slice s;
        assert_int_equal(meet(&bad[i].s, &why), bad[i].e);
        assert_non_null(strstr(why.text, bad[i].text));
        assert_int_equal(conn_state(c), CONN_DEAD);
        assert_false(conn_next(c, &s));
        assert_int_equal(close_code(), bad[i].code); /* it may know why */
        conn_close(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees),         cmocka_unit_test(test_fragments_on_the_wire),
        cmocka_unit_test(test_rekey_boundary), cmocka_unit_test(test_rekey_default),
        cmocka_unit_test(test_bad_records),    cmocka_unit_test(test_bad_lengths),
        cmocka_unit_test(test_bad_sequences),  cmocka_unit_test(test_flood_of_first_fragments),
        cmocka_unit_test(test_drip),           cmocka_unit_test(test_pads_and_close),
        cmocka_unit_test(test_bad_hellos),
    };
    if (proto_init()) return 2;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
