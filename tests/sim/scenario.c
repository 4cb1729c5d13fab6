#include "tests/sim/scenario.h"

#include "ask/journal.h"

#include "tests/sim/asker.h"
#include "tests/sim/disk_sim.h"
#include "tests/sim/liar.h"
#include "tests/sim/model_sim.h"
#include "tests/sim/sign_sim.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NODES_MAX = 12,
    ASKERS_MAX = 4,
    COORDINATORS_MAX = 3,
    SIGN_S = 60,      /* beyond patience: a question without any sign of life */
    QUIET_S = 600,    /* for open questions to end once nothing goes wrong any more */
    SESSION_S = 60,   /* for stages to notice that a session is over */
    STALLED_S = 300,  /* the same where a liar swallows rows: 180 s are a slow stage's */
    CONVERGE_S = 300, /* for the directories */
    SUSPECT_S = 100,  /* until a node that was lost is planned with again, and is connected */
    BANNED_S = 620,   /* until a liar, or whom it told lies of, is heard again */
    MEMORY_MAX = 96 << 20,
};

/* What may go wrong in a swarm; a seed chooses some. */
enum fault {
    FAULT_CRASH,
    FAULT_PLUG,
    FAULT_LEAVE,
    FAULT_FREEZE,
    FAULT_SLOW,
    FAULT_PARTITION,
    FAULT_CLOG,
    FAULT_RESET,
    FAULT_HALF_OPEN,
    FAULT_SKEW,
    FAULT_CLIENT,
    FAULT_DISK,
    FAULT_LIE,
    FAULTS
};

static struct swarm {
    struct sim_node node[NODES_MAX];
    unsigned n_nodes, n_coordinators;
    uint32_t n_layers;
    struct asker asker[ASKERS_MAX];
    struct node_id allow[ASKERS_MAX];
    unsigned n_askers;
    bool fault[FAULTS];
    bool is_over; /* nothing goes wrong any more */
    uint64_t calm_us, gap_us;
    unsigned n_faults;
    struct liar liar[NODES_MAX];
    unsigned n_liars;
} s;

/* --- who holds what --- */

static void place_init(struct place *p, unsigned i, uint32_t wide)
{
    static const uint32_t lines[] = { 125, 625, 2500, 125000 }; /* 1, 5, 20, 1000 Mbit/s */
    *p = (struct place){ .host = i, .slow = 1 };
    snprintf(p->name, sizeof p->name, "n%u", i);
    p->x = (uint32_t)draw_below(FOR_WORLD, wide);
    p->y = (uint32_t)draw_below(FOR_WORLD, wide);
    p->up_kb_s = lines[draw_below(FOR_WORLD, 4)];
    p->slow = (double)draw_from(FOR_WORLD, 5, 30) / 10;
}

/* The first nodes cover the model; the others hold what chance gives them. */
static void choose_layers(void)
{
    unsigned parts = (unsigned)draw_from(FOR_WORLD, 1, s.n_nodes < 5 ? s.n_nodes : 5);
    if (parts > s.n_layers) parts = s.n_layers;
    bool has_spares = draw_is(FOR_WORLD, 60);
    for (unsigned i = 0; i < s.n_nodes; i++) {
        struct sim_node *n = &s.node[i];
        unsigned part = i % parts;
        n->lo = s.n_layers * part / parts;
        n->hi = s.n_layers * (part + 1) / parts;
        if (i < parts || has_spares) continue;
        n->lo = (uint32_t)draw_below(FOR_WORLD, s.n_layers);
        n->hi = (uint32_t)draw_from(FOR_WORLD, n->lo + 1, s.n_layers);
    }
}

static void on_node_up(void *arg, struct sim_node *n)
{
    (void)arg;
    liar_restart(s.liar, s.n_liars, n);
}

