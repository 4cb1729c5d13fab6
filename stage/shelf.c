#include "stage/shelf.h"

#include "base/log.h"
#include "store/attic.h"
#include "weights/depot.h"

#include <stdlib.h>

enum { KIND_BLOCK = 1, KIND_NAME = 2 }; /* kinds of items */
enum {
    QUEUED_BYTES_MAX = 128 << 20, /* blocks that wait to be written */
    QUEUED_JOBS_MAX = 1024,
    SEARCH_NS = 2000000000, /* a slow disk is no help: what was read until then */
};
_Static_assert((int)HASH_WIRE == (int)HASH_BYTES, "names are hashes");

struct learnt {
    uint8_t ids[HASH_WIRE], rows[HASH_WIRE];
    uint32_t lo;
};

struct shelf {
    struct depot *depot;
    struct attic *attic; /* touched by the job under way */
    uint64_t stamp;      /* the newest */
    uint64_t bytes;      /* on disk, as of the last job */
    size_t queued_bytes;
    uint32_t n_jobs;
    bool has_failed; /* and said so */
    bool closing;
    struct learnt *learnt; /* owned: [n_learnt] */
    uint32_t n_learnt;
};

/* One job; what it does is one of three. */
struct shelf_job {
    struct depot_job job; /* first */
    struct shelf *s;
    enum err err;
    struct why why;
    uint64_t stamp;
    struct attic_item *items; /* owned: [n] */
    uint32_t n;
    struct kept_block **block; /* owned: [n], held; NULL: items without bodies */
    struct hash *path;         /* owned: [n_path] */
    uint32_t n_path;
    size_t bytes;
    struct shelf_search *search;
};

/* --- the end of a job --- */

static void free_job(struct shelf_job *j)
{
    for (uint32_t i = 0; j->block && i < j->n; i++) kept_let_go(j->block[i]);
    free(j->block);
    free(j->items);
    free(j->path);
    free(j);
}

static void free_shelf(struct shelf *s)
{
    attic_close(s->attic);
    free(s->learnt);
    free(s);
}

static void on_done(struct depot_job *d)
{
    struct shelf_job *j = (struct shelf_job *)d;
    struct shelf *s = j->s;
    bool has_run = !d->cancelled;
    s->n_jobs--;
    s->queued_bytes -= j->bytes;
    if (has_run) s->bytes = attic_bytes(s->attic);
    if (j->err && !s->has_failed) {
        s->has_failed = true;
        log_warn("conversations are not kept on disk for now: %s", j->why.text);
    } else if (has_run && !j->err) {
        s->has_failed = false;
    }
    if (j->search) j->search->done(j->search);
    free_job(j);
    if (s->closing && has_run) free_shelf(s);
}

/* Takes j; NULL: there was no memory for it. */
static void submit(struct shelf *s, struct shelf_job *j,
                   void (*run)(struct depot_job *d, struct store *none))
{
    j->s = s;
    j->job.run = run;
    j->job.done = on_done;
    s->n_jobs++;
    s->queued_bytes += j->bytes;
    depot_do(s->depot, &j->job);
}

/* --- what is written --- */

static void run_put(struct depot_job *d, struct store *none)
{
    struct shelf_job *j = (struct shelf_job *)d;
    struct attic *a = j->s->attic;
    (void)none;
    if (j->n_path) j->err = attic_touch(a, j->path, j->n_path, j->stamp, &j->why);
    if (!j->err) j->err = attic_put(a, j->items, j->n, &j->why);
}

static struct shelf_job *make_put(uint32_t n)
{
    struct shelf_job *j = calloc(1, sizeof *j);
    if (!j) return NULL;
    j->items = calloc(n, sizeof *j->items);
    if (j->items) return j;
    free(j);
    return NULL;
}

