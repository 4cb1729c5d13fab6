/* Beacons: what is written is read, by holders of the swarm key alone; everything else is refused.
 */
#include "proto/beacon.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct swarm_key key = { { 1, 2, 3 } };
static struct beacon_key k;

static int setup(void **state)
{
    (void)state;
    if (proto_init()) return 1;
    beacon_key_of(&k, &key);
    return 0;
}

static struct beacon sample(void)
{
    struct beacon b = { .port = 7070, .instance = { 9, 8, 7 } };
    memset(b.id.b, 0x5a, sizeof b.id.b);
    return b;
}

static void test_round_trip(void **state)
{
    (void)state;
    uint8_t bytes[BEACON_BYTES];
    struct beacon b = sample(), got;

    beacon_write(bytes, &b, &k);
    assert_memory_equal(bytes, "SWRB\1\0\x1b\x9e", 8);
    assert_int_equal(beacon_read(&got, slice_of(bytes, sizeof bytes), &k), ERR_OK);
    assert_true(node_id_equal(&got.id, &b.id));
    assert_int_equal(got.port, 7070);
    assert_memory_equal(got.instance, b.instance, INSTANCE_BYTES);
}

/* Every bit counts, and no length but one is right. */
static void test_damage(void **state)
{
    (void)state;
    uint8_t bytes[BEACON_MAX + 1] = { 0 };
    struct beacon b = sample(), got;

    beacon_write(bytes, &b, &k);
    for (unsigned bit = 0; bit < BEACON_BYTES * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_not_equal(beacon_read(&got, slice_of(bytes, BEACON_BYTES), &k), ERR_OK);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t n = 0; n <= sizeof bytes; n++)
        if (n != BEACON_BYTES)
            assert_int_equal(beacon_read(&got, slice_of(bytes, n), &k), ERR_MALFORMED);
    bytes[4] = 2; /* a later version may be longer */
    assert_int_equal(beacon_read(&got, slice_of(bytes, 100), &k), ERR_UNSUPPORTED);
}

static void test_other_swarm(void **state)
{
    (void)state;
    uint8_t bytes[BEACON_BYTES];
    struct beacon b = sample(), got;
    struct beacon_key other, forged;

    beacon_key_of(&other, swarm_key_public());
    beacon_write(bytes, &b, &other);
    assert_int_equal(beacon_read(&got, slice_of(bytes, sizeof bytes), &k), ERR_DENIED);
    forged = other; /* the tag is no secret: whoever copies it still lacks the key of the MAC */
    memcpy(forged.tag, k.tag, sizeof k.tag);
    beacon_write(bytes, &b, &forged);
    assert_int_equal(beacon_read(&got, slice_of(bytes, sizeof bytes), &k), ERR_AUTH);
    b.port = 0;
    beacon_write(bytes, &b, &k);
    assert_int_equal(beacon_read(&got, slice_of(bytes, sizeof bytes), &k), ERR_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_other_swarm),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
