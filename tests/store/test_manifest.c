/* One manifest, one body; every other body is refused or is another good manifest. */
#include "store/manifest.h"

#include "base/json.h"
#include "tests/store/small.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct manifest *sample(void)
{
    struct manifest *m = calloc(1, sizeof *m);

    *m = (struct manifest){ .arch = small_arch(),
                            .chat = "intellect-3",
                            .n_eos = 3,
                            .eos = { 1, 50, 99 },
                            .sampling = { true, 0.6, 0.95, 0.05, 40 },
                            .tokenizer_bytes = 3 * TILE_BYTES - 5,
                            .n_tokenizer = 3 };
    fill_bytes((uint8_t *)m->tokenizer, 3 * HASH_BYTES, 1);
    fill_bytes((uint8_t *)m->table, 4 * HASH_BYTES, 2);
    fill_bytes(m->ends.b, HASH_BYTES, 3);
    m->arch.qk_norm = true;
    m->arch.type[WR_EXPERTS] = WT_Q40;
    m->arch.exchange = FT_F32;
    return m;
}

static struct slice encode(const struct manifest *m)
{
    uint8_t *p;
    size_t n;
    assert_int_equal(manifest_encode(m, &p, &n), ERR_OK);
    return slice_of(p, n);
}

static void round_trip(void **state)
{
    (void)state;
    struct manifest *m = sample(), *r = calloc(1, sizeof *r);
    struct slice body = encode(m);
    struct why why = { "" };

    if (manifest_decode(r, body, &why)) fail_msg("%s", why.text);
    assert_memory_equal(&r->arch.rope_freq, &m->arch.rope_freq, sizeof m->arch.rope_freq);
    assert_int_equal(r->arch.n_layers, 3);
    assert_int_equal(r->arch.type[WR_EXPERTS], WT_Q40);
    assert_int_equal(r->arch.type[WR_HEAD], WT_Q80);
    assert_int_equal(r->arch.exchange, FT_F32);
    assert_true(r->arch.qk_norm && r->arch.attn_bias && !r->arch.tied);
    assert_string_equal(r->chat, "intellect-3");
    assert_int_equal(r->n_eos, 3);
    assert_int_equal(r->eos[2], 99);
    assert_true(r->sampling.sample);
    assert_true(r->sampling.temperature == 0.6 && r->sampling.min_p == 0.05);
    assert_int_equal(r->tokenizer_bytes, 3 * TILE_BYTES - 5);
    assert_memory_equal(r->tokenizer, m->tokenizer, sizeof m->tokenizer);
    assert_memory_equal(r->table, m->table, sizeof m->table);
    assert_memory_equal(&r->ends, &m->ends, sizeof m->ends);

    struct slice again = encode(r);
    assert_int_equal(again.n, body.n);
    assert_memory_equal(again.p, body.p, body.n);
    free((void *)again.p);
    free((void *)body.p);
    free(m);
    free(r);
}

/* The most that the limits allow still fits. */
static void the_largest_fits(void **state)
{
    (void)state;
    struct manifest *m = sample(), *r = calloc(1, sizeof *r);

    m->arch.n_layers = ARCH_LAYERS_MAX - 1;
    m->arch.head_dim = 512;
    m->arch.rope_half = ARCH_ROPE_MAX;
    for (int i = 0; i < ARCH_ROPE_MAX; i++) m->arch.rope_freq[i] = 0.001 * i;
    m->n_tokenizer = MANIFEST_TOKENIZER_TILES_MAX;
    m->tokenizer_bytes = (uint64_t)MANIFEST_TOKENIZER_TILES_MAX * TILE_BYTES;
    m->n_eos = MANIFEST_EOS_MAX;
    for (int i = 0; i < MANIFEST_EOS_MAX; i++) m->eos[i] = i;
    struct slice body = encode(m);
    struct why why = { "" };
    if (manifest_decode(r, body, &why)) fail_msg("%s", why.text);
    free((void *)body.p);
    free(m);
    free(r);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    struct manifest *m = sample(), *r = calloc(1, sizeof *r);
    struct slice body = encode(m);

    for (size_t n = 0; n < body.n; n++) {
        uint8_t *cut = malloc(n + 1); /* exactly n bytes matter: a sanitizer sees one more read */
        memcpy(cut, body.p, n);
        struct why why = { "" };
        assert_int_not_equal(manifest_decode(r, slice_of(cut, n), &why), ERR_OK);
        assert_true(why.text[0]);
        free(cut);
    }
    uint8_t *longer = malloc(body.n + 1);
    memcpy(longer, body.p, body.n);
    longer[body.n] = 0;
    assert_int_equal(manifest_decode(r, slice_of(longer, body.n + 1), NULL), ERR_MALFORMED);
    free(longer);
    free((void *)body.p);
    free(m);
    free(r);
}

