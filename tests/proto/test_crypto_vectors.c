/* The primitives as we call them, against Wycheproof, the BLAKE2 and the BEP-44 vectors: what a
 * different or damaged libsodium would answer otherwise. */
#include "proto/identity.h"
#include "proto/noise.h"
#include "tests/proto/vectors.h"

#include <sodium.h>

/* Call each test of each group of a Wycheproof file. */
static void each_test(const char *name,
                      void (*check)(const struct json *group, const struct json *test, void *arg),
                      void *arg)
{
    char path[512];
    snprintf(path, sizeof path, "%s/vectors/wycheproof/%s", TESTS_DIR, name);
    struct json_doc *doc = file_json(path);
    const struct json *groups = json_get(json_root(doc), "testGroups");
    assert_non_null(groups);
    for (const struct json *g = groups->child; g; g = g->next)
        for (const struct json *t = json_get(g, "tests")->child; t; t = t->next) check(g, t, arg);
    json_free(doc);
}

static bool has_flag(const struct json *t, const char *flag)
{
    for (const struct json *f = json_get(t, "flags")->child; f; f = f->next)
        if (json_is_str(f, flag)) return true;
    return false;
}

struct tally {
    unsigned good, refused, not_ours;
};

static void check_x25519(const struct json *g, const struct json *t, void *arg)
{
    struct tally *tally = arg;
    uint8_t out[32], pk[32], sk[32], want[32];
    (void)g;

    hex_bytes(pk, 32, json_get(t, "public")->text);
    hex_bytes(sk, 32, json_get(t, "private")->text);
    hex_bytes(want, 32, json_get(t, "shared")->text);
    if (crypto_scalarmult(out, sk, pk) != 0) {
        assert_true(has_flag(t, "ZeroSharedSecret"));
        tally->refused++;
        return;
    }
    assert_false(has_flag(t, "ZeroSharedSecret"));
    assert_memory_equal(out, want, 32);
    tally->good++;
}

static void test_x25519(void **state)
{
    struct tally tally = { 0 };
    (void)state;
    each_test("x25519_test.json", check_x25519, &tally);
    assert_int_equal(tally.good, 487);
    assert_int_equal(tally.refused, 31);
}

/* Through noise_seal where the nonce has Noise's form, through libsodium's call otherwise. */
static void check_aead(const struct json *g, const struct json *t, void *arg)
{
    struct tally *tally = arg;
    struct slice key = member_bytes(t, "key"), iv = member_bytes(t, "iv");
    struct slice ad = member_bytes(t, "aad"), msg = member_bytes(t, "msg");
    struct slice ct = member_bytes(t, "ct"), tag = member_bytes(t, "tag");
    bool valid = json_is_str(json_get(t, "result"), "valid");
    uint8_t *sealed = calloc(1, ct.n + tag.n + NOISE_TAG), *out = calloc(1, msg.n + NOISE_TAG);
    (void)g;

    if (iv.n != 12) {
        tally->not_ours++;
    } else {
        memcpy(sealed, ct.p, ct.n);
        memcpy(sealed + ct.n, tag.p, tag.n);
        int rc = crypto_aead_chacha20poly1305_ietf_decrypt(out, NULL, NULL, sealed, ct.n + tag.n,
                                                           ad.p, ad.n, iv.p, key.p);
        assert_int_equal(rc == 0, valid);
        if (valid) {
            assert_memory_equal(out, msg.p, msg.n);
            crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, msg.p, msg.n, ad.p, ad.n, NULL,
                                                      iv.p, key.p);
            assert_memory_equal(out, sealed, ct.n + tag.n);
            tally->good++;
        } else {
            tally->refused++;
        }
        if (memcmp(iv.p, "\0\0\0\0", 4) == 0) {
            struct noise_cipher c = { .has_key = true };
            memcpy(c.k, key.p, NOISE_KEY);
            for (int i = 7; i >= 0; i--) c.n = c.n << 8 | iv.p[4 + i];
            bool last = c.n == UINT64_MAX;
            enum err e = noise_unseal(&c, ad, slice_of(sealed, ct.n + tag.n), out);
            assert_int_equal(e, last ? ERR_FULL : valid ? ERR_OK : ERR_AUTH);
        }
    }
    const struct slice all[] = { key, iv, ad, msg, ct, tag };
    for (size_t i = 0; i < 6; i++) free((void *)all[i].p);
    free(sealed);
    free(out);
}

static void test_chacha20poly1305(void **state)
{
    struct tally tally = { 0 };
    (void)state;
    each_test("chacha20_poly1305_test.json", check_aead, &tally);
    assert_int_equal(tally.good + tally.refused, 316);
    assert_int_equal(tally.refused, 60);
    assert_int_equal(tally.not_ours, 9);
}

static void check_ed25519(const struct json *g, const struct json *t, void *arg)
{
    struct tally *tally = arg;
    struct slice pk = member_bytes(json_get(g, "publicKey"), "pk");
    struct slice msg = member_bytes(t, "msg"), sig = member_bytes(t, "sig");
    bool valid = json_is_str(json_get(t, "result"), "valid");

    /* a signature of another length never reaches the verifier: messages.h bounds it */
    bool good = sig.n == SIG_BYTES && pk.n == ID_BYTES &&
                crypto_sign_verify_detached(sig.p, msg.p, msg.n, pk.p) == 0;
    assert_int_equal(good, valid);
    tally->good += good;
    tally->refused += !good;
    free((void *)pk.p);
    free((void *)msg.p);
    free((void *)sig.p);
}

static void test_ed25519(void **state)
{
    struct tally tally = { 0 };
    (void)state;
    each_test("ed25519_test.json", check_ed25519, &tally);
    assert_int_equal(tally.good, 88);
    assert_int_equal(tally.refused, 63);
}

