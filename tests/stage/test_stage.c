/* The stage's sessions: who may open one, what may enter it, and how it ends. */
#include "stage/pool.h"
#include "stage/stage.h"
#include "tests/model/toy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CONTEXT = 64, LIMIT_MS = 10000, IDLE_MS = 100, MAILS = 256 };

/* A node that is its own coordinator: all it sends, it gets. */
struct world {
    struct hub hub;
    struct identity me;
    struct net *net;
    struct toy toy;
    struct weights weights;
    const struct kernels *k;
    struct pool *pool;
    struct compute *compute;
    struct stage_server *server;
    size_t row_bytes;
    struct mail *mail[MAILS]; /* answers, in order; owned */
    unsigned n_mail, wanted, n_changes;
    uv_timer_t limit;
    bool is_late, is_closing;
};

static void on_mail(void *arg, struct mail *m)
{
    struct world *w = arg;
    bool is_answer = m->m.type == MSG_SESS_OK || m->m.type == MSG_STEP_DONE ||
                     m->m.type == MSG_SESS_FAIL || m->m.type == MSG_ERROR ||
                     m->m.type == MSG_PREFIX || (m->m.type == MSG_ACT && m->m.rid != 0);
    if (!is_answer) {
        stage_server_on_mail(w->server, m);
        return;
    }
    assert_true(w->n_mail < MAILS);
    w->mail[w->n_mail++] = m;
    if (w->n_mail >= w->wanted) hub_stop(&w->hub);
}

static void on_peer(void *arg, const struct node_id *id, bool up, const char *why)
{
    (void)arg, (void)id, (void)up, (void)why;
}

static void on_change(void *arg)
{
    ((struct world *)arg)->n_changes++;
}

static void on_limit(uv_timer_t *t)
{
    struct world *w = t->data;
    w->is_late = true;
    hub_stop(&w->hub);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    assert_int_equal(proto_init(), ERR_OK);
    toy_shape(1, &w->toy.a);
    toy_types(&w->toy.a, WT_Q80);
    toy_fill(&w->toy, 11);
    w->row_bytes = arch_row_bytes(&w->toy.a);
    w->weights.manifest.arch = w->toy.a;
    w->weights.layer = w->toy.layer;
    w->weights.hi = w->toy.a.n_layers;
    memset(w->weights.name.id.b, 7, HASH_BYTES);
    snprintf(w->weights.name.name, sizeof w->weights.name.name, "toy:q80");
    w->k = kernels_pick(NULL, NULL);
    identity_make(&w->me);
    assert_int_equal(hub_init(&w->hub), ERR_OK);
    struct net_config nc = { .me = &w->me,
                             .swarm = swarm_key_public(),
                             .agent = "test",
                             .arg = w,
                             .on_mail = on_mail,
                             .on_peer = on_peer };
    assert_int_equal(net_open(&w->net, &w->hub, &nc, NULL), ERR_OK);
    assert_int_equal(pool_open(&w->pool, 2), ERR_OK);
    struct compute_config cc = { .arch = &w->toy.a,
                                 .layers = w->toy.layer,
                                 .hi = w->toy.a.n_layers,
                                 .ends = &w->toy.ends,
                                 .kernels = w->k,
                                 .workers = pool_workers(w->pool) };
    assert_int_equal(compute_open(&w->compute, &cc, NULL), ERR_OK);
    struct stage_server_config sc = { .hub = &w->hub,
                                      .net = w->net,
                                      .compute = w->compute,
                                      .weights = &w->weights,
                                      .me = w->me.id,
                                      .context = CONTEXT,
                                      .kv_bytes =
                                          kv_cost(&w->toy.a, 0, w->toy.a.n_layers, CONTEXT) * 3,
                                      .prefix_bytes =
                                          kv_cost(&w->toy.a, 0, w->toy.a.n_layers, CONTEXT),
                                      .idle_ms = IDLE_MS,
                                      .arg = w,
                                      .on_change = on_change };
    assert_int_equal(stage_server_open(&w->server, &sc), ERR_OK);
    uv_timer_init(&w->hub.loop, &w->limit);
    w->limit.data = w;
    *state = w;
    return 0;
}

static void on_closed(void *arg)
{
    struct world *w = arg;
    compute_close(w->compute);
    stage_server_close(w->server);
    hub_stop(&w->hub);
}

static int teardown(void **state)
{
    struct world *w = *state;
    stage_server_stop(w->server);
    uv_close((uv_handle_t *)&w->limit, NULL);
    net_close(w->net, on_closed, w);
    hub_run(&w->hub);
    hub_fini(&w->hub);
    for (unsigned i = 0; i < w->n_mail; i++) w->mail[i]->note.drop(&w->mail[i]->note);
    pool_close(w->pool);
    toy_free(&w->toy);
    free(w);
    return 0;
}

