/* Every row of the message table: written, read, compared with msgpack-c's reading, cut,
 * lengthened, and broken in each way that a peer may break it. */
#include "proto/codec.h"
#include "tests/proto/oracle.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* --- values from the table's rows --- */

enum { POOL = (8 << 20) + 1 };
static uint8_t *pool; /* any bytes */
static uint8_t *text; /* ASCII, then one character of two bytes: text - n ends whole for any n */

static int make_pools(void **state)
{
    uint64_t seed = 1;

    (void)state;
    pool = malloc(POOL);
    text = malloc(POOL);
    if (!pool || !text) return -1;
    for (size_t i = 0; i < POOL; i++) {
        pool[i] = (uint8_t)test_random(&seed);
        text[i] = (uint8_t)(' ' + i % 90);
    }
    return 0;
}

static int free_pools(void **state)
{
    (void)state;
    free(pool);
    free(text);
    return 0;
}

/* The field's member: a number of that value, or something of that length or count.  What a list
 * holds follows from `full`: the most or the least that fits. */
static void set_field(const struct field *f, void *body, uint64_t v, bool full)
{
    void *at = (char *)body + f->offset;
    struct bins *bins = at;
    struct uints *uints = at;

    switch (f->type) {
    case FIELD_U: *(uint64_t *)at = v; break;
    case FIELD_DBL: *(double *)at = (double)v; break;
    case FIELD_BIN: *(struct slice *)at = slice_of(pool, v); break;
    case FIELD_STR: *(struct slice *)at = slice_of(text, v); break;
    case FIELD_BINS:
        bins->n = (uint32_t)v;
        for (uint32_t i = 0; i < v && i < LIST_MAX; i++)
            bins->p[i] = slice_of(pool + i, full ? (f->max > ADDRS_MAX ? 2048 : ADDR_MAX) : 0);
        break;
    case FIELD_UINTS:
        uints->n = (uint32_t)v;
        for (uint32_t i = 0; i < v && i < LIST_MAX; i++) uints->p[i] = full ? UINT32_MAX - i : i;
        break;
    }
}

static void set_all(const struct message *t, void *body, bool full)
{
    memset(body, 0, t->size);
    for (uint32_t i = 0; i < t->n_fields; i++)
        set_field(&t->fields[i], body, full ? t->fields[i].max : t->fields[i].min, full);
}

static void set_random(const struct message *t, void *body, uint64_t *seed)
{
    memset(body, 0, t->size);
    for (uint32_t i = 0; i < t->n_fields; i++) {
        const struct field *f = &t->fields[i];
        uint64_t x = test_random(seed), span = f->max - f->min + 1;
        uint64_t v = x >> (x & 63);
        if (f->type == FIELD_BIN || f->type == FIELD_STR) v = v % 300;
        set_field(f, body, f->min + (span ? v % span : v), x & 64);
        if (f->optional && x & 128) set_field(f, body, 0, false);
    }
}

static bool same_field(const struct field *f, const void *a, const void *b)
{
    const void *x = (const char *)a + f->offset, *y = (const char *)b + f->offset;
    const struct slice *s = x, *t = y;
    const struct bins *v = x, *w = y;

    switch (f->type) {
    case FIELD_U: return *(const uint64_t *)x == *(const uint64_t *)y;
    case FIELD_DBL: return *(const double *)x == *(const double *)y;
    case FIELD_BIN:
    case FIELD_STR: return same_bytes(*s, (const char *)t->p, (uint32_t)t->n);
    case FIELD_BINS:
        for (uint32_t i = 0; v->n == w->n && i < v->n; i++)
            if (!same_bytes(v->p[i], (const char *)w->p[i].p, (uint32_t)w->p[i].n)) return false;
        return v->n == w->n;
    case FIELD_UINTS:
        return ((const struct uints *)x)->n == ((const struct uints *)y)->n &&
               !memcmp(((const struct uints *)x)->p, ((const struct uints *)y)->p,
                       ((const struct uints *)x)->n * sizeof(uint32_t));
    }
    return false;
}

