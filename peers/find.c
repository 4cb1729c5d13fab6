#include "peers/find.h"

#include "base/log.h"
#include "peers/lan.h"
#include "peers/meet.h"
#include "peers/reach.h"
#include "store/file.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    SAY_FIRST_MS = 3500, /* the router has answered by then, and friends */
    SAY_GAP_MS = 1000,
    SAY_COUNTS_MS = 600000,
};
enum { TICK_MS = 500, MET_MAX = 64, TOLD_MAX = 32, RETRY_MAX_MS = 1200000 };

/* A node that was heard and is not connected. */
struct met {
    struct node_id id;
    uint64_t at_ms, next_ms; /* heard; dialled again not before; at 0: a free row */
    unsigned failures;
    bool dialing, told;
    struct why said;
};

struct find {
    struct find_config cfg;
    bool is_private;
    struct lan *lan; /* owned; NULL: off */
    uv_timer_t tick;
    struct met met[MET_MAX];
    unsigned n_told;
    struct meet *meet;   /* owned */
    struct reach *reach; /* owned */
    /* the line of log */
    uint64_t say_ms, said_ms;   /* not before; when it was last said */
    char said[800], shape[800]; /* the last line; the same without its counts */
    bool was_alone;
    /* closing */
    bool closing;
    unsigned pending; /* dials and the timer that still point here */
};

static uint64_t now_of(const struct find *f)
{
    return now_ms(f->cfg.hub);
}

static void release(struct find *f)
{
    if (--f->pending || !f->closing) return;
    free(f);
}

/* --- who was heard --- */

static struct met *met_find(struct find *f, const struct node_id *id)
{
    for (unsigned i = 0; i < MET_MAX; i++)
        if (f->met[i].at_ms && node_id_equal(&f->met[i].id, id)) return &f->met[i];
    return NULL;
}

/* The row of id; a new one takes the place of the one heard longest ago.  NULL: all are dialled. */
static struct met *met_get(struct find *f, const struct node_id *id)
{
    struct met *m = met_find(f, id);
    for (unsigned i = 0; i < MET_MAX && (!m || !node_id_equal(&m->id, id)); i++)
        if (!f->met[i].dialing && (!m || f->met[i].at_ms < m->at_ms)) m = &f->met[i];
    if (m && (!m->at_ms || !node_id_equal(&m->id, id))) *m = (struct met){ .id = *id };
    if (m) m->at_ms = now_of(f) + 1; /* never 0 */
    return m;
}

/* --- dialling --- */

struct attempt {
    struct find *find;
    struct node_id id;
    char at[300]; /* host and port, for people */
};

static void failed(struct find *f, struct met *m, const struct attempt *a, const char *why)
{
    char name[NODE_ID_SHORT];
    unsigned doublings = m->failures < 7 ? m->failures : 7;
    uint64_t wait = (uint64_t)FIND_RETRY_MS << doublings;

    m->failures++;
    m->next_ms = now_of(f) + (wait < RETRY_MAX_MS ? wait : RETRY_MAX_MS);
    if (m->failures < 2 || strcmp(m->said.text, why) == 0) return; /* it may dial us meanwhile */
    (void)fail(&m->said, ERR_IO, "%s", why);
    node_id_short(name, &m->id);
    log_warn("%s was heard on this network at %s, but cannot be joined: %s", name, a->at, why);
}

static void on_dialled(void *arg, const struct node_id *id, enum err e, const char *why)
{
    struct attempt *a = arg;
    struct find *f = a->find;
    struct met *m = met_find(f, &a->id);
    (void)id;

    if (m) m->dialing = false;
    if (m && !e) {
        m->failures = 0;
        m->said.text[0] = 0;
    }
    if (m && e && !f->closing) failed(f, m, a, why);
    free(a);
    release(f);
}