/* Wait until n answers in all have come; the last of them. */
static const struct msg *wait_for(struct world *w, unsigned n)
{
    w->wanted = n;
    uv_update_time(&w->hub.loop);
    uv_timer_start(&w->limit, on_limit, LIMIT_MS, 0);
    while (w->n_mail < n && !w->is_late) hub_run(&w->hub);
    uv_timer_stop(&w->limit);
    assert_int_equal(w->n_mail, n);
    return &w->mail[n - 1]->m;
}

static void tell(struct world *w, const struct msg *m)
{
    assert_int_equal(net_send(w->net, &w->me.id, m), ERR_OK);
}

/* An opening that is granted, to be spoilt. */
static struct msg opening(struct world *w, const uint8_t *session)
{
    struct msg m = { .type = MSG_SESS_OPEN, .rid = 5 };
    m.u.SESS_OPEN.session = slice_of(session, SESSION_BYTES);
    m.u.SESS_OPEN.model = slice_of(w->weights.name.id.b, ID_BYTES);
    m.u.SESS_OPEN.layer_hi = w->toy.a.n_layers;
    m.u.SESS_OPEN.max_tokens = CONTEXT;
    m.u.SESS_OPEN.prev_id = slice_of(w->me.id.b, ID_BYTES);
    return m;
}

static struct msg rows(struct world *w, const uint8_t *session, uint32_t step, uint32_t pos,
                       uint32_t n, const uint8_t *x, uint32_t want)
{
    struct msg m = { .type = MSG_ACT };
    m.u.ACT.session = slice_of(session, SESSION_BYTES);
    m.u.ACT.step = step;
    m.u.ACT.pos = pos;
    m.u.ACT.rows = n;
    m.u.ACT.want = want;
    m.u.ACT.x = slice_of(x + pos * w->row_bytes, n * w->row_bytes);
    return m;
}

static uint8_t *random_rows(const struct world *w, uint32_t n, uint64_t seed)
{
    uint8_t *x = malloc(n * w->row_bytes);
    float *f = malloc(w->toy.a.hidden * sizeof *f);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t c = 0; c < w->toy.a.hidden; c++) f[c] = toy_random(&seed);
        w->k->narrow(x + i * w->row_bytes, f, w->toy.a.hidden, w->toy.a.exchange);
    }
    free(f);
    return x;
}

static const uint8_t A[SESSION_BYTES] = { 1 }, B[SESSION_BYTES] = { 2 }, C[SESSION_BYTES] = { 3 },
                     D[SESSION_BYTES] = { 4 };

static bool says(struct slice text, const char *words)
{
    char copy[400];
    snprintf(copy, sizeof copy, "%.*s", (int)text.n, (const char *)text.p);
    return strstr(copy, words) != NULL;
}

/* --- tests --- */

static void test_rows_come_back_computed(void **state)
{
    struct world *w = *state;
    enum { N = 30 };
    uint8_t *x = random_rows(w, N, 1), *want = malloc(N * w->row_bytes);
    memcpy(want, x, N * w->row_bytes);
    naive_forward(&w->toy, w->k, 0, w->toy.a.n_layers, N, want);

    struct msg m = opening(w, A);
    tell(w, &m);
    assert_int_equal(wait_for(w, 1)->type, MSG_SESS_OK);
    assert_int_equal(w->mail[0]->m.rid, 5);
    assert_int_equal(w->mail[0]->m.u.SESS_OK.limit, CONTEXT);
    assert_int_equal(stage_server_sessions(w->server), 1);

    m = rows(w, A, 0, 0, 20, x, 0); /* nothing wanted: only the report */
    tell(w, &m);
    m = rows(w, A, 1, 20, 10, x, 3);
    tell(w, &m);
    wait_for(w, 4);
    assert_int_equal(w->mail[1]->m.type, MSG_STEP_DONE);
    assert_int_equal(w->mail[1]->m.u.STEP_DONE.step, 0);
    const struct msg *home = &w->mail[2]->m;
    assert_int_equal(home->type, MSG_ACT);
    assert_int_equal(home->rid, 5);
    assert_int_equal(home->u.ACT.pos, 27);
    assert_int_equal(home->u.ACT.rows, 3);
    assert_int_equal(home->u.ACT.x.n, 3 * w->row_bytes);
    assert_memory_equal(home->u.ACT.x.p, want + 27 * w->row_bytes, 3 * w->row_bytes);
    assert_int_equal(w->mail[3]->m.type, MSG_STEP_DONE);
    assert_int_equal(w->mail[3]->m.u.STEP_DONE.step, 1);
    free(x);
    free(want);
}

static void refused(struct world *w, const struct msg *m, unsigned code, const char *words)
{
    tell(w, m);
    const struct msg *e = wait_for(w, w->n_mail + 1);
    assert_int_equal(e->type, MSG_ERROR);
    assert_int_equal(e->rid, m->rid);
    assert_int_equal(e->u.ERROR.code, code);
    assert_true(says(e->u.ERROR.text, words));
}

