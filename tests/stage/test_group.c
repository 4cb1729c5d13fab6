/* A leader and its members, each with a net of its own: the same bits as alone, whoever leaves, and
 * whatever a leader or a member says that is not so. */
#include "stage/group.h"
#include "stage/member.h"
#include "tests/model/toy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/net/nets.h"

enum { NODES = 4, TOKENS = 64, PROMPT = 20, WAIT_MS = 15000, TAKEN = 64 };

/* What a member that lies does with work. */
enum lie { HONEST, WRONG_PLACE, TOO_LONG, NOT_ASKED, GIVES_UP, NO_NUMBERS, CUT_SHORT };

struct node {
    struct box box;
    struct world *world;
    struct compute *compute;
    struct member *member;
    struct group *group;
    enum lie lie;
    bool is_down;
    struct mail *taken[TAKEN]; /* what no member or group took; owned */
    unsigned n_taken;
};

struct world {
    struct hub hub;
    struct toy toy;
    struct weights weights;
    const struct kernels *k;
    struct node node[NODES]; /* 0 leads */
    struct share *held;      /* [n_layers] all of it */
    size_t row_bytes;
    uint8_t *rows, *oracle; /* [TOKENS] */
    /* the session and the job under way */
    struct actor tester;
    struct kv *kv;
    struct group_session *session;
    unsigned n_granted, n_lost, code;
    bool is_back;
    struct rows_job job;
    uint32_t done;
};

/* --- mails --- */

static void say(struct node *n, const struct node_id *to, struct msg *m)
{
    if (net_send(n->box.net, to, m)) fail_msg("not sent");
}

static void lie_about(struct node *n, const struct mail *in)
{
    static uint8_t zeros[1 << 20];
    const struct msg_SHARE_WORK *w = &in->m.u.SHARE_WORK;
    const struct share_work work = { .kind = (enum share_kind)w->kind,
                                     .n = (uint32_t)w->rows,
                                     .lo = (uint32_t)w->lo,
                                     .hi = (uint32_t)w->hi,
                                     .lead = (uint32_t)w->lead,
                                     .picks = w->picks.p,
                                     .picks_len = w->picks.n };
    size_t size = share_answer_bytes(&n->world->toy.a, &work);
    struct msg m = { .type = MSG_SHARE_DONE, .rid = in->m.rid };
    m.u.SHARE_DONE.share = w->share;
    m.u.SHARE_DONE.x = slice_of(zeros, size);
    memset(zeros, n->lie == NO_NUMBERS ? 0xff : 0, sizeof zeros);
    switch (n->lie) {
    case WRONG_PLACE: m.u.SHARE_DONE.at = 2; break;
    case TOO_LONG: m.u.SHARE_DONE.x.n = size + 1; break;
    case NOT_ASKED: m.rid += 1000; break;
    case GIVES_UP:
        m.type = MSG_SHARE_FAIL;
        m.u.SHARE_FAIL = (struct msg_SHARE_FAIL){ .share = w->share, .code = WIRE_NO_MEMORY };
        break;
    case CUT_SHORT:
        m.u.SHARE_DONE.x.n = 1;
        say(n, &in->from, &m);
        m.u.SHARE_DONE.at = 3; /* where 1 is next */
        break;
    default: break;
    }
    say(n, &in->from, &m);
}

static void on_mail(struct box *b, struct mail *m)
{
    struct node *n = b->user;
    if (m->m.type == MSG_SHARE_WORK && n->lie) {
        lie_about(n, m);
        m->note.drop(&m->note);
        return;
    }
    switch (m->m.type) {
    case MSG_SHARE_OPEN:
    case MSG_SHARE_WORK:
    case MSG_SHARE_CLOSE:
        if (n->member) {
            member_on_mail(n->member, m);
            return;
        }
        break;
    case MSG_SHARE_OK:
    case MSG_SHARE_DONE:
    case MSG_SHARE_FAIL:
        if (n->group) {
            group_on_mail(n->group, m);
            return;
        }
        break;
    default: break;
    }
    assert_true(n->n_taken < TAKEN);
    n->taken[n->n_taken++] = m;
}