static void make_nodes(void)
{
    static const uint32_t wides[] = { 500, 10 * MS, 60 * MS };
    uint32_t wide = wides[draw_below(FOR_WORLD, 3)];
    s.n_nodes = (unsigned)draw_from(FOR_WORLD, 3, NODES_MAX);
    s.n_layers = (uint32_t)draw_from(FOR_WORLD, 2, 12);
    s.n_coordinators = (unsigned)draw_from(FOR_WORLD, 1, COORDINATORS_MAX);
    uint32_t patience = (uint32_t)draw_from(FOR_WORLD, 3, 30);
    for (unsigned i = 0; i < s.n_nodes; i++) {
        struct sim_node *n = &s.node[i];
        memset(n, 0, sizeof *n);
        place_init(&n->place, i, wide);
        n->index = i;
        identity_make(&n->me);
        n->store.n_layers = s.n_layers;
        n->has_ends = i < s.n_coordinators;
        n->context = 2048;
        n->patience_s = patience;
        n->answers = s.n_layers % 2 ? 1 + s.n_layers % 3 : 0; /* at once; 0: all */
        n->allow = s.allow;
        n->n_allow = ASKERS_MAX;
        n->on_up = on_node_up;
        if (n->has_ends && draw_is(FOR_WORLD, 80))
            snprintf(n->journal_dir, sizeof n->journal_dir, "/sim/n%u", i);
        if (i == 0) continue;
        n->n_join = draw_is(FOR_WORLD, 50) && i > 1 ? 2 : 1;
        for (unsigned k = 0; k < n->n_join; k++) {
            unsigned to = k == 0 ? 0 : 1;
            n->join[k] = (struct link){ .id = s.node[to].me.id, .port = SIM_PORT };
            snprintf(n->join[k].host, sizeof n->join[k].host, "10.7.0.%u", to);
        }
    }
    choose_layers();
    for (unsigned i = 0; i < s.n_nodes; i++) {
        struct sim_node *n = &s.node[i];
        uint64_t positions = draw_from(FOR_WORLD, 400, 6000);
        n->kv_bytes = positions * (n->hi - n->lo) * SIM_KV_BYTES;
    }
}

static void open_asker(struct asker *a, const struct identity *me)
{
    char name[12];
    unsigned i = (unsigned)(a - s.asker);
    snprintf(name, sizeof name, "ask%u", i);
    struct sim_node *at = &s.node[draw_below(FOR_WORLD, s.n_coordinators)];
    unsigned host = draw_is(FOR_WORLD, 70) ? at->place.host : 200 + i;
    uint32_t patience_ms = draw_is(FOR_WORLD, 20) ? 0 : (uint32_t)draw_from(FOR_WORLD, 5000, 60000);
    a->n_layers = s.n_layers;
    sim_asker_open(a, name, host, me, at, patience_ms);
}

static void make_askers(void)
{
    s.n_askers = (unsigned)draw_from(FOR_WORLD, 1, ASKERS_MAX);
    for (unsigned i = 0; i < s.n_askers; i++) {
        struct identity me;
        identity_make(&me);
        s.allow[i] = me.id;
        open_asker(&s.asker[i], &me);
    }
}

/* --- who asks --- */

static void on_question(void *arg)
{
    struct asker *a = arg;
    if (s.is_over) return;
    if (!a->is_asking)
        sim_asker_ask(a, (uint32_t)draw_from(FOR_WORLD, 1, draw_is(FOR_WORLD, 20) ? 700 : 60),
                      (uint32_t)draw_from(FOR_WORLD, 1, draw_is(FOR_WORLD, 20) ? 600 : 80));
    else if (draw_is(FOR_WORLD, 5))
        sim_asker_cancel(a);
    (void)world_at(NULL, world_us() + draw_from(FOR_WORLD, 10 * MS, 4 * SECOND), on_question, a);
}

/* --- what goes wrong --- */

static struct sim_node *any_node(void)
{
    return &s.node[draw_below(FOR_FAULTS, s.n_nodes)];
}

static void on_restart(void *arg)
{
    struct sim_node *n = arg;
    if (n->runs && n->is_leaving && !s.is_over)
        (void)world_at(NULL, world_us() + SECOND, on_restart, n); /* once it has left */
    else if (!n->runs)
        sim_node_start(n);
}

/* At once, after a while, or only when all is over. */
static void restart_later(struct sim_node *n)
{
    uint64_t us;
    switch (draw_below(FOR_FAULTS, 4)) {
    case 0: us = draw_from(FOR_FAULTS, 20 * MS, 200 * MS); break;
    case 1: us = draw_from(FOR_FAULTS, 20 * MS, 5 * SECOND); break;
    case 2: us = draw_from(FOR_FAULTS, 20 * MS, 60 * SECOND); break;
    default: return;
    }
    (void)world_at(NULL, world_us() + us, on_restart, n);
}