static void test_openings_refused(void **state)
{
    struct world *w = *state;
    uint8_t other[ID_BYTES] = { 9 };
    struct msg m = opening(w, A);
    m.u.SESS_OPEN.model = slice_of(other, ID_BYTES);
    refused(w, &m, WIRE_NO_SUCH_MODEL, "toy:q80, which is another model");
    m = opening(w, A);
    m.u.SESS_OPEN.layer_hi = w->toy.a.n_layers + 1u;
    refused(w, &m, WIRE_NO_SUCH_LAYERS, "not all of 0-");
    m = opening(w, A);
    m.u.SESS_OPEN.layer_lo = m.u.SESS_OPEN.layer_hi;
    refused(w, &m, WIRE_NO_SUCH_LAYERS, "holds layers 0-");
    m = opening(w, A);
    m.u.SESS_OPEN.max_tokens = CONTEXT + 1;
    refused(w, &m, WIRE_KV_FULL, "needs 65 positions, node swm1");
    m = opening(w, A);
    m.rid = 0;
    refused(w, &m, WIRE_BAD_MESSAGE, "needs a request number");
    assert_int_equal(stage_server_sessions(w->server), 0);

    const uint8_t *id[] = { A, B, C, D };
    for (int i = 0; i < 3; i++) {
        m = opening(w, id[i]);
        tell(w, &m);
        assert_int_equal(wait_for(w, w->n_mail + 1)->type, MSG_SESS_OK);
    }
    m = opening(w, A);
    refused(w, &m, WIRE_NOT_ALLOWED, "a session of that id is open");
    m = opening(w, D);
    refused(w, &m, WIRE_BUSY, "has room for 0"); /* there will be */
    assert_int_equal(stage_server_free_tokens(w->server), 0);

    struct msg c = { .type = MSG_SESS_CLOSE };
    c.u.SESS_CLOSE.session = slice_of(B, SESSION_BYTES);
    tell(w, &c);
    tell(w, &m);
    assert_int_equal(wait_for(w, w->n_mail + 1)->type, MSG_SESS_OK);
    assert_int_equal(stage_server_sessions(w->server), 3);
    assert_true(w->n_changes >= 5);
}

/* Open id, send m, and see the session end for a reason. */
static void ends(struct world *w, const uint8_t *id, const struct msg *m, unsigned code,
                 const char *words)
{
    struct msg o = opening(w, id);
    tell(w, &o);
    assert_int_equal(wait_for(w, w->n_mail + 1)->type, MSG_SESS_OK);
    tell(w, m);
    const struct msg *f = wait_for(w, w->n_mail + 1);
    assert_int_equal(f->type, MSG_SESS_FAIL);
    assert_int_equal(f->u.SESS_FAIL.code, code);
    assert_memory_equal(f->u.SESS_FAIL.session.p, id, SESSION_BYTES);
    assert_true(says(f->u.SESS_FAIL.text, words));
    assert_int_equal(stage_server_sessions(w->server), 0);
}

static void test_rows_that_may_not_enter(void **state)
{
    struct world *w = *state;
    uint8_t *x = random_rows(w, CONTEXT + 4, 1), other[ID_BYTES] = { 9 };
    struct msg m = rows(w, A, 0, 1, 2, x, 0);
    ends(w, A, &m, WIRE_OUT_OF_ORDER, "position 1 where 0 is next");
    m = rows(w, A, 0, 0, 2, x, 0);
    m.u.ACT.x.n -= 1;
    ends(w, A, &m, WIRE_BAD_MESSAGE, "a row has");
    m = rows(w, A, 0, 0, 2, x, 3);
    ends(w, A, &m, WIRE_BAD_MESSAGE, "2 rows");
    m = rows(w, A, 0, 0, CONTEXT + 1, x, 0);
    ends(w, A, &m, WIRE_KV_FULL, "past the 64");

    /* Not from the previous stage: the sender is told, the session lives. */
    struct msg o = opening(w, A);
    o.u.SESS_OPEN.prev_id = slice_of(other, ID_BYTES);
    tell(w, &o);
    assert_int_equal(wait_for(w, w->n_mail + 1)->type, MSG_SESS_OK);
    m = rows(w, A, 0, 0, 2, x, 0);
    tell(w, &m);
    const struct msg *e = wait_for(w, w->n_mail + 1);
    assert_int_equal(e->type, MSG_ERROR);
    assert_int_equal(e->u.ERROR.code, WIRE_NOT_ALLOWED);
    assert_int_equal(stage_server_sessions(w->server), 1);
    free(x);
}

static void test_nonfinite_is_named(void **state)
{
    struct world *w = *state;
    uint8_t *x = random_rows(w, 8, 1);
    float inf = INFINITY;
    char words[64];
    w->k->narrow(x + 5 * w->row_bytes, &inf, 1, w->toy.a.exchange);
    struct msg m = rows(w, A, 0, 0, 8, x, 1);
    snprintf(words, sizeof words, "not finite in layer 0 at position 5");
    ends(w, A, &m, WIRE_NONFINITE, words);
    free(x);
}

