/* The Noise state machine against every published vector of our suite; and what it must refuse.
 * `test_noise FILE...` runs other vector files instead. */
#include "proto/identity.h"
#include "proto/noise.h"
#include "tests/proto/noise_vectors.h"
#include "tests/proto/vectors.h"

static const char NAME[] = "Noise_XXpsk0_25519_ChaChaPoly_BLAKE2b";
static const uint8_t SI[32] = { 1, 2, 3 }, SR[32] = { 4, 5, 6 }, EI[32] = { 7 }, ER[32] = { 8 };
static const uint8_t PSK[1][NOISE_KEY] = { { 9, 9, 9 } };

static void check_file(const char *file, unsigned expected)
{
    struct noise_count c = noise_vectors_run(file);
    print_message("%s: %u run, %u failed, %u not ours\n", file, c.ran, c.failed, c.skipped);
    assert_int_equal(c.failed, 0);
    assert_int_equal(c.ran, expected);
}

static void test_cacophony(void **state)
{
    (void)state;
    check_file(TESTS_DIR "/vectors/noise/cacophony.txt", 59);
}

static void test_snow(void **state)
{
    (void)state;
    check_file(TESTS_DIR "/vectors/noise/snow.txt", 51);
}

static void test_noise_c(void **state)
{
    (void)state;
    check_file(TESTS_DIR "/vectors/noise/noise-c-basic.txt", 15);
}

static void test_derived(void **state)
{
    (void)state;
    check_file(TESTS_DIR "/vectors/noise/derived-xxpsk0-rekey.json", 1);
}

/* --- our pattern, both sides --- */

static enum err start(struct noise *n, bool initiator, const uint8_t (*psk)[NOISE_KEY],
                      const char *prologue)
{
    return noise_init(n, &(struct noise_setup){
                             .name = NAME,
                             .initiator = initiator,
                             .prologue = slice_str(prologue),
                             .static_secret = initiator ? SI : SR,
                             .ephemeral_secret = initiator ? EI : ER,
                             .psks = psk,
                             .n_psks = 1,
                         });
}

struct run {
    struct noise side[2];
    uint8_t wire[3][256];
    size_t n[3];
};

/* Play the handshake up to and without message stop. */
static void play(struct run *r, unsigned stop)
{
    uint8_t back[256];
    size_t got;

    assert_int_equal(start(&r->side[0], true, PSK, "p"), ERR_OK);
    assert_int_equal(start(&r->side[1], false, PSK, "p"), ERR_OK);
    for (unsigned i = 0; i < 3; i++) {
        struct noise *from = &r->side[i % 2], *to = &r->side[1 - i % 2];
        assert_true(noise_my_turn(from));
        assert_false(noise_my_turn(to));
        assert_int_equal(noise_write(from, slice_str("hello"), r->wire[i], 256, &r->n[i]), ERR_OK);
        if (i == stop) return;
        assert_int_equal(noise_read(to, slice_of(r->wire[i], r->n[i]), back, 256, &got), ERR_OK);
        assert_int_equal(got, 5);
        assert_memory_equal(back, "hello", 5);
    }
}

static bool is_wiped(const struct noise *n)
{
    struct noise zero;
    memset(&zero, 0, sizeof zero);
    zero.dead = true;
    return memcmp(n, &zero, sizeof zero) == 0;
}

static void test_learns_keys(void **state)
{
    struct run r;
    uint8_t pk[32];
    (void)state;

    play(&r, 3);
    assert_true(noise_done(&r.side[0]) && noise_done(&r.side[1]));
    assert_memory_equal(r.side[0].h, r.side[1].h, NOISE_HASH);
    memcpy(pk, r.side[1].s.public, 32);
    assert_memory_equal(r.side[0].rs.public, pk, 32);
    memcpy(pk, r.side[0].s.public, 32);
    assert_memory_equal(r.side[1].rs.public, pk, 32);
}

