/* One connection whose socket is stdin and stdout, for tests/interop_noise.py.
 *
 *     conn_stdio init|resp fast|bulk
 *
 * Answers PING with PONG and sends every ACT back as it came; ends with the peer's CLOSE.  Exit 0:
 * the peer said CLOSE; 1: anything else, with the reason on stderr.  Identity and swarm key are
 * fixed: seed 62 00 ..., the public swarm key.  Sends REKEY after every 4 records. */
#include "proto/conn.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static bool flush(struct conn *c)
{
    struct slice p;
    while ((p = conn_pending(c)).n) {
        ssize_t n = write(STDOUT_FILENO, p.p, p.n);
        if (n <= 0) return false;
        conn_sent(c, (size_t)n);
    }
    return true;
}

static enum err answer(struct conn *c, struct slice bytes, struct why *why)
{
    static struct msg m;

    enum err e = msg_decode(&m, bytes, why);
    if (e) return e;
    if (m.type == MSG_PING) {
        struct msg pong = { .type = MSG_PONG, .rid = m.rid };
        pong.u.PONG.stamp = m.u.PING.stamp;
        return conn_send(c, &pong);
    }
    return m.type == MSG_ACT ? conn_send(c, &m) : ERR_OK;
}

static enum err run(struct conn *c, struct why *why)
{
    static uint8_t bytes[1 << 16];
    struct slice message;
    bool told = false;

    for (;;) {
        if (!flush(c)) return fail(why, ERR_IO, "stdout is gone");
        ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);
        if (n <= 0) return fail(why, ERR_IO, "stdin ended without CLOSE");
        enum err fed = conn_feed(c, slice_of(bytes, (size_t)n), 0, why), e = ERR_OK;
        if (!told && conn_state(c) == CONN_OPEN) {
            char id[NODE_ID_TEXT];
            node_id_text(id, conn_peer(c));
            fprintf(stderr, "open %s\n", id);
            told = true;
        }
        while (!e && conn_next(c, &message)) e = fed ? ERR_OK : answer(c, message, why);
        if (fed || e) {
            (void)flush(c);
            return fed ? fed : e;
        }
    }
}

int main(int argc, char **argv)
{
    static const uint8_t seed[32] = { 0x62 };
    struct identity me;
    struct conn *c;
    struct why why = { "" };

    if (argc != 3 || proto_init()) return 2;
    identity_from_seed(&me, seed);
    struct conn_config config = {
        .me = &me,
        .swarm = swarm_key_public(),
        .initiator = !strcmp(argv[1], "init"),
        .class_ = !strcmp(argv[2], "bulk") ? CONN_BULK : CONN_FAST,
        .agent = "stdio/1",
        .random = random_bytes,
        .unix_s = (uint64_t)time(NULL),
        .rekey_records = 4,
    };
    if (conn_open(&c, &config)) return 2;
    enum err e = run(c, &why);
    fprintf(stderr, "%s\n", why.text);
    conn_close(c);
    identity_fini(&me);
    return e != ERR_CLOSED;
}