/* The next stage is an id that nobody has ever heard of. */
static void test_no_next_stage(void **state)
{
    struct world *w = *state;
    uint8_t *x = random_rows(w, 2, 1), other[ID_BYTES] = { 9 };
    struct msg o = opening(w, A), m = rows(w, A, 0, 0, 2, x, 0);
    o.u.SESS_OPEN.next_id = slice_of(other, ID_BYTES);
    tell(w, &o);
    wait_for(w, 1);
    tell(w, &m);
    const struct msg *f = wait_for(w, 2);
    assert_int_equal(f->type, MSG_SESS_FAIL);
    assert_int_equal(f->u.SESS_FAIL.code, WIRE_LOST_STAGE);
    assert_true(says(f->u.SESS_FAIL.text, "cannot be reached"));
    free(x);
}

/* A session whose next stage is lost goes on under another name: nothing is computed twice. */
static void test_adopted(void **state)
{
    struct world *w = *state;
    enum { N = 30, HAD = 20 };
    uint8_t *x = random_rows(w, N, 1), *want = malloc(N * w->row_bytes), other[ID_BYTES] = { 9 };
    memcpy(want, x, N * w->row_bytes);
    naive_forward(&w->toy, w->k, 0, w->toy.a.n_layers, N, want);

    struct msg o = opening(w, A), m = rows(w, A, 0, 0, HAD, x, 0);
    o.u.SESS_OPEN.next_id = slice_of(other, ID_BYTES);
    tell(w, &o);
    wait_for(w, 1);
    tell(w, &m);
    assert_int_equal(wait_for(w, 2)->type, MSG_SESS_FAIL); /* nobody there, but all is kept */
    assert_int_equal(stage_server_sessions(w->server), 1);
    m = rows(w, A, 1, HAD, 1, x, 1);
    tell(w, &m); /* not now */

    o = opening(w, B); /* of other layers: one more session */
    o.u.SESS_OPEN.adopts = slice_of(A, SESSION_BYTES);
    o.u.SESS_OPEN.layer_hi = 1;
    tell(w, &o);
    assert_int_equal(wait_for(w, 3)->u.SESS_OK.held, 0);
    assert_int_equal(stage_server_sessions(w->server), 2);

    o = opening(w, C);
    o.u.SESS_OPEN.adopts = slice_of(A, SESSION_BYTES);
    tell(w, &o);
    const struct msg *ok = wait_for(w, 4);
    assert_int_equal(ok->type, MSG_SESS_OK);
    assert_memory_equal(ok->u.SESS_OK.session.p, C, SESSION_BYTES);
    assert_int_equal(ok->u.SESS_OK.held, HAD);
    assert_int_equal(stage_server_sessions(w->server), 2);

    /* from what was sent on; half from it, half computed; the rows themselves do not matter then */
    memset(x, 0, 15 * w->row_bytes);
    m = rows(w, C, 0, 0, 15, x, 15);
    tell(w, &m);
    m = rows(w, C, 1, 15, N - 15, x, N - 15);
    tell(w, &m);
    wait_for(w, 8);
    assert_memory_equal(w->mail[4]->m.u.ACT.x.p, want, 15 * w->row_bytes);
    assert_int_equal(w->mail[5]->m.u.STEP_DONE.compute_us, 0);
    assert_int_equal(w->mail[6]->m.u.ACT.pos, 15);
    assert_memory_equal(w->mail[6]->m.u.ACT.x.p, want + 15 * w->row_bytes, (N - 15) * w->row_bytes);
    assert_int_equal(w->mail[7]->m.type, MSG_STEP_DONE);

    o = opening(w, A); /* it is no more */
    o.u.SESS_OPEN.adopts = slice_of(A, SESSION_BYTES);
    tell(w, &o);
    assert_int_equal(wait_for(w, 9)->u.SESS_OK.held, 0);
    free(x);
    free(want);
}

/* One who works on while he is adopted says so when that work is done. */
static void test_adopted_at_work(void **state)
{
    struct world *w = *state;
    enum { N = 30 };
    uint8_t *x = random_rows(w, N, 1), *want = malloc(N * w->row_bytes);
    memcpy(want, x, N * w->row_bytes);
    naive_forward(&w->toy, w->k, 0, w->toy.a.n_layers, N, want);
    struct msg o = opening(w, A), m = rows(w, A, 0, 0, N, x, N);
    tell(w, &o);
    wait_for(w, 1);
    tell(w, &m);
    o = opening(w, B);
    o.u.SESS_OPEN.adopts = slice_of(A, SESSION_BYTES);
    tell(w, &o);
    const struct msg *ok = wait_for(w, 2); /* and nothing of A's rows */
    assert_int_equal(ok->type, MSG_SESS_OK);
    assert_memory_equal(ok->u.SESS_OK.session.p, B, SESSION_BYTES);
    assert_int_equal(ok->u.SESS_OK.held, N);
    m = rows(w, B, 0, 0, N, x, 1);
    tell(w, &m);
    wait_for(w, 4);
    assert_memory_equal(w->mail[2]->m.u.ACT.x.p, want + (N - 1) * w->row_bytes, w->row_bytes);
    free(x);
    free(want);
}

