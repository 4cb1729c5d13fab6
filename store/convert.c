#include "store/convert.h"

#include "store/finish.h"
#include "store/hf_tensors.h"
#include "store/pack.h"

#include <stdlib.h>

enum {
    NOTE_VERSION = 1, /* other bytes for the same input: another number */
    BATCH_MAX_ = 128, /* tiles */
    BATCH_MIN = 32,   /* enough that packing goes on while the store waits for the disk */
    BATCH_BYTES_MAX = 160 << 20, /* both batches and the rows being packed */
    BATCHES = 2,                 /* one packed, one written */
    ROOM_SPARE = 16 << 20,       /* for pages of LMDB's trees */
};

/* One tensor of the model: where it comes from, and what it becomes. */
struct weight {
    struct tensor_spec spec;
    struct region region;
    struct tiling tiling;
    struct hash *hash; /* [tiling.tiles] in the layer's table */
    bool keep;         /* its tiles are stored */
    bool done;         /* by an earlier run */
    uint32_t layer;
};

struct convert {
    struct store *store;             /* borrowed */
    struct hf_config *cfg;           /* borrowed */
    const struct convert_options *o; /* borrowed */
    struct source *source;           /* owned */
    struct weight *item;             /* owned; all tensors of all layers, then of the ends */
    uint32_t n_items;
    struct hash *hash;                     /* owned; all tables, one after the other */
    uint32_t n_tiles[ARCH_LAYERS_MAX + 1]; /* [arch_all_layers], then the ends */
    struct convert_sizes sizes;
};

static uint32_t n_tables(const struct convert *c)
{
    return arch_all_layers(&c->cfg->arch) + 1;
}

static uint32_t layer_of_table(const struct convert *c, uint32_t table)
{
    return table + 1 == n_tables(c) ? ARCH_ENDS : table;
}

static bool keeps_layer(const struct convert *c, uint32_t layer)
{
    if (layer == ARCH_ENDS) return !c->o->no_ends;
    return layer >= c->o->lo && (c->o->hi == 0 || layer < c->o->hi);
}

/* --- types --- */

static bool role_used(const struct arch *a, enum wrole r)
{
    switch (r) {
    case WR_DENSE: return a->n_dense > 0 || a->n_experts == 0;
    case WR_SHARED: return a->n_experts > 0 && a->n_shared > 0;
    case WR_EXPERTS: return a->n_experts > 0;
    case WR_HEAD: return !a->tied;
    default: return true;
    }
}

/* Roles that the model lacks get the type of attention, so that they cannot make a second id. */
static enum err set_types(struct arch *a, const struct convert_options *o, struct why *why)
{
    for (int r = 0; r < WR_COUNT; r++) {
        if (o->has_type[r] && !role_used(a, (enum wrole)r))
            return fail(why, ERR_USAGE, "the model has no %s weights whose type could be set",
                        wrole_name((enum wrole)r));
        a->type[r] = o->has_type[r] ? o->type_of[r] : o->type;
    }
    for (int r = 0; r < WR_COUNT; r++)
        if (!role_used(a, (enum wrole)r)) a->type[r] = a->type[WR_ATTN];
    a->exchange = o->exchange;
    a->kv = o->kv;
    a->mlp_parts = o->mlp_parts;
    return ERR_OK;
}

/* --- notes --- */

/* All that the bytes of a tensor's tiles depend on. */
static struct hash note_key(const struct convert *c, const struct weight *i)
{
    const struct region *r = &i->region;
    struct {
        char domain[16];
        struct hash file;
        uint64_t v[10];
    } key = { "swarm-convert",
              *source_identity(c->source, r->file),
              { NOTE_VERSION, ARITH_VERSION, (uint64_t)r->t->dtype, (uint64_t)i->spec.type, r->rows,
                r->cols, r->first, r->stride, 0, 0 } };
    struct hash name = hash_of(slice_str(r->t->name));

    memcpy(&key.v[8], name.b, 16); /* names are unique in a file */
    return hash_of(slice_of(&key, sizeof key));
}

static bool all_stored(struct convert *c, const struct hash *h, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (!store_has(c->store, &h[i])) return false;
    return true;
}

static void look_up_note(struct convert *c, struct weight *i)
{
    struct hash key = note_key(c, i);
    struct slice v;

    if (store_note(c->store, &key, &v) || v.n != (size_t)i->tiling.tiles * HASH_BYTES) return;
    memcpy(i->hash, v.p, v.n);
    i->done = !i->keep || all_stored(c, i->hash, i->tiling.tiles);
}