static void on_peer(struct box *b, const struct node_id *id, bool up)
{
    struct node *n = b->user;
    if (n->group) group_on_peer(n->group, id, up, "test");
    if (n->member) member_on_peer(n->member, id, up);
}

static void on_change(void *arg)
{
    (void)arg;
}

/* --- the world --- */

static void open_node(struct world *w, unsigned i)
{
    struct node *n = &w->node[i];
    n->world = w;
    n->box.on_mail = on_mail;
    n->box.on_peer = on_peer;
    n->box.user = n;
    box_open(&n->box, &w->hub);
    struct compute_config cc = { .arch = &w->toy.a,
                                 .layers = w->toy.layer,
                                 .hi = w->toy.a.n_layers,
                                 .kernels = w->k,
                                 .workers = workers_inline() };
    struct group_config gc = { .hub = &w->hub,
                               .net = n->box.net,
                               .weights = &w->weights,
                               .me = n->box.me.id,
                               .on_change = on_change };
    assert_int_equal(compute_open(&n->compute, &cc, NULL), ERR_OK);
    struct member_config mc = { .hub = &w->hub,
                                .net = n->box.net,
                                .compute = n->compute,
                                .weights = &w->weights,
                                .me = n->box.me.id,
                                .context = TOKENS,
                                .kv_bytes = kv_cost(&w->toy.a, 0, w->toy.a.n_layers, TOKENS) };
    if (i == 0) {
        assert_int_equal(group_open(&n->group, &gc), ERR_OK);
        group_serve(n->group, n->compute);
    } else {
        assert_int_equal(member_open(&n->member, &mc), ERR_OK);
    }
}

/* Its connections end; its memory stays. */
static void take_down(struct world *w, unsigned i)
{
    struct node *n = &w->node[i];
    if (n->is_down) return;
    n->is_down = true;
    if (n->group) group_stop(n->group);
    if (n->member) member_stop(n->member);
    box_close(&n->box);
}

static void free_node(struct world *w, unsigned i)
{
    struct node *n = &w->node[i];
    take_down(w, i);
    compute_close(n->compute);
    group_close(n->group);
    member_close(n->member);
    for (unsigned k = 0; k < n->n_taken; k++) n->taken[k]->note.drop(&n->taken[k]->note);
}

static void make_oracle(struct world *w)
{
    uint64_t seed = 3;
    struct stage *s;
    struct kv *kv;
    struct row row[TOKENS];
    struct nonfinite bad;
    float *f = malloc(w->toy.a.hidden * sizeof *f);
    w->rows = malloc(TOKENS * w->row_bytes);
    w->oracle = malloc(TOKENS * w->row_bytes);
    for (uint32_t i = 0; i < TOKENS; i++) {
        for (uint32_t c = 0; c < w->toy.a.hidden; c++) f[c] = toy_random(&seed);
        w->k->narrow(w->rows + i * w->row_bytes, f, w->toy.a.hidden, w->toy.a.exchange);
    }
    memcpy(w->oracle, w->rows, TOKENS * w->row_bytes);
    assert_int_equal(stage_open(&s, &w->toy.a, w->toy.layer, 0, w->toy.a.n_layers, TOKENS, w->k,
                                workers_inline()),
                     ERR_OK);
    assert_int_equal(kv_open(&kv, &w->toy.a, 0, w->toy.a.n_layers, TOKENS), ERR_OK);
    for (uint32_t i = 0; i < TOKENS; i++) row[i] = (struct row){ kv, i };
    assert_int_equal(stage_forward(s, row, TOKENS, w->oracle, &bad), ERR_OK);
    kv_close(kv);
    stage_close(s);
    free(f);
}

static void hold_all(struct world *w)
{
    w->held = calloc(w->toy.a.n_layers, sizeof *w->held);
    for (uint32_t l = 0; l < w->toy.a.n_layers; l++)
        share_of(&w->held[l], &w->toy.a, &w->toy.layer[l]);
}

static void on_job(struct actor *a, struct note *n)
{
    struct world *w = (struct world *)(void *)((char *)a - offsetof(struct world, tester));
    (void)n;
    w->is_back = true;
}

