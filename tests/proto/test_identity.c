#include "proto/bech32m.h"
#include "proto/identity.h"
#include "tests/proto/vectors.h"

#include <sodium.h>

/* BIP-350's text has python escapes for bytes outside ASCII. */
static void unescape(char *s)
{
    char *o = s;
    for (; *s; s++) {
        if (s[0] == '\\' && s[1] == 'x') {
            *o++ = (char)(hex_digit((uint8_t)s[2]) << 4 | hex_digit((uint8_t)s[3]));
            s += 3;
        } else {
            *o++ = *s;
        }
    }
    *o = 0;
}

static void test_bip350(void **state)
{
    struct slice text = file_read(TESTS_DIR "/vectors/bech32m/bip350.txt");
    unsigned valid = 0, invalid = 0;
    (void)state;

    for (char *line = (char *)text.p, *end; line && *line; line = end) {
        end = strchr(line, '\n');
        if (end) *end++ = 0;
        if (line[0] != 'V' && line[0] != 'I') continue;
        char prefix[BECH32M_PREFIX_MAX + 1];
        uint8_t values[BECH32M_TEXT_MAX];
        size_t n;
        struct why why = { "" };
        unescape(line + 2);
        enum err e = bech32m_split(prefix, values, &n, line + 2, &why);
        if (line[0] == 'V') {
            assert_int_equal(e, ERR_OK);
            valid++;
        } else {
            assert_int_not_equal(e, ERR_OK);
            assert_int_not_equal(why.text[0], 0);
            invalid++;
        }
    }
    free((void *)text.p);
    assert_int_equal(valid, 7);
    assert_int_equal(invalid, 14);
}

static void test_node_id_examples(void **state)
{
    struct slice text = file_read(TESTS_DIR "/vectors/bech32m/node-id-examples.txt");
    unsigned n = 0;
    (void)state;

    for (char *line = (char *)text.p, *end; line && *line; line = end) {
        end = strchr(line, '\n');
        if (end) *end++ = 0;
        if (line[0] == '#') continue;
        struct node_id id, back;
        char spelled[NODE_ID_TEXT], brief[NODE_ID_SHORT];
        hex_bytes(id.b, ID_BYTES, slice_of(line, 64));
        node_id_text(spelled, &id);
        assert_string_equal(spelled, line + 65);
        assert_int_equal(node_id_parse(&back, spelled, NULL), ERR_OK);
        assert_true(node_id_equal(&id, &back));
        node_id_short(brief, &id);
        assert_int_equal(strlen(brief), 16);
        assert_memory_equal(brief, spelled, 9);
        assert_string_equal(brief + 9 + 3, spelled + 58);
        n++;
    }
    free((void *)text.p);
    assert_int_equal(n, 3);
}

/* Any one character wrong, and any two neighbours swapped, is noticed. */
static void test_typing_errors(void **state)
{
    static const char good[] = "swm16adfsqvzky9t042tlmfujeq88g8wzuhnm2nzxfd0qgdx3ac82ydq50tg2v";
    struct node_id id;
    char text[NODE_ID_TEXT];
    struct why why;
    (void)state;

    assert_int_equal(node_id_parse(&id, good, &why), ERR_OK);
    for (size_t i = 0; i < sizeof good - 1; i++)
        for (int c = 1; c < 256; c++) {
            if ((char)c == good[i]) continue;
            strcpy(text, good);
            text[i] = (char)c;
            assert_int_not_equal(node_id_parse(&id, text, NULL), ERR_OK);
        }
    for (size_t i = 0; i + 1 < sizeof good - 1; i++) {
        strcpy(text, good);
        text[i] = good[i + 1];
        text[i + 1] = good[i];
        if (good[i] != good[i + 1]) assert_int_not_equal(node_id_parse(&id, text, NULL), ERR_OK);
    }
    for (size_t i = 0; i < sizeof good - 1; i++) {
        memcpy(text, good, i);
        text[i] = 0;
        assert_int_not_equal(node_id_parse(&id, text, &why), ERR_OK);
    }
    strcpy(text, good);
    for (char *p = text; *p; p++)
        if (*p >= 'a' && *p <= 'z') *p = (char)(*p - 32);
    assert_int_equal(node_id_parse(&id, text, NULL), ERR_OK); /* all upper case is allowed */
}

/* Strings with a good checksum that are no node id all the same. */
static void test_wrong_lengths(void **state)
{
    static const struct {
        const char *what, *text;
        bool good;
    } cases[] = {
        { "spare bits that are not zero",
          "swm1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqpsqvc57", false },
        { "spare bits that are not zero",
          "swm1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqgnzuph3", false },
        { "a group too few", "swm1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqu8c5av",
          false },
        { "a group too many", "swm1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5pa5pd",
          false },
        { "the checksum of the older bech32",
          "swm1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqc2gpvw", false },
        { "another prefix", "swn1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq9tpz88",
          false },
        { "a good one", "swm1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqdkcdfv", true },
    };
    struct node_id id;
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if ((node_id_parse(&id, cases[i].text, NULL) == ERR_OK) != cases[i].good)
            fail_msg("%s", cases[i].what);
}