static void on_thawed(void *arg)
{
    (void)arg;
    net_sim_refresh();
}

static void freeze(struct sim_node *n)
{
    uint64_t us =
        draw_from(FOR_FAULTS, 100 * MS, draw_is(FOR_FAULTS, 50) ? 3 * SECOND : 30 * SECOND);
    if (world_us() + us < n->place.thaw_us) return; /* events wait for that moment already */
    trace("%s is stopped for %.1f s", n->place.name, (double)us / SECOND);
    n->place.thaw_us = world_us() + us;
    net_sim_refresh();
    (void)world_at(NULL, n->place.thaw_us, on_thawed, NULL);
}

static void on_joined(void *arg)
{
    (void)arg;
    trace("the network is whole");
    for (unsigned i = 0; i < s.n_nodes; i++) s.node[i].place.group = 0;
    net_sim_refresh();
}

static void part(void)
{
    trace("the network falls apart");
    for (unsigned i = 0; i < s.n_nodes; i++)
        s.node[i].place.group = (unsigned)draw_below(FOR_FAULTS, 2);
    net_sim_refresh();
    (void)world_at(NULL, world_us() + draw_from(FOR_FAULTS, 500 * MS, 40 * SECOND), on_joined,
                   NULL);
}

static void skew(struct sim_node *n)
{
    int64_t most = draw_is(FOR_FAULTS, 50) ? 100 : 86400;
    n->place.skew_s = (int64_t)draw_below(FOR_FAULTS, (uint64_t)(2 * most + 1)) - most;
    trace("the clock of %s is off by %lld s", n->place.name, (long long)n->place.skew_s);
}

static void client_leaves(void)
{
    struct asker *a = &s.asker[draw_below(FOR_FAULTS, s.n_askers)];
    struct identity me = a->me;
    trace("%s leaves and comes back", a->place.name);
    sim_asker_close(a);
    open_asker(a, &me);
}

static void disk_fails(const struct sim_node *n)
{
    trace("the disk of %s fails for a while", n->place.name);
    disk_sim_fail(n->journal_dir, world_us() + draw_from(FOR_FAULTS, 100 * MS, 20 * SECOND));
}

static void do_fault(enum fault f)
{
    struct sim_node *n = any_node();
    switch (f) {
    case FAULT_CRASH:
    case FAULT_PLUG:
        if (!n->runs) return;
        sim_node_kill(n, f == FAULT_PLUG);
        restart_later(n);
        break;
    case FAULT_LEAVE:
        if (!n->runs) return;
        sim_node_leave(n);
        restart_later(n);
        break;
    case FAULT_FREEZE:
        if (n->runs) freeze(n);
        break;
    case FAULT_SLOW:
        n->place.slow = (double)draw_from(FOR_FAULTS, 5, draw_is(FOR_FAULTS, 30) ? 500 : 40) / 10;
        trace("%s computes %.1f times as long", n->place.name, n->place.slow);
        break;
    case FAULT_PARTITION: part(); break;
    case FAULT_CLOG: {
        const struct sim_node *to = any_node();
        trace("nothing comes from %s to %s", n->place.name, to->place.name);
        net_sim_clog(&n->place, &to->place,
                     world_us() + draw_from(FOR_FAULTS, 200 * MS, 12 * SECOND));
        break;
    }
    case FAULT_RESET: (void)net_sim_mishap(MISHAP_RESET); break;
    case FAULT_HALF_OPEN: (void)net_sim_mishap(MISHAP_HALF_OPEN); break;
    case FAULT_SKEW: skew(n); break;
    case FAULT_CLIENT: client_leaves(); break;
    case FAULT_DISK: disk_fails(n); break;
    case FAULT_LIE: liar_speak(); break;
    default: break;
    }
}

static void on_fault(void *arg)
{
    (void)arg;
    if (world_us() >= s.calm_us) return;
    enum fault f = (enum fault)draw_below(FOR_FAULTS, FAULTS);
    while (!s.fault[f]) f = (f + 1) % FAULTS;
    s.n_faults++;
    do_fault(f);
    (void)world_at(NULL, world_us() + draw_from(FOR_FAULTS, 1, 2 * s.gap_us), on_fault, NULL);
}