static void drop_job(struct note *n)
{
    (void)n;
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    assert_int_equal(proto_init(), ERR_OK);
    toy_shape(0, &w->toy.a);
    toy_fill(&w->toy, 11);
    w->k = kernels_pick(NULL, NULL);
    w->row_bytes = arch_row_bytes(&w->toy.a);
    w->weights.manifest.arch = w->toy.a;
    w->weights.layer = w->weights.all = w->toy.layer;
    w->weights.hi = w->weights.all_hi = w->weights.held.hi = w->toy.a.n_layers;
    memset(w->weights.name.id.b, 7, HASH_BYTES);
    make_oracle(w);
    hold_all(w);
    assert_int_equal(hub_init(&w->hub), ERR_OK);
    assert_int_equal(actor_init(&w->tester, &w->hub, "tester", 0, on_job), ERR_OK);
    for (unsigned i = 0; i < NODES; i++) open_node(w, i);
    for (unsigned i = 1; i < NODES; i++) {
        struct answer a;
        struct box *leader = &w->node[0].box;
        assert_int_equal(dial_wait(leader, &w->node[i].box.me.id, "127.0.0.1",
                                   net_port(w->node[i].box.net), &a),
                         ERR_OK);
    }
    *state = w;
    return 0;
}

static void close_session(struct world *w)
{
    group_session_close(w->session);
    kv_close(w->kv);
    w->session = NULL;
    w->kv = NULL;
}

static int teardown(void **state)
{
    struct world *w = *state;
    close_session(w);
    for (unsigned i = 0; i < NODES; i++) free_node(w, i);
    actor_fini(&w->tester);
    hub_fini(&w->hub);
    toy_free(&w->toy);
    free(w->held);
    free(w->rows);
    free(w->oracle);
    free(w);
    return 0;
}

/* --- doing --- */

/* Nodes 1..n are wanted as members; bare: without head groups. */
static void gather(struct world *w, uint32_t n, bool bare)
{
    struct group_want want[NODES];
    struct share held[ARCH_LAYERS_MAX];
    for (uint32_t l = 0; l < w->toy.a.n_layers; l++) {
        held[l] = w->held[l];
        if (bare) held[l].heads = (struct share_set){ { 0 } };
    }
    for (uint32_t i = 0; i < n; i++)
        want[i] = (struct group_want){ w->node[1 + i].box.me.id, held, 100, false };
    assert_int_equal(group_want(w->node[0].group, want, n, 100), ERR_OK);
}

struct expected {
    struct world *w;
    uint32_t n;
};
static bool has_members(void *arg)
{
    struct expected *x = arg;
    return group_n(x->w->node[0].group) == x->n;
}
static void wait_members(struct world *w, uint32_t n)
{
    struct expected x = { w, n };
    assert_true(run_until(&w->hub, has_members, &x, WAIT_MS));
}

static void on_session(void *arg, enum err e, unsigned code, const char *text)
{
    struct world *w = arg;
    (void)text;
    if (e)
        w->n_lost++;
    else
        w->n_granted++;
    w->code = code;
}

static bool is_answered(void *arg)
{
    struct world *w = arg;
    return w->n_granted + w->n_lost > 0;
}

static void begin_session(struct world *w)
{
    uint32_t g_lo, g_hi, hi = w->toy.a.n_layers;
    close_session(w);
    w->n_granted = w->n_lost = w->done = 0;
    group_heads(w->node[0].group, 0, hi, &g_lo, &g_hi);
    assert_int_equal(kv_open_heads(&w->kv, &w->toy.a, 0, hi, g_lo, g_hi, TOKENS), ERR_OK);
    w->session = group_session_open(w->node[0].group, w->kv, 0, hi, TOKENS, on_session, w);
    assert_non_null(w->session);
    group_session_begin(w->session);
    assert_true(run_until(&w->hub, is_answered, w, WAIT_MS));
}

static bool is_back(void *arg)
{
    return ((struct world *)arg)->is_back;
}