/* What is accepted is a good manifest whose body is these very bytes. */
static void try_body(struct manifest *r, struct slice body)
{
    struct why why = { "" };

    if (manifest_decode(r, body, &why)) {
        assert_true(why.text[0]);
        return;
    }
    assert_int_equal(arch_check(&r->arch, NULL), ERR_OK);
    struct slice again = encode(r);
    assert_int_equal(again.n, body.n);
    assert_memory_equal(again.p, body.p, body.n);
    free((void *)again.p);
}

static void every_byte_changed(void **state)
{
    (void)state;
    struct manifest *m = sample(), *r = calloc(1, sizeof *r);
    struct slice body = encode(m);
    uint8_t *p = (uint8_t *)(uintptr_t)body.p;

    for (size_t i = 0; i < body.n; i++) {
        for (int v = 1; v < 256; v++) {
            p[i] ^= (uint8_t)v;
            try_body(r, body);
            p[i] ^= (uint8_t)v;
        }
    }
    free(p);
    free(m);
    free(r);
}

static size_t find(struct slice body, const char *key)
{
    size_t n = strlen(key);
    for (size_t i = 0; i + n < body.n; i++)
        if (memcmp(body.p + i, key, n) == 0) return i + n;
    fail_msg("no key %s", key);
    return 0;
}

/* The same numbers in a longer spelling would be a second id for one model. */
static void other_spellings_are_refused(void **state)
{
    (void)state;
    struct manifest *m = sample(), *r = calloc(1, sizeof *r);
    struct slice body = encode(m);
    uint8_t *p = malloc(body.n + 2);
    size_t at = find(body, "\xa6layers");
    struct why why = { "" };

    assert_int_equal(body.p[at], 3);
    memcpy(p, body.p, at);
    p[at] = 0xcc; /* uint8 3 for fixint 3 */
    memcpy(p + at + 1, body.p + at, body.n - at);
    assert_int_equal(manifest_decode(r, slice_of(p, body.n + 1), &why), ERR_MALFORMED);
    assert_non_null(strstr(why.text, "canonical"));
    free(p);
    free((void *)body.p);
    free(m);
    free(r);
}

static void expect(void (*change)(struct manifest *m), const char *says)
{
    struct manifest *m = sample(), *r = calloc(1, sizeof *r);
    struct why why = { "" };

    change(m);
    struct slice body = encode(m);
    assert_int_not_equal(manifest_decode(r, body, &why), ERR_OK);
    if (!strstr(why.text, says)) fail_msg("'%s' does not say '%s'", why.text, says);
    free((void *)body.p);
    free(m);
    free(r);
}

