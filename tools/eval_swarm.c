/* eval_swarm.c - the layers in a live swarm, embedding and head in this process. */
#include "ask/remote.h"
#include "home/keys.h"
#include "model/forward.h"
#include "stage/pool.h"
#include "tools/eval.h"
#include "weights/weights.h"

#include <stdlib.h>

struct swarm {
    struct eval_model model; /* first */
    struct identity me;
    struct swarm_key key;
    struct store *store;
    struct weights weights; /* the ends only */
    struct pool *pool;
    struct ends *ends;
    struct remote *remote;
    uint32_t at; /* positions done */
    uint8_t *x;  /* [rows_max][arch_row_bytes] */
};

static enum err step(struct eval_model *m, const int32_t *ids, uint32_t n, float *logits,
                     struct why *why)
{
    struct swarm *s = (struct swarm *)m;
    struct nonfinite bad = { 0 };

    if (n > m->rows_max || n > m->context - s->at)
        return fail(why, ERR_RANGE, "position %u is past the session's %u", s->at + n - 1,
                    m->context);
    enum err e = ends_embed(s->ends, ids, n, s->x);
    if (e) return fail(why, e, "the embedding of position %u: %s", s->at, err_text(e));
    if ((e = remote_rows(s->remote, s->at, n, s->x, why))) return e;
    e = ends_logits(s->ends, s->x, n, logits, &bad);
    if (e == ERR_NONFINITE)
        return fail(why, e, "position %u: a logit is not finite", s->at + bad.pos);
    if (e) return fail(why, e, "the logits of position %u: %s", s->at, err_text(e));
    s->at += n;
    return ERR_OK;
}

static void restart(struct eval_model *m)
{
    ((struct swarm *)m)->at = 0; /* position 0 opens a new session */
}

static void close_swarm(struct eval_model *m)
{
    struct swarm *s = (struct swarm *)m;

    remote_close(s->remote);
    if (s->ends) ends_close(s->ends);
    if (s->pool) pool_close(s->pool);
    weights_close(&s->weights);
    if (s->store) store_close(s->store);
    identity_fini(&s->me);
    free(s->x);
    free(s);
}

static enum err open_keys(struct swarm *s, const struct eval_swarm_options *o, struct why *why)
{
    bool created;
    if (proto_init()) return fail(why, ERR_UNSUPPORTED, "libsodium does not start");
    enum err e = keys_swarm(&s->key, o->swarm_key, why);
    if (!e && o->identity) e = keys_identity(&s->me, o->identity, false, &created, why);
    if (!e && !o->identity) identity_make(&s->me);
    return e;
}

static enum err open_ends(struct swarm *s, const struct eval_options *o, struct why *why)
{
    const struct kernels *k = kernels_pick(o->isa, why);
    enum err e;

    if (!k) return ERR_UNSUPPORTED;
    if ((e = store_open(&s->store, o->store, STORE_READ, why))) return e;
    if ((e = weights_open(&s->weights, s->store, o->model, 0, 0, true, why))) return e;
    if ((e = pool_open(&s->pool, o->threads)))
        return fail(why, e, "cannot start %u threads", o->threads);

    const struct arch *a = &s->weights.manifest.arch;
    size_t row_bytes = arch_row_bytes(a);
    uint32_t fits = (uint32_t)(ACT_BYTES_MAX / row_bytes);
    uint32_t rows_max = o->rows_max < ROWS_MAX ? o->rows_max : ROWS_MAX;
    s->model.rows_max = rows_max < fits ? rows_max : fits;
    e = ends_open(&s->ends, a, &s->weights.ends, s->model.rows_max, k, pool_workers(s->pool));
    s->x = malloc(s->model.rows_max * row_bytes);
    if (!e && !s->x) e = ERR_NOMEM;
    return e ? fail(why, e, "cannot open model %s: %s", s->weights.name.name, err_text(e)) : e;
}

static enum err join(struct swarm *s, const struct eval_swarm_options *o, struct why *why)
{
    const struct arch *a = &s->weights.manifest.arch;
    struct remote_config c = { .me = &s->me,
                               .swarm = &s->key,
                               .n_layers = a->n_layers,
                               .row_bytes = arch_row_bytes(a),
                               .positions = o->positions < a->context ? o->positions : a->context };
    enum err e = link_parse(&c.link, o->link, why);
    if (e) return e;
    memcpy(c.model, s->weights.name.id.b, ID_BYTES);
    return remote_open(&s->remote, &c, why);
}

enum err eval_open_swarm(struct eval_model **out, const struct eval_swarm_options *o,
                         struct why *why)
{
    struct swarm *s = calloc(1, sizeof *s);

    *out = NULL;
    if (!s) return fail(why, ERR_NOMEM, "out of memory");
    enum err e = open_keys(s, o, why);
    if (!e) e = open_ends(s, &o->local, why);
    if (!e) e = join(s, o, why);
    if (e) {
        close_swarm(&s->model);
        return e;
    }
    s->model.vocab = s->weights.manifest.arch.vocab;
    s->model.context = s->weights.manifest.arch.context;
    s->model.step = step;
    s->model.restart = restart;
    s->model.close = close_swarm;
    *out = &s->model;
    return ERR_OK;
}