/* The next n rows; they are the oracle's, or it is the error. */
static enum err step(struct world *w, uint32_t n)
{
    uint8_t *x = malloc(n * w->row_bytes);
    memcpy(x, w->rows + w->done * w->row_bytes, n * w->row_bytes);
    w->job = (struct rows_job){ .hi = w->toy.a.n_layers,
                                .kv = w->kv,
                                .pos = w->done,
                                .n = n,
                                .x = x,
                                .is_token = n == 1,
                                .sharer = group_session_sharer(w->session) };
    w->job.job.note.drop = drop_job;
    w->job.job.to = &w->tester;
    w->is_back = false;
    compute_rows(w->node[0].compute, &w->job);
    assert_true(run_until(&w->hub, is_back, w, WAIT_MS));
    enum err e = w->job.job.err;
    if (!e) assert_memory_equal(x, w->oracle + w->done * w->row_bytes, n * w->row_bytes);
    if (!e) w->done += n;
    free(x);
    return e;
}

static void answer_all(struct world *w)
{
    assert_int_equal(w->n_granted, 1);
    assert_int_equal(step(w, PROMPT), ERR_OK);
    for (unsigned i = 0; i < 5; i++) assert_int_equal(step(w, 1), ERR_OK);
}

/* --- tests: bits --- */

static void test_same_bits(void **state)
{
    struct world *w = *state;
    for (uint32_t n = 1; n < NODES; n++) {
        gather(w, n, false);
        wait_members(w, n);
        begin_session(w);
        answer_all(w);
        assert_int_equal(w->n_lost, 0);
        for (uint32_t i = 1; i <= n; i++)
            assert_int_equal(member_shares(w->node[i].member), 1);
    }
    assert_true(member_kv_used(w->node[1].member) > 0);
}

static bool is_free(void *arg)
{
    struct member *m = arg;
    return member_kv_used(m) == 0;
}

static void test_going_back(void **state)
{
    struct world *w = *state;
    gather(w, 2, false);
    wait_members(w, 2);
    begin_session(w);
    answer_all(w);
    kv_trim(w->kv, 7);
    w->done = 7;
    assert_int_equal(step(w, 10), ERR_OK);
    close_session(w);
    assert_true(run_until(&w->hub, is_free, w->node[1].member, WAIT_MS));
    assert_true(run_until(&w->hub, is_free, w->node[2].member, WAIT_MS));
    assert_int_equal(member_shares(w->node[1].member), 1);
}

/* Head groups are lost with their member, and with them the session; a new one has the same bits. */
static void test_heads_lost(void **state)
{
    struct world *w = *state;
    gather(w, 2, false);
    wait_members(w, 2);
    begin_session(w);
    answer_all(w);
    take_down(w, 1);
    wait_members(w, 1);
    assert_int_equal(w->n_lost, 1);
    assert_int_equal(w->code, WIRE_LOST_MEMBER);
    assert_int_equal(step(w, 1), ERR_CLOSED);
    begin_session(w);
    answer_all(w);
    assert_true(group_covers(w->node[0].group, 0));
}

/* Experts and dense parts are computed by others. */
static void test_experts_lost(void **state)
{
    struct world *w = *state;
    gather(w, 3, true);
    wait_members(w, 3);
    begin_session(w);
    answer_all(w);
    for (unsigned i = 1; i < NODES; i++) {
        take_down(w, i);
        assert_int_equal(step(w, 1), ERR_OK);
        wait_members(w, NODES - 1 - i);
        assert_int_equal(step(w, 1), ERR_OK);
    }
    assert_int_equal(w->n_lost, 0);
}

/* A member that leaves finishes what it has begun, and begins nothing. */
static void test_leaving(void **state)
{
    struct world *w = *state;
    struct group *g = w->node[0].group;
    const struct node_id *id = &w->node[1].box.me.id;
    struct group_want want = { *id, w->held, 100, true };
    gather(w, 1, false);
    wait_members(w, 1);
    begin_session(w);
    answer_all(w);
    assert_true(group_needs(g, id));
    assert_int_equal(group_want(g, &want, 1, 100), ERR_OK);
    assert_int_equal(step(w, 1), ERR_OK);
    assert_int_equal(w->n_lost, 0);
    begin_session(w); /* instead of the other */
    assert_false(group_needs(g, id));
    answer_all(w);
    assert_int_equal(group_want(g, NULL, 0, 100), ERR_OK);
    assert_int_equal(step(w, 1), ERR_OK);
    assert_int_equal(w->n_lost, 0);
}