static void dial(struct find *f, struct met *m, const char *host, uint16_t port)
{
    struct attempt *a = calloc(1, sizeof *a);
    if (!a) return;
    a->find = f;
    a->id = m->id;
    bool v6 = strchr(host, ':') != NULL;
    snprintf(a->at, sizeof a->at, "%s%s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "", port);
    m->dialing = true;
    m->next_ms = now_of(f) + FIND_RETRY_MS;
    f->pending++;
    net_dial(f->cfg.net, &a->id, host, port, on_dialled, a);
}

/* --- beacons --- */

static void tell_once(struct find *f, struct met *m, const char *host, uint16_t port)
{
    struct link l = { .id = m->id, .port = port };
    char id[NODE_ID_TEXT], text[400];

    if (m->told || f->n_told == TOLD_MAX) return; /* ids are cheap: nobody is to fill the log */
    m->told = true;
    f->n_told++;
    snprintf(l.host, sizeof l.host, "%s", host);
    node_id_text(id, &m->id);
    link_text(text, sizeof text, &l);
    log_info("node %s was heard on this network; to join it: swarm-node --join %s, or --lan-join "
             "for all that are heard here",
             id, text);
}

static void on_heard(void *arg, const struct node_id *id, const char *host, uint16_t port)
{
    struct find *f = arg;

    if (f->closing || net_is_up(f->cfg.net, id)) return;
    struct met *m = met_get(f, id);
    if (!m || m->dialing) return;
    if (!f->is_private && !f->cfg.lan_join && !meet_knows(f->meet, id))
        tell_once(f, m, host, port);
    else if (now_of(f) >= m->next_ms && meet_connected(f->meet) < FIND_LINKS)
        dial(f, m, host, port);
}

/* --- events --- */

void find_on_peer(struct find *f, const struct node_id *id, bool up)
{
    if (f->closing) return;
    meet_on_peer(f->meet, id, up);
    reach_on_peer(f->reach, id, up);
}

void find_on_mail(struct find *f, struct mail *m)
{
    if (f->closing)
        m->note.drop(&m->note);
    else
        reach_on_mail(f->reach, m);
}

/* --- the line of log --- */

/* "3 peers connected; 2 found on this network", or what to do about being alone. */
static void text_company(const struct find *f, char *out, size_t cap)
{
    unsigned n = meet_connected(f->meet), here = f->lan ? lan_heard(f->lan) : 0;
    char found[48] = "";

    if (f->lan) snprintf(found, sizeof found, "; %u found on this network", here);
    if (n)
        snprintf(out, cap, "%u peer%s connected%s", n, n == 1 ? "" : "s", found);
    else if (f->is_private && f->lan)
        snprintf(out, cap,
                 "alone so far: start a node with the same swarm key on this network, or --join "
                 "a link");
    else
        snprintf(out, cap, "alone so far: --join a link to enter a swarm%s", found);
}

void find_text(const struct find *f, char *out, size_t cap)
{
    char company[160];

    text_company(f, company, sizeof company);
    reach_text(f->reach, out, cap, company);
}

/* Said again when the sentence is another; when only its counts are, once in a while. */
static void say(struct find *f)
{
    uint64_t now = now_of(f);
    char text[sizeof f->said], shape[sizeof f->shape];
    bool alone = meet_connected(f->meet) == 0;

    if (now < f->say_ms) return;
    find_text(f, text, sizeof text);
    reach_text(f->reach, shape, sizeof shape, "");
    if (strcmp(text, f->said) == 0) return;
    bool is_new = strcmp(shape, f->shape) != 0 || alone != f->was_alone;
    if (!is_new && now - f->said_ms < SAY_COUNTS_MS) return;
    log_info("%s", text);
    memcpy(f->said, text, sizeof text);
    memcpy(f->shape, shape, sizeof shape);
    f->was_alone = alone;
    f->said_ms = now;
    f->say_ms = now + SAY_GAP_MS;
}

static void on_tick(uv_timer_t *timer)
{
    struct find *f = timer->data;
    meet_tick(f->meet);
    reach_tick(f->reach);
    say(f);
}

/* --- opening and closing --- */

static void open_lan(struct find *f)
{
    struct why why = { "" };
    struct slice listener = net_listen_addr(f->cfg.net);
    struct lan_config c = { .hub = f->cfg.hub,
                            .me = f->cfg.me->id,
                            .swarm = f->cfg.swarm,
                            .listener = listener,
                            .arg = f,
                            .on_heard = on_heard };

    uint64_t instance = net_instance(f->cfg.net);
    memcpy(c.instance, &instance, sizeof c.instance);
    if (!f->cfg.lan || !listener.n || addr_is_loopback(listener)) return;
    if (lan_open(&f->lan, &c, &why))
        log_warn("nodes on this network cannot be found by themselves: %s", why.text);
}

static enum err open_meet(struct find *f)
{
    char file[FILE_PATH_MAX];
    struct why why = { "" };
    struct meet_config c = { .hub = f->cfg.hub,
                             .net = f->cfg.net,
                             .peers = f->cfg.peers,
                             .swarm = f->cfg.swarm,
                             .file = file,
                             .bootstrap = f->cfg.bootstrap,
                             .n_bootstrap = f->cfg.n_bootstrap };

    if (!f->cfg.identity_file || meet_file(file, sizeof file, f->cfg.identity_file, &why))
        c.file = NULL;
    return meet_open(&f->meet, &c);
}

enum err find_open(struct find **out, const struct find_config *c)
{
    struct find *f = calloc(1, sizeof *f);
    if (!f) return ERR_NOMEM;
    f->cfg = *c;
    f->is_private = memcmp(c->swarm->b, swarm_key_public()->b, sizeof c->swarm->b) != 0;
    struct reach_config rc = { .hub = c->hub,
                               .net = c->net,
                               .peers = c->peers,
                               .reached = c->reached,
                               .advertised = c->advertised,
                               .portmap = c->portmap,
                               .arg = c->arg,
                               .on_change = c->on_reached };
    enum err e = reach_open(&f->reach, &rc);
    if (!e) e = open_meet(f);
    if (e) {
        reach_close(f->reach);
        free(f);
        return e;
    }
    f->say_ms = now_of(f) + SAY_FIRST_MS;
    if (uv_timer_init(&c->hub->loop, &f->tick)) abort(); /* it cannot fail */
    f->tick.data = f;
    f->pending = 1;
    open_lan(f);
    f->cfg.swarm = NULL;
    f->cfg.identity_file = NULL;
    f->cfg.bootstrap = NULL;
    (void)uv_timer_start(&f->tick, on_tick, TICK_MS, TICK_MS);
    *out = f;
    return ERR_OK;
}

static void on_tick_closed(uv_handle_t *handle)
{
    release(handle->data);
}

void find_close(struct find *f)
{
    if (!f) return;
    f->closing = true;
    lan_close(f->lan);
    meet_close(f->meet);
    reach_close(f->reach);
    f->meet = NULL;
    uv_close((uv_handle_t *)&f->tick, on_tick_closed);
}
