/* Records: who may say what, for how long, and what a flood or a liar can do. */
#include "proto/directory.h"
#include "tests/proto/oracle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { NOW = 1700000000 };

struct record {
    uint8_t p[RECORD_BYTES_MAX];
    size_t n;
};

static void node(struct identity *me, uint32_t number)
{
    uint8_t seed[32] = { 1 };
    memcpy(seed + 1, &number, sizeof number);
    identity_from_seed(me, seed);
}

static struct record_body body_at(uint64_t seq, uint64_t made)
{
    static const uint8_t model[ID_BYTES] = { 7 }, addr[6] = { 10, 0, 0, 1, 0x1f, 0x90 };
    return (struct record_body){
        .version = 2,
        .seq = seq,
        .made = made,
        .expires = made + RECORD_TTL_S,
        .addrs = { 1, { slice_of(addr, sizeof addr) } },
        .state = RECORD_ACTIVE,
        .model = slice_of(model, sizeof model),
        .layers = { 2, { 0, 4 } },
        .layer_us = 900,
        .name = slice_str("somebody"),
    };
}

static struct record signed_by(uint32_t number, const struct record_body *b)
{
    struct record r;
    struct identity me;
    node(&me, number);
    assert_int_equal(record_make(&me, swarm_key_public(), b, r.p, sizeof r.p, &r.n), ERR_OK);
    identity_fini(&me);
    return r;
}

static enum err offer(struct directory *d, const struct record *r, uint64_t now)
{
    uint8_t *exact = malloc(r->n ? r->n : 1); /* so that a sanitizer sees one read too far */
    struct why why = { "" };
    bool news = true;

    memcpy(exact, r->p, r->n);
    enum err e = directory_offer(d, slice_of(exact, r->n), now, &news, &why);
    free(exact); /* the directory may keep nothing of ours */
    assert_true(news == (e == ERR_OK));
    assert_true(e == ERR_OK || why.text[0]);
    return e;
}

static const struct entry *find(const struct directory *d, uint32_t number)
{
    struct identity me;
    node(&me, number);
    return directory_find(d, &me.id);
}

static int open_directory(void **state)
{
    return proto_init() || directory_open((struct directory **)state, swarm_key_public());
}

static int close_directory(void **state)
{
    directory_close(*state);
    return 0;
}

static void test_news_and_repetitions(void **state)
{
    struct directory *d = *state;
    struct record_body b = body_at(5, NOW), older = body_at(4, NOW), newer = body_at(6, NOW + 1);
    struct record r = signed_by(1, &b), r4 = signed_by(1, &older), r6, two = signed_by(2, &b);

    newer.state = RECORD_GONE;
    r6 = signed_by(1, &newer);
    assert_int_equal(directory_n(d), 0);
    assert_null(directory_nth(d, 0));
    assert_null(find(d, 1));

    assert_int_equal(offer(d, &r, NOW), ERR_OK);
    assert_int_equal(offer(d, &r, NOW), ERR_EXISTS);
    assert_int_equal(offer(d, &r4, NOW), ERR_EXISTS);
    const struct entry *e = find(d, 1);
    assert_non_null(e);
    assert_ptr_equal(directory_nth(d, 0), e);
    assert_true(e->record.n == r.n && !memcmp(e->record.p, r.p, r.n));
    assert_true(e->body.seq == 5 && e->body.layers.n == 2 && e->body.layers.p[1] == 4);
    assert_true(slice_is(e->body.name, "somebody"));
    assert_true(e->body.name.p > e->record.p && e->body.name.p < e->record.p + e->record.n);

    assert_int_equal(offer(d, &two, NOW), ERR_OK);
    assert_int_equal(offer(d, &r6, NOW), ERR_OK);
    assert_int_equal(offer(d, &r, NOW), ERR_EXISTS);
    assert_int_equal(directory_n(d), 2);
    assert_int_equal(find(d, 1)->body.state, RECORD_GONE);
    assert_ptr_equal(directory_nth(d, 0), find(d, 1)); /* its place has not changed */
}