static void assert_same(const struct message *t, const void *a, const void *b)
{
    for (uint32_t i = 0; i < t->n_fields; i++)
        if (!same_field(&t->fields[i], a, b)) fail_msg("%s: %s", t->name, t->fields[i].name);
}

/* --- a second writer: msgpack-c, by the table, with one thing wrong --- */

enum edit {
    NONE,
    LEAVE_OUT, /* the row `at` */
    REPLACE,   /* its value by raw */
    INSERT,    /* before it, the raw key and value */
    REVERSE,   /* rows from last to first */
    ALL,       /* optional rows too that are zero or empty */
};
struct change {
    enum edit edit;
    uint32_t at;
    struct slice raw;
};

static void pack_value(msgpack_packer *pk, const struct field *f, const void *at)
{
    const struct slice *s = at;
    const struct bins *b = at;
    const struct uints *u = at;

    switch (f->type) {
    case FIELD_U: msgpack_pack_uint64(pk, *(const uint64_t *)at); break;
    case FIELD_DBL: msgpack_pack_double(pk, *(const double *)at); break;
    case FIELD_BIN: msgpack_pack_bin_with_body(pk, s->p, s->n); break;
    case FIELD_STR: msgpack_pack_str_with_body(pk, s->p, s->n); break;
    case FIELD_BINS:
        msgpack_pack_array(pk, b->n);
        for (uint32_t i = 0; i < b->n; i++)
            msgpack_pack_bin_with_body(pk, b->p[i % LIST_MAX].p, b->p[i % LIST_MAX].n);
        break;
    case FIELD_UINTS:
        msgpack_pack_array(pk, u->n);
        for (uint32_t i = 0; i < u->n; i++) msgpack_pack_uint32(pk, u->p[i % LIST_MAX]);
        break;
    }
}

static bool is_zero(const struct field *f, const void *at)
{
    static const uint8_t zeros[sizeof(double)];
    if (f->type == FIELD_BIN || f->type == FIELD_STR) return ((const struct slice *)at)->n == 0;
    if (f->type == FIELD_BINS || f->type == FIELD_UINTS) return *(const uint32_t *)at == 0;
    return !memcmp(at, zeros, sizeof zeros);
}

static void pack_body(msgpack_sbuffer *sb, const struct message *t, const void *body,
                      struct change c)
{
    msgpack_packer pk;
    uint32_t n = 0;

    msgpack_packer_init(&pk, sb, msgpack_sbuffer_write);
    for (uint32_t pass = 0; pass < 2; pass++) {
        if (pass) msgpack_pack_map(&pk, n);
        for (uint32_t k = 0; k < t->n_fields; k++) {
            uint32_t i = c.edit == REVERSE ? t->n_fields - 1 - k : k;
            const struct field *f = &t->fields[i];
            const void *at = (const char *)body + f->offset;
            bool mine = c.at == i, replaced = mine && c.edit == REPLACE;
            if (mine && c.edit == INSERT) {
                n++;
                if (pass) msgpack_sbuffer_write(sb, (const char *)c.raw.p, c.raw.n);
            }
            if (f->optional && is_zero(f, at) && c.edit != ALL && !replaced) continue;
            if (mine && c.edit == LEAVE_OUT) continue;
            n++;
            if (!pass) continue;
            msgpack_pack_str_with_body(&pk, f->key, strlen(f->key));
            if (replaced)
                msgpack_sbuffer_write(sb, (const char *)c.raw.p, c.raw.n);
            else
                pack_value(&pk, f, at);
        }
    }
}

/* The message as bytes of the exact size, owned by the caller. */
static struct slice pack(const struct message *t, const struct msg *m, struct change c)
{
    msgpack_sbuffer sb;
    msgpack_packer pk;

    msgpack_sbuffer_init(&sb);
    msgpack_packer_init(&pk, &sb, msgpack_sbuffer_write);
    msgpack_pack_array(&pk, 3);
    msgpack_pack_uint32(&pk, (uint32_t)t->type);
    msgpack_pack_uint32(&pk, m->rid);
    pack_body(&sb, t, &m->u, c);
    size_t n = sb.size;
    uint8_t *p = malloc(n);
    memcpy(p, sb.data, n);
    msgpack_sbuffer_destroy(&sb);
    return slice_of(p, n);
}