/* --- what sessions leave --- */

/* Wait for n answers in all, and close id. */
static void close_after(struct world *w, unsigned n, const uint8_t *id)
{
    struct msg c = { .type = MSG_SESS_CLOSE };
    wait_for(w, n);
    c.u.SESS_CLOSE.session = slice_of(id, SESSION_BYTES);
    tell(w, &c);
}

/* K and V of a session's first block go on in another's: the same bits, wherever it begins. */
static void test_goes_on_from_what_another_left(void **state)
{
    struct world *w = *state;
    enum { N = 60, BEGINS = 4 };
    const uint32_t begin[BEGINS] = { PREFIX_BLOCK, 20, 0, PREFIX_BLOCK };
    uint8_t *x = random_rows(w, N, 1), *want = malloc(N * w->row_bytes),
            name[2 * HASH_WIRE] = { 1 };
    struct prefixes_state kept;
    memcpy(want, x, N * w->row_bytes);
    naive_forward(&w->toy, w->k, 0, w->toy.a.n_layers, N, want);

    struct msg o = opening(w, A), m = rows(w, A, 0, 0, N, x, N);
    m.u.ACT.drafts = N - 1;
    o.u.SESS_OPEN.keeps = 1;
    tell(w, &o);
    assert_int_equal(wait_for(w, 1)->u.SESS_OK.known, 0);
    tell(w, &m);
    wait_for(w, 3); /* all rows but the first may be guesses: nothing is kept yet */
    m = rows(w, A, 1, N - 1, 1, x, 1);
    m.u.ACT.pos = N; /* the next one: so they were none */
    tell(w, &m);
    const struct msg *told = wait_for(w, 6);
    assert_int_equal(told->type, MSG_PREFIX);
    assert_memory_equal(told->u.PREFIX.session.p, A, SESSION_BYTES);
    assert_int_equal(told->u.PREFIX.first, 0);
    assert_int_equal(told->u.PREFIX.hashes.n, HASH_WIRE);
    memcpy(name + HASH_WIRE, told->u.PREFIX.hashes.p, HASH_WIRE); /* behind one of nobody's */
    close_after(w, 6, A);

    for (int i = 0; i < BEGINS; i++) {
        uint32_t at = begin[i];
        unsigned before = w->n_mail;
        o = opening(w, B);
        o.u.SESS_OPEN.keeps = 1;
        o.u.SESS_OPEN.prefixes = slice_of(name, sizeof name);
        tell(w, &o);
        const struct msg *ok = wait_for(w, before + 1);
        assert_int_equal(ok->type, MSG_SESS_OK);
        assert_int_equal(ok->u.SESS_OK.known, PREFIX_BLOCK);
        assert_int_equal(ok->u.SESS_OK.held, 0);
        m = rows(w, B, 0, at, N - at, x, N - at);
        tell(w, &m);
        wait_for(w, before + 3);
        assert_int_equal(w->mail[before + 1]->m.u.ACT.pos, at);
        assert_memory_equal(w->mail[before + 1]->m.u.ACT.x.p, want + at * w->row_bytes,
                            (N - at) * w->row_bytes);
        if (i + 1 < BEGINS) close_after(w, before + 3, B);
    }
    stage_server_prefixes(w->server, &kept);
    assert_int_equal(kept.hits, BEGINS);
    assert_int_equal(kept.positions, PREFIX_BLOCK);

    /* When another is lost it goes on from what it has, which begins behind the block. */
    o = opening(w, C);
    o.u.SESS_OPEN.adopts = slice_of(B, SESSION_BYTES);
    o.u.SESS_OPEN.next_id = slice_of(w->me.id.b, ID_BYTES);
    unsigned before = w->n_mail;
    tell(w, &o);
    const struct msg *ok = wait_for(w, before + 1);
    assert_int_equal(ok->u.SESS_OK.held, N);
    assert_int_equal(ok->u.SESS_OK.known, N);
    o = opening(w, D);
    o.u.SESS_OPEN.adopts = slice_of(C, SESSION_BYTES);
    tell(w, &o);
    wait_for(w, before + 2);
    m = rows(w, D, 0, 0, N, x, N); /* from the very beginning: all is computed anew */
    tell(w, &m);
    wait_for(w, before + 4);
    assert_memory_equal(w->mail[before + 2]->m.u.ACT.x.p, want, N * w->row_bytes);
    free(x);
    free(want);
}