static void test_keys_are_not_mixed_up(void **state)
{
    struct swarm_key k, back;
    struct node_id id = { { 1 } };
    char text[SWARM_KEY_TEXT];
    struct why why;
    (void)state;

    swarm_key_make(&k);
    swarm_key_text(text, &k);
    assert_int_equal(strlen(text), 62);
    assert_int_equal(swarm_key_parse(&back, text, &why), ERR_OK);
    assert_memory_equal(&k, &back, sizeof k);
    assert_int_not_equal(node_id_parse(&id, text, &why), ERR_OK);
    assert_null(strstr(why.text, text)); /* it is a secret */
    assert_non_null(strstr(why.text, "swarm key"));

    text[20] = text[20] == 'q' ? 'p' : 'q';
    assert_int_equal(swarm_key_parse(&back, text, &why), ERR_AUTH);
    assert_null(strstr(why.text, text + 4));
    assert_string_equal(why.text, "unusable swarm key: its checksum does not fit; a character is "
                                  "mistyped or missing");
    node_id_text(text, &id);
    assert_int_not_equal(swarm_key_parse(&back, text, &why), ERR_OK);

    uint8_t hash[32], a[8], b[8];
    crypto_generichash(hash, 32, (const uint8_t *)"swarm public key v1", 19, NULL, 0);
    assert_memory_equal(swarm_key_public()->b, hash, 32);
    swarm_key_tag(a, &k);
    swarm_key_tag(b, swarm_key_public());
    assert_memory_not_equal(a, b, 8);
    assert_memory_not_equal(a, k.b, 8);
}