static void choose_faults(void)
{
    unsigned n = 0;
    for (unsigned f = 0; f < FAULTS; f++) {
        s.fault[f] = f != FAULT_LIE && draw_is(FOR_FAULTS, 35);
        n += s.fault[f];
    }
    if (n == 0) s.fault[FAULT_CRASH] = true;
    s.gap_us = draw_from(FOR_FAULTS, 100 * MS, 8 * SECOND);
    s.calm_us = world_us() + draw_from(FOR_FAULTS, 5 * SECOND,
                                       draw_is(FOR_FAULTS, 30) ? 150 * SECOND : 40 * SECOND);
    if (!draw_is(FOR_FAULTS, 25)) return;
    /* A coordinator that lies harms only its own clients. */
    s.n_liars =
        liar_open(s.liar, (unsigned)draw_from(FOR_LIES, 1, 2), s.n_coordinators, s.node, s.n_nodes);
    s.fault[FAULT_LIE] = s.n_liars > 0;
}

/* --- what must hold --- */

/* With liars about, some may be taken for one. */
static void on_strike(const struct place *by, const char *what)
{
    if (s.n_liars == 0) broken("%s strikes a node that did not lie: %s", by->name, what);
}

/* A liar that is a stage itself can make a question wait for as long as a slow stage may. */
static bool has_insider(void)
{
    return s.n_liars > 0 && s.liar[0].is_insider;
}

static void check_signs(void)
{
    for (unsigned i = 0; i < s.n_askers; i++) {
        const struct asker *a = &s.asker[i];
        if (!a->is_asking || place_is_frozen(&a->at->place)) continue;
        uint64_t quiet_s = (world_us() - a->sign_us) / SECOND;
        if (quiet_s >
            a->at->patience_s + a->patience_ms / 1000 + (has_insider() ? STALLED_S : SIGN_S))
            broken("ask%u has heard nothing of its question for %llu s", i,
                   (unsigned long long)quiet_s);
    }
}

static void check_memory(void)
{
    struct mallinfo2 m = mallinfo2();
    if (m.uordblks > MEMORY_MAX) broken("%zu bytes of memory are in use", m.uordblks);
}

static void run_until(uint64_t until_us)
{
    while (!world_failed() && world_us() < until_us) {
        uint64_t next = world_us() + 5 * SECOND;
        world_run(next < until_us ? next : until_us);
        check_signs();
        check_memory();
    }
}

/* Everything works again; who is stopped still wakes up within 30 s. */
static void calm_down(void)
{
    trace("from now on nothing goes wrong");
    s.is_over = true;
    liar_close();
    for (unsigned i = 0; i < s.n_nodes; i++)
        if (s.node[i].runs && s.node[i].is_leaving) sim_node_stop(&s.node[i]);
    run_until(world_us() + 50 * MS); /* as a program takes to start */
    for (unsigned i = 0; i < s.n_nodes; i++) {
        struct place *p = &s.node[i].place;
        p->group = 0;
        p->skew_s = (int64_t)(i % 3) * 20 - 20;
        p->slow = 1;
        if (!s.node[i].runs) sim_node_start(&s.node[i]);
    }
    net_sim_unclog_all();
}

static bool all_ended(void)
{
    for (unsigned i = 0; i < s.n_askers; i++)
        if (s.asker[i].is_asking) return false;
    return true;
}

static bool no_session(bool is_final)
{
    for (unsigned i = 0; i < s.n_nodes; i++) {
        uint32_t n = stage_server_sessions(s.node[i].services.stage);
        if (n == 0) continue;
        if (is_final) broken("%s still serves %u sessions", s.node[i].place.name, n);
        return false;
    }
    return true;
}

/* Nobody came back for them: they are forgotten, and their files go. */
static bool no_request(bool is_final)
{
    for (unsigned i = 0; i < s.n_coordinators; i++) {
        const struct sim_node *n = &s.node[i];
        uint32_t requests = coordinator_requests(n->services.coordinator);
        unsigned files = disk_sim_files(n->journal_dir);
        if (requests == 0 && files == 0) continue;
        if (is_final)
            broken("%s still keeps %u requests and %u journals", n->place.name, requests, files);
        return false;
    }
    return true;
}