static void set_path(struct shelf_job *j, const uint8_t *path, uint32_t n)
{
    if (!path || n == 0) return;
    j->path = malloc(n * sizeof *j->path);
    if (!j->path) return; /* then its age is wrong: it goes sooner */
    memcpy(j->path, path, (size_t)n * HASH_WIRE);
    j->n_path = n;
}

static void set_block(struct attic_item *item, const struct kept_block *b, const uint8_t *before,
                      uint64_t stamp)
{
    memcpy(item->name.b, b->name, HASH_WIRE);
    memcpy(item->head.owner, b->coordinator.b, ID_BYTES);
    if (before) memcpy(item->head.before.b, before, HASH_WIRE);
    item->head.kind = KIND_BLOCK;
    item->head.lo = b->lo;
    item->head.hi = b->hi;
    item->head.depth = b->depth;
    item->head.stamp = stamp;
    item->body = slice_of(b->data, b->bytes);
}

void shelf_keep(struct shelf *s, struct kept_block *const *blocks, uint32_t n,
                const uint8_t *before, uint64_t stamp, const uint8_t *path, uint32_t n_path)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < n; i++) bytes += blocks[i]->bytes;
    if (n == 0 || s->n_jobs >= QUEUED_JOBS_MAX || s->queued_bytes + bytes > QUEUED_BYTES_MAX)
        return;
    struct shelf_job *j = make_put(n);
    if (!j) return;
    j->block = calloc(n, sizeof(struct kept_block *));
    if (!j->block) {
        free_job(j);
        return;
    }
    j->stamp = stamp;
    j->bytes = bytes;
    set_path(j, path, n_path);
    for (; j->n < n; j->n++) {
        struct kept_block *b = j->block[j->n] = blocks[j->n];
        kept_hold(b);
        set_block(&j->items[j->n], b, j->n ? blocks[j->n - 1]->name : before, stamp);
    }
    submit(s, j, run_put);
}

void shelf_learn(struct shelf *s, uint32_t lo, uint32_t n, const uint8_t *ids, const uint8_t *rows)
{
    struct shelf_job *j = n && s->n_jobs < QUEUED_JOBS_MAX ? make_put(n) : NULL;
    if (!j) return;
    for (; j->n < n; j->n++) {
        struct attic_item *item = &j->items[j->n];
        uint8_t in[HASH_WIRE + 1];
        memcpy(in, ids + (size_t)j->n * HASH_WIRE, HASH_WIRE);
        memcpy(item->head.owner, in, HASH_WIRE);
        in[HASH_WIRE] = (uint8_t)lo;
        chain_row(item->name.b, in, sizeof in);
        memcpy(item->head.before.b, rows + (size_t)j->n * HASH_WIRE, HASH_WIRE);
        item->head.kind = KIND_NAME;
        item->head.lo = lo;
        item->head.stamp = s->stamp;
    }
    submit(s, j, run_put);
}
_Static_assert(LAYER_MAX <= 256, "a layer's number is a byte");

/* --- what is read --- */

static bool fits(const struct shelf_search *q, const struct attic_head *h)
{
    return h->kind == KIND_BLOCK && h->lo == q->lo && h->hi >= q->hi && h->hi <= LAYER_MAX &&
           h->depth < q->most && h->n == (h->hi - h->lo) * q->layer_bytes &&
           memcmp(h->owner, q->coordinator.b, ID_BYTES) == 0;
}

/* The names from the one that is there back to its first; depth + 1 of them, in order.  NULL: none
 * is there whole. */
static struct hash *find_path(struct attic *a, const struct shelf_search *q, uint32_t *n)
{
    struct hash name = { { 0 } }, *path;
    struct attic_head h = { 0 };
    uint32_t i = 0;
    for (; i < q->n_names; i++) {
        memcpy(name.b, q->names + (size_t)i * HASH_WIRE, HASH_WIRE);
        if (!attic_find(a, &name, &h) && fits(q, &h)) break;
    }
    *n = h.depth + 1;
    if (i == q->n_names || !(path = malloc(*n * sizeof *path))) return NULL;
    for (uint32_t d = h.depth;; d--) {
        path[d] = name;
        if (d == 0) return path;
        name = h.before;
        if (attic_find(a, &name, &h) || !fits(q, &h) || h.depth != d - 1) break;
    }
    free(path);
    return NULL;
}

