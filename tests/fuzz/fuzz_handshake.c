/* The handshake: bytes from a stranger, to either end, and the hello of one who knows the swarm
 * key. Randomness and keys are fixed, so that a recorded handshake is a seed that opens.
 *
 *     mode  0 to a responder, 1 to an initiator, 2 a hello; cut, for 0 and 1: bytes a feed; bytes
 */
#include "tests/proto/conn_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void try_hello(struct slice hello)
{
    static struct raw r;
    struct conn_config config = config_b();
    struct raw_setup setup = { .me = &alice, .hello = hello };
    struct conn *c;
    struct why why;

    if (hello.n > 1024 || !hello.n) return;
    if (conn_open(&c, &config)) abort();
    enum err e = raw_open(&r, &setup, c, &why);
    if ((e == ERR_OK) != (conn_state(c) == CONN_OPEN)) abort();
    if (!e && !node_id_equal(conn_peer(c), &alice.id)) abort(); /* no other key has signed */
    conn_close(c);
}

static void try_bytes(struct conn_config config, struct slice bytes, size_t cut)
{
    struct conn *c;
    struct why why;
    struct slice p, message;
    enum err e = ERR_OK;

    if (conn_open(&c, &config)) abort();
    while (bytes.n && !e) {
        size_t take = bytes.n < cut ? bytes.n : cut;
        e = conn_feed(c, slice_of(bytes.p, take), 0, &why);
        bytes = slice_of(bytes.p + take, bytes.n - take);
        while ((p = conn_pending(c)).n) conn_sent(c, p.n);
    }
    if (conn_state(c) == CONN_OPEN) {
        const struct node_id *other = config.initiator ? &bob.id : &alice.id;
        if (!node_id_equal(conn_peer(c), other)) abort();
    }
    if ((e != ERR_OK) != (conn_state(c) == CONN_DEAD)) abort();
    while (conn_next(c, &message))
        if (message.n > msg_limit(message)) abort();
    conn_close(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2 || proto_init()) return 0;
    world_init();
    struct slice rest = slice_of(data + 2, n - 2);
    if (data[0] % 3 == 2)
        try_hello(rest);
    else
        try_bytes(data[0] % 3 ? config_a() : config_b(), rest, data[1] ? data[1] : SIZE_MAX);
    return 0;
}