static void drop(struct slice s)
{
    free((void *)(uintptr_t)s.p);
}

static enum err decode_changed(const struct message *t, const struct msg *m, struct change c)
{
    static struct msg got;
    struct slice bytes = pack(t, m, c);
    struct why why = { "" };
    enum err e = msg_decode(&got, bytes, &why);

    if (e) assert_true(why.text[0] != 0);
    if (!e && c.edit != REPLACE) assert_same(t, &m->u, &got.u);
    drop(bytes);
    return e;
}

/* --- what must hold --- */

/* Every beginning of the bytes (of long ones, some) and every byte more is refused. */
static void check_cuts(const struct message *t, struct slice whole)
{
    static struct msg got;
    uint8_t *p = malloc(whole.n + 1);
    size_t step = whole.n > 4096 ? whole.n / 97 : 1;

    memcpy(p, whole.p, whole.n);
    for (size_t cut = 0; cut < whole.n; cut += cut < 200 ? 1 : step) {
        uint8_t *exact = malloc(cut ? cut : 1);
        memcpy(exact, p, cut);
        assert_int_equal(msg_decode(&got, slice_of(exact, cut), NULL), ERR_MALFORMED);
        free(exact);
    }
    assert_int_equal(msg_decode(&got, slice_of(p, whole.n - 1), NULL), ERR_MALFORMED);
    for (unsigned b = 0; b < 256; b += 5) {
        p[whole.n] = (uint8_t)b;
        assert_int_equal(msg_decode(&got, slice_of(p, whole.n + 1), NULL),
                         whole.n + 1 > t->limit ? ERR_RANGE : ERR_MALFORMED);
    }
    free(p);
}

static void check_round_trip(const struct message *t, const struct msg *m)
{
    static struct msg got;
    size_t cap = msg_bound(m), n, again;
    uint8_t *p = malloc(cap);

    assert_int_equal(msg_encode(m, p, cap, &n), ERR_OK);
    assert_in_range(n, 1, cap);
    assert_in_range(n, 1, t->limit);
    assert_int_equal(msg_limit(slice_of(p, 2)), t->limit);
    uint8_t *exact = malloc(n);
    assert_int_equal(msg_encode(m, exact, n, &again), ERR_OK);
    assert_true(again == n && !memcmp(p, exact, n));
    assert_int_equal(msg_encode(m, p, n - 1, &again), ERR_FULL);

    struct slice bytes = slice_of(exact, n),
                 other = pack(t, m, (struct change){ NONE, 0, { 0, 0 } });
    assert_true(oracle_reads_the_same(bytes));
    assert_true(same_bytes(bytes, (const char *)other.p, (uint32_t)other.n));
    memset(&got, 0xa5, sizeof got);
    struct why why;
    if (msg_decode(&got, bytes, &why)) fail_msg("%s: %s", t->name, why.text);
    assert_int_equal(got.type, m->type);
    assert_int_equal(got.rid, m->rid);
    assert_same(t, &m->u, &got.u);
    check_cuts(t, bytes);
    drop(other);
    free(exact);
    free(p);
}

static void start(struct msg *m, const struct message *t, bool full)
{
    m->type = t->type;
    m->rid = full ? UINT32_MAX : 0;
    set_all(t, &m->u, full);
}

/* From min and max of every row: all least, all most, and each alone at its other end. */
static void test_round_trips(void **state)
{
    static struct msg m;
    uint64_t seed = 7;
    unsigned n = 0;

    (void)state;
    for (const struct message *t; (t = message_nth(n)); n++) {
        assert_ptr_equal(message_find(t->type), t);
        start(&m, t, false);
        check_round_trip(t, &m);
        start(&m, t, true);
        check_round_trip(t, &m);
        for (uint32_t i = 0; i < t->n_fields; i++) {
            start(&m, t, false);
            set_field(&t->fields[i], &m.u, t->fields[i].max, true);
            check_round_trip(t, &m);
        }
        for (unsigned round = 0; round < 50; round++) {
            m.rid = (uint32_t)test_random(&seed);
            set_random(t, &m.u, &seed);
            check_round_trip(t, &m);
        }
    }
    assert_true(n >= 18);
    assert_null(message_nth(n + 1));
    assert_null(message_find(0));
    assert_null(message_find(255));
}