static void test_identity_file(void **state)
{
    struct identity me, back;
    uint8_t file[IDENTITY_FILE_BYTES];
    struct why why;
    static const struct identity wiped;
    (void)state;

    identity_make(&me);
    identity_to_file(&me, file);
    assert_int_equal(identity_from_file(&back, slice_of(file, sizeof file), &why), ERR_OK);
    assert_memory_equal(&me, &back, sizeof me);
    for (size_t bit = 0; bit < sizeof file * 8; bit++) {
        file[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(identity_from_file(&back, slice_of(file, sizeof file), &why), ERR_OK);
        file[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t n = 0; n < sizeof file; n++)
        assert_int_equal(identity_from_file(&back, slice_of(file, n), &why), ERR_MALFORMED);
    identity_fini(&me);
    assert_memory_equal(&me, &wiped, sizeof me);
}

/* RFC 8032 7.1 test 1's key, over domain || 0 || text with libsodium alone. */
static void test_sign(void **state)
{
    struct identity me, other;
    uint8_t seed[32], sig[SIG_BYTES];
    (void)state;

    hex_bytes(seed, 32,
              slice_str("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"));
    identity_from_seed(&me, seed);
    char text[NODE_ID_TEXT];
    node_id_text(text, &me.id);
    assert_string_equal(text, "swm16adfsqvzky9t042tlmfujeq88g8wzuhnm2nzxfd0qgdx3ac82ydq50tg2v");

    static uint8_t big[100000];
    const size_t sizes[] = { 0, 1, 40, 4096, sizeof big };
    identity_make(&other);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct slice body = slice_of(big, sizes[i]);
        big[0] = (uint8_t)i;
        identity_sign(&me, "swarm-test-v1", body, sig);
        assert_true(identity_verify(&me.id, "swarm-test-v1", body, sig));
        assert_false(identity_verify(&me.id, "swarm-test-v2", body, sig));
        assert_false(identity_verify(&other.id, "swarm-test-v1", body, sig));
        sig[i] ^= 1;
        assert_false(identity_verify(&me.id, "swarm-test-v1", body, sig));
    }
    identity_sign(&me, "d", slice_str("text"), sig);
    assert_int_equal(crypto_sign_verify_detached(sig, (const uint8_t *)"d\0text", 6, me.id.b), 0);
    /* the zero byte keeps domains apart */
    assert_false(identity_verify(&me.id, "dt", slice_str("ext"), sig));
}

#define ID "swm16adfsqvzky9t042tlmfujeq88g8wzuhnm2nzxfd0qgdx3ac82ydq50tg2v"

static void test_links(void **state)
{
    static const char *const good[] = {
        "swarm://" ID "@example.org:7000",
        "swarm://" ID "@127.0.0.1:1",
        "swarm://" ID "@[::1]:65535",
        "swarm://" ID "@[fe80::1%eth0]:7",
    };
    static const char *const bad[] = {
        "",
        "swarm:/" ID "@a:1",
        "http://" ID "@a:1",
        "swarm://" ID,
        "swarm://" ID "@",
        "swarm://" ID "@a",
        "swarm://" ID "@a:",
        "swarm://" ID "@:1",
        "swarm://" ID "@a:0",
        "swarm://" ID "@a:65536",
        "swarm://" ID "@a:-1",
        "swarm://" ID "@a:1x",
        "swarm://" ID "@a:000001",
        "swarm://" ID "@::1:7000",
        "swarm://" ID "@[::1]",
        "swarm://" ID "@[::1:7000",
        "swarm://" ID "@[]:7000",
        "swarm://" ID "@a b:7000",
        "swarm://" ID "@a\n:7000",
        "swarm://" ID ID "@a:1",
        "swarm://@a:1",
        "swarm://x@a:1",
    };
    struct link l;
    struct why why;
    char text[400];
    (void)state;

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(link_parse(&l, good[i], &why), ERR_OK);
        link_text(text, sizeof text, &l);
        assert_string_equal(text, good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        why.text[0] = 0;
        assert_int_not_equal(link_parse(&l, bad[i], &why), ERR_OK);
        assert_true(strlen(why.text) > 10);
    }
    char host[256], longest[300];
    uint16_t port;
    memset(longest, 'a', sizeof longest);
    strcpy(longest + 255, ":1");
    assert_int_equal(hostport_parse(host, &port, longest, &why), ERR_OK);
    assert_int_equal(strlen(host), 255);
    strcpy(longest + 255, "a:1");
    assert_int_not_equal(hostport_parse(host, &port, longest, &why), ERR_OK);
    assert_int_equal(hostport_parse(host, &port, "0.0.0.0:0", &why), ERR_OK);
    assert_int_equal(port, 0);
}

static struct slice v4(uint8_t a, uint8_t b)
{
    static uint8_t addr[6];
    memcpy(addr, (uint8_t[]){ a, b, 3, 4, 0x1b, 0x58 }, 6);
    return slice_of(addr, 6);
}

static struct slice v6(uint8_t a, uint8_t b, uint8_t last)
{
    static uint8_t addr[18];
    memset(addr, 0, sizeof addr);
    addr[0] = a;
    addr[1] = b;
    addr[15] = last;
    addr[17] = 80;
    return slice_of(addr, 18);
}

static void test_addresses(void **state)
{
    char text[64];
    uint8_t mapped[18] = { [10] = 0xff, [11] = 0xff, [12] = 127 };
    (void)state;

    assert_true(addr_text(text, sizeof text, v4(1, 2)));
    assert_string_equal(text, "1.2.3.4:7000");
    assert_true(addr_text(text, sizeof text, v6(0, 0, 1)));
    assert_string_equal(text, "[::1]:80");
    assert_false(addr_text(text, 5, v4(1, 2)));
    for (size_t n = 0; n < 20; n++)
        if (n != 6 && n != 18) {
            assert_false(addr_text(text, sizeof text, slice_of(mapped, n)));
            assert_false(addr_is_loopback(slice_of(mapped, n)));
            assert_false(addr_is_private(slice_of(mapped, n)));
        }

    assert_true(addr_is_loopback(v4(127, 1)) && addr_is_loopback(v6(0, 0, 1)));
    assert_true(addr_is_loopback(slice_of(mapped, 18)));
    assert_false(addr_is_loopback(v4(128, 0)) || addr_is_loopback(v6(0, 0, 2)));
    assert_true(addr_is_private(v4(10, 0)) && addr_is_private(v4(172, 16)));
    assert_true(addr_is_private(v4(172, 31)) && addr_is_private(v4(192, 168)));
    assert_true(addr_is_private(v4(100, 127)) && addr_is_private(v4(169, 254)));
    assert_false(addr_is_private(v4(172, 32)) || addr_is_private(v4(100, 128)));
    assert_false(addr_is_private(v4(192, 169)) || addr_is_private(v4(8, 8)));
    assert_true(addr_is_private(v6(0xfd, 0, 1)) && addr_is_private(v6(0xfe, 0x80, 1)));
    assert_false(addr_is_private(v6(0x20, 1, 1)) || addr_is_private(v6(0xfe, 0xc0, 1)));
    mapped[12] = 10;
    assert_true(addr_is_private(slice_of(mapped, 18)));
}

/* python3: int.from_bytes(blake2b(pos.to_bytes(8,"little"), key=seed.to_bytes(8,"little"),
 * digest_size=32).digest()[:8], "little") */
static void test_draw(void **state)
{
    (void)state;
    assert_true(draw_hash(0, 0) == 0xaaf451e859787fffu);
    assert_true(draw_hash(1, 2) == 0x672236a4b71e052du);
    assert_true(draw_hash(UINT64_MAX, 1ull << 40) == 0xbed6c7c5147d26c0u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bip350),
        cmocka_unit_test(test_node_id_examples),
        cmocka_unit_test(test_typing_errors),
        cmocka_unit_test(test_wrong_lengths),
        cmocka_unit_test(test_keys_are_not_mixed_up),
        cmocka_unit_test(test_identity_file),
        cmocka_unit_test(test_sign),
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_draw),
    };
    if (proto_init()) return 2;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