/* --- the plan --- */

static void count_item(struct convert *c, const struct weight *i)
{
    struct convert_sizes *z = &c->sizes;
    uint64_t read = (uint64_t)i->spec.rows * i->spec.cols * region_elem_bytes(&i->region);

    *(i->done ? &z->bytes_earlier : &z->bytes_read) += read;
    if (!i->keep) return;
    for (uint32_t t = 0; t < i->tiling.tiles; t++) {
        size_t n = tiling_tile_bytes(&i->tiling, t);
        z->bytes_kept += n;
        if (!i->done) z->bytes_write += store_value_bytes(n);
    }
}

static enum err plan_layer(struct convert *c, uint32_t table, struct weight **next,
                           struct hash *hash, struct why *why)
{
    const struct arch *a = &c->cfg->arch;
    uint32_t layer = layer_of_table(c, table), n = arch_n_specs(a, layer);

    for (uint32_t k = 0; k < n; k++) {
        struct weight *i = (*next)++;
        i->spec = arch_spec(a, layer, k);
        i->tiling = tiling_of(i->spec.type, i->spec.rows, i->spec.cols);
        i->hash = hash;
        i->layer = layer;
        i->keep = keeps_layer(c, layer);
        hash += i->tiling.tiles;
        enum err e = hf_region(c->source, a, layer, &i->spec, &i->region, why);
        if (e) return e;
        look_up_note(c, i);
        count_item(c, i);
    }
    uint64_t table_bytes = store_value_bytes((uint64_t)c->n_tiles[table] * HASH_BYTES);
    if (keeps_layer(c, layer)) c->sizes.bytes_write += table_bytes;
    return ERR_OK;
}

static enum err plan_items(struct convert *c, struct why *why)
{
    const struct arch *a = &c->cfg->arch;
    uint64_t items = 0, tiles = 0;

    for (uint32_t t = 0; t < n_tables(c); t++) {
        uint32_t layer = layer_of_table(c, t);
        c->n_tiles[t] = manifest_n_tiles(a, layer);
        items += arch_n_specs(a, layer);
        tiles += c->n_tiles[t];
    }
    c->item = calloc((size_t)items, sizeof *c->item);
    c->hash = calloc((size_t)tiles, sizeof *c->hash);
    if (!c->item || !c->hash)
        return fail(why, ERR_NOMEM, "no memory to plan %llu tiles", (unsigned long long)tiles);

    struct weight *next = c->item;
    struct hash *hash = c->hash;
    for (uint32_t t = 0; t < n_tables(c); t++) {
        enum err e = plan_layer(c, t, &next, hash, why);
        if (e) return e;
        hash += c->n_tiles[t];
    }
    c->n_items = (uint32_t)(next - c->item);
    return hf_check_unused(c->source, a, why);
}

static enum err check_options(const struct convert *c, struct why *why)
{
    uint32_t all = arch_all_layers(&c->cfg->arch);

    if (c->o->hi > all || (c->o->hi && c->o->lo >= c->o->hi))
        return fail(why, ERR_USAGE, "layers %u-%u: the model has layers 0-%u", c->o->lo,
                    c->o->hi ? c->o->hi - 1 : 0, all - 1);
    return finish_check(c->o->chat, c->o->tokenizer, why);
}

static enum err plan(struct convert *c, const char *dir, struct why *why)
{
    struct arch *a = &c->cfg->arch;

    enum err e = source_open(&c->source, dir, why);
    if (!e) e = hf_settle(c->cfg, c->source, why);
    if (!e) e = set_types(a, c->o, why);
    if (!e) e = arch_check(a, why);
    if (!e) e = check_options(c, why);
    if (!e) e = plan_items(c, why);
    if (e) return e;
    c->sizes.tensors = source_n(c->source);
    c->sizes.bytes_source = source_bytes(c->source);
    c->sizes.bytes_room = store_room(c->store);
    if (!c->o->no_ends) c->sizes.bytes_write += store_value_bytes(c->o->tokenizer.n);
    return ERR_OK;
}