static void test_forged_and_damaged(void **state)
{
    struct directory *d = *state;
    struct record_body b = body_at(5, NOW);
    struct record good = signed_by(1, &b), bad;
    struct identity one, two;

    for (size_t i = 0; i < good.n; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            bad = good;
            bad.p[i] ^= (uint8_t)(1 << bit);
            assert_int_not_equal(offer(d, &bad, NOW), ERR_OK);
        }
    for (bad = good, bad.n = 0; bad.n < good.n; bad.n++)
        assert_int_not_equal(offer(d, &bad, NOW), ERR_OK);
    bad = good;
    bad.p[bad.n++] = 0xc0;
    assert_int_equal(offer(d, &bad, NOW), ERR_MALFORMED);

    /* Signed by somebody else, and for another purpose. */
    node(&one, 1);
    node(&two, 2);
    bad = good;
    record_sign(&two, swarm_key_public(), slice_of(bad.p + SIG_BYTES, bad.n - SIG_BYTES), bad.p);
    assert_int_equal(offer(d, &bad, NOW), ERR_AUTH);
    identity_sign(&one, "swarm-other-v1", slice_of(bad.p + SIG_BYTES, bad.n - SIG_BYTES), bad.p);
    assert_int_equal(offer(d, &bad, NOW), ERR_AUTH);

    /* Signed properly, but not canonical: the version in two bytes. */
    bad = good;
    memmove(bad.p + SIG_BYTES + 4, good.p + SIG_BYTES + 3, good.n - SIG_BYTES - 3);
    assert_int_equal(bad.p[SIG_BYTES + 4], 2);
    bad.p[SIG_BYTES + 3] = 0xcc;
    bad.n++;
    record_sign(&one, swarm_key_public(), slice_of(bad.p + SIG_BYTES, bad.n - SIG_BYTES), bad.p);
    assert_int_equal(offer(d, &bad, NOW), ERR_MALFORMED);

    assert_int_equal(directory_n(d), 0);
    assert_int_equal(offer(d, &good, NOW), ERR_OK);
}

/* A node and we have clocks that are an hour fast, then both are set right: what it says next has a
 * lower number, and is believed as soon as we have looked at what we hold. */
static void test_clock_set_back(void **state)
{
    struct directory *d = *state;
    struct record_body early = body_at(10, NOW + 3600), now = body_at(9, NOW);
    struct record of_then = signed_by(0, &early), of_now = signed_by(0, &now);
    assert_int_equal(offer(d, &of_then, NOW + 3600), ERR_OK);
    assert_int_equal(offer(d, &of_now, NOW), ERR_EXISTS);
    directory_expire(d, NOW);
    assert_int_equal(directory_n(d), 0);
    assert_int_equal(offer(d, &of_now, NOW), ERR_OK);
}

static void test_clocks(void **state)
{
    static const struct {
        uint64_t made, expires;
        enum err made_by_us, offered;
    } cases[] = {
        { NOW, NOW + 900, ERR_OK, ERR_OK },
        { NOW, NOW + 901, ERR_RANGE, ERR_OK },
        { NOW, NOW, ERR_RANGE, ERR_OK },
        { NOW, NOW - 1, ERR_RANGE, ERR_OK },
        { NOW + 120, NOW + 300, ERR_OK, ERR_OK },
        { NOW + 121, NOW + 300, ERR_OK, ERR_RANGE },
        { NOW - 500, NOW - 120, ERR_OK, ERR_OK },
        { NOW - 500, NOW - 121, ERR_OK, ERR_RANGE },
        { UINT64_MAX - 1, UINT64_MAX, ERR_OK, ERR_RANGE },
        { 1, 2, ERR_OK, ERR_RANGE },
        { 1, UINT64_MAX, ERR_RANGE, ERR_OK },
    };
    struct directory *d = *state;
    struct identity me;

    for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct record_body b = body_at(1, cases[i].made);
        struct record r;
        b.expires = cases[i].expires;
        node(&me, i);
        assert_int_equal(record_make(&me, swarm_key_public(), &b, r.p, sizeof r.p, &r.n),
                         cases[i].made_by_us);
        if (cases[i].made_by_us) { /* one that breaks the rule all the same */
            b.id = slice_of(me.id.b, ID_BYTES);
            assert_int_equal(record_body_encode(&b, r.p + SIG_BYTES, sizeof r.p - SIG_BYTES, &r.n),
                             ERR_OK);
            record_sign(&me, swarm_key_public(), slice_of(r.p + SIG_BYTES, r.n), r.p);
            r.n += SIG_BYTES;
            assert_int_equal(offer(d, &r, NOW), ERR_RANGE);
        } else {
            assert_int_equal(offer(d, &r, NOW), cases[i].offered);
        }
    }
}