static void eos_twice(struct manifest *m)
{
    m->eos[1] = m->eos[0];
}
static void eos_too_big(struct manifest *m)
{
    m->eos[2] = 100;
}
static void pieces(struct manifest *m)
{
    m->tokenizer_bytes = 2 * TILE_BYTES;
}
static void no_pieces(struct manifest *m)
{
    m->n_tokenizer = 0;
}
static void huge_tokenizer(struct manifest *m)
{
    m->tokenizer_bytes = UINT64_MAX - 5;
}
static void cold(struct manifest *m)
{
    m->sampling.temperature = 0;
}
static void nan_temperature(struct manifest *m)
{
    m->sampling.temperature = __builtin_nan("");
}
static void top_p(struct manifest *m)
{
    m->sampling.top_p = 1.5;
}
static void heads(struct manifest *m)
{
    m->arch.n_heads = 3;
}
static void eps(struct manifest *m)
{
    m->arch.eps = __builtin_inff();
}
static void chat_empty(struct manifest *m)
{
    m->chat[0] = 0;
}
static void chat_control(struct manifest *m)
{
    m->chat[0] = 27;
}

static void wrong_numbers_are_refused(void **state)
{
    (void)state;
    expect(eos_twice, "end tokens");
    expect(eos_too_big, "end tokens");
    expect(pieces, "pieces for a tokenizer");
    expect(no_pieces, "0 pieces");
    expect(huge_tokenizer, "pieces for a tokenizer");
    expect(cold, "sampling");
    expect(nan_temperature, "sampling");
    expect(top_p, "sampling");
    expect(heads, "heads");
    expect(eps, "epsilon");
    expect(chat_empty, "do not parse");
    expect(chat_control, "do not parse");
}

static void another_arithmetic_is_named(void **state)
{
    (void)state;
    struct manifest *m = sample(), *r = calloc(1, sizeof *r);
    struct slice body = encode(m);
    struct why why = { "" };
    size_t at = find(body, "\xa5"
                           "arith");

    assert_int_equal(body.p[at], ARITH_VERSION);
    ((uint8_t *)(uintptr_t)body.p)[at] = 77;
    assert_int_equal(manifest_decode(r, body, &why), ERR_UNSUPPORTED);
    assert_non_null(strstr(why.text, "arithmetic version 77"));
    free((void *)body.p);
    free(m);
    free(r);
}

/* The hostile bodies of the vectors, none of which is a manifest. */
static void hostile_msgpack(void **state)
{
    (void)state;
    struct manifest *r = calloc(1, sizeof *r);
    char line[1 << 16];
    FILE *f = fopen(TESTS_DIR "/vectors/msgpack/hostile.txt", "r");
    int n_tried = 0;

    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        uint8_t bytes[sizeof line / 2];
        size_t n = 0;
        if (line[0] == '#') continue;
        unsigned v;
        while (sscanf(line + 2 * n, "%2x", &v) == 1) bytes[n++] = (uint8_t)v;
        assert_int_not_equal(manifest_decode(r, slice_of(bytes, n), NULL), ERR_OK);
        n_tried += n > 0;
    }
    fclose(f);
    assert_true(n_tried > 5);
    free(r);
}

static void hash_is_b2sum(void **state)
{
    (void)state;
    /* printf abc | b2sum -l 256 */
    static const uint8_t abc[HASH_BYTES] = { 0xbd, 0xdd, 0x81, 0x3c, 0x63, 0x42, 0x39, 0x72,
                                             0x31, 0x71, 0xef, 0x3f, 0xee, 0x98, 0x57, 0x9b,
                                             0x94, 0x96, 0x4e, 0x3b, 0xb1, 0xcb, 0x3e, 0x42,
                                             0x72, 0x62, 0xc8, 0xc0, 0x68, 0xd5, 0x23, 0x19 };
    struct hash h = hash_of(slice_str("abc"));
    assert_memory_equal(h.b, abc, HASH_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(the_largest_fits),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_byte_changed),
        cmocka_unit_test(other_spellings_are_refused),
        cmocka_unit_test(wrong_numbers_are_refused),
        cmocka_unit_test(another_arithmetic_is_named),
        cmocka_unit_test(hostile_msgpack),
        cmocka_unit_test(hash_is_b2sum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