static void test_table_is_sound(void **state)
{
    (void)state;
    for (unsigned n = 0;; n++) {
        const struct message *t = message_nth(n);
        if (!t) t = record_message();
        assert_true(t->size <= sizeof(((struct msg *)0)->u) || t == record_message());
        assert_in_range(t->type, t == record_message() ? 0 : 1, 127); /* one byte */
        for (uint32_t i = 0; i < t->n_fields; i++) {
            const struct field *f = &t->fields[i];
            assert_true(f->min <= f->max);
            assert_in_range(strlen(f->key), 1, MP_KEY_MAX);
            if (f->type == FIELD_BINS || f->type == FIELD_UINTS) assert_true(f->max <= LIST_MAX);
            for (uint32_t k = 0; k < i; k++) assert_string_not_equal(f->key, t->fields[k].key);
        }
        if (t == record_message()) return;
        for (unsigned k = 0; k < n; k++) assert_int_not_equal(t->type, message_nth(k)->type);
    }
}

static void test_keys_in_any_order_and_unknown_ones(void **state)
{
    static struct msg m;
    static const char nested[] = "\xa3zzz\x82\xa1\x61\x92\x01\x91\x91\xc0\xa1\x62\xc4\x02\xff\xff";
    static const char deep[] = "\xa3zzz\x91\x91\x91\x91\x91\x01";
    struct slice unknown = slice_of(nested, sizeof nested - 1),
                 too_deep = slice_of(deep, sizeof deep - 1);

    (void)state;
    for (unsigned n = 0; message_nth(n); n++) {
        const struct message *t = message_nth(n);
        start(&m, t, n % 2);
        if (t->type == MSG_PING || t->type == MSG_PONG) m.rid = 0; /* 64 bytes: room for the key */
        if (t->type == MSG_RECORDS_GET) set_all(t, &m.u, false);
        assert_int_equal(decode_changed(t, &m, (struct change){ REVERSE, 0, { 0, 0 } }), ERR_OK);
        start(&m, t, false);
        assert_int_equal(decode_changed(t, &m, (struct change){ ALL, 0, { 0, 0 } }), ERR_OK);
        for (uint32_t i = 0; i < t->n_fields; i++) {
            assert_int_equal(decode_changed(t, &m, (struct change){ INSERT, i, unknown }), ERR_OK);
            assert_int_equal(decode_changed(t, &m, (struct change){ INSERT, i, too_deep }),
                             ERR_RANGE);
        }
    }
}

static void test_missing_and_double_keys(void **state)
{
    static struct msg m;

    (void)state;
    for (unsigned n = 0; message_nth(n); n++) {
        const struct message *t = message_nth(n);
        start(&m, t, false);
        for (uint32_t i = 0; i < t->n_fields; i++) {
            const struct field *f = &t->fields[i];
            if (!f->optional)
                assert_int_equal(decode_changed(t, &m, (struct change){ LEAVE_OUT, i, { 0, 0 } }),
                                 ERR_MALFORMED);
            uint8_t twice[2 + 2 * MP_KEY_MAX]; /* key nil, before the key itself */
            size_t len = strlen(f->key);
            twice[0] = (uint8_t)(0xa0 | len);
            memcpy(twice + 1, f->key, len);
            twice[1 + len] = 0xc0;
            struct slice raw = slice_of(twice, 2 + len);
            if (!f->optional)
                assert_int_equal(decode_changed(t, &m, (struct change){ INSERT, i, raw }),
                                 ERR_MALFORMED);
        }
    }
}

