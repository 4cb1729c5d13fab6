#include "stage/prefix.h"

#include "base/log.h"
#include "proto/chain.h"
#include "stage/kept.h"

#include <stdlib.h>

enum { COPY_MAX = 64, COPY_BYTES = 4 << 20 /* about a millisecond of the compute thread */ };

struct prefixes {
    struct actor actor; /* first */
    struct prefixes_config c;
    struct kept *kept; /* owned */
    uint64_t room;     /* what sessions leave */
    uint64_t hits, saved;
    struct prefix *first; /* owned */
};

struct prefix {
    struct prefixes *all;
    struct prefix *next;
    uint8_t id[SESSION_BYTES];
    uint32_t epoch;
    struct prefix_session s; /* id is not used */
    size_t block_bytes;
    struct chain chain;
    uint32_t sure;             /* positions that stay what they are */
    uint32_t saved;            /* blocks of the chain that are kept, as far as we know */
    bool is_full;              /* there was no room for the next one */
    bool is_busy;              /* a copy_job is under way */
    bool is_over;              /* the kv is ours now */
    struct kept_block **found; /* owned: what is being fetched */
    uint32_t n_found, n_loaded;
    struct shelf_search *search; /* owned, lent to the shelf; NULL: it looks for nothing */
    uint64_t stamp;              /* of the shelf */
    bool has_path;               /* the shelf knows what the session began with */
};

/* Blocks [first, first + n) on their way, from or to the session's K and V. */
struct copy_job {
    struct call_job call; /* first */
    struct prefix *p;
    struct kv *kv;
    bool is_load;
    uint32_t first, n;
    struct kept_block *block[COPY_MAX]; /* held */
};

/* --- the compute thread --- */

static enum err copy(struct call_job *call, struct ends *e)
{
    struct copy_job *j = (struct copy_job *)call;
    (void)e;
    for (uint32_t i = 0; i < j->n; i++) {
        uint32_t pos = (j->first + i) * PREFIX_BLOCK;
        if (j->is_load)
            kv_load(j->kv, pos, PREFIX_BLOCK, j->block[i]->data);
        else
            kv_save(j->kv, pos, PREFIX_BLOCK, j->block[i]->data);
    }
    return ERR_OK;
}

static void drop_copy(struct note *n)
{
    struct copy_job *j = (struct copy_job *)n;
    for (uint32_t i = 0; i < j->n; i++) kept_let_go(j->block[i]);
    free(j);
}

static struct copy_job *make_copy(struct prefix *p, bool is_load, uint32_t first)
{
    struct copy_job *j = calloc(1, sizeof *j);
    if (!j) return NULL;
    j->call.job.note.drop = drop_copy;
    j->call.job.to = &p->all->actor;
    j->call.run = copy;
    j->p = p;
    j->kv = p->s.kv;
    j->is_load = is_load;
    j->first = first;
    return j;
}

static bool is_large_enough(const struct copy_job *j)
{
    return j->n == COPY_MAX || (j->n > 0 && (j->n + 1) * j->p->block_bytes > COPY_BYTES);
}

static void submit(struct copy_job *j)
{
    j->p->is_busy = true;
    compute_call(j->p->all->c.compute, &j->call);
}

/* --- a session's beginning and end --- */

struct prefix *prefix_begin(struct prefixes *ps, const struct prefix_session *s)
{
    uint8_t root[HASH_WIRE];
    struct prefix *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->all = ps;
    p->s = *s;
    prefix_rename(p, s->id, s->epoch);
    p->block_bytes = (size_t)kv_cost(&ps->c.weights->manifest.arch, s->lo, s->hi, PREFIX_BLOCK);
    chain_root_rows(root, ps->c.weights->name.id.b, &s->coordinator, s->lo);
    chain_init(&p->chain, root);
    if (ps->c.shelf) p->stamp = shelf_stamp(ps->c.shelf);
    p->next = ps->first;
    ps->first = p;
    return p;
}

void prefix_rename(struct prefix *p, const uint8_t id[SESSION_BYTES], uint32_t epoch)
{
    if (!p) return;
    memcpy(p->id, id, SESSION_BYTES);
    p->epoch = epoch;
}