enum err convert_open(struct convert **out, struct store *s, const char *dir, struct hf_config *cfg,
                      const struct convert_options *o, struct why *why)
{
    struct convert *c = calloc(1, sizeof *c);

    if (!c) return fail(why, ERR_NOMEM, "out of memory");
    c->store = s;
    c->cfg = cfg;
    c->o = o;
    enum err e = plan(c, dir, why);
    if (e) {
        convert_close(c);
        return e;
    }
    *out = c;
    return ERR_OK;
}

void convert_close(struct convert *c)
{
    if (!c) return;
    source_close(c->source);
    free(c->item);
    free(c->hash);
    free(c);
}

const struct convert_sizes *convert_sizes(const struct convert *c)
{
    return &c->sizes;
}

const struct arch *convert_arch(const struct convert *c)
{
    return &c->cfg->arch;
}

enum err convert_check_room(const struct convert *c, struct why *why)
{
    const struct convert_sizes *z = &c->sizes;
    uint64_t need = z->bytes_write + z->bytes_write / 100 + ROOM_SPARE;

    if (need <= z->bytes_room) return ERR_OK;
    return fail(why, ERR_DISKFULL, "the store needs %llu MiB more, the disk has %llu MiB free",
                (unsigned long long)(need >> 20), (unsigned long long)(z->bytes_room >> 20));
}

/* --- running --- */

/* One tile being made. */
struct job {
    const struct weight *item;
    uint32_t tile;
    size_t n;     /* its bytes */
    uint8_t *out; /* in the batch's buffer */
    enum err err;
    uint64_t bad; /* NONFINITE: element of the source tensor; UINT64_MAX: it is the rounding */
};

struct batch {
    uint8_t *buffer; /* owned; [cap] slots */
    struct job job[BATCH_MAX_];
    uint32_t n;
};

struct run {
    struct convert *c;
    struct batch batch[BATCHES];
    struct batch *packing, *writing;
    float *rows; /* owned; [cap][GROUP_ROWS][cols_max] */
    size_t slot, rows_stride;
    uint32_t cap;
    uint32_t item, tile; /* the next to be put in a batch */
    uint64_t done;       /* bytes of the source */
    enum err write_err;
    struct why write_why;
};

static void pack_job(struct run *r, uint32_t slot)
{
    struct job *j = &r->packing->job[slot];
    const struct weight *i = j->item;

    j->err = pack_tile(&i->region, i->spec.type, &i->tiling, j->tile,
                       r->rows + slot * r->rows_stride, j->out, &j->bad);
    if (!j->err) i->hash[j->tile] = hash_of(slice_of(j->out, j->n));
}

static enum err write_job(struct run *r, const struct job *j)
{
    struct store *s = r->c->store;
    const struct weight *i = j->item;
    enum err e = ERR_OK;

    if (i->keep) e = store_put_hashed(s, slice_of(j->out, j->n), &i->hash[j->tile], &r->write_why);
    if (e || j->tile + 1 < i->tiling.tiles) return e;
    struct hash key = note_key(r->c, i);
    return store_put_note(s, &key, slice_of(i->hash, (size_t)i->tiling.tiles * HASH_BYTES),
                          &r->write_why);
}

static void write_batch(struct run *r)
{
    for (uint32_t k = 0; k < r->writing->n && !r->write_err; k++)
        r->write_err = write_job(r, &r->writing->job[k]);
}

/* Task 0 writes the batch before; the others pack a tile each. */
static void task(void *arg, uint32_t i)
{
    struct run *r = arg;
    if (i == 0)
        write_batch(r);
    else
        pack_job(r, i - 1);
}

/* Take the next tiles, and ask for their bytes. */
static void fill_batch(struct run *r, struct batch *b)
{
    struct convert *c = r->c;

    b->n = 0;
    while (b->n < r->cap && r->item < c->n_items) {
        const struct weight *i = &c->item[r->item];
        if (i->done || r->tile == i->tiling.tiles) {
            r->item++;
            r->tile = 0;
            continue;
        }
        struct job *j = &b->job[b->n];
        *j = (struct job){ .item = i, .tile = r->tile++, .out = b->buffer + b->n * r->slot };
        j->n = tiling_tile_bytes(&i->tiling, j->tile);
        struct span_bytes span = region_span(&i->region, &i->tiling, j->tile);
        source_will_need(i->region.t, span.lo, span.hi);
        b->n++;
    }
}

