/* day.c - a swarm of home PCs for a simulated day: who is there when, what they hold, what a person
 * who asks notices of it; docs/simulator.md.
 *
 *     sim_day NODES HOURS [SEED]      (interrupted, it reports what it has measured)
 *
 * Of the PCs 15 % are always on (and restart once a day), 60 % are on in the evening, half of those
 * in the morning too, 25 % in the hours of work.  One in twelve hours something ends a session
 * early.  Of all ends seven in ten are abrupt (killed, or the plug is pulled).  Each PC has room
 * for 2 to 10 of 46 layers, computes at 0.5 to 3 times the usual time, and fetches a layer (1.3 GB)
 * in 104 s, at 100 Mbit/s.  What it holds it chooses, and changes, by weights/mover.c. */
#include "tests/sim/asker.h"
#include "tests/sim/disk_sim.h"
#include "tests/sim/sign_sim.h"

#include "base/json.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LAYERS = 46,
    ASKERS = 6,
    HEALS_MAX = 20000,
    START_HOUR = 12, /* of the day */
    WARM_UP_S = 3600,
    SAMPLE_S = 10,
    LAYER_FETCH_MS = 104000,
};
#define HOUR ((uint64_t)3600 * SECOND)

enum habit { ALWAYS_ON, EVENINGS, OFFICE };

struct pc {
    struct sim_node node;
    enum habit habit;
    struct event *next; /* it is switched on, or off */
    uint64_t up_since_us, up_us;
    unsigned n_starts;
};

static struct day {
    struct pc *pc; /* [n] owned */
    unsigned n, n_always;
    struct asker asker[ASKERS];
    struct node_id allow[ASKERS];
    uint64_t began_us, measured_us; /* since when numbers count */
    bool is_measured;
    /* of layers; item LAYERS is the ends */
    uint64_t samples, missing[LAYERS + 1], holders[LAYERS + 1];
    unsigned least[LAYERS + 1], outages;
    uint64_t gone_since_us[LAYERS + 1], longest_us;
    uint64_t pcs_on;
    unsigned least_on, most_on;
    /* of answers */
    double heal_s[HEALS_MAX];
    unsigned n_heals, n_answers, n_healed_answers, n_nobody;
    struct net_sim_count before;
    unsigned moves_before;
} d;

/* --- when a PC is on --- */

static double hour_of_day(void)
{
    double h = START_HOUR + (double)(world_us() - d.began_us) / (double)HOUR;
    return h - 24 * (double)(unsigned)(h / 24);
}

static uint64_t hours(double lo, double hi)
{
    return (uint64_t)((lo + (hi - lo) * (double)draw_below(FOR_WORLD, 1000) / 1000) * (double)HOUR);
}

/* How long until the clock shows h next. */
static double until_hour(double h)
{
    double left = h - hour_of_day();
    return left > 0 ? left : left + 24;
}

/* For how long it will be off. */
static uint64_t off_for(const struct pc *p)
{
    double left;
    switch (p->habit) {
    case ALWAYS_ON: return draw_from(FOR_WORLD, 30, 300) * SECOND;
    case OFFICE: left = until_hour(9); break;
    default:
        left = until_hour(17);
        if (draw_is(FOR_WORLD, 50) && until_hour(7) < left) left = until_hour(7);
        break;
    }
    return hours(left, left + 2);
}

/* For how long it will be on. */
static uint64_t on_for(const struct pc *p)
{
    uint64_t us;
    double h = hour_of_day();
    switch (p->habit) {
    case ALWAYS_ON: us = hours(18, 30); break;
    case OFFICE: us = hours(6, 10); break;
    default: us = h < 12 ? hours(0.5, 2) : hours(2, 7); break;
    }
    uint64_t early = hours(0, 24); /* a crash, a tram, a child: one in twelve hours on average */
    return p->habit != ALWAYS_ON && early < us ? early : us;
}

static void on_switch(void *arg);

static void later(struct pc *p, uint64_t us)
{
    p->next = world_at(NULL, world_us() + us, on_switch, p);
}