static void forget_found(struct prefix *p)
{
    for (uint32_t i = 0; i < p->n_found; i++) kept_let_go(p->found[i]);
    free(p->found);
    p->found = NULL;
    p->n_found = p->n_loaded = 0;
}

/* p is over and no job of it is under way; at the end of all, none that comes back. */
static void free_prefix(struct prefix *p)
{
    if (p->search) p->search->arg = NULL;
    struct prefix **at = &p->all->first;
    while (*at != p) at = &(*at)->next;
    *at = p->next;
    forget_found(p);
    chain_fini(&p->chain);
    kv_close(p->s.kv);
    free(p);
}

void prefix_end(struct prefix *p, struct kv *kv)
{
    if (!p) {
        kv_close(kv);
        return;
    }
    p->is_over = true;
    if (!p->is_busy) free_prefix(p);
}

static uint64_t limit(const struct prefixes *ps)
{
    return ps->room < ps->c.max_bytes ? ps->room : ps->c.max_bytes;
}

/* --- from what is kept --- */

/* The first of names that is kept, and leaves the session a row to compute. */
static struct kept_block *find_best(struct prefix *p, struct slice names)
{
    for (size_t at = 0; at + HASH_WIRE <= names.n; at += HASH_WIRE) {
        struct kept_block *b =
            kept_find(p->all->kept, names.p + at, &p->s.coordinator, p->s.lo, p->s.hi);
        if (b && (b->depth + 1) * PREFIX_BLOCK < kv_cap(p->s.kv)) return b;
    }
    return NULL;
}

static bool load_more(struct prefix *p)
{
    struct copy_job *j = make_copy(p, true, p->n_loaded);
    if (!j) return false;
    while (p->n_loaded < p->n_found && !is_large_enough(j)) {
        j->block[j->n] = p->found[p->n_loaded++];
        kept_hold(j->block[j->n++]);
    }
    submit(j);
    return true;
}

/* Copy what ends with this block; false: it cannot be. */
static bool load(struct prefix *p, struct kept_block *last)
{
    p->found = calloc(last->depth + 1, sizeof(struct kept_block *));
    if (!p->found) return false;
    p->n_found = last->depth + 1;
    for (struct kept_block *b = last; b; b = b->parent) {
        p->found[b->depth] = b;
        kept_hold(b);
    }
    kept_use(p->all->kept, last);
    if (load_more(p)) return true;
    forget_found(p);
    return false;
}

/* --- from the shelf --- */

/* Into what is kept in memory, and into the session anyway. */
static bool load_searched(struct prefix *p, struct shelf_search *q)
{
    struct kept_block *parent = NULL;
    bool hangs = true;
    for (uint32_t i = 0; i < q->n; i++) {
        struct kept_block *b =
            kept_find(p->all->kept, q->block[i]->name, &q->coordinator, q->lo, q->hi);
        hangs = hangs && (b || kept_add(p->all->kept, q->block[i], parent, limit(p->all)));
        parent = b ? b : q->block[i];
    }
    p->found = q->block;
    p->n_found = q->n;
    q->block = NULL;
    q->n = 0;
    if (p->n_found > 0 && load_more(p)) return true;
    forget_found(p);
    return false;
}

static void free_search(struct shelf_search *q)
{
    for (uint32_t i = 0; i < q->n; i++) kept_let_go(q->block[i]);
    free(q->block);
    free(q);
}

static void on_searched(struct shelf_search *q)
{
    struct prefix *p = q->arg;
    if (!p) {
        free_search(q);
        return;
    }
    p->search = NULL;
    p->is_busy = false;
    if (p->is_over) {
        free_prefix(p);
    } else {
        struct kept_block *b = find_best(p, slice_of(q->names, (size_t)q->n_names * HASH_WIRE));
        bool is_best = b && b->depth + 1 >= q->n;
        if (!(is_best ? load(p, b) : load_searched(p, q))) p->s.on_known(p->s.arg, 0);
    }
    free_search(q);
}