static enum err make_with_addr(const char *bytes, size_t n)
{
    struct record_body b = body_at(1, NOW);
    struct record r;
    struct identity me;
    node(&me, 1);
    b.addrs = (struct bins){ 1, { slice_of(bytes, n) } };
    return record_make(&me, swarm_key_public(), &b, r.p, sizeof r.p, &r.n);
}

static enum err make_with_parts(const uint8_t *bytes, size_t n, bool named)
{
    struct record_body b = body_at(5, NOW);
    struct identity me;
    uint8_t out[RECORD_BYTES_MAX];
    size_t len;

    node(&me, 1);
    b.parts = slice_of(bytes, n);
    if (!named) {
        b.model = slice_of(NULL, 0);
        b.layers.n = 0;
    }
    enum err e = record_make(&me, swarm_key_public(), &b, out, sizeof out, &len);
    identity_fini(&me);
    return e;
}

static void test_parts(void **state)
{
    (void)state;
    static const struct record_part good = { 3, 46, PART_EXPERTS, 64, 128 }, bad[] = {
        { 3, 3, PART_EXPERTS, 64, 128 },   { 9, 3, PART_EXPERTS, 64, 128 },
        { 3, 257, PART_EXPERTS, 64, 128 }, { 3, 46, PART_KINDS, 64, 128 },
        { 3, 46, PART_HEADS, 4, 4 },       { 3, 46, PART_EXPERTS, 64, 1025 },
    };
    uint8_t bytes[PARTS_WIRE_MAX * PART_BYTES];

    for (size_t i = 0; i < PARTS_WIRE_MAX; i++) record_part_put(bytes + i * PART_BYTES, &good);
    struct record_body b = { .parts = slice_of(bytes, sizeof bytes) };
    assert_int_equal(record_n_parts(&b), PARTS_WIRE_MAX);
    for (uint32_t i = 0; i < PARTS_WIRE_MAX; i++) {
        struct record_part p = record_part_nth(&b, i);
        assert_memory_equal(&p, &good, sizeof p);
    }
    assert_int_equal(make_with_parts(bytes, sizeof bytes, true), ERR_OK);
    assert_int_equal(make_with_parts(bytes, PART_BYTES, false), ERR_RANGE); /* of which model? */
    for (size_t n = 1; n < PART_BYTES; n++)
        assert_int_equal(make_with_parts(bytes, PART_BYTES + n, true), ERR_RANGE);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        record_part_put(bytes + PART_BYTES, &bad[i]);
        assert_int_equal(make_with_parts(bytes, 2 * PART_BYTES, true), ERR_RANGE);
    }
}

static enum err make_with_rtts(const char *bytes, size_t n)
{
    struct record_body b = body_at(1, NOW);
    struct record r;
    struct identity me;
    node(&me, 1);
    b.rtts = slice_of(bytes, n);
    return record_make(&me, swarm_key_public(), &b, r.p, sizeof r.p, &r.n);
}

static void test_round_trips(void **state)
{
    (void)state;
    assert_int_equal(make_with_rtts("aaaaaaaa\0\0\0\1aaaaaaab\0\0\0\0", 24), ERR_OK);
    for (size_t n = 1; n < 24; n++)
        assert_int_equal(make_with_rtts("aaaaaaaa\0\0\0\1aaaaaaab\0\0\0\0", n),
                         n == 12 ? ERR_OK : ERR_RANGE);
    assert_int_equal(make_with_rtts("aaaaaaab\0\0\0\1aaaaaaaa\0\0\0\2", 24), ERR_RANGE);
    assert_int_equal(make_with_rtts("aaaaaaaa\0\0\0\1aaaaaaaa\0\0\0\2", 24), ERR_RANGE);
}