static void on_switch(void *arg)
{
    struct pc *p = arg;
    struct sim_node *n = &p->node;
    if (n->runs && n->is_leaving) { /* it is about to */
        later(p, SECOND);
    } else if (!n->runs) {
        p->n_starts++;
        p->up_since_us = world_us();
        sim_node_start(n);
        later(p, on_for(p));
    } else {
        p->up_us += world_us() - p->up_since_us;
        if (draw_is(FOR_WORLD, 70))
            sim_node_kill(n, draw_is(FOR_WORLD, 50));
        else
            sim_node_leave(n);
        later(p, off_for(p));
    }
}

/* --- who there is --- */

static void make_pc(unsigned i)
{
    struct pc *p = &d.pc[i];
    struct sim_node *n = &p->node;
    unsigned kind = (unsigned)draw_below(FOR_WORLD, 100);
    p->habit = i < d.n_always ? ALWAYS_ON : kind < 70 ? EVENINGS : OFFICE;
    snprintf(n->place.name, sizeof n->place.name, "pc%u", i);
    n->place.host = n->index = i;
    n->place.x = (uint32_t)draw_below(FOR_WORLD, 12 * MS);
    n->place.y = (uint32_t)draw_below(FOR_WORLD, 12 * MS);
    n->place.up_kb_s = 2500;
    n->place.slow = (double)draw_from(FOR_WORLD, 5, 30) / 10;
    identity_make(&n->me);
    n->store.n_layers = LAYERS;
    n->context = 2048;
    n->kv_bytes = UINT64_C(20000) * 10 * SIM_KV_BYTES;
    n->allow = d.allow;
    n->n_allow = ASKERS;
    n->hold.is_own_choice = true;
    n->hold.layer_ms = LAYER_FETCH_MS;
    uint64_t layer = arch_bytes(&sim_manifest(LAYERS)->arch, 0);
    n->hold.room = draw_from(FOR_WORLD, 2, 10) * (layer + layer / 40);
    for (unsigned k = 0; k < 2 && i > 0; k++) { /* two that are always on */
        unsigned to = (unsigned)draw_below(FOR_WORLD, i < d.n_always ? i : d.n_always);
        struct link *l = &n->join[n->n_join++];
        *l = (struct link){ .id = d.pc[to].node.me.id, .port = SIM_PORT };
        snprintf(l->host, sizeof l->host, "10.7.%u.%u", to >> 8, to & 255);
    }
}

static void make_all(void)
{
    for (unsigned i = 0; i < ASKERS; i++) {
        identity_make(&d.asker[i].me);
        d.allow[i] = d.asker[i].me.id;
    }
    for (unsigned i = 0; i < d.n; i++) make_pc(i);
    for (unsigned i = 0; i < d.n; i++) {
        bool is_first = d.pc[i].habit != EVENINGS; /* it is noon */
        uint64_t us = is_first ? draw_below(FOR_WORLD, 20 * 60) * SECOND : off_for(&d.pc[i]);
        if (i == 0) us = 0;
        later(&d.pc[i], us);
    }
}

/* --- who asks --- */

static double number_of(struct slice json, const char *key)
{
    struct json_doc *doc;
    double x = 0;
    if (!json.n || json_parse(&doc, json, "stats", NULL)) return 0;
    (void)json_double(json_get(json_root(doc), key), &x);
    json_free(doc);
    return x;
}

static void on_stats(void *arg, struct slice json)
{
    (void)arg;
    if (!d.is_measured) return;
    double n = number_of(json, "heals"), ms = number_of(json, "heal_ms");
    d.n_answers++;
    if (n < 1) return;
    d.n_healed_answers++;
    for (unsigned i = 0; i < (unsigned)n && d.n_heals < HEALS_MAX; i++)
        d.heal_s[d.n_heals++] = ms / n / 1000; /* their mean */
}

/* Who can be asked: preferably a PC that is always on, and on the same host. */
static struct sim_node *find_coordinator(void)
{
    unsigned from = (unsigned)draw_below(FOR_WORLD, d.n_always);
    for (unsigned i = 0; i < d.n; i++) {
        struct sim_node *n = &d.pc[i < d.n_always ? (from + i) % d.n_always : i].node;
        if (sim_node_serves(n) && n->services.coordinator && !n->is_leaving) return n;
    }
    return NULL;
}

