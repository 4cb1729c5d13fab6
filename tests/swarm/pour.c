/* pour - rows of hidden vectors over a line, as fast as it takes them.
 *
 *   pour take HOST:PORT                  prints its link, and takes until it is killed
 *   pour give LINK SECONDS BYTES [UPLOAD]  messages of so many bytes, two of which wait at any
 * time; then prints what has arrived, in kbit/s
 *
 * UPLOAD: bytes a second, as of swarm-node. */
#include "net/net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOOK_MS = 2, BEHIND = 2 };

static struct hub hub;
static struct net *net;
static struct identity me;
static struct link to;
static uv_timer_t timer;
static uint64_t end_ms, begun_ms;
static size_t bytes;
static uint32_t asked, answered; /* PINGs would pass the rows: a session's messages do not */
static bool is_giver;

static void on_closed(void *arg)
{
    (void)arg;
    hub_stop(&hub);
}

static void end(void)
{
    double s = (double)(now_ms(&hub) - begun_ms) / 1000;
    printf("%.0f\n", (double)answered * (double)bytes * 8 / s / 1000);
    uv_close((uv_handle_t *)&timer, NULL);
    net_close(net, on_closed, NULL);
}

static void give(void)
{
    static uint8_t rows[ACT_BYTES_MAX], session[SESSION_BYTES];
    struct msg m = { .type = MSG_ACT };
    m.u.ACT.session = slice_of(session, sizeof session);
    m.u.ACT.rows = 1;
    m.u.ACT.x = slice_of(rows, bytes);
    while (asked - answered < BEHIND) {
        m.u.ACT.step = asked++;
        if (net_send(net, &to.id, &m)) {
            fputs("the line is gone\n", stderr);
            exit(1);
        }
    }
}

static void on_timer(uv_timer_t *t)
{
    (void)t;
    if (now_ms(&hub) >= end_ms)
        end();
    else
        give();
}

/* The taker says of each that it has come. */
static void on_mail(void *arg, struct mail *m)
{
    (void)arg;
    if (m->m.type == MSG_ACT) {
        struct msg done = { .type = MSG_STEP_DONE };
        done.u.STEP_DONE.session = m->m.u.ACT.session;
        done.u.STEP_DONE.step = m->m.u.ACT.step;
        answered += net_send(net, &m->from, &done) == ERR_OK; /* it may have gone */
    } else if (m->m.type == MSG_STEP_DONE) {
        answered++;
    }
    m->note.drop(&m->note);
}

static void on_peer(void *arg, const struct node_id *id, bool up, const char *why)
{
    (void)arg, (void)id;
    if (!up && is_giver && now_ms(&hub) < end_ms) {
        fprintf(stderr, "the line is lost: %s\n", why);
        exit(1);
    }
}

static void on_dialled(void *arg, const struct node_id *id, enum err e, const char *why)
{
    (void)arg, (void)id;
    if (e) {
        fprintf(stderr, "no line: %s\n", why);
        exit(1);
    }
    begun_ms = now_ms(&hub);
    end_ms += begun_ms;
    (void)uv_timer_start(&timer, on_timer, 0, LOOK_MS);
}

static int refuse(const char *why)
{
    fprintf(stderr, "%s\n", why);
    return 1;
}

int main(int argc, char **argv)
{
    struct why why = { "" };
    char host[256], text[400];
    uint16_t port = 0;
    is_giver = argc >= 5 && strcmp(argv[1], "give") == 0;
    bool is_taker = argc == 3 && strcmp(argv[1], "take") == 0;

    if (!is_giver && !is_taker) return refuse("pour take HOST:PORT | give LINK SECONDS BYTES");
    if (proto_init() || hub_init(&hub)) return refuse("no start");
    if (is_taker && hostport_parse(host, &port, argv[2], &why)) return refuse(why.text);
    if (is_giver && link_parse(&to, argv[2], &why)) return refuse(why.text);
    identity_make(&me);
    struct net_config c = { .me = &me,
                            .swarm = swarm_key_public(),
                            .listen_host = is_taker ? host : NULL,
                            .listen_port = port,
                            .agent = "pour",
                            .upload = argc > 5 ? strtoull(argv[5], NULL, 10) : 0,
                            .on_mail = on_mail,
                            .on_peer = on_peer };
    if (net_open(&net, &hub, &c, &why)) return refuse(why.text);
    if (is_giver) {
        end_ms = strtoull(argv[3], NULL, 10) * 1000;
        bytes = strtoull(argv[4], NULL, 10);
        if (bytes == 0 || bytes > ACT_BYTES_MAX) return refuse("no such size");
        uv_timer_init(&hub.loop, &timer);
        net_dial(net, &to.id, to.host, to.port, on_dialled, NULL);
    } else {
        struct link l = { .id = me.id, .port = net_port(net) };
        snprintf(l.host, sizeof l.host, "%s", host);
        link_text(text, sizeof text, &l);
        printf("%s\n", text);
        fflush(stdout);
    }
    hub_run(&hub);
    hub_fini(&hub);
    identity_fini(&me);
    return 0;
}