static void test_wrong_types(void **state)
{
    static struct msg m;
    static const struct {
        enum field_type right; /* the one type that this is */
        const char *raw;
        size_t n;
        bool any; /* of no type at all */
    } values[] = {
        { 0, "\xc0", 1, true },
        { 0, "\xc2", 1, true },
        { 0, "\xca\x3f\x80\x00\x00", 5, true },
        { 0, "\x80", 1, true },
        { FIELD_U, "\x01", 1, false },
        { FIELD_DBL, "\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00", 9, false },
        { FIELD_BIN, "\xc4\x01\x41", 3, false },
        { FIELD_STR, "\xa1\x41", 2, false },
    };

    (void)state;
    for (unsigned n = 0; message_nth(n); n++) {
        const struct message *t = message_nth(n);
        start(&m, t, false);
        for (uint32_t i = 0; i < t->n_fields; i++) {
            enum field_type type = t->fields[i].type;
            bool list = type == FIELD_BINS || type == FIELD_UINTS;
            for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
                if (!values[v].any && type == values[v].right) continue;
                struct change c = { REPLACE, i, slice_of(values[v].raw, values[v].n) };
                assert_int_equal(decode_changed(t, &m, c), ERR_MALFORMED);
            }
            struct change array = { REPLACE, i, slice_of("\x91\xa1\x41", 3) };
            assert_int_equal(decode_changed(t, &m, array), ERR_MALFORMED); /* a list of strings */
            struct change below = { REPLACE, i, slice_of("\xff", 1) };
            assert_int_equal(decode_changed(t, &m, below),
                             type == FIELD_U ? ERR_RANGE : ERR_MALFORMED);
            struct change in_list = { REPLACE, i, slice_of("\x91\xff", 2) };
            if (list)
                assert_int_equal(decode_changed(t, &m, in_list),
                                 type == FIELD_UINTS ? ERR_RANGE : ERR_MALFORMED);
        }
    }
}

/* Encoding refuses it, and decoding what msgpack-c writes of it. */
static void check_out_of_range(const struct message *t, const struct msg *m)
{
    static uint8_t buf[9 << 20];
    size_t n;

    assert_int_equal(msg_encode(m, buf, sizeof buf, &n), ERR_RANGE);
    assert_int_equal(n, 0);
    assert_int_equal(decode_changed(t, m, (struct change){ ALL, 0, { 0, 0 } }), ERR_RANGE);
}

static void test_out_of_range(void **state)
{
    static struct msg m;
    static const double not_in_0_1[] = { -1e-300, -0.0, NAN, INFINITY, -INFINITY };

    (void)state;
    for (unsigned n = 0; message_nth(n); n++) {
        const struct message *t = message_nth(n);
        for (uint32_t i = 0; i < t->n_fields; i++) {
            const struct field *f = &t->fields[i];
            start(&m, t, false);
            if (f->type == FIELD_DBL) {
                double *d = (double *)(void *)((char *)&m.u + f->offset);
                for (size_t k = 0; k < sizeof not_in_0_1 / sizeof *not_in_0_1; k++) {
                    *d = not_in_0_1[k];
                    if (*d == 0) { /* encodes as absent; on the wire it is refused */
                        assert_int_equal(decode_changed(t, &m, (struct change){ ALL, 0, { 0, 0 } }),
                                         ERR_RANGE);
                        continue;
                    }
                    check_out_of_range(t, &m);
                }
                *d = nextafter((double)f->max, INFINITY);
                check_out_of_range(t, &m);
                continue;
            }
            if (f->min > 1 || (f->min == 1 && !f->optional)) {
                set_field(f, &m.u, f->min - 1, false);
                check_out_of_range(t, &m);
            }
            if (f->max < UINT64_MAX) {
                set_field(f, &m.u, f->max + 1, false);
                check_out_of_range(t, &m);
            }
            struct change big = { REPLACE, i,
                                  slice_of("\x91\xcf\x00\x00\x00\x01\x00\x00\x00\x00", 10) };
            if (f->type == FIELD_UINTS) assert_int_equal(decode_changed(t, &m, big), ERR_RANGE);
        }
    }
}