/* Head groups stay with the leader from the first session on. */
static void test_experts_only(void **state)
{
    struct world *w = *state;
    struct group *g = w->node[0].group;
    struct group_want want = { w->node[1].box.me.id, w->held, 100, true };
    assert_int_equal(group_want(g, &want, 1, 100), ERR_OK);
    wait_members(w, 1);
    begin_session(w);
    assert_false(group_needs(g, &want.id));
    answer_all(w);
    take_down(w, 1);
    assert_int_equal(step(w, 1), ERR_OK);
    assert_int_equal(w->n_lost, 0);
}

/* What is chosen is counted: of all experts of a layer as many as a row chooses. */
static void test_use(void **state)
{
    struct world *w = *state;
    const struct arch *a = &w->toy.a;
    struct group *g = w->node[0].group;
    struct group_hot hot[3];
    float use[ARCH_EXPERTS_MAX];
    uint32_t moe = a->n_layers - 1;
    assert_true(arch_is_moe(a, moe));
    assert_int_equal(group_hottest(g, hot, 3), 0);
    group_use(g, moe, use);
    for (uint32_t e = 0; e < a->n_experts; e++)
        assert_float_equal(use[e], (float)a->top_k / (float)a->n_experts, 1e-6);
    gather(w, 2, false);
    wait_members(w, 2);
    begin_session(w);
    answer_all(w);
    for (uint32_t l = 0; l < a->n_layers; l++) {
        double sum = 0;
        if (!arch_is_moe(a, l)) continue;
        group_use(g, l, use);
        for (uint32_t e = 0; e < a->n_experts; e++) sum += use[e];
        assert_float_equal(sum, a->top_k, 1e-3);
    }
    assert_int_equal(group_hottest(g, hot, 3), 3);
    assert_true(hot[0].use >= hot[1].use && hot[1].use >= hot[2].use);
    assert_true(hot[0].use > (float)a->top_k / (float)a->n_experts);
    for (uint32_t l = 0; l < a->n_layers; l++) {
        if (!arch_is_moe(a, l)) continue;
        group_use(g, l, use);
        for (uint32_t e = 0; e < a->n_experts; e++) assert_true(use[e] <= hot[0].use);
    }
}

/* Slow layers are worth it, quick ones are not; those who are IN weigh as those who are wanted. */
static void test_weighing(void **state)
{
    struct world *w = *state;
    struct group *g = w->node[0].group;
    struct group_want want = { w->node[1].box.me.id, w->held, 100, false };
    struct pace slow = {
        .layer_us = 4000000, .heads_us = 500000, .expert_us = 500000, .dense_us = 500000
    };
    struct pace quick = { .layer_us = 4, .heads_us = 1, .expert_us = 1, .dense_us = 1 };
    struct sharing wanted, in;
    assert_int_equal(group_weigh_want(g, &want, 1, 100, &slow, &wanted), ERR_OK);
    assert_true(sharing_pays(&wanted));
    assert_int_equal(wanted.n_layers, w->toy.a.n_layers);
    assert_int_equal(group_weigh_want(g, &want, 1, 100, &quick, &in), ERR_OK);
    assert_false(sharing_pays(&in));
    gather(w, 1, false);
    wait_members(w, 1);
    assert_int_equal(group_weigh(g, &slow, &in), ERR_OK);
    assert_true(sharing_pays(&in));
    assert_float_equal(in.us[SHARING_ALONE], wanted.us[SHARING_ALONE], 1);

    /* what answers took puts right what was measured once */
    begin_session(w);
    answer_all(w);
    assert_int_equal(group_weigh(g, &slow, &in), ERR_OK);
    assert_true(in.us[SHARING_ALONE] < wanted.us[SHARING_ALONE] / 10);
}