static void test_blake2b(void **state)
{
    struct json_doc *doc = file_json(TESTS_DIR "/vectors/blake2/blake2b-unkeyed-kat.json");
    unsigned n = 0;
    (void)state;

    for (const struct json *v = json_root(doc)->child; v; v = v->next, n++) {
        struct slice in = member_bytes(v, "in"), want = member_bytes(v, "out");
        uint8_t out[64];
        crypto_generichash(out, sizeof out, in.p, in.n, NULL, 0);
        assert_memory_equal(out, want.p, 64);
        crypto_generichash_state st; /* and in two pieces, as Noise hashes */
        crypto_generichash_init(&st, NULL, 0, 64);
        crypto_generichash_update(&st, in.p, in.n / 2);
        crypto_generichash_update(&st, in.p + in.n / 2, in.n - in.n / 2);
        crypto_generichash_final(&st, out, 64);
        assert_memory_equal(out, want.p, 64);
        free((void *)in.p);
        free((void *)want.p);
    }
    json_free(doc);
    assert_int_equal(n, 256);
}

/* The keyed form (the sampler's draw uses it): lines "in:", "key:", "hash:" in turn. */
static void test_blake2b_keyed(void **state)
{
    struct slice text = file_read(TESTS_DIR "/vectors/blake2/blake2b-kat.txt");
    uint8_t in[256], key[64], want[64], out[64];
    size_t n_in = 0, n_key = 0;
    unsigned n = 0;
    (void)state;

    for (char *line = (char *)text.p, *end; line && *line; line = end) {
        end = strchr(line, '\n');
        if (end) *end++ = 0;
        char *hex = strchr(line, '\t');
        if (!hex) continue;
        hex++;
        hex[strcspn(hex, "\r ")] = 0;
        if (line[0] == 'i') n_in = hex_bytes(in, sizeof in, slice_str(hex));
        if (line[0] == 'k') n_key = hex_bytes(key, sizeof key, slice_str(hex));
        if (line[0] != 'h') continue;
        hex_bytes(want, 64, slice_str(hex));
        crypto_generichash_blake2b(out, 64, in, n_in, key, n_key);
        assert_memory_equal(out, want, 64);
        n++;
    }
    free((void *)text.p);
    assert_int_equal(n, 256);
}

/* python3: hmac.new(key, text, hashlib.blake2b) */
static void test_hmac(void **state)
{
    static const struct {
        const char *key, *text, *mac;
    } kat[] = {
        { "key", "The quick brown fox jumps over the lazy dog",
          "92294f92c0dfb9b00ec9ae8bd94d7e7d8a036b885a499f149dfe2fd2199394aaaf6b8894a1730cccb2cd050f"
          "9bcf5062a38b51b0dab33207f8ef35ae2c9df51b" },
        { "k", "",
          "58bc130b7cc4e87f309532f121fb0f8eba276abdfcc56f73e0da310d895846f1f79efde9589a0550ae13911f"
          "a99f55451d9cdaa2beecdec2fb42cbf4fffc219c" },
        { "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef01234567"
          "89abcdef0123456789abcdef0123456789abcdef",
          "a key as long as the block",
          "6a543c3c7bbc606647cfb6237e4939505557f6dab54d8166496fcc327047b4fd72408da2061e7ebaf1098e01"
          "38e6cadac47fd43a0f15df9604a02b4993dac52d" },
        { "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
          "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
          "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
          "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
          "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
          "8189b0cce86c346d53fe371319f87af97b66f3344c54933ef4d202d508be26c38efceb1118d30631201d8a9b"
          "cad41a6404d33313839cf3ad1bb9f51c96e68127" },
    };
    uint8_t out[64], want[64];
    (void)state;

    for (size_t i = 0; i < sizeof kat / sizeof *kat; i++) {
        struct slice text = slice_str(kat[i].text);
        hex_bytes(want, 64, slice_str(kat[i].mac));
        noise_hmac(out, slice_str(kat[i].key), text, slice_of(NULL, 0));
        assert_memory_equal(out, want, 64);
        noise_hmac(out, slice_str(kat[i].key), slice_of(text.p, text.n / 3),
                   slice_of(text.p + text.n / 3, text.n - text.n / 3));
        assert_memory_equal(out, want, 64);
    }
}

static void test_bep44(void **state)
{
    struct slice text = file_read(TESTS_DIR "/vectors/bittorrent/bep44-ed25519.txt");
    unsigned n = 0;
    (void)state;

    for (char *line = (char *)text.p, *end; line && *line; line = end) {
        end = strchr(line, '\n');
        if (end) *end++ = 0;
        if (line[0] == '#' || !strchr(line, '|')) continue;
        char *msg = strchr(line, '|') + 1, *sig = strrchr(line, '|') + 1;
        uint8_t pk[32], s[64];
        hex_bytes(pk, 32, slice_of(line, 64));
        hex_bytes(s, 64, slice_of(sig, 128));
        size_t len = (size_t)(sig - 1 - msg);
        assert_int_equal(crypto_sign_verify_detached(s, (uint8_t *)msg, len, pk), 0);
        msg[0] ^= 1;
        assert_int_not_equal(crypto_sign_verify_detached(s, (uint8_t *)msg, len, pk), 0);
        n++;
    }
    free((void *)text.p);
    assert_int_equal(n, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_x25519),        cmocka_unit_test(test_chacha20poly1305),
        cmocka_unit_test(test_ed25519),       cmocka_unit_test(test_blake2b),
        cmocka_unit_test(test_blake2b_keyed), cmocka_unit_test(test_hmac),
        cmocka_unit_test(test_bep44),
    };
    if (proto_init()) return 2;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