static void test_addresses(void **state)
{
    char v6[18] = { 0x20, 1 };

    (void)state;
    v6[17] = 80;
    assert_int_equal(make_with_addr("\x01\x02\x03\x04\x00\x50", 6), ERR_OK);
    assert_int_equal(make_with_addr("\x7f\x00\x00\x01\x00\x50", 6), ERR_OK); /* the node filters */
    assert_int_equal(make_with_addr("\xdf\xff\xff\xff\x00\x50", 6), ERR_OK);
    assert_int_equal(make_with_addr("\x01\x02\x03\x04\x00\x00", 6), ERR_RANGE);
    assert_int_equal(make_with_addr("\x00\x00\x00\x00\x00\x50", 6), ERR_RANGE);
    assert_int_equal(make_with_addr("\x00\x01\x02\x03\x00\x50", 6), ERR_RANGE);
    assert_int_equal(make_with_addr("\xe0\x00\x00\x01\x00\x50", 6), ERR_RANGE);
    assert_int_equal(make_with_addr("\xff\xff\xff\xff\x00\x50", 6), ERR_RANGE);
    for (size_t n = 0; n < 18; n++)
        if (n != 6) assert_int_equal(make_with_addr(v6, n), ERR_RANGE);
    assert_int_equal(make_with_addr(v6, 18), ERR_OK);
    v6[0] = (char)0xff; /* multicast */
    assert_int_equal(make_with_addr(v6, 18), ERR_RANGE);
    v6[0] = v6[1] = 0; /* :: */
    assert_int_equal(make_with_addr(v6, 18), ERR_RANGE);
    v6[15] = 1; /* ::1 */
    assert_int_equal(make_with_addr(v6, 18), ERR_OK);
    v6[10] = v6[11] = (char)0xff; /* ::ffff:0.0.0.1 */
    assert_int_equal(make_with_addr(v6, 18), ERR_RANGE);

    struct record_body b = body_at(1, NOW);
    struct record r;
    struct identity me;
    node(&me, 1);
    for (uint32_t i = 0; i <= ADDRS_MAX; i++) b.addrs.p[i] = b.addrs.p[0];
    b.addrs.n = ADDRS_MAX;
    assert_int_equal(record_make(&me, swarm_key_public(), &b, r.p, sizeof r.p, &r.n), ERR_OK);
    b.addrs.n = ADDRS_MAX + 1;
    assert_int_equal(record_make(&me, swarm_key_public(), &b, r.p, sizeof r.p, &r.n), ERR_RANGE);
}

static enum err make_with_layers(struct uints l)
{
    struct record_body b = body_at(1, NOW);
    struct record r;
    struct identity me;
    node(&me, 1);
    b.layers = l;
    return record_make(&me, swarm_key_public(), &b, r.p, sizeof r.p, &r.n);
}

static void test_layers(void **state)
{
    (void)state;
    assert_int_equal(make_with_layers((struct uints){ 0, { 0 } }), ERR_OK);
    assert_int_equal(make_with_layers((struct uints){ 4, { 0, 4, 8, 256 } }), ERR_OK);
    assert_int_equal(make_with_layers((struct uints){ 4, { 0, 4, 4, 5 } }), ERR_OK);
    assert_int_equal(make_with_layers((struct uints){ 3, { 0, 4, 8 } }), ERR_RANGE);
    assert_int_equal(make_with_layers((struct uints){ 2, { 4, 4 } }), ERR_RANGE);
    assert_int_equal(make_with_layers((struct uints){ 2, { 5, 4 } }), ERR_RANGE);
    assert_int_equal(make_with_layers((struct uints){ 2, { 0, 257 } }), ERR_RANGE);
    assert_int_equal(make_with_layers((struct uints){ 4, { 0, 4, 3, 5 } }), ERR_RANGE);
    assert_int_equal(make_with_layers((struct uints){ 4, { 4, 8, 0, 2 } }), ERR_RANGE);
    assert_int_equal(make_with_layers((struct uints){ 2, { UINT32_MAX, UINT32_MAX } }), ERR_RANGE);

    struct record_body b = body_at(1, NOW);
    struct record r;
    struct identity me;
    node(&me, 1);
    b.model = slice_of(NULL, 0);
    assert_int_equal(record_make(&me, swarm_key_public(), &b, r.p, sizeof r.p, &r.n), ERR_RANGE);
    b.layers.n = 0;
    assert_int_equal(record_make(&me, swarm_key_public(), &b, r.p, sizeof r.p, &r.n), ERR_OK);
    b.ends = 1;
    assert_int_equal(record_make(&me, swarm_key_public(), &b, r.p, sizeof r.p, &r.n), ERR_RANGE);

    b.ends = 0;
    size_t whole = r.n;
    for (size_t cap = 0; cap < whole; cap++) {
        uint8_t *exact = malloc(cap ? cap : 1);
        assert_int_equal(record_make(&me, swarm_key_public(), &b, exact, cap, &r.n), ERR_FULL);
        free(exact);
    }
}