static struct kept_block *read_block(struct attic *a, const struct shelf_search *q,
                                     const struct hash *name)
{
    struct attic_head h;
    if (attic_find(a, name, &h) || !fits(q, &h)) return NULL;
    struct kept_block *b = kept_make(name->b, &q->coordinator, h.lo, h.hi, h.depth, (size_t)h.n);
    if (b && attic_body(a, name, b->data) == ERR_OK) return b;
    kept_let_go(b);
    return NULL;
}

static void run_find(struct depot_job *d, struct store *none)
{
    struct shelf_job *j = (struct shelf_job *)d;
    struct shelf_search *q = j->search;
    struct attic *a = j->s->attic;
    uint64_t start = uv_hrtime();
    uint32_t n;
    (void)none;
    struct hash *path = find_path(a, q, &n);
    if (!path) return;
    q->block = calloc(n, sizeof(struct kept_block *));
    while (q->block && q->n < n && uv_hrtime() - start < SEARCH_NS) {
        struct kept_block *b = read_block(a, q, &path[q->n]);
        if (!b) break;
        q->block[q->n++] = b;
    }
    if (q->n) j->err = attic_touch(a, path, q->n, j->stamp, &j->why);
    free(path);
}

bool shelf_find(struct shelf *s, struct shelf_search *q)
{
    struct shelf_job *j = s->n_jobs < QUEUED_JOBS_MAX ? calloc(1, sizeof *j) : NULL;
    if (!j) return false;
    j->search = q;
    j->stamp = q->stamp;
    q->block = NULL;
    q->n = 0;
    submit(s, j, run_find);
    return true;
}

/* --- opening --- */

uint64_t shelf_stamp(struct shelf *s)
{
    return ++s->stamp;
}

uint64_t shelf_bytes(const struct shelf *s)
{
    return s->bytes;
}

static bool add_learnt(void *arg, const struct hash *name, const struct attic_head *h)
{
    struct shelf *s = arg;
    (void)name;
    struct learnt *l = &s->learnt[s->n_learnt++];
    memcpy(l->ids, h->owner, HASH_WIRE);
    memcpy(l->rows, h->before.b, HASH_WIRE);
    l->lo = h->lo;
    return s->n_learnt < RECALL_MAX;
}

void shelf_recall(const struct shelf *s, struct recall *into)
{
    for (uint32_t i = 0; i < s->n_learnt; i++)
        recall_put(into, s->learnt[i].ids, s->learnt[i].lo, s->learnt[i].rows);
}

enum err shelf_open(struct shelf **out, struct hub *hub, const char *dir, uint64_t max_bytes,
                    struct why *why)
{
    struct shelf *s = calloc(1, sizeof *s);
    if (s) s->learnt = malloc(RECALL_MAX * sizeof *s->learnt);
    if (!s || !s->learnt) {
        free(s);
        return fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    }
    enum err e = attic_open(&s->attic, dir, max_bytes, why);
    if (!e) e = attic_each(s->attic, KIND_NAME, add_learnt, s);
    if (!e) e = depot_open(&s->depot, hub, NULL);
    if (e) {
        free_shelf(s);
        return e;
    }
    s->stamp = attic_stamp(s->attic);
    s->bytes = attic_bytes(s->attic);
    *out = s;
    return ERR_OK;
}

void shelf_close(struct shelf *s)
{
    if (!s) return;
    bool is_idle = depot_is_idle(s->depot);
    s->closing = true;
    depot_close(s->depot);
    if (is_idle) free_shelf(s);
}

void shelf_remove(const char *dir)
{
    attic_remove(dir);
}