static void open_asker(struct asker *a, struct sim_node *at)
{
    struct identity me = a->me;
    char name[16];
    snprintf(name, sizeof name, "ask%u", (unsigned)(a - d.asker));
    if (a->client) sim_asker_close(a);
    a->n_layers = LAYERS;
    sim_asker_open(a, name, at->place.host, &me, at, 600000);
    a->on_stats = on_stats;
}

static void on_question(void *arg)
{
    struct asker *a = arg;
    if (!a->client || !a->is_asking) {
        bool is_well = a->client && sim_node_serves(a->at) && a->at->services.coordinator;
        struct sim_node *at = is_well ? a->at : find_coordinator();
        if (at && !is_well) open_asker(a, at);
        if (at)
            sim_asker_ask(a, (uint32_t)draw_from(FOR_WORLD, 50, 500),
                          (uint32_t)draw_from(FOR_WORLD, 50, 400));
        else if (d.is_measured)
            d.n_nobody++;
    }
    (void)world_at(NULL, world_us() + draw_from(FOR_WORLD, 60, 600) * SECOND, on_question, a);
}

static void on_askers(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < ASKERS; i++) on_question(&d.asker[i]);
}

/* --- what is measured --- */

static void count_holders(unsigned holders[LAYERS + 1], unsigned *on)
{
    memset(holders, 0, (LAYERS + 1) * sizeof *holders);
    *on = 0;
    for (unsigned i = 0; i < d.n; i++) {
        const struct sim_node *n = &d.pc[i].node;
        *on += n->runs;
        if (!sim_node_serves(n)) continue;
        for (uint32_t l = n->lo; l < n->hi; l++) holders[l]++;
        holders[LAYERS] += n->has_ends;
    }
}

static void note_outage(unsigned l, bool is_missing)
{
    uint64_t *since = &d.gone_since_us[l];
    if (is_missing && !*since) {
        *since = world_us();
        d.outages++;
    }
    if (*since && world_us() - *since > d.longest_us) d.longest_us = world_us() - *since;
    if (!is_missing) *since = 0;
}

static void on_sample(void *arg)
{
    unsigned holders[LAYERS + 1], on;
    (void)arg;
    count_holders(holders, &on);
    d.samples++;
    d.pcs_on += on;
    if (on < d.least_on) d.least_on = on;
    if (on > d.most_on) d.most_on = on;
    for (unsigned l = 0; l <= LAYERS; l++) {
        d.holders[l] += holders[l];
        d.missing[l] += holders[l] == 0;
        if (holders[l] < d.least[l]) d.least[l] = holders[l];
        note_outage(l, holders[l] == 0);
    }
    (void)world_at(NULL, world_us() + SAMPLE_S * SECOND, on_sample, NULL);
}

static unsigned moves(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < d.n; i++) n += d.pc[i].node.hold.n_moves;
    return n;
}

static uint64_t up_us(void)
{
    uint64_t us = 0;
    for (unsigned i = 0; i < d.n; i++) {
        const struct pc *p = &d.pc[i];
        us += p->up_us + (p->node.runs ? world_us() - p->up_since_us : 0);
    }
    return us;
}

static void on_measure(void *arg)
{
    (void)arg;
    d.is_measured = true;
    d.measured_us = world_us();
    d.before = net_sim_counts();
    d.moves_before = moves();
    for (unsigned i = 0; i < d.n; i++) {
        d.pc[i].up_us = 0;
        d.pc[i].up_since_us = world_us();
    }
    d.least_on = d.n;
    for (unsigned l = 0; l <= LAYERS; l++) d.least[l] = d.n;
    on_sample(NULL);
}