static void test_equivocation(void **state)
{
    struct directory *d = *state;
    struct record_body b = body_at(5, NOW), other = b, next = body_at(6, NOW), late;
    struct record first = signed_by(1, &b), second, forged, newer = signed_by(1, &next);

    other.layer_us = 1;
    second = signed_by(1, &other);
    forged = second;
    forged.p[3] ^= 1;

    assert_int_equal(offer(d, &first, NOW), ERR_OK);
    assert_int_equal(offer(d, &forged, NOW), ERR_AUTH);
    assert_non_null(find(d, 1)); /* nobody else can bring it down */
    assert_int_equal(offer(d, &second, NOW), ERR_DENIED);
    assert_null(find(d, 1));
    assert_int_equal(directory_n(d), 0);
    assert_int_equal(offer(d, &first, NOW), ERR_DENIED);
    assert_int_equal(offer(d, &second, NOW), ERR_DENIED);
    assert_int_equal(offer(d, &newer, NOW), ERR_DENIED);

    late = body_at(7, NOW + DIRECTORY_BAN_S);
    newer = signed_by(1, &late);
    assert_int_equal(offer(d, &newer, NOW + DIRECTORY_BAN_S - 1), ERR_DENIED);
    assert_int_equal(offer(d, &newer, NOW + DIRECTORY_BAN_S), ERR_OK);
    assert_int_equal(offer(d, &first, NOW + DIRECTORY_BAN_S), ERR_RANGE);
}

/* Against a plain list: random offers and a clock that moves. */
static void test_against_a_list(void **state)
{
    enum { NODES = 12 };
    struct {
        uint64_t seq, expires, forgotten; /* forgotten: after this time */
    } known[NODES] = { { 0, 0, 0 } };
    struct directory *d = *state;
    uint64_t seed = 11, now = NOW;

    for (unsigned round = 0; round < 3000; round++) {
        uint64_t x = test_random(&seed);
        uint32_t who = (uint32_t)(x % NODES), n = 0;
        if (x >> 8 & 1) {
            struct record_body b = body_at(known[who].seq + 1 - (x >> 9 & 1), now - (x >> 16 & 63));
            b.expires = b.made + 1 + (x >> 24) % 300;
            if (b.seq == 0) b.seq = 1;
            if (b.seq > known[who].seq || known[who].seq == 0) {
                struct record r = signed_by(who, &b);
                bool over = b.expires + RECORD_SKEW_S < now;
                assert_int_equal(offer(d, &r, now), over ? ERR_RANGE : ERR_OK);
                if (!over)
                    known[who].seq = b.seq, known[who].expires = b.expires,
                    known[who].forgotten = now + (b.expires - b.made);
            }
        } else {
            now += x >> 32 & 31;
            directory_expire(d, now);
            for (uint32_t i = 0; i < NODES; i++)
                if (known[i].expires + RECORD_SKEW_S < now || known[i].forgotten < now)
                    known[i].seq = 0;
        }
        for (uint32_t i = 0; i < NODES; i++) {
            const struct entry *e = find(d, i);
            bool here = known[i].seq != 0;
            n += here;
            if (x >> 8 & 1 && here && known[i].expires + RECORD_SKEW_S < now) continue;
            assert_int_equal(e != NULL, here);
            if (here)
                assert_true(e->body.seq == known[i].seq && e->body.expires == known[i].expires);
        }
        assert_int_equal(directory_n(d), n);
        for (uint32_t i = 0; i < n; i++)
            assert_ptr_equal(directory_find(d, &directory_nth(d, i)->id), directory_nth(d, i));
        assert_null(directory_nth(d, n));
    }
}

static void offer_from(struct directory *d, uint32_t who, const char *addr, size_t n, enum err want)
{
    struct record_body b = body_at(1, NOW);

    b.addrs = (struct bins){ .n = 1, .p = { slice_of(addr, n) } };
    struct record r = signed_by(who, &b);
    assert_int_equal(offer(d, &r, NOW), want);
}