/* A member gives way to its owner in the middle of an answer, takes nobody meanwhile, and comes
 * back when it is asked again. */
static void test_pause(void **state)
{
    struct world *w = *state;
    gather(w, 3, true);
    wait_members(w, 3);
    begin_session(w);
    assert_int_equal(step(w, PROMPT), ERR_OK);
    member_pause(w->node[1].member, true);
    assert_int_equal(step(w, 1), ERR_OK); /* what has begun goes on for a while */
    member_send_away(w->node[1].member, "a test pauses");
    assert_int_equal(member_shares(w->node[1].member), 0);
    assert_int_equal(step(w, 1), ERR_OK);
    wait_members(w, 2);
    assert_int_equal(step(w, 1), ERR_OK);
    gather(w, 3, true);
    assert_int_equal(step(w, 1), ERR_OK);
    assert_int_equal(member_shares(w->node[1].member), 0);
    member_pause(w->node[1].member, false);
    gather(w, 2, true);
    gather(w, 3, true);
    wait_members(w, 3);
    assert_int_equal(step(w, 1), ERR_OK);
    assert_int_equal(w->n_lost, 0);
}

/* A member that has no room refuses the session, and stays a member. */
static void test_no_room(void **state)
{
    struct world *w = *state;
    uint32_t hi = w->toy.a.n_layers;
    struct kv *kv[8];
    struct group_session *session[8];
    unsigned n = 0;
    gather(w, 1, false);
    wait_members(w, 1);
    for (w->n_lost = 0; n < 8 && w->n_lost == 0; n++) {
        w->n_granted = 0;
        assert_int_equal(kv_open(&kv[n], &w->toy.a, 0, hi, TOKENS), ERR_OK);
        session[n] =
            group_session_open(w->node[0].group, kv[n], 0, hi, TOKENS, on_session, w);
        group_session_begin(session[n]);
        assert_true(run_until(&w->hub, is_answered, w, WAIT_MS));
    }
    assert_int_equal(w->n_lost, 1);
    assert_int_equal(w->code, WIRE_KV_FULL);
    assert_true(n > 1);
    for (unsigned i = 0; i < n; i++) {
        group_session_close(session[i]);
        kv_close(kv[i]);
    }
    assert_int_equal(group_n(w->node[0].group), 1);
    begin_session(w);
    answer_all(w);
}

/* --- tests: members that lie --- */

static void lied(struct world *w, enum lie lie)
{
    w->node[1].lie = lie;
    gather(w, 1, true);
    wait_members(w, 1);
    begin_session(w);
    answer_all(w); /* by the leader itself */
    assert_int_equal(group_n(w->node[0].group), 0);
}
static void test_wrong_place(void **state)
{
    lied(*state, WRONG_PLACE);
}
static void test_too_long(void **state)
{
    lied(*state, TOO_LONG);
}
static void test_not_asked(void **state)
{
    lied(*state, NOT_ASKED);
}
static void test_gives_up(void **state)
{
    lied(*state, GIVES_UP);
}
static void test_cut_short(void **state)
{
    lied(*state, CUT_SHORT);
}
static void test_no_numbers(void **state)
{
    struct world *w = *state;
    w->node[1].lie = NO_NUMBERS;
    gather(w, 1, true);
    wait_members(w, 1);
    begin_session(w);
    assert_int_equal(step(w, 1), ERR_NONFINITE);
}

/* --- tests: leaders that lie --- */

static bool has_taken(void *arg)
{
    struct expected *x = arg;
    return x->w->node[3].n_taken >= x->n;
}

/* Node 3, which has no group, hears the n-th answer. */
static const struct msg *heard(struct world *w, unsigned n)
{
    struct expected x = { w, n };
    assert_true(run_until(&w->hub, has_taken, &x, WAIT_MS));
    assert_int_equal(w->node[3].n_taken, n);
    return &w->node[3].taken[n - 1]->m;
}

static const uint8_t A[SESSION_BYTES] = { 1 }, B[SESSION_BYTES] = { 2 };