/* A message filled up with an unknown key, to its type's limit and one byte past it. */
static void test_size_limits(void **state)
{
    static struct msg m, got;

    (void)state;
    for (unsigned n = 0; message_nth(n); n++) {
        const struct message *t = message_nth(n);
        start(&m, t, false);
        uint8_t *raw = calloc(1, t->limit + 16);
        for (uint32_t over = 0; over < 2; over++) {
            struct slice bare = pack(t, &m, (struct change){ NONE, 0, { 0, 0 } });
            size_t pad = t->limit + over - bare.n;
            drop(bare);
            assert_true(pad >= 8);
            memcpy(raw, "\xa1~\xc6", 3);
            for (unsigned k = 0; k < 4; k++) raw[3 + k] = (uint8_t)((pad - 7) >> (24 - 8 * k));
            struct slice bytes = pack(t, &m, (struct change){ INSERT, 0, slice_of(raw, pad) });
            assert_int_equal(bytes.n, t->limit + over);
            assert_int_equal(msg_decode(&got, bytes, NULL), over ? ERR_RANGE : ERR_OK);
            drop(bytes);
        }
        free(raw);
    }
    /* Each field within its bounds, but not all together. */
    m.type = MSG_RECORDS;
    set_all(message_find(MSG_RECORDS), &m.u, true);
    for (unsigned i = 0; i < RECORDS_MAX; i++) m.u.RECORDS.records.p[i].n = 4096;
    check_out_of_range(message_find(MSG_RECORDS), &m);
}

static void test_rows_are_not_copied(void **state)
{
    static struct msg m, got;
    size_t n;
    uint8_t *p;

    (void)state;
    start(&m, message_find(MSG_ACT), true);
    p = malloc(msg_bound(&m));
    assert_int_equal(msg_encode(&m, p, msg_bound(&m), &n), ERR_OK);
    assert_int_equal(msg_decode(&got, slice_of(p, n), NULL), ERR_OK);
    assert_int_equal(got.u.ACT.x.n, ACT_BYTES_MAX);
    assert_ptr_equal(got.u.ACT.x.p + ACT_BYTES_MAX, p + n);
    free(p);
}

static enum err decode_text(struct msg *m, const char *bytes, size_t n)
{
    return msg_decode(m, slice_of(bytes, n), NULL);
}
#define DECODE(m, text) decode_text(m, text, sizeof(text) - 1)