/* Is a better one than `best` to be looked for on disk?  Then on_searched follows. */
static bool search(struct prefix *p, struct slice names, const struct kept_block *best)
{
    struct shelf *shelf = p->all->c.shelf;
    bool is_first = best && memcmp(best->name, names.p, HASH_WIRE) == 0;
    if (!shelf || names.n < HASH_WIRE || is_first) return false;
    struct shelf_search *q = calloc(1, sizeof *q);
    if (!q) return false;
    q->coordinator = p->s.coordinator;
    q->lo = p->s.lo;
    q->hi = p->s.hi;
    q->layer_bytes = p->block_bytes / (p->s.hi - p->s.lo);
    q->most = (kv_cap(p->s.kv) - 1) / PREFIX_BLOCK;
    q->stamp = p->stamp;
    q->n_names = (uint32_t)(names.n < sizeof q->names ? names.n : sizeof q->names) / HASH_WIRE;
    memcpy(q->names, names.p, (size_t)q->n_names * HASH_WIRE);
    q->arg = p;
    q->done = on_searched;
    if (!shelf_find(shelf, q)) {
        free(q);
        return false;
    }
    p->search = q;
    p->is_busy = true;
    return true;
}

bool prefix_fetch(struct prefix *p, struct slice names)
{
    struct kept_block *best = p ? find_best(p, names) : NULL;
    if (!p) return false;
    return search(p, names, best) || (best && load(p, best));
}

static void on_loaded(struct prefix *p, enum err e)
{
    if (!e && p->n_loaded < p->n_found && load_more(p)) return;
    uint32_t n = kv_len(p->s.kv) / PREFIX_BLOCK; /* all, but for an accident */
    for (uint32_t i = 0; i < n; i++)
        if (chain_know(&p->chain, p->found[i]->name)) p->chain.is_lost = true;
    forget_found(p);
    p->saved = n;
    p->sure = n * PREFIX_BLOCK;
    p->all->hits += n > 0;
    p->all->saved += (uint64_t)n * PREFIX_BLOCK * (p->s.hi - p->s.lo);
    p->s.on_known(p->s.arg, n * PREFIX_BLOCK);
}

/* --- into what is kept --- */

static struct kept_block *block_of(struct prefix *p, uint32_t k)
{
    return kept_find(p->all->kept, chain_name(&p->chain, k), &p->s.coordinator, p->s.lo, p->s.hi);
}

/* The coordinator may ask for them from now on. */
static void tell(struct prefix *p, uint32_t first, uint32_t n)
{
    while (n > 0) {
        uint32_t some = n < PREFIX_TOLD ? n : PREFIX_TOLD;
        struct msg m = { .type = MSG_PREFIX };
        m.u.PREFIX.session = slice_of(p->id, SESSION_BYTES);
        m.u.PREFIX.epoch = p->epoch;
        m.u.PREFIX.first = first;
        m.u.PREFIX.hashes = slice_of(chain_name(&p->chain, first), some * HASH_WIRE);
        if (net_send(p->all->c.net, &p->s.coordinator, &m)) log_debug("a prefix was not told");
        first += some;
        n -= some;
    }
}

/* Blocks that others have left already. */
static void skip_kept(struct prefix *p, uint32_t n)
{
    uint32_t first = p->saved;
    struct kept_block *b = NULL, *last = NULL;
    while (p->saved < n && (b = block_of(p, p->saved))) {
        last = b;
        p->saved++;
    }
    kept_use(p->all->kept, last);
    tell(p, first, p->saved - first);
}

/* Blocks that are whole and stay so go to what is kept, a job at a time. */
static void save_more(struct prefix *p)
{
    uint32_t n = p->sure / PREFIX_BLOCK < p->chain.n ? p->sure / PREFIX_BLOCK : p->chain.n;
    if (p->is_busy || p->is_over || p->is_full || p->chain.is_lost || p->saved >= n) return;
    skip_kept(p, n);
    if (p->saved == n) return;
    bool hangs = p->saved == 0 || block_of(p, p->saved - 1);
    struct copy_job *j =
        hangs && p->block_bytes <= limit(p->all) ? make_copy(p, false, p->saved) : NULL;
    while (j && p->saved + j->n < n && !is_large_enough(j)) {
        uint32_t k = p->saved + j->n;
        struct kept_block *b = kept_make(chain_name(&p->chain, k), &p->s.coordinator, p->s.lo,
                                         p->s.hi, k, p->block_bytes);
        if (!b) break;
        j->block[j->n++] = b;
    }
    if (j && j->n > 0) {
        submit(j);
    } else {
        free(j);
        p->is_full = true;
    }
}