static struct msg opening(struct world *w, const uint8_t *share, uint32_t number)
{
    struct msg m = { .type = MSG_SHARE_OPEN, .rid = 5 };
    m.u.SHARE_OPEN.share = slice_of(share, SESSION_BYTES);
    m.u.SHARE_OPEN.model = slice_of(w->weights.name.id.b, ID_BYTES);
    m.u.SHARE_OPEN.number = number;
    if (number == 0) return m;
    m.u.SHARE_OPEN.parts = (struct uints){ 4, { 0, w->toy.a.n_layers, 0, 1 } };
    m.u.SHARE_OPEN.max_tokens = TOKENS;
    return m;
}

/* Node 3 says m to node 1. */
static void tell(struct world *w, struct msg *m)
{
    say(&w->node[3], &w->node[1].box.me.id, m);
}

static void connect_third(struct world *w)
{
    struct answer a;
    assert_int_equal(dial_wait(&w->node[3].box, &w->node[1].box.me.id, "127.0.0.1",
                               net_port(w->node[1].box.net), &a),
                     ERR_OK);
}

static void refused(struct world *w, struct msg *m, unsigned n, enum wire_error code)
{
    tell(w, m);
    const struct msg *a = heard(w, n);
    assert_int_equal(a->type, MSG_SHARE_FAIL);
    assert_int_equal(a->u.SHARE_FAIL.code, code);
    assert_int_equal(a->rid, m->rid);
}

static void test_openings(void **state)
{
    struct world *w = *state;
    unsigned n = 0;
    connect_third(w);
    struct msg m = opening(w, A, 1);
    refused(w, &m, ++n, WIRE_NO_SUCH_SESSION); /* the share first */
    m = opening(w, A, 0);
    m.u.SHARE_OPEN.model = slice_of("another model, which is not here", ID_BYTES);
    refused(w, &m, ++n, WIRE_NO_SUCH_MODEL);
    m = opening(w, A, 0);
    tell(w, &m);
    assert_int_equal(heard(w, ++n)->type, MSG_SHARE_OK);
    refused(w, &m, ++n, WIRE_NO_SUCH_SESSION); /* it is open */
    m = opening(w, A, 1);
    m.u.SHARE_OPEN.parts.n = 3;
    refused(w, &m, ++n, WIRE_BAD_MESSAGE);
    m = opening(w, A, 1);
    m.u.SHARE_OPEN.max_tokens = 0;
    refused(w, &m, ++n, WIRE_BAD_MESSAGE);
    m = opening(w, A, 1);
    m.u.SHARE_OPEN.max_tokens = TOKENS + 1;
    refused(w, &m, ++n, WIRE_KV_FULL);
    m = opening(w, A, 1);
    m.u.SHARE_OPEN.parts.p[1] = LAYER_MAX;
    refused(w, &m, ++n, WIRE_NO_SUCH_LAYERS);
    m = opening(w, A, 1);
    m.u.SHARE_OPEN.parts.p[3] = 1000000;
    refused(w, &m, ++n, WIRE_NO_SUCH_LAYERS);
    m = opening(w, A, 1); /* all of the memory, eight times */
    m.u.SHARE_OPEN.parts.n = LIST_MAX;
    for (unsigned i = 0; i < LIST_MAX / 4; i++)
        memcpy(m.u.SHARE_OPEN.parts.p + 4 * i, (uint32_t[]){ 0, w->toy.a.n_layers, 0, 2 }, 16);
    refused(w, &m, ++n, WIRE_KV_FULL);
    m = opening(w, A, 1);
    tell(w, &m);
    assert_int_equal(heard(w, ++n)->type, MSG_SHARE_OK);
    refused(w, &m, ++n, WIRE_BAD_MESSAGE); /* the number is taken */
    assert_int_equal(member_sessions(w->node[1].member), 1);

    take_down(w, 3); /* what its leader had ends with the connection */
    assert_true(run_until(&w->hub, is_free, w->node[1].member, WAIT_MS));
    assert_int_equal(member_shares(w->node[1].member), 0);
}