/* Rows may begin at what is known, once, and nowhere behind it. */
static void test_begins_within_what_is_known(void **state)
{
    struct world *w = *state;
    uint8_t *x = random_rows(w, CONTEXT, 1), name[HASH_WIRE];
    struct msg o = opening(w, A), m = rows(w, A, 0, 0, 40, x, 0);
    o.u.SESS_OPEN.keeps = 1;
    tell(w, &o);
    wait_for(w, 1);
    tell(w, &m);
    memcpy(name, wait_for(w, 3)->u.PREFIX.hashes.p, HASH_WIRE);
    close_after(w, 3, A);
    for (int i = 0; i < 3; i++) {
        unsigned before = w->n_mail;
        o = opening(w, B);
        o.u.SESS_OPEN.keeps = i < 2;
        o.u.SESS_OPEN.prefixes = slice_of(name, sizeof name);
        tell(w, &o);
        assert_int_equal(wait_for(w, before + 1)->u.SESS_OK.known, i < 2 ? PREFIX_BLOCK : 0);
        m = rows(w, B, 0, i == 0 ? 33 : i == 1 ? 10 : 31, 2, x, 0);
        tell(w, &m);
        if (i == 1) wait_for(w, before + 2);
        if (i == 1) tell(w, &m);
        const struct msg *f = wait_for(w, before + (i == 1 ? 3 : 2));
        assert_int_equal(f->type, MSG_SESS_FAIL);
        assert_int_equal(f->u.SESS_FAIL.code, WIRE_OUT_OF_ORDER);
    }
    o = opening(w, C);
    o.u.SESS_OPEN.prefixes = slice_of(x, HASH_WIRE + 1);
    refused(w, &o, WIRE_BAD_MESSAGE, "whole names");
    free(x);
}

/* Sessions have the memory first: nothing is refused for what others left. */
static void test_sessions_come_first(void **state)
{
    struct world *w = *state;
    uint8_t *x = random_rows(w, CONTEXT, 1);
    struct prefixes_state kept;
    struct msg o = opening(w, A), m = rows(w, A, 0, 0, 40, x, 0);
    o.u.SESS_OPEN.keeps = 1;
    tell(w, &o);
    wait_for(w, 1);
    tell(w, &m);
    wait_for(w, 3);
    stage_server_prefixes(w->server, &kept);
    assert_int_equal(kept.positions, PREFIX_BLOCK);
    assert_int_equal(kept.bytes, kv_cost(&w->toy.a, 0, w->toy.a.n_layers, PREFIX_BLOCK));
    assert_true(kept.bytes <= kept.max_bytes);
    const uint8_t *id[] = { B, C };
    for (unsigned i = 0; i < 2; i++) {
        o = opening(w, id[i]);
        tell(w, &o);
        assert_int_equal(wait_for(w, 4 + i)->type, MSG_SESS_OK);
    }
    stage_server_prefixes(w->server, &kept);
    assert_int_equal(kept.bytes, 0);
    free(x);
}

/* Positions are forgotten and computed anew: the same bits. */
/* Rows come in the place of drafts, and only of those. */
static void test_drafts(void **state)
{
    struct world *w = *state;
    enum { N = 30, SURE = 20, DRAFTS = 6, RIGHT = 2 };
    uint8_t *x = random_rows(w, N, 1), *want = malloc(N * w->row_bytes), *wrong;
    memcpy(want, x, N * w->row_bytes);
    naive_forward(&w->toy, w->k, 0, w->toy.a.n_layers, N, want);
    wrong = random_rows(w, N, 2);
    memcpy(wrong, x, (SURE + 1 + RIGHT) * w->row_bytes);

    struct msg o = opening(w, A), m = rows(w, A, 0, 0, SURE, x, 0);
    tell(w, &o);
    wait_for(w, 1);
    tell(w, &m);
    wait_for(w, 2);
    m = rows(w, A, 1, SURE, 1 + DRAFTS, wrong, 1 + DRAFTS);
    m.u.ACT.drafts = DRAFTS;
    tell(w, &m);
    wait_for(w, 4);
    assert_memory_equal(w->mail[2]->m.u.ACT.x.p, want + SURE * w->row_bytes,
                        (1 + RIGHT) * w->row_bytes);
    assert_int_equal(w->mail[2]->m.u.ACT.drafts, 0);
    uint32_t at = SURE + 1 + RIGHT;
    m = rows(w, A, 2, at, N - at, x, N - at);
    m.u.ACT.drafts = 1;
    tell(w, &m);
    wait_for(w, 6);
    assert_memory_equal(w->mail[4]->m.u.ACT.x.p, want + at * w->row_bytes, (N - at) * w->row_bytes);

    /* Whoever goes on from there has none of them. */
    o = opening(w, B);
    o.u.SESS_OPEN.adopts = slice_of(A, SESSION_BYTES);
    tell(w, &o);
    assert_int_equal(wait_for(w, 7)->u.SESS_OK.held, N - 1);
    m = rows(w, B, 0, 0, N, x, 1);
    tell(w, &m);
    wait_for(w, 9);
    assert_memory_equal(w->mail[7]->m.u.ACT.x.p, want + (N - 1) * w->row_bytes, w->row_bytes);

    /* What was no draft stays. */
    m = rows(w, B, 1, 0, 4, x, 0);
    m.u.ACT.pos = N;
    m.u.ACT.drafts = 3;
    tell(w, &m);
    wait_for(w, 10);
    m = rows(w, B, 2, 0, 1, x, 0);
    m.u.ACT.pos = N;
    tell(w, &m);
    const struct msg *f = wait_for(w, 11);
    assert_int_equal(f->type, MSG_SESS_FAIL);
    assert_int_equal(f->u.SESS_FAIL.code, WIRE_OUT_OF_ORDER);
    assert_true(says(f->u.SESS_FAIL.text, "position 30 where 34 is next"));
    m = rows(w, C, 0, 0, 2, x, 0);
    m.u.ACT.drafts = 3;
    ends(w, C, &m, WIRE_BAD_MESSAGE, "2 rows");
    free(x);
    free(want);
    free(wrong);
}

