/* Events of a request: there and back, drawn, and whatever somebody else sends in their place. */
#include "proto/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void add(struct text *t, struct trace_event e)
{
    uint8_t bytes[TRACE_BYTES];
    trace_encode(bytes, &e);
    text_add(t, bytes, sizeof bytes);
}

static void there_and_back(void **state)
{
    struct trace_event e = { .kind = TRACE_STAGE,
                             .stage = 3,
                             .n = 512,
                             .step = 1u << 31,
                             .at = UINT64_C(1) << 49,
                             .clock = 12345678901234,
                             .wait = 1,
                             .compute = UINT32_MAX,
                             .stay = 77 },
                       back;
    struct trace_event name = { .kind = TRACE_NAME, .stage = 1, .n = 3, .step = 6 };
    uint8_t bytes[TRACE_BYTES];
    (void)state;
    trace_encode(bytes, &e);
    assert_int_equal(trace_decode(&back, bytes), ERR_OK);
    assert_memory_equal(&back, &e, sizeof e);
    memset(name.id.b, 0xa5, sizeof name.id.b);
    trace_encode(bytes, &name);
    assert_int_equal(trace_decode(&back, bytes), ERR_OK);
    assert_memory_equal(&back, &name, sizeof name);

    bytes[0] = 0;
    assert_int_equal(trace_decode(&back, bytes), ERR_MALFORMED);
    bytes[0] = TRACE_KINDS;
    assert_int_equal(trace_decode(&back, bytes), ERR_MALFORMED);
    e.stage = TRACE_STAGES_MAX;
    trace_encode(bytes, &e);
    assert_int_equal(trace_decode(&back, bytes), ERR_MALFORMED);
    e.stage = 0;
    e.clock = UINT64_C(1) << 50;
    trace_encode(bytes, &e);
    assert_int_equal(trace_decode(&back, bytes), ERR_MALFORMED);
}

static int64_t number(const struct json *v, const char *key)
{
    int64_t out = 0;
    assert_true(json_i64(json_get(v, key), &out));
    return out;
}

/* The start of the only span of that name in process pid; its length goes to *dur. */
static int64_t span(const struct json *root, int64_t pid, const char *name, int64_t *dur)
{
    int64_t ts = 0, found = 0;
    for (const struct json *e = json_get(root, "traceEvents")->child; e; e = e->next) {
        if (!json_is_str(json_get(e, "ph"), "X") || !json_is_str(json_get(e, "name"), name) ||
            number(e, "pid") != pid)
            continue;
        ts = number(e, "ts");
        *dur = number(e, "dur");
        found++;
    }
    assert_int_equal(found, 1);
    return ts;
}

/* A stage whose clock is 1,000,000 ahead: 10 us there, 20 waiting, 100 computing, 30 home.  Half of
 * the 40 that the lines took is what each of them gets. */
static void a_clock_apart(void **state)
{
    struct text t = { 0 }, out = { 0 };
    struct json_doc *doc;
    struct why why = { "" };
    int64_t dur;
    (void)state;
    add(&t, (struct trace_event){ .kind = TRACE_PLAN, .n = 1 });
    add(&t, (struct trace_event){ .kind = TRACE_NAME, .n = 0, .step = 8 });
    add(&t, (struct trace_event){ .kind = TRACE_SENT, .n = 1, .at = 500 });
    add(&t, (struct trace_event){ .kind = TRACE_ROWS, .n = 1, .at = 660 });
    add(&t, (struct trace_event){ .kind = TRACE_STAGE,
                                  .n = 1,
                                  .at = 660,
                                  .clock = 1000510,
                                  .wait = 20,
                                  .compute = 100,
                                  .stay = 120 });
    add(&t, (struct trace_event){ .kind = TRACE_PICK, .n = 1, .at = 700, .compute = 30 });
    assert_int_equal(trace_write(&out, slice_of(t.p, t.n), "test"), ERR_OK);
    if (json_parse(&doc, slice_of(out.p, out.n), "a trace", &why)) fail_msg("%s", why.text);
    const struct json *root = json_root(doc);
    assert_int_equal(span(root, 2, "sent", &dur), 500);
    assert_int_equal(dur, 20);
    assert_int_equal(span(root, 2, "waiting", &dur), 520);
    assert_int_equal(span(root, 2, "token", &dur), 540);
    assert_int_equal(dur, 100);
    assert_int_equal(span(root, 1, "rows come home", &dur), 640);
    assert_int_equal(dur, 20);
    assert_int_equal(span(root, 1, "picking", &dur), 670);
    assert_int_equal(span(root, 1, "first token", &dur), 0);
    assert_int_equal(dur, 700);
    json_free(doc);
    free(out.p);
    free(t.p);
}

/* A row holds one thing at a time, whatever is said; rows come one after the other. */
static void check_rows(const struct json *root)
{
    static int64_t end[1 << 16];
    memset(end, 0, sizeof end);
    for (const struct json *e = json_get(root, "traceEvents")->child; e; e = e->next) {
        if (!json_is_str(json_get(e, "ph"), "X")) continue;
        int64_t *last = &end[number(e, "pid") * 64 + number(e, "tid")];
        int64_t ts = number(e, "ts") + (INT64_C(1) << 60); /* above 0, as no row is at first */
        assert_true(number(e, "dur") > 0 && ts >= *last);
        *last = ts + number(e, "dur");
    }
}

static void hostile(void **state)
{
    uint64_t seed = 7;
    (void)state;
    for (int round = 0; round < 400; round++) {
        struct text t = { 0 }, out = { 0 };
        struct why why = { "" };
        struct json_doc *doc;
        for (int i = 0; i < 200; i++) {
            uint64_t r[8];
            for (int k = 0; k < 8; k++)
                r[k] = (seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u) >> 14;
            unsigned shift = (unsigned)(r[7] % 50);
            add(&t, (struct trace_event){ .kind = (uint8_t)(1 + r[0] % (TRACE_KINDS - 1)),
                                          .stage = (uint8_t)(r[1] % 5),
                                          .n = (uint16_t)r[2],
                                          .step = (uint32_t)(r[3] % 6),
                                          .at = r[4] >> shift,
                                          .clock = r[5] >> shift,
                                          .wait = (uint32_t)r[6],
                                          .compute = (uint32_t)(r[6] >> 20),
                                          .stay = (uint32_t)r[2] });
        }
        assert_int_equal(trace_write(&out, slice_of(t.p, t.n), "test"), ERR_OK);
        if (json_parse(&doc, slice_of(out.p, out.n), "a trace", &why)) fail_msg("%s", why.text);
        check_rows(json_root(doc));
        json_free(doc);
        out.n = 0;
        t.p[round % 200 * TRACE_BYTES] = (char)0xff;
        assert_int_equal(trace_write(&out, slice_of(t.p, t.n), "test"), ERR_MALFORMED);
        assert_int_equal(trace_write(&out, slice_of(t.p, t.n - 1), "test"), ERR_MALFORMED);
        free(out.p);
        free(t.p);
    }
}

static void empty(void **state)
{
    struct text out = { 0 };
    struct json_doc *doc;
    (void)state;
    assert_int_equal(trace_write(&out, slice_of(NULL, 0), "test"), ERR_OK);
    assert_int_equal(json_parse(&doc, slice_of(out.p, out.n), "a trace", NULL), ERR_OK);
    json_free(doc);
    free(out.p);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(a_clock_apart),
        cmocka_unit_test(hostile),
        cmocka_unit_test(empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