/* Work for a token in head group 0. */
static struct msg work(struct world *w, const uint8_t *share, uint8_t number, uint8_t pos)
{
    static uint8_t x[4096], places[SHARE_PLACE_BYTES];
    struct msg m = { .type = MSG_SHARE_WORK, .rid = 9 };
    struct msg_SHARE_WORK *k = &m.u.SHARE_WORK;
    places[3] = number;
    places[7] = pos;
    k->share = slice_of(share, SESSION_BYTES);
    k->kind = SHARE_HEADS;
    k->hi = 1;
    k->rows = 1;
    k->places = slice_of(places, sizeof places);
    k->x = slice_of(x, share_x_bytes(&w->toy.a, SHARE_HEADS));
    return m;
}

static void test_works(void **state)
{
    struct world *w = *state;
    unsigned n = 0;
    connect_third(w);
    struct msg m = work(w, A, 1, 0);
    refused(w, &m, ++n, WIRE_NO_SUCH_SESSION); /* no share */
    m = opening(w, A, 0);
    tell(w, &m);
    assert_int_equal(heard(w, ++n)->type, MSG_SHARE_OK);
    m = work(w, A, 1, 0);
    refused(w, &m, ++n, WIRE_NO_SUCH_SESSION); /* no session */
    m = opening(w, A, 1);
    tell(w, &m);
    assert_int_equal(heard(w, ++n)->type, MSG_SHARE_OK);
    m = work(w, A, 1, 0);
    tell(w, &m);
    const struct msg *done = heard(w, ++n);
    assert_int_equal(done->type, MSG_SHARE_DONE);
    assert_int_equal(done->u.SHARE_DONE.x.n, w->row_bytes);
    m = work(w, A, 1, 2); /* a gap */
    refused(w, &m, ++n, WIRE_NO_SUCH_SESSION);
    m = work(w, A, 1, 1);
    m.u.SHARE_WORK.layer = LAYER_MAX;
    refused(w, &m, ++n, WIRE_NO_SUCH_SESSION);
    m = work(w, A, 1, 1);
    m.u.SHARE_WORK.lo = 1; /* the other head group is not its */
    m.u.SHARE_WORK.hi = 2;
    refused(w, &m, ++n, WIRE_NO_SUCH_SESSION);
    m = work(w, A, 1, 1);
    tell(w, &m);
    assert_int_equal(heard(w, ++n)->type, MSG_SHARE_DONE);
    assert_false(net_is_banned(w->node[1].box.net, &w->node[3].box.me.id));
}

static bool is_banned(void *arg)
{
    struct world *w = arg;
    return net_is_banned(w->node[1].box.net, &w->node[3].box.me.id);
}

/* Three times what no honest leader says. */
static void test_strikes(void **state)
{
    struct world *w = *state;
    unsigned n = 0;
    gather(w, 1, false);
    wait_members(w, 1);
    begin_session(w);
    connect_third(w);
    struct msg m = opening(w, B, 0);
    tell(w, &m);
    assert_int_equal(heard(w, ++n)->type, MSG_SHARE_OK);
    m = work(w, B, 1, 0);
    m.u.SHARE_WORK.x.n--;
    refused(w, &m, ++n, WIRE_INTERNAL);
    m = work(w, B, 1, 0);
    m.u.SHARE_WORK.kind = SHARE_EXPERTS;
    m.u.SHARE_WORK.layer = w->toy.a.n_layers - 1;
    m.u.SHARE_WORK.picks = slice_of("\x40", 1);
    refused(w, &m, ++n, WIRE_INTERNAL);
    m = work(w, B, 1, 0);
    m.u.SHARE_WORK.hi = 0;
    tell(w, &m);
    assert_true(run_until(&w->hub, is_banned, w, WAIT_MS));
    answer_all(w); /* and others go on */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_same_bits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_going_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_heads_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_experts_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leaving, setup, teardown),
        cmocka_unit_test_setup_teardown(test_experts_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_use, setup, teardown),
        cmocka_unit_test_setup_teardown(test_weighing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pause, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_place, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_long, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gives_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cut_short, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_openings, setup, teardown),
        cmocka_unit_test_setup_teardown(test_works, setup, teardown),
        cmocka_unit_test_setup_teardown(test_strikes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