/* --- the report --- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double part(unsigned percent)
{
    if (d.n_heals == 0) return 0;
    return d.heal_s[(uint64_t)(d.n_heals - 1) * percent / 100];
}

static void report(void)
{
    fprintf(stderr, "\n");
    double hours_measured = (double)(world_us() - d.measured_us) / (double)HOUR;
    double up_h = (double)up_us() / (double)HOUR;
    struct net_sim_count c = net_sim_counts();
    unsigned worst = 0, failed = d.n_nobody;
    uint64_t missing = 0;
    for (unsigned l = 0; l <= LAYERS; l++) {
        missing += d.missing[l];
        if (d.holders[l] < d.holders[worst]) worst = l;
    }
    for (unsigned i = 0; i < ASKERS; i++) failed += d.asker[i].n_ends[ASKED_FAILED];
    qsort(d.heal_s, d.n_heals, sizeof *d.heal_s, ascending);
    printf("%u PCs, %.1f h measured after %.1f h; on at once: %.0f (%u to %u)\n", d.n,
           hours_measured, WARM_UP_S / 3600.0, (double)d.pcs_on / (double)d.samples, d.least_on,
           d.most_on);
    printf("layers and ends: held %.4f %% of the time (all %u together), %u outages, the longest "
           "%.0f s\n",
           100 - 100 * (double)missing / (double)d.samples / (LAYERS + 1), LAYERS + 1, d.outages,
           (double)d.longest_us / SECOND);
    printf("the item held by fewest (%s %u): %.1f holders on average, %u at least\n",
           worst == LAYERS ? "the ends," : "layer", worst,
           (double)d.holders[worst] / (double)d.samples, d.least[worst]);
    printf("moves: %u, %.3f for a PC and 24 h of being on\n", moves() - d.moves_before,
           up_h > 0 ? (moves() - d.moves_before) / up_h * 24 : 0);
    printf("answers: %u complete, %u questions failed; %u answers lost a stage, %u times; pause: "
           "median %.1f s, 95th percentile %.1f s, longest %.1f s\n",
           d.n_answers, failed, d.n_healed_answers, d.n_heals, part(50), part(95), part(100));
    printf("control traffic (records): %.0f bytes/s sent by a PC that is on; all messages %.0f\n",
           (double)(c.control - d.before.control) / (up_h * 3600),
           (double)(c.bytes - d.before.bytes) / (up_h * 3600));
    printf("%llu events, trace %016llx\n", (unsigned long long)world_steps(),
           (unsigned long long)world_hash());
}

/* A line now and then, for who waits. */
static void say_where(double at)
{
    unsigned holders[LAYERS + 1], on, none = 0;
    count_holders(holders, &on);
    for (unsigned l = 0; l <= LAYERS; l++) none += holders[l] == 0;
    fprintf(stderr, "\r%5.1f h: %3u on, %u of %u without holder, %u moves, %u answers ", at, on,
            none, LAYERS + 1, moves(), d.n_answers);
}

static volatile sig_atomic_t is_enough;

static void on_signal(int number)
{
    (void)number;
    is_enough = 1;
}

int main(int argc, char **argv)
{
    unsigned long long seed = 1;
    double h;
    if (argc < 3 || sscanf(argv[1], "%u", &d.n) != 1 || sscanf(argv[2], "%lf", &h) != 1 ||
        d.n < 20 || d.n > SIM_NODES_MAX || h <= WARM_UP_S / 3600.0) {
        fprintf(stderr, "usage: sim_day NODES HOURS [SEED]   NODES 20 to %d, HOURS more than 1\n",
                SIM_NODES_MAX);
        return 2;
    }
    if (argc > 3) (void)sscanf(argv[3], "%llu", &seed);
    setvbuf(stdout, NULL, _IOLBF, 0);
    world_begin(seed, getenv("DAY_TRACE") != NULL);
    sign_sim_begin(seed);
    disk_sim_begin();
    net_sim_begin(64 << 20, 20);
    d.began_us = world_us();
    d.n_always = d.n * 15 / 100;
    d.pc = calloc(d.n, sizeof *d.pc);
    if (!d.pc) abort();
    make_all();
    (void)world_at(NULL, world_us() + 50 * 60 * (uint64_t)SECOND, on_askers, NULL);
    (void)world_at(NULL, world_us() + WARM_UP_S * (uint64_t)SECOND, on_measure, NULL);
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    for (double at = 0.1; at < h + 0.1 && !world_failed() && !(is_enough && d.is_measured);
         at += 0.1) {
        world_run(d.began_us + (uint64_t)((at < h ? at : h) * (double)HOUR));
        say_where(at);
    }
    report();
    return world_failed();
}