static void test_envelopes(void **state)
{
    struct msg m;

    (void)state;
    assert_int_equal(DECODE(&m, "\x93\x02\x07\x81\xa1t\x09"), ERR_OK);
    assert_true(m.type == MSG_PING && m.rid == 7 && m.u.PING.stamp == 9);
    assert_int_equal(DECODE(&m, "\x93\xcd\x00\x02\xce\x00\x00\x00\x07\x81\xd9\x01t\xd3\x00\x00\x00"
                                "\x00\x00\x00\x00\x09"),
                     ERR_OK); /* longer than needed, but the same */
    assert_true(m.type == MSG_PING && m.rid == 7 && m.u.PING.stamp == 9);
    assert_int_equal(DECODE(&m, "\x93\x7e\xcd\x01\x00\x81\xa1t\x90"), ERR_UNSUPPORTED);
    assert_true((unsigned)m.type == 0x7e && m.rid == 256);
    assert_int_equal(DECODE(&m, "\x93\x00\x05\x80"), ERR_UNSUPPORTED);
    assert_int_equal(m.rid, 5);
    assert_int_equal(DECODE(&m, "\x93\x7e\x05\x90"), ERR_MALFORMED);
    assert_int_equal(DECODE(&m, "\x93\x02\x05\x90"), ERR_MALFORMED);
    assert_int_equal(DECODE(&m, "\x92\x02\x05"), ERR_MALFORMED);
    assert_int_equal(DECODE(&m, "\x94\x02\x05\x81\xa1t\x09\xc0"), ERR_MALFORMED);
    assert_int_equal(DECODE(&m, "\x83\xa1x\x02\xa1y\x05\xa1z\x80"), ERR_MALFORMED);
    assert_int_equal(DECODE(&m, "\x93\xcd\x01\x00\x05\x80"), ERR_RANGE);
    assert_int_equal(DECODE(&m, "\x93\x02\xcf\x00\x00\x00\x01\x00\x00\x00\x00\x81\xa1t\x09"),
                     ERR_RANGE);
    assert_int_equal(DECODE(&m, "\x93\xff\x05\x80"), ERR_RANGE);
    assert_int_equal(DECODE(&m, "\x93\xa1\x02\x05\x80"), ERR_MALFORMED);
    assert_int_equal(DECODE(&m, "\x93\x02\xca\x3f\x80\x00\x00\x80"), ERR_MALFORMED);
    assert_int_equal(DECODE(&m, ""), ERR_MALFORMED);

    assert_int_equal(msg_limit(slice_of("\x93\x02", 2)), 64);
    assert_int_equal(msg_limit(slice_of("\x93\x7e", 2)), MSG_UNKNOWN_MAX);
    static const char longest[] = "\xdd\x00\x00\x00\x03\xcf\x00\x00\x00\x00\x00\x00\x00\x02";
    for (size_t n = 0; n <= MSG_HEAD_BYTES; n++)
        assert_int_equal(msg_limit(slice_of(longest, n)), n < MSG_HEAD_BYTES ? 0 : 64);
    assert_int_equal(msg_limit(slice_of("\x92\x02", 2)), 0);
    assert_int_equal(msg_limit(slice_of("", 0)), 0);

    uint8_t *big = calloc(1, MSG_UNKNOWN_MAX + 1);
    memcpy(big, "\x93\x7e\x05\x81\xa1x\xc6\x00\x00", 9);
    for (unsigned over = 0; over < 2; over++) {
        size_t n = MSG_UNKNOWN_MAX + over;
        big[9] = (uint8_t)((n - 11) >> 8);
        big[10] = (uint8_t)(n - 11);
        assert_int_equal(msg_decode(&m, slice_of(big, n), NULL),
                         over ? ERR_RANGE : ERR_UNSUPPORTED);
    }
    free(big);
}

static void test_encoding_refuses_what_peers_would(void **state)
{
    struct msg m = { .type = (enum msg_type)99 };
    uint8_t buf[512];
    size_t n;

    (void)state;
    assert_int_equal(msg_encode(&m, buf, sizeof buf, &n), ERR_RANGE);
    assert_int_equal(msg_bound(&m), 0);
    m.type = MSG_ERROR;
    m.u.ERROR = (struct msg_ERROR){ .code = 1, .text = slice_str("broken \xc3") };
    assert_int_equal(msg_encode(&m, buf, sizeof buf, &n), ERR_RANGE);
    m.u.ERROR.text = slice_of("a\0b", 3);
    assert_int_equal(msg_encode(&m, buf, sizeof buf, &n), ERR_RANGE);
    m.u.ERROR.text = slice_str("whole \xc3\xa9");
    assert_int_equal(msg_encode(&m, buf, sizeof buf, &n), ERR_OK);
    for (size_t cap = 0; cap < n; cap++) {
        uint8_t *exact = malloc(cap ? cap : 1);
        size_t none;
        assert_int_equal(msg_encode(&m, exact, cap, &none), ERR_FULL);
        free(exact);
    }
    assert_string_equal(wire_error_text(WIRE_BUSY), "this node is busy; try again later");
    assert_true(strlen(wire_error_text(0)) > 0 && strlen(wire_error_text(255)) > 0);
}

/* --- records: one content, one encoding --- */

static enum err record_changed(const struct record_body *b, struct change c)
{
    static struct record_body got;
    msgpack_sbuffer sb;

    msgpack_sbuffer_init(&sb);
    pack_body(&sb, record_message(), b, c);
    enum err e = record_body_decode(&got, slice_of(sb.data, sb.size), NULL);
    if (!e) assert_same(record_message(), b, &got);
    msgpack_sbuffer_destroy(&sb);
    return e;
}