static enum err check_batch(const struct batch *b, struct why *why)
{
    for (uint32_t k = 0; k < b->n; k++) {
        const struct job *j = &b->job[k];
        char where[96];
        if (!j->err) continue;
        if (j->err != ERR_NONFINITE)
            return fail(why, j->err, "tensor %s: %s", j->item->region.t->name, err_text(j->err));
        region_element_text(where, &j->item->region, j->bad & ~REGION_TOO_LARGE);
        return fail(why, ERR_NONFINITE, "tensor %s: element %s is %s%s", j->item->region.t->name,
                    where,
                    j->bad & REGION_TOO_LARGE ? "too large for " : "infinite or not a number",
                    j->bad & REGION_TOO_LARGE ? wtype_name(j->item->spec.type) : "");
    }
    return ERR_OK;
}

/* The pages of a packed batch need not stay in this process. */
static void release_batch(struct run *r, const struct batch *b)
{
    for (uint32_t k = 0; k < b->n; k++) {
        const struct job *j = &b->job[k];
        struct span_bytes span = region_span(&j->item->region, &j->item->tiling, j->tile);
        source_done_with(j->item->region.t, span.lo, span.hi);
        r->done += region_tile_bytes(&j->item->region, &j->item->tiling, j->tile);
    }
    if (r->c->o->progress) r->c->o->progress(r->c->o->arg, r->done, r->c->sizes.bytes_read);
}

/* Slots for as many tiles as keep all workers busy, within the memory that is allowed. */
static enum err run_init(struct run *r, struct why *why)
{
    const struct convert *c = r->c;
    size_t cols = 1;

    r->slot = 1;
    for (uint32_t k = 0; k < c->n_items; k++) {
        const struct weight *i = &c->item[k];
        size_t n = tiling_tile_bytes(&i->tiling, 0);
        if (i->done) continue;
        if (n > r->slot) r->slot = n;
        if (i->spec.cols > cols) cols = i->spec.cols;
    }
    r->rows_stride = cols * GROUP_ROWS;
    size_t each = r->slot * BATCHES + r->rows_stride * sizeof *r->rows;
    size_t fit = BATCH_BYTES_MAX / each;
    r->cap = c->o->workers->n * 4;
    if (r->cap < BATCH_MIN) r->cap = BATCH_MIN;
    if (r->cap > BATCH_MAX_) r->cap = BATCH_MAX_;
    if (r->cap > fit) r->cap = fit ? (uint32_t)fit : 1;

    bool ok = (r->rows = malloc(r->cap * r->rows_stride * sizeof *r->rows)) != NULL;
    for (int b = 0; b < BATCHES; b++)
        ok = (r->batch[b].buffer = malloc(r->cap * r->slot)) != NULL && ok;
    return ok ? ERR_OK : fail(why, ERR_NOMEM, "no memory for %u tiles", r->cap);
}

static void run_fini(struct run *r)
{
    for (int b = 0; b < BATCHES; b++) free(r->batch[b].buffer);
    free(r->rows);
}

static enum err run_batches(struct run *r, struct why *why)
{
    struct workers *w = r->c->o->workers;

    r->packing = &r->batch[0];
    r->writing = &r->batch[1];
    do {
        fill_batch(r, r->packing);
        w->run(w, task, r, r->packing->n + 1);
        if (r->write_err) {
            if (why) *why = r->write_why;
            return r->write_err;
        }
        enum err e = check_batch(r->packing, why);
        if (e) return e;
        release_batch(r, r->packing);
        struct batch *packed = r->packing;
        r->packing = r->writing;
        r->writing = packed;
    } while (r->writing->n > 0);
    return store_commit(r->c->store, why);
}

enum err convert_run(struct convert *c, struct why *why)
{
    struct run *r = calloc(1, sizeof *r);
    if (!r) return fail(why, ERR_NOMEM, "out of memory");

    r->c = c;
    enum err e = run_init(r, why);
    if (!e) e = run_batches(r, why);
    run_fini(r);
    free(r);
    return e ? e : source_check_unchanged(c->source, why);
}

/* --- finishing --- */

static bool keeps(const void *arg, uint32_t layer)
{
    return keeps_layer(arg, layer);
}

enum err convert_finish(struct convert *c, uint8_t **body, size_t *n, struct hash *id,
                        struct why *why)
{
    struct made_model m = { .cfg = c->cfg,
                            .chat = c->o->chat,
                            .tokenizer = c->o->tokenizer,
                            .hash = c->hash,
                            .keeps = keeps,
                            .arg = c };
    return finish_model(c->store, &m, body, n, id, why);
}
