/* Two nodes' compute threads that lead for each other: neither waits for ever, and every session
 * gets the bits it gets alone. */
#include "kernels/workers.h"
#include "stage/compute.h"
#include "tests/model/toy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SESSIONS = 3, ROWS = 60 };

/* A node: the leader of its sessions, and a member for the other one's. */
struct side {
    struct sharer sharer; /* first */
    struct actor actor;
    struct world *world;
    struct side *other;
    struct compute *compute;
    struct kv *kv[SESSIONS], *guest[SESSIONS]; /* its own; of the other's, the heads it has */
    struct rows_job rows[SESSIONS];
    uint8_t *x[SESSIONS], *want[SESSIONS];
    unsigned back; /* sessions that have come back */

    /* an ask under way */
    uint8_t who[BATCH_MAX * 8];
    struct share_part part;
    struct share_job job;
    struct row row[BATCH_MAX];
    atomic_bool answered;
    bool silent; /* it asks and nobody computes */
};

struct world {
    struct hub hub;
    struct toy toy;
    const struct kernels *k;
    size_t row_bytes;
    struct side side[2];
    unsigned expected, back;
};

static void keep(struct note *n)
{
    (void)n;
}

static struct side *side_of(struct actor *a)
{
    return (struct side *)(void *)((char *)a - offsetof(struct side, actor));
}

/* The rows of a session, or the answer to an ask. */
static void on_note(struct actor *a, struct note *n)
{
    struct side *s = side_of(a);
    const struct job *j = (const struct job *)(const void *)n;

    if (j->kind == JOB_SHARE) {
        assert_int_equal(j->err, ERR_OK);
        atomic_store(&s->answered, true);
        compute_wake(s->compute);
        return;
    }
    if (++s->world->back == s->world->expected) hub_stop(&s->world->hub);
}

/* --- the sharer: half of everything is the other's --- */

static struct kv *guest_of(struct side *s, const struct kv *kv)
{
    for (unsigned i = 0; i < SESSIONS; i++)
        if (s->kv[i] == kv) return s->other->guest[i];
    abort();
}

static enum err ask(struct sharer *by, const struct share_ask *q, bool *away)
{
    struct side *s = (struct side *)by;
    const struct arch *a = &s->world->toy.a;

    for (size_t p = 0; p < (size_t)q->n * q->width; p++)
        s->who[p] = (q->chosen ? q->chosen[p] % 2 != 0 : p % q->width < (q->width + 1) / 2) ? 1 : 0;
    enum err e = share_part_make(&s->part, a, q, s->who, 1);
    if (e || s->part.work.n == 0) return e;
    s->job = (struct share_job){ .work = s->part.work };
    s->job.work.row = s->row;
    for (uint32_t i = 0; i < s->part.work.n; i++)
        s->row[i] =
            (struct row){ guest_of(s, q->row[s->part.at[i]].kv), q->row[s->part.at[i]].pos };
    if (share_check(a, &s->job.work)) return ERR_RANGE;
    s->job.out = malloc(share_answer_bytes(a, &s->job.work));
    s->job.job.note.drop = keep;
    s->job.job.to = &s->actor;
    atomic_store(&s->answered, false);
    if (!s->silent) compute_share(s->other->compute, &s->job);
    for (size_t p = 0; p < (size_t)q->n * q->width; p++) away[p] = s->who[p];
    return s->job.out ? ERR_OK : ERR_NOMEM;
}

static bool is_answered(void *arg)
{
    return atomic_load(&((struct side *)arg)->answered);
}

static uint8_t *old_answers[4096]; /* freed at the end: the stage reads them until the next ask */
static atomic_uint n_old;

static enum err collect(struct sharer *by, const struct share_ask *q, struct share_answer *to)
{
    struct side *s = (struct side *)by;

    compute_wait(s->compute, is_answered, s);
    old_answers[atomic_fetch_add(&n_old, 1) % 4096] = s->job.out;
    if (!is_answered(s)) {
        share_part_free(&s->part);
        return ERR_CANCELLED;
    }
    share_part_place(&s->part, &s->world->toy.a, q, s->who, 1, s->job.out, to);
    share_part_free(&s->part);
    return s->job.job.err;
}

/* --- a world --- */

static void side_open(struct world *w, unsigned i)
{
    struct side *s = &w->side[i];
    const struct arch *a = &w->toy.a;
    uint64_t seed = 40 + i;
    float *f = malloc(a->hidden * sizeof *f);

    s->sharer = (struct sharer){ ask, collect };
    s->world = w;
    s->other = &w->side[1 - i];
    assert_int_equal(actor_init(&s->actor, &w->hub, "side", 0, on_note), ERR_OK);
    struct compute_config c = { .arch = a,
                                .layers = w->toy.layer,
                                .hi = a->n_layers,
                                .kernels = w->k,
                                .workers = workers_inline() };
    assert_int_equal(compute_open(&s->compute, &c, NULL), ERR_OK);
    for (unsigned n = 0; n < SESSIONS; n++) {
        s->x[n] = malloc(ROWS * w->row_bytes);
        s->want[n] = malloc(ROWS * w->row_bytes);
        for (uint32_t r = 0; r < ROWS; r++) {
            for (uint32_t e = 0; e < a->hidden; e++) f[e] = toy_random(&seed);
            w->k->narrow(s->x[n] + r * w->row_bytes, f, a->hidden, a->exchange);
        }
        memcpy(s->want[n], s->x[n], ROWS * w->row_bytes);
        naive_forward(&w->toy, w->k, 0, a->n_layers, ROWS, s->want[n]);
        assert_int_equal(kv_open(&s->kv[n], a, 0, a->n_layers, ROWS), ERR_OK);
        assert_int_equal(kv_open_heads(&s->guest[n], a, 0, a->n_layers, 0, (a->n_kv + 1) / 2, ROWS),
                         ERR_OK);
    }
    free(f);
}