/* Every bit of every message, and every length. */
static void test_refuses_each_flip(void **state)
{
    struct run r;
    uint8_t back[256];
    size_t got;
    (void)state;

    for (unsigned m = 0; m < 3; m++) {
        play(&r, m);
        for (size_t bit = 0; bit < r.n[m] * 8; bit++) {
            struct noise to = r.side[1 - m % 2];
            r.wire[m][bit / 8] ^= (uint8_t)(1u << bit % 8);
            enum err e = noise_read(&to, slice_of(r.wire[m], r.n[m]), back, 256, &got);
            /* X25519 ignores the top bit of a public key, the hash and psk do not */
            assert_int_equal(e, ERR_AUTH);
            assert_true(is_wiped(&to));
            assert_int_equal(noise_read(&to, slice_of(r.wire[m], r.n[m]), back, 256, &got),
                             ERR_CLOSED);
            r.wire[m][bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        for (size_t n = 0; n < r.n[m]; n++) {
            struct noise to = r.side[1 - m % 2];
            assert_int_not_equal(noise_read(&to, slice_of(r.wire[m], n), back, 256, &got), ERR_OK);
            assert_true(is_wiped(&to));
        }
    }
}

static void test_refuses_other_keys(void **state)
{
    static const uint8_t other[1][NOISE_KEY] = { { 9, 9, 8 } };
    struct noise i, r;
    uint8_t wire[256], back[256];
    size_t n, got;
    (void)state;

    assert_int_equal(start(&i, true, PSK, "p"), ERR_OK);
    assert_int_equal(noise_write(&i, slice_of(NULL, 0), wire, sizeof wire, &n), ERR_OK);
    assert_int_equal(n, 48);
    assert_int_equal(start(&r, false, other, "p"), ERR_OK);
    assert_int_equal(noise_read(&r, slice_of(wire, n), back, sizeof back, &got), ERR_AUTH);
    assert_int_equal(start(&r, false, PSK, "q"), ERR_OK);
    assert_int_equal(noise_read(&r, slice_of(wire, n), back, sizeof back, &got), ERR_AUTH);

    /* a key of low order would let a stranger know the shared secret */
    assert_int_equal(start(&r, false, PSK, "p"), ERR_OK);
    assert_int_equal(noise_read(&r, slice_of(wire, n), back, sizeof back, &got), ERR_OK);
    memset(r.re.public, 0, NOISE_KEY);
    assert_int_equal(noise_write(&r, slice_of(NULL, 0), wire, sizeof wire, &n), ERR_AUTH);
    assert_true(is_wiped(&r));
}

static void test_setup(void **state)
{
    struct noise n;
    struct noise_setup good = { .name = NAME, .static_secret = SI, .psks = PSK, .n_psks = 1 };
    static const char *const unknown[] = {
        "Noise_XXpsk0_25519_AESGCM_BLAKE2b",
        "Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s",
        "Noise_XXpsk0_448_ChaChaPoly_BLAKE2b",
        "Noise_XXfallback_25519_ChaChaPoly_BLAKE2b",
        "Noise_ZZ_25519_ChaChaPoly_BLAKE2b",
        "Noise_XXpsk4_25519_ChaChaPoly_BLAKE2b",
        "Noise_XXpsk0+psk0_25519_ChaChaPoly_BLAKE2b",
        "Noise_XXpsk_25519_ChaChaPoly_BLAKE2b",
        "Noise_XXpsk0_25519_ChaChaPoly_BLAKE2bx",
        "NoisePSK_XX_25519_ChaChaPoly_BLAKE2b",
        "",
    };
    (void)state;

    assert_int_equal(noise_init(&n, &good), ERR_OK);
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        struct noise_setup s = good;
        s.name = unknown[i];
        assert_int_equal(noise_init(&n, &s), ERR_UNSUPPORTED);
        assert_true(is_wiped(&n));
    }
    struct noise_setup no_static = good, no_psk = good;
    no_static.static_secret = NULL;
    no_psk.n_psks = 0;
    assert_int_equal(noise_init(&n, &no_static), ERR_USAGE);
    assert_int_equal(noise_init(&n, &no_psk), ERR_USAGE);
    struct noise_setup ik = { .name = "Noise_IK_25519_ChaChaPoly_BLAKE2b",
                              .initiator = true,
                              .static_secret = SI };
    assert_int_equal(noise_init(&n, &ik), ERR_USAGE); /* must know whom it calls */
}

/* The buffers given are the buffers used: no byte past cap. */
static void test_capacity(void **state)
{
    struct noise i;
    uint8_t wire[64];
    size_t n;
    (void)state;

    for (size_t cap = 0; cap < 50; cap++) {
        memset(wire, 0xaa, sizeof wire);
        assert_int_equal(start(&i, true, PSK, "p"), ERR_OK);
        enum err e = noise_write(&i, slice_str("x"), wire, cap, &n);
        assert_int_equal(e, cap < 49 ? ERR_FULL : ERR_OK);
        for (size_t k = cap; k < sizeof wire; k++) assert_int_equal(wire[k], 0xaa);
        noise_fini(&i);
    }
    static uint8_t big[NOISE_MESSAGE_MAX], out[NOISE_MESSAGE_MAX + 100];
    assert_int_equal(start(&i, true, PSK, "p"), ERR_OK);
    assert_int_equal(noise_write(&i, slice_of(big, NOISE_MESSAGE_MAX - 47), out, sizeof out, &n),
                     ERR_FULL);
    assert_int_equal(start(&i, true, PSK, "p"), ERR_OK);
    assert_int_equal(noise_write(&i, slice_of(big, NOISE_MESSAGE_MAX - 48), out, sizeof out, &n),
                     ERR_OK);
    assert_int_equal(n, NOISE_MESSAGE_MAX);
}

static void test_ciphers(void **state)
{
    struct run r;
    struct noise_cipher is, ir, rs, rr;
    uint8_t text[64 + NOISE_TAG], first[64 + NOISE_TAG];
    struct slice none = { 0 };
    (void)state;

    play(&r, 3);
    noise_split(&r.side[0], &is, &ir);
    noise_split(&r.side[1], &rs, &rr);
    static const uint8_t zero[NOISE_KEY];
    assert_memory_equal(r.side[0].s.secret, zero, NOISE_KEY);
    assert_memory_equal(r.side[0].e.secret, zero, NOISE_KEY);
    assert_memory_equal(r.side[0].cipher.k, zero, NOISE_KEY);
    assert_memory_equal(is.k, rr.k, NOISE_KEY);
    assert_memory_equal(rs.k, ir.k, NOISE_KEY);

    memset(text, 'a', 64);
    assert_int_equal(noise_seal(&is, none, slice_of(text, 64), text), ERR_OK); /* in place */
    memcpy(first, text, sizeof text);
    struct noise_cipher before = rr;
    assert_int_equal(noise_unseal(&rr, none, slice_of(text, sizeof text), text), ERR_OK);
    assert_int_equal(text[63], 'a');
    memcpy(text, first, sizeof text);
    assert_int_equal(noise_unseal(&rr, none, slice_of(text, sizeof text), text),
                     ERR_AUTH); /* replay */
    assert_int_equal(rr.n, 1);
    for (size_t n = 0; n < NOISE_TAG; n++)
        assert_int_equal(noise_unseal(&rr, none, slice_of(first, n), text), ERR_MALFORMED);
    memcpy(text, first, sizeof text);
    noise_rekey(&before);
    assert_int_equal(before.n, 0);
    assert_int_equal(noise_unseal(&before, none, slice_of(text, sizeof text), text), ERR_AUTH);

    is.n = UINT64_MAX;
    assert_int_equal(noise_seal(&is, none, slice_of(text, 1), text), ERR_FULL);
    rr.n = UINT64_MAX;
    assert_int_equal(noise_unseal(&rr, none, slice_of(first, sizeof first), text), ERR_FULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cacophony),
        cmocka_unit_test(test_snow),
        cmocka_unit_test(test_noise_c),
        cmocka_unit_test(test_derived),
        cmocka_unit_test(test_learns_keys),
        cmocka_unit_test(test_refuses_each_flip),
        cmocka_unit_test(test_refuses_other_keys),
        cmocka_unit_test(test_setup),
        cmocka_unit_test(test_capacity),
        cmocka_unit_test(test_ciphers),
    };
    unsigned bad = 0;

    if (proto_init()) return 2;
    if (argc < 2) return cmocka_run_group_tests(tests, NULL, NULL);
    for (int i = 1; i < argc; i++) {
        struct noise_count c = noise_vectors_run(argv[i]);
        printf("%s: %u run, %u failed, %u not ours\n", argv[i], c.ran, c.failed, c.skipped);
        bad += c.failed + (c.ran == 0);
    }
    return bad != 0;
}