static void test_trim(void **state)
{
    struct world *w = *state;
    uint8_t *x = random_rows(w, 10, 1);
    struct msg m = opening(w, A);
    tell(w, &m);
    m = rows(w, A, 0, 0, 10, x, 10);
    tell(w, &m);
    wait_for(w, 3);
    struct msg t = { .type = MSG_KV_TRIM };
    t.u.KV_TRIM.session = slice_of(A, SESSION_BYTES);
    t.u.KV_TRIM.len = 4;
    tell(w, &t);
    m = rows(w, A, 1, 4, 6, x, 6);
    tell(w, &m);
    wait_for(w, 5);
    assert_int_equal(w->mail[3]->m.type, MSG_ACT);
    assert_memory_equal(w->mail[3]->m.u.ACT.x.p, w->mail[1]->m.u.ACT.x.p + 4 * w->row_bytes,
                        6 * w->row_bytes);
    t.u.KV_TRIM.len = 11;
    t.rid = 3;
    refused(w, &t, WIRE_OUT_OF_ORDER, "under way");
    free(x);
}

static void test_idle_and_gone(void **state)
{
    struct world *w = *state;
    struct msg m = opening(w, A);
    tell(w, &m);
    assert_int_equal(wait_for(w, 1)->type, MSG_SESS_OK);
    const struct msg *f = wait_for(w, 2);
    assert_int_equal(f->type, MSG_SESS_FAIL);
    assert_int_equal(f->u.SESS_FAIL.code, WIRE_TIMEOUT);
    assert_int_equal(stage_server_sessions(w->server), 0);

    m = opening(w, B);
    tell(w, &m);
    wait_for(w, 3);
    stage_server_on_peer(w->server, &w->me.id, false, "it has gone");
    assert_int_equal(stage_server_sessions(w->server), 0);
}

/* --- steps at home --- */

/* A coordinator that only decodes. */
struct teller {
    struct actor actor; /* first */
    struct world *w;
    struct home_job job;
    unsigned n_back;
};

static void on_decoded(struct actor *a, struct note *n)
{
    struct teller *t = (struct teller *)a;
    assert_ptr_equal(n, &t->job);
    assert_int_equal(n->kind, 77);
    t->n_back++;
    hub_stop(&t->w->hub);
}

static enum err decode(struct teller *t, const uint8_t *session, uint32_t pos, uint32_t limit,
                       uint8_t *x)
{
    t->job.to = &t->actor;
    t->job.kind = 77;
    t->job.decode.rows.x = x;
    t->job.decode.rows.pos = pos;
    t->job.decode.next.sampling = (struct sampling){ .top_p = 1 };
    t->job.decode.next.usable = t->w->toy.a.vocab;
    t->job.decode.limit = limit;
    return stage_server_decode(t->w->server, session, &t->job);
}

static void wait_back(struct teller *t, unsigned n)
{
    while (t->n_back < n) hub_run(&t->w->hub);
}

/* Only a session of ours alone, only where it stands, only what it was granted; rows in messages
 * and tokens at home go on where the other stopped. */