static struct world *world_open(unsigned shape)
{
    struct world *w = calloc(1, sizeof *w);

    toy_shape(shape, &w->toy.a);
    toy_types(&w->toy.a, WT_Q40);
    toy_fill(&w->toy, 3);
    w->k = kernels_pick(NULL, NULL);
    w->row_bytes = arch_row_bytes(&w->toy.a);
    assert_int_equal(hub_init(&w->hub), ERR_OK);
    for (unsigned i = 0; i < 2; i++) side_open(w, i);
    return w;
}

static void world_close(struct world *w)
{
    for (unsigned i = 0; i < 2; i++) compute_close(w->side[i].compute);
    for (unsigned i = 0; i < 2; i++) {
        struct side *s = &w->side[i];
        actor_fini(&s->actor);
        for (unsigned n = 0; n < SESSIONS; n++) {
            kv_close(s->kv[n]);
            kv_close(s->guest[n]);
            free(s->x[n]);
            free(s->want[n]);
        }
    }
    for (unsigned n = atomic_exchange(&n_old, 0); n-- > 0;) free(old_answers[n]);
    hub_fini(&w->hub);
    toy_free(&w->toy);
    free(w);
}

/* Rows [at, at + n) of session i. */
static void submit(struct side *s, unsigned i, uint32_t at, uint32_t n, struct sharer *sharer)
{
    struct rows_job *j = &s->rows[i];

    *j = (struct rows_job){ .job.note.drop = keep,
                            .job.to = &s->actor,
                            .hi = s->world->toy.a.n_layers,
                            .kv = s->kv[i],
                            .pos = at,
                            .n = n,
                            .x = s->x[i] + at * s->world->row_bytes,
                            .is_token = n == 1,
                            .sharer = sharer };
    s->world->expected++;
    compute_rows(s->compute, j);
}

/* --- tests --- */

static void lead_for_each_other(void **state)
{
    static const uint32_t chunk[] = { 31, 1, 1, 20, 1, 1, 1, 1, 1, 1, 1 }; /* 60 */
    (void)state;

    for (unsigned shape = 0; shape < TOYS; shape++) {
        struct world *w = world_open(shape);
        uint32_t at = 0;
        for (unsigned c = 0; c < sizeof chunk / sizeof *chunk; at += chunk[c++]) {
            for (unsigned i = 0; i < 2; i++)
                for (unsigned n = 0; n < SESSIONS; n++)
                    submit(&w->side[i], n, at, chunk[c], &w->side[i].sharer);
            hub_run(&w->hub);
            assert_int_equal(w->back, w->expected);
        }
        for (unsigned i = 0; i < 2; i++)
            for (unsigned n = 0; n < SESSIONS; n++) {
                assert_int_equal(w->side[i].rows[n].job.err, ERR_OK);
                assert_memory_equal(w->side[i].x[n], w->side[i].want[n], at * w->row_bytes);
            }
        world_close(w);
    }
}

/* Sessions with a sharer and without, on one node at once, are not mixed in a batch. */
static void some_share(void **state)
{
    struct world *w = world_open(0);
    struct side *s = &w->side[0];
    (void)state;

    for (unsigned n = 0; n < SESSIONS; n++) submit(s, n, 0, ROWS, n == 1 ? NULL : &s->sharer);
    hub_run(&w->hub);
    for (unsigned n = 0; n < SESSIONS; n++) {
        assert_int_equal(s->rows[n].job.err, ERR_OK);
        assert_memory_equal(s->x[n], s->want[n], ROWS * w->row_bytes);
    }
    world_close(w);
}

/* A node that stops does not wait for a member that says nothing. */
static void stop_while_waiting(void **state)
{
    struct world *w = world_open(0);
    struct side *s = &w->side[0];
    (void)state;

    s->silent = true;
    submit(s, 0, 0, 4, &s->sharer);
    uv_sleep(20);
    compute_close(s->compute);
    s->compute = NULL;
    hub_run(&w->hub);
    assert_int_equal(s->rows[0].job.err, ERR_CANCELLED);
    assert_int_equal(kv_len(s->kv[0]), 0);
    world_close(w);
}

/* How fast the parts are is known of each kind that there is. */
static void paces(void **state)
{
    (void)state;
    for (unsigned shape = 0; shape < TOYS; shape++) {
        struct toy t = { 0 };
        struct compute *c;
        toy_shape(shape, &t.a);
        toy_fill(&t, 3);
        struct compute_config cc = { .arch = &t.a,
                                     .layers = t.layer,
                                     .hi = t.a.n_layers,
                                     .kernels = kernels_pick(NULL, NULL),
                                     .workers = workers_inline() };
        assert_int_equal(compute_open(&c, &cc, NULL), ERR_OK);
        struct pace p = compute_measure(c);
        assert_true(p.heads_us > 0 && p.layer_us > 0);
        assert_int_equal(p.expert_us > 0, t.a.n_experts > 0);
        assert_int_equal(p.dense_us > 0, t.a.n_dense > 0);
        compute_close(c);
        toy_free(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lead_for_each_other),
        cmocka_unit_test(some_share),
        cmocka_unit_test(stop_while_waiting),
        cmocka_unit_test(paces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
