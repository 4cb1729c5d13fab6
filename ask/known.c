/* What of a request's rows the stages may know from earlier ones: names of its ids, and what they
 * mean at each stage's input (proto/recall.h). */
#include "ask/coordinator_impl.h"

#include <stdlib.h>

enum { NEAR = PREFIX_ASKS / 2 }; /* names asked for one by one from the end on */

/* Names of whole blocks of the ids so far, as many as there is memory for. */
static uint32_t name_ids(struct request *r)
{
    struct request_names *k = &r->names;
    uint32_t n = request_rows(r) / PREFIX_BLOCK;
    if (n > k->cap) {
        uint8_t *p = realloc(k->p, (size_t)(n + 16) * HASH_WIRE);
        if (!p) return k->n;
        k->p = p;
        k->cap = n + 16;
    }
    for (; k->n < n; k->n++) {
        uint8_t root[HASH_WIRE], *to = k->p + (size_t)k->n * HASH_WIRE;
        if (k->n == 0) chain_root_ids(root, r->c->c.weights->name.id.b);
        chain_ids(to, k->n == 0 ? root : to - HASH_WIRE, r->prompt.ids.p + k->n * PREFIX_BLOCK);
    }
    return n;
}

void known_fini(struct request *r)
{
    free(r->names.p);
}

/* All of the last ones, and of those before them some, evenly: what a stage evicts is the end of a
 * conversation first. */
uint32_t known_ask(void *arg, uint32_t lo, uint8_t *names, uint32_t *longest)
{
    struct request *r = arg;
    uint32_t most = (request_rows(r) - 1) / PREFIX_BLOCK; /* the last row is computed anyway */
    uint32_t n_ids = name_ids(r), n = 0, step;
    uint32_t k = n_ids < most ? n_ids : most;
    step = k > NEAR ? (k - NEAR + PREFIX_ASKS - NEAR - 1) / (PREFIX_ASKS - NEAR) : 1;
    *longest = 0;
    while (k > 0 && n < PREFIX_ASKS) {
        const uint8_t *ids = r->names.p + (size_t)(k - 1) * HASH_WIRE;
        if (recall_get(r->c->recall, ids, lo, names + (size_t)n * HASH_WIRE)) {
            if (n == 0) *longest = k * PREFIX_BLOCK;
            n++;
            k -= n < NEAR ? 1 : k > step ? step : k;
        } else {
            k--;
        }
    }
    return n;
}

void known_learn(void *arg, uint32_t lo, uint32_t first, struct slice names)
{
    struct request *r = arg;
    uint32_t n_ids = name_ids(r), n = (uint32_t)(names.n / HASH_WIRE);
    struct shelf *shelf = r->c->c.shelf;
    if (first >= n_ids) return; /* we do not know them ourselves yet */
    n = n < n_ids - first ? n : n_ids - first;
    if (shelf) shelf_learn(shelf, lo, n, r->names.p + (size_t)first * HASH_WIRE, names.p);
    for (uint32_t k = first; k < n_ids && (k - first + 1) * HASH_WIRE <= names.n; k++)
        recall_put(r->c->recall, r->names.p + (size_t)k * HASH_WIRE, lo,
                   names.p + (size_t)(k - first) * HASH_WIRE);
}

uint32_t known_rows(const struct request *r, const struct pipeline *p)
{
    uint32_t known = pipeline_known(p), most = request_rows(r) - 1;
    return known < most ? known : most;
}