/* A block has been copied; is it kept?  Another session may have left the same meanwhile. */
static bool keep(struct prefix *p, struct kept_block *b)
{
    if (b->depth != p->saved || !chain_is(&p->chain, b->depth, b->name)) return false;
    if (block_of(p, b->depth)) return true;
    struct kept_block *parent = b->depth > 0 ? block_of(p, b->depth - 1) : NULL;
    return (parent || b->depth == 0) && kept_add(p->all->kept, b, parent, limit(p->all));
}

/* Blocks [first, p->saved), now kept in memory, go to the disk too. */
static void shelve(struct prefix *p, const struct copy_job *j, uint32_t first)
{
    const uint8_t *before = first > 0 ? chain_name(&p->chain, first - 1) : NULL;
    if (!p->all->c.shelf) return;
    shelf_keep(p->all->c.shelf, j->block + (first - j->first), p->saved - first, before, p->stamp,
               p->has_path || first == 0 ? NULL : chain_name(&p->chain, 0), first);
    p->has_path = true;
}

static void on_saved(struct prefix *p, const struct copy_job *j)
{
    uint32_t first = p->saved;
    for (uint32_t i = 0; i < j->n && !p->is_full; i++) {
        bool is_same = chain_is(&p->chain, j->first + i, j->block[i]->name);
        if (keep(p, j->block[i]))
            p->saved++;
        else if (is_same)
            p->is_full = true;
        else
            break; /* other rows came in their place */
    }
    if (p->saved > first) {
        tell(p, first, p->saved - first);
        shelve(p, j, first);
    }
    save_more(p);
}

void prefix_feed(struct prefix *p, uint32_t pos, const uint8_t *hashes, uint32_t n, uint32_t sure)
{
    if (!p) return;
    chain_feed(&p->chain, pos, hashes, n);
    if (p->sure > pos) p->sure = pos;
    if (sure > p->sure) p->sure = sure;
    if (p->saved > p->chain.n) p->saved = p->chain.n;
    save_more(p);
}

/* --- the actor --- */

static void on_note(struct actor *a, struct note *n)
{
    struct copy_job *j = (struct copy_job *)n;
    struct prefix *p = j->p;
    (void)a;
    p->is_busy = false;
    if (p->is_over)
        free_prefix(p);
    else if (j->is_load)
        on_loaded(p, j->call.job.err);
    else if (!j->call.job.err)
        on_saved(p, j);
    n->drop(n);
}

void prefixes_room(struct prefixes *ps, uint64_t bytes)
{
    if (!ps) return;
    ps->room = bytes;
    kept_shrink(ps->kept, limit(ps));
}

void prefixes_look(const struct prefixes *ps, struct prefixes_state *out)
{
    *out = (struct prefixes_state){ 0 };
    if (!ps) return;
    *out = (struct prefixes_state){ .bytes = kept_bytes(ps->kept),
                                    .max_bytes = ps->c.max_bytes,
                                    .positions = (uint64_t)kept_n(ps->kept) * PREFIX_BLOCK,
                                    .disk_bytes = ps->c.shelf ? shelf_bytes(ps->c.shelf) : 0,
                                    .hits = ps->hits,
                                    .saved = ps->saved };
}

enum err prefixes_open(struct prefixes **out, const struct prefixes_config *c)
{
    struct prefixes *ps = calloc(1, sizeof *ps);
    if (!ps) return ERR_NOMEM;
    ps->c = *c;
    enum err e = kept_open(&ps->kept);
    if (!e) e = actor_init(&ps->actor, c->hub, "prefix", 0, on_note);
    if (e) {
        kept_close(ps->kept);
        free(ps);
        return e;
    }
    *out = ps;
    return ERR_OK;
}

void prefixes_close(struct prefixes *ps)
{
    if (!ps) return;
    actor_fini(&ps->actor); /* drops copies that nobody waits for any more */
    while (ps->first) free_prefix(ps->first);
    kept_close(ps->kept);
    free(ps);
}