static void test_decode_at_home(void **state)
{
    struct world *w = *state;
    struct teller t = { .w = w };
    uint8_t *x = random_rows(w, 8, 1), *row = random_rows(w, 1, 2), other[ID_BYTES] = { 9 };
    assert_int_equal(actor_init(&t.actor, &w->hub, "teller", 0, on_decoded), ERR_OK);
    assert_int_equal(decode(&t, A, 0, 1, row), ERR_NOTFOUND);
    struct msg m = opening(w, B);
    m.u.SESS_OPEN.prev_id = slice_of(other, ID_BYTES);
    tell(w, &m);
    m = opening(w, C);
    m.u.SESS_OPEN.next_id = slice_of(other, ID_BYTES);
    tell(w, &m);
    m = opening(w, A);
    tell(w, &m);
    m = rows(w, A, 0, 0, 8, x, 1);
    tell(w, &m);
    wait_for(w, 5);
    assert_int_equal(decode(&t, B, 0, 1, row), ERR_NOTFOUND);
    assert_int_equal(decode(&t, C, 0, 1, row), ERR_NOTFOUND);
    assert_int_equal(decode(&t, A, 7, 1, row), ERR_RANGE);
    assert_int_equal(decode(&t, A, 8, 0, row), ERR_RANGE);
    assert_int_equal(decode(&t, A, 8, CONTEXT - 7, row), ERR_RANGE);

    uint32_t pos = 8;
    for (unsigned back = 1; pos < CONTEXT; back++) {
        assert_int_equal(decode(&t, A, pos, CONTEXT - pos, row), ERR_OK);
        struct home_job second = t.job;
        assert_int_equal(stage_server_decode(w->server, A, &second), ERR_RANGE); /* under way */
        wait_back(&t, back);
        assert_int_equal(t.job.decode.rows.job.err, ERR_OK);
        assert_in_range(t.job.decode.n_tokens, 1, CONTEXT - pos);
        pos += t.job.decode.n_tokens;
    }
    m = rows(w, A, 1, 0, 1, x, 1);
    m.u.ACT.pos = CONTEXT;
    tell(w, &m);
    const struct msg *f = wait_for(w, 6);
    assert_int_equal(f->type, MSG_SESS_FAIL);
    assert_int_equal(f->u.SESS_FAIL.code, WIRE_KV_FULL);
    actor_fini(&t.actor);
    free(x);
    free(row);
}

/* Closed while tokens are made: the session goes, and the coordinator gets his job back. */
static void test_decode_and_close(void **state)
{
    struct world *w = *state;
    struct teller t = { .w = w };
    uint8_t *row = random_rows(w, 1, 2);
    float inf = INFINITY;
    assert_int_equal(actor_init(&t.actor, &w->hub, "teller", 0, on_decoded), ERR_OK);
    struct msg m = opening(w, A), c = { .type = MSG_SESS_CLOSE };
    tell(w, &m);
    wait_for(w, 1);
    assert_int_equal(decode(&t, A, 0, CONTEXT, row), ERR_OK);
    c.u.SESS_CLOSE.session = slice_of(A, SESSION_BYTES);
    tell(w, &c);
    wait_back(&t, 1);
    while (stage_server_sessions(w->server) > 0) uv_run(&w->hub.loop, UV_RUN_ONCE);
    assert_int_equal(stage_server_free_tokens(w->server), 3 * CONTEXT);

    /* What fails in a layer fails the session. */
    tell(w, &m);
    wait_for(w, 2);
    w->k->narrow(row, &inf, 1, w->toy.a.exchange);
    assert_int_equal(decode(&t, A, 0, CONTEXT, row), ERR_OK);
    wait_back(&t, 2);
    assert_int_equal(t.job.decode.rows.job.err, ERR_NONFINITE);
    const struct msg *f = wait_for(w, 3);
    assert_int_equal(f->type, MSG_SESS_FAIL);
    assert_int_equal(f->u.SESS_FAIL.code, WIRE_NONFINITE);
    actor_fini(&t.actor);
    free(row);
}

/* Stopped with work under way: the coordinator is told, nothing is left behind. */
static void test_stop_with_work(void **state)
{
    struct world *w = *state;
    uint8_t *x = random_rows(w, CONTEXT, 1);
    struct msg m = opening(w, A);
    tell(w, &m);
    wait_for(w, 1);
    for (uint32_t i = 0; i < CONTEXT; i += 8) {
        m = rows(w, A, i / 8, i, 8, x, 0);
        tell(w, &m);
    }
    (void)uv_run(&w->hub.loop, UV_RUN_NOWAIT); /* the rows reach the compute thread */
    unsigned before = w->n_mail;
    stage_server_stop(w->server);
    const struct msg *f = wait_for(w, before + 1);
    assert_int_equal(f->type, MSG_SESS_FAIL);
    assert_int_equal(f->u.SESS_FAIL.code, WIRE_SHUTTING_DOWN);
    m = opening(w, B);
    refused(w, &m, WIRE_SHUTTING_DOWN, "shutting down");
    free(x);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_rows_come_back_computed),
        TEST(test_openings_refused),
        TEST(test_rows_that_may_not_enter),
        TEST(test_nonfinite_is_named),
        TEST(test_no_next_stage),
        TEST(test_adopted),
        TEST(test_adopted_at_work),
        TEST(test_goes_on_from_what_another_left),
        TEST(test_begins_within_what_is_known),
        TEST(test_sessions_come_first),
        TEST(test_trim),
        TEST(test_drafts),
        TEST(test_idle_and_gone),
        TEST(test_decode_at_home),
        TEST(test_decode_and_close),
        TEST(test_stop_with_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