static void test_records_are_canonical(void **state)
{
    const struct message *t = record_message();
    static struct record_body b, got;
    uint8_t buf[RECORD_BYTES_MAX];
    uint64_t seed = 9;
    size_t n;

    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        if (round < 2)
            set_all(t, &b, round);
        else
            set_random(t, &b, &seed);
        assert_int_equal(record_body_encode(&b, buf, sizeof buf, &n), ERR_OK);
        assert_true(oracle_reads_the_same(slice_of(buf, n)));
        assert_true(oracle_writes_the_same(slice_of(buf, n)));
        assert_int_equal(record_body_decode(&got, slice_of(buf, n), NULL), ERR_OK);
        assert_same(t, &b, &got);
        for (size_t cut = 0; cut < n; cut++)
            assert_int_equal(record_body_decode(&got, slice_of(buf, cut), NULL), ERR_MALFORMED);
        /* Any other bytes that decode hold something else. */
        for (unsigned flips = 0; flips < 200; flips++) {
            uint8_t other[RECORD_BYTES_MAX], again[RECORD_BYTES_MAX];
            size_t m;
            memcpy(other, buf, n);
            other[test_random(&seed) % n] = (uint8_t)test_random(&seed);
            if (record_body_decode(&got, slice_of(other, n), NULL)) continue;
            assert_int_equal(record_body_encode(&got, again, sizeof again, &m), ERR_OK);
            assert_true(m == n && !memcmp(again, other, n));
        }
    }
}

static void test_records_refuse(void **state)
{
    const struct message *t = record_message();
    static struct record_body b, got;

    (void)state;
    set_all(t, &b, false);
    assert_int_equal(record_changed(&b, (struct change){ NONE, 0, { 0, 0 } }), ERR_OK);
    assert_int_equal(record_changed(&b, (struct change){ REVERSE, 0, { 0, 0 } }), ERR_MALFORMED);
    for (uint32_t i = 0; i < t->n_fields; i++) {
        const struct field *f = &t->fields[i];
        struct slice unknown = slice_of("\xa3zzz\x01", 5);
        assert_int_equal(record_changed(&b, (struct change){ INSERT, i, unknown }), ERR_MALFORMED);
        if (!f->optional)
            assert_int_equal(record_changed(&b, (struct change){ LEAVE_OUT, i, { 0, 0 } }),
                             ERR_MALFORMED);
        if (f->type == FIELD_U) { /* 1 in two bytes */
            struct slice longer = slice_of("\xcc\x01", 2);
            assert_int_equal(record_changed(&b, (struct change){ REPLACE, i, longer }),
                             ERR_MALFORMED);
        }
        if (f->type == FIELD_UINTS) { /* 2^32 */
            struct slice large = slice_of("\x91\xcf\x00\x00\x00\x01\x00\x00\x00\x00", 10);
            assert_int_equal(record_changed(&b, (struct change){ REPLACE, i, large }), ERR_RANGE);
        }
        if (f->type == FIELD_U && f->optional) {
            struct slice zero = slice_of("\x00", 1);
            assert_int_equal(record_changed(&b, (struct change){ REPLACE, i, zero }),
                             ERR_MALFORMED);
        }
    }
    uint8_t big[RECORD_BYTES_MAX] = { 0 };
    assert_int_equal(record_body_decode(&got, slice_of(big, sizeof big), NULL), ERR_RANGE);
    b.state = 4;
    size_t n;
    assert_int_equal(record_body_encode(&b, big, sizeof big, &n), ERR_RANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_is_sound),
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_keys_in_any_order_and_unknown_ones),
        cmocka_unit_test(test_missing_and_double_keys),
        cmocka_unit_test(test_wrong_types),
        cmocka_unit_test(test_out_of_range),
        cmocka_unit_test(test_size_limits),
        cmocka_unit_test(test_rows_are_not_copied),
        cmocka_unit_test(test_envelopes),
        cmocka_unit_test(test_encoding_refuses_what_peers_would),
        cmocka_unit_test(test_records_are_canonical),
        cmocka_unit_test(test_records_refuse),
    };
    return cmocka_run_group_tests(tests, make_pools, free_pools);
}