/* Does every directory hold every node's newest record? */
static bool all_known(bool is_final)
{
    for (unsigned i = 0; i < s.n_nodes; i++)
        for (unsigned k = 0; k < s.n_nodes; k++) {
            const struct node_id *id = &s.node[k].me.id;
            const struct entry *own = directory_find(peers_directory(s.node[k].peers), id);
            const struct entry *e = directory_find(peers_directory(s.node[i].peers), id);
            if (own && e && own->body.seq == e->body.seq) continue;
            if (is_final)
                broken("%s does not know the newest record of %s", s.node[i].place.name,
                       s.node[k].place.name);
            return false;
        }
    return true;
}

static void wait_for(bool (*what)(bool is_final), unsigned seconds)
{
    uint64_t until = world_us() + (uint64_t)seconds * SECOND;
    while (!world_failed() && !what(false) && world_us() < until) run_until(world_us() + SECOND);
    if (!world_failed()) (void)what(true);
}

static bool questions_ended(bool is_final)
{
    if (all_ended()) return true;
    if (is_final) broken("a question is still open long after all is well");
    return false;
}

/* At last one short question to every coordinator. */
static void ask_all(void)
{
    for (unsigned i = 0; i < s.n_coordinators && !world_failed(); i++) {
        struct asker *a = &s.asker[i % s.n_askers];
        struct identity me = a->me;
        sim_asker_close(a);
        sim_asker_open(a, "ask", s.node[i].place.host, &me, &s.node[i], 0);
        sim_asker_ask(a, 20, 10);
        wait_for(questions_ended, 60);
        if (!world_failed() && a->last_end != ASKED_DONE)
            broken("%s does not answer though all is well: %s", s.node[i].place.name, a->last_text);
    }
}

/* --- the life of a swarm --- */

static void close_all(void)
{
    for (unsigned i = 0; i < s.n_askers; i++) sim_asker_close(&s.asker[i]);
    for (unsigned i = 0; i < s.n_nodes; i++)
        if (s.node[i].runs) sim_node_stop(&s.node[i]);
    net_sim_end();
    disk_sim_end();
    world_end();
}

static void add_up(struct scenario_result *r)
{
    for (unsigned i = 0; i < s.n_askers; i++) {
        r->n_done += s.asker[i].n_ends[ASKED_DONE];
        r->n_failed += s.asker[i].n_ends[ASKED_FAILED];
    }
    r->n_faults = s.n_faults;
}

struct scenario_result scenario_run(uint64_t seed, bool is_verbose)
{
    struct scenario_result r = { 0 };
    memset(&s, 0, sizeof s);
    world_begin(seed, is_verbose);
    sign_sim_begin(seed);
    disk_sim_begin();
    uint64_t began = world_us();
    static const size_t queues[] = { 64 << 20, 64 << 20, 256 << 10, 64 << 10 };
    net_sim_begin(queues[draw_below(FOR_WORLD, 4)], (unsigned)draw_below(FOR_WORLD, 60));
    net_sim_on_strike = on_strike;
    make_nodes();
    make_askers();
    choose_faults();
    for (unsigned i = 0; i < s.n_nodes; i++)
        (void)world_at(NULL, world_us() + draw_below(FOR_WORLD, 2 * SECOND), on_restart,
                       &s.node[i]);
    for (unsigned i = 0; i < s.n_askers; i++)
        (void)world_at(NULL, world_us() + draw_below(FOR_WORLD, 5 * SECOND), on_question,
                       &s.asker[i]);
    (void)world_at(NULL, world_us() + draw_below(FOR_FAULTS, 6 * SECOND), on_fault, NULL);

    run_until(s.calm_us);
    if (!world_failed()) calm_down();
    wait_for(questions_ended, QUIET_S);
    wait_for(no_session, SESSION_S);
    run_until(s.calm_us + (uint64_t)(s.n_liars ? BANNED_S : SUSPECT_S) * SECOND);
    wait_for(all_known, CONVERGE_S);
    if (!world_failed()) ask_all();
    wait_for(no_session, SESSION_S);
    wait_for(no_request, JOURNAL_KEEP_S + SESSION_S);

    r.is_good = !world_failed();
    r.hash = world_hash();
    r.steps = world_steps();
    r.seconds = (double)(world_us() - began) / SECOND;
    add_up(&r);
    if (r.is_good) close_all();
    return r;
}