/* One network cannot fill the directory of the public swarm; members of a private one may. */
static void test_one_network(void **state)
{
    enum { N = DIRECTORY_NET_MAX };
    char v4[6] = "\xcb\x00\x71\x01\x1e", v6[18] = "\x20\x01\x0d\xb8\1\2\3\4";
    struct directory *d = *state, *of_friends;
    struct swarm_key key = { { 7 } };
    struct record r;

    v6[17] = 1;
    for (uint32_t i = 0; i < N; i++) {
        v4[3] = (char)(i + 1);
        v6[7] = (char)i;
        offer_from(d, i, v4, sizeof v4, ERR_OK);
        offer_from(d, 100 + i, v6, sizeof v6, ERR_OK);
    }
    offer_from(d, 50, v4, sizeof v4, ERR_FULL);
    offer_from(d, 51, v6, sizeof v6, ERR_FULL);
    v4[2]++;
    v6[6]++;
    offer_from(d, 50, v4, sizeof v4, ERR_OK);
    offer_from(d, 51, v6, sizeof v6, ERR_OK);
    for (uint32_t i = 200; i < 200 + 3 * N; i++)
        offer_from(d, i, "\xc0\xa8\x01\x02\x1e\x61", 6, ERR_OK);
    v4[2]--; /* who is in has news, from the same network */
    struct record_body b = body_at(2, NOW);
    b.addrs = (struct bins){ .n = 1, .p = { slice_of(v4, sizeof v4) } };
    r = signed_by(0, &b);
    assert_int_equal(offer(d, &r, NOW), ERR_OK);

    assert_int_equal(directory_open(&of_friends, &key), ERR_OK);
    assert_int_equal(offer(of_friends, &r, NOW), ERR_AUTH); /* a record of the public swarm */
    for (uint32_t i = 0; i < 2 * N; i++) {
        struct identity me;
        node(&me, i);
        assert_int_equal(record_make(&me, &key, &b, r.p, sizeof r.p, &r.n), ERR_OK);
        assert_int_equal(offer(of_friends, &r, NOW), ERR_OK);
    }
    directory_close(of_friends);
}

static void test_a_flood(void **state)
{
    struct directory *d = *state;
    struct record_body b = body_at(1, NOW);
    struct record r;

    b.expires = NOW + RECORD_TTL_MAX_S;
    for (uint32_t i = 0; i < DIRECTORY_MAX; i++) {
        r = signed_by(i, &b);
        assert_int_equal(offer(d, &r, NOW + (i == 77 ? 0 : 1)), ERR_OK);
    }
    assert_int_equal(directory_n(d), DIRECTORY_MAX);
    r = signed_by(DIRECTORY_MAX, &b);
    assert_int_equal(offer(d, &r, NOW + DIRECTORY_SILENT_S), ERR_FULL);
    assert_int_equal(offer(d, &r, NOW + DIRECTORY_SILENT_S + 1), ERR_OK);
    assert_null(find(d, 77)); /* had been silent longest */
    assert_non_null(find(d, 0));
    assert_int_equal(directory_n(d), DIRECTORY_MAX);

    /* A known node's news need no new place; the expired make room for all. */
    struct record_body again = body_at(2, NOW + DIRECTORY_SILENT_S);
    again.expires = again.made + RECORD_TTL_MAX_S;
    r = signed_by(5, &again);
    assert_int_equal(offer(d, &r, NOW + DIRECTORY_SILENT_S), ERR_OK);
    uint64_t later = NOW + RECORD_TTL_MAX_S + RECORD_SKEW_S + 1;
    b = body_at(1, later);
    r = signed_by(DIRECTORY_MAX + 1, &b);
    assert_int_equal(offer(d, &r, later), ERR_OK);
    assert_int_equal(directory_n(d), 2);
    assert_non_null(find(d, 5));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_directory, close_directory)
    const struct CMUnitTest tests[] = {
        TEST(test_parts),
        TEST(test_news_and_repetitions),
        TEST(test_forged_and_damaged),
        TEST(test_clocks),
        TEST(test_clock_set_back),
        TEST(test_addresses),
        TEST(test_round_trips),
        TEST(test_layers),
        TEST(test_equivocation),
        TEST(test_against_a_list),
        TEST(test_one_network),
        TEST(test_a_flood),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
