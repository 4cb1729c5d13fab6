/* A model folder brought into a store: manifest, tables, then the tiles that are missing.
 *
 * A file is looked at as pieces of known hash, length and place.  Missing ones that lie together
 * are read as one run, small present ones between them too: to ask again costs more than a few
 * bytes that nobody needs. */
#include "store/folder.h"
#include "store/store_impl.h"

#include <stdlib.h>
#include <time.h>

enum {
    GAP_MAX = 256 << 10,   /* bytes that are read though they are here */
    ROOM_SPARE = 16 << 20, /* of the disk, for LMDB's own pages */
    COMMIT_MS = 500,       /* what a kill can cost */
};

struct piece {
    struct hash hash;
    uint64_t at; /* offset in the file */
    uint32_t n;  /* bytes */
    uint32_t cols;
    enum wtype type;
};

/* A file's pieces; the tokenizer's are no weights. */
struct file {
    char name[FOLDER_FILE_NAME];
    uint32_t layer;
    bool weights;
    struct piece *piece; /* owned; [n] */
    uint32_t n;
};

struct import {
    struct store *s;              /* borrowed */
    struct folder_source *source; /* borrowed */
    const struct import_options *o;
    uint8_t *body; /* owned; the manifest as bytes */
    size_t body_n;
    struct manifest m;
    struct store_name name;
    struct import_sizes sizes;
    uint64_t done;    /* bytes that are here, also those that this run brought */
    uint8_t *buffer;  /* owned; TILE_WIRE_MAX */
    uint64_t last_ms; /* of the latest commit */
};

/* --- opening --- */

static enum err read_name(struct import *im, struct why *why)
{
    uint8_t *text;
    size_t n;
    enum err e = im->source->read_small(im->source, FOLDER_NAME, FOLDER_NAME_MAX, &text, &n, why);

    if (e) return e;
    e = folder_name_parse(&im->name, slice_of(text, n), why);
    free(text);
    if (e) return e;
    struct hash id = hash_of(slice_of(im->body, im->body_n));
    if (hash_equal(&id, &im->name.id)) return ERR_OK;
    return fail(why, ERR_AUTH, "%s is signed for another model than the folder's manifest",
                im->name.name);
}

static enum err check_layers(const struct import *im, struct why *why)
{
    uint32_t all = arch_all_layers(&im->m.arch);

    if (im->o->hi > all || (im->o->hi && im->o->lo >= im->o->hi))
        return fail(why, ERR_USAGE, "layers %u-%u: the model has layers 0-%u", im->o->lo,
                    im->o->hi ? im->o->hi - 1 : 0, all - 1);
    return ERR_OK;
}

enum err import_open(struct import **out, struct store *s, struct folder_source *source,
                     const struct import_options *o, struct why *why)
{
    struct import *im = calloc(1, sizeof *im);

    if (!im) return fail(why, ERR_NOMEM, "out of memory");
    im->s = s;
    im->source = source;
    im->o = o;
    im->buffer = malloc(TILE_WIRE_MAX);
    enum err e = im->buffer ? ERR_OK : fail(why, ERR_NOMEM, "out of memory");
    if (!e)
        e = source->read_small(source, FOLDER_MANIFEST, MANIFEST_BYTES_MAX, &im->body, &im->body_n,
                               why);
    if (!e) e = manifest_decode(&im->m, slice_of(im->body, im->body_n), why);
    if (!e) e = read_name(im, why);
    if (!e) e = check_layers(im, why);
    if (e) {
        import_close(im);
        return e;
    }
    *out = im;
    return ERR_OK;
}

void import_close(struct import *im)
{
    if (!im) return;
    free(im->body);
    free(im->buffer);
    free(im);
}

const struct store_name *import_name(const struct import *im)
{
    return &im->name;
}

const struct manifest *import_manifest(const struct import *im)
{
    return &im->m;
}

/* --- tables --- */

struct gathering {
    uint8_t *p;
    size_t n;
};

static enum err gather(void *arg, struct slice bytes)
{
    struct gathering *g = arg;

    memcpy(g->p + g->n, bytes.p, bytes.n); /* a source gives what it was asked for, not more */
    g->n += bytes.n;
    return ERR_OK;
}

/* The table of a layer into the store, if it is not there. */
static enum err fetch_table(struct import *im, uint32_t layer, struct why *why)
{
    const struct hash *want = manifest_table(&im->m, layer);
    size_t n = (size_t)manifest_n_tiles(&im->m.arch, layer) * HASH_BYTES;
    struct gathering g = { im->buffer, 0 };
    char name[FOLDER_FILE_NAME];

    if (store_has(im->s, want)) return ERR_OK;
    folder_layer_name(name, layer);
    if (n > TILE_WIRE_MAX)
        return fail(why, ERR_RANGE, "%s: a tile table of %zu bytes, at most %d", name, n,
                    TILE_WIRE_MAX);
    enum err e = im->source->read(im->source, name, 0, n, gather, &g, why);
    if (e) return e;
    struct hash is = hash_of(slice_of(g.p, n));
    if (!hash_equal(&is, want))
        return fail(why, ERR_MALFORMED, "%s: its tile table is not the manifest's", name);
    return store_put_hashed(im->s, slice_of(g.p, n), want, why);
}

/* --- a file as pieces --- */

static enum err layer_pieces(struct import *im, uint32_t layer, struct file *f, struct why *why)
{
    struct tile_place p = tile_before_first(&im->m.arch, layer);
    struct slice table;

    *f = (struct file){ .layer = layer, .weights = true };
    folder_layer_name(f->name, layer);
    enum err e = store_table(im->s, &im->m, layer, &table, why);
    if (e) return e;
    f->piece = calloc(table.n / HASH_BYTES, sizeof *f->piece);
    if (!f->piece) return fail(why, ERR_NOMEM, "no memory to plan %s", f->name);
    while (tile_next(&p))
        f->piece[f->n++] = (struct piece){ table_hash(table, p.at), table.n + p.offset,
                                           (uint32_t)p.bytes, p.spec.cols, p.spec.type };
    return ERR_OK;
}

static enum err tokenizer_pieces(const struct import *im, struct file *f, struct why *why)
{
    const struct manifest *m = &im->m;

    *f = (struct file){ .name = FOLDER_TOKENIZER, .layer = ARCH_ENDS };
    f->piece = calloc(m->n_tokenizer + 1, sizeof *f->piece);
    if (!f->piece) return fail(why, ERR_NOMEM, "no memory to plan %s", f->name);
    for (uint32_t i = 0; i < m->n_tokenizer; i++) {
        uint64_t at = (uint64_t)i * TILE_BYTES, left = m->tokenizer_bytes - at;
        uint32_t n = left < TILE_BYTES ? (uint32_t)left : TILE_BYTES;
        f->piece[f->n++] = (struct piece){ .hash = m->tokenizer[i], .at = at, .n = n };
    }
    return ERR_OK;
}

/* Call f for every file that was asked for. */
static enum err each_file(struct import *im,
                          enum err (*f)(struct import *im, const struct file *file,
                                        struct why *why),
                          struct why *why)
{
    uint32_t hi = im->o->hi ? im->o->hi : arch_all_layers(&im->m.arch);
    struct file file;
    enum err e = ERR_OK;

    for (uint32_t l = im->o->lo; l < hi && !e; l++) {
        e = layer_pieces(im, l, &file, why);
        if (!e) e = f(im, &file, why);
        free(file.piece);
    }
    if (e || im->o->no_ends) return e;
    e = layer_pieces(im, ARCH_ENDS, &file, why);
    if (!e) e = f(im, &file, why);
    free(file.piece);
    if (e) return e;
    e = tokenizer_pieces(im, &file, why);
    if (!e) e = f(im, &file, why);
    free(file.piece);
    return e;
}

/* --- planning --- */

static enum err count_file(struct import *im, const struct file *file, struct why *why)
{
    (void)why;
    for (uint32_t i = 0; i < file->n; i++) {
        const struct piece *p = &file->piece[i];
        im->sizes.bytes += p->n;
        if (store_has(im->s, &p->hash))
            im->sizes.bytes_here += p->n;
        else
            im->sizes.bytes_room += store_value_bytes(p->n);
    }
    return ERR_OK;
}

static enum err check_room(const struct import *im, struct why *why)
{
    uint64_t need = im->sizes.bytes_room, room = store_room(im->s), reuse;

    if (need == 0) return ERR_OK;
    if (store_free_bytes(im->s, &reuse)) reuse = 0;
    need += need / 100 + ROOM_SPARE;
    if (need <= room + reuse) return ERR_OK;
    return fail(why, ERR_DISKFULL, "the store needs %llu MiB more, the disk has %llu MiB free",
                (unsigned long long)((need - reuse) >> 20), (unsigned long long)(room >> 20));
}

enum err import_plan(struct import *im, struct import_sizes *out, struct why *why)
{
    uint32_t hi = im->o->hi ? im->o->hi : arch_all_layers(&im->m.arch);
    enum err e = store_put_model(im->s, slice_of(im->body, im->body_n), NULL, why);

    for (uint32_t l = im->o->lo; l < hi && !e; l++) e = fetch_table(im, l, why);
    if (!e && !im->o->no_ends) e = fetch_table(im, ARCH_ENDS, why);
    if (!e) e = store_commit(im->s, why);
    if (!e) e = each_file(im, count_file, why);
    if (e) return e;
    im->done = im->sizes.bytes_here;
    *out = im->sizes;
    return check_room(im, why);
}

/* --- fetching --- */

struct run {
    struct import *im;
    const struct file *file;
    uint32_t piece;
    uint32_t have; /* bytes of it in the buffer */
    struct why *why;
};

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static enum err refuse_piece(const struct run *r, const char *how)
{
    const struct file *f = r->file;
    struct tile_place p = tile_before_first(&r->im->m.arch, f->layer);
    char what[PLACE_TEXT];

    if (!f->weights) return fail(r->why, ERR_MALFORMED, "%s, piece %u %s", f->name, r->piece, how);
    while (tile_next(&p) && p.at < r->piece) {
    }
    tile_place_text(what, &p);
    return fail(r->why, ERR_MALFORMED, "%s: %s %s", f->name, what, how);
}

static enum err store_piece(struct run *r)
{
    struct import *im = r->im;
    const struct piece *p = &r->file->piece[r->piece];
    struct slice bytes = slice_of(im->buffer, p->n);
    struct hash is = hash_of(bytes);

    if (!hash_equal(&is, &p->hash)) return refuse_piece(r, "has other bytes than the model");
    if (r->file->weights && !tile_finite(p->type, p->cols, bytes.p, bytes.n))
        return refuse_piece(r, "holds a number that is not finite");
    if (store_has(im->s, &p->hash)) return ERR_OK;
    enum err e = store_put_hashed(im->s, bytes, &p->hash, r->why);
    im->done += p->n;
    if (!e && now_ms() - im->last_ms >= COMMIT_MS) {
        e = store_commit(im->s, r->why);
        im->last_ms = now_ms();
    }
    if (im->o->progress) im->o->progress(im->o->arg, im->done, im->sizes.bytes);
    return e;
}

static enum err take_bytes(void *arg, struct slice bytes)
{
    struct run *r = arg;

    while (bytes.n > 0) {
        uint32_t want = r->file->piece[r->piece].n - r->have;
        size_t n = bytes.n < want ? bytes.n : want;
        memcpy(r->im->buffer + r->have, bytes.p, n);
        bytes = slice_of(bytes.p + n, bytes.n - n);
        r->have += (uint32_t)n;
        if (n < want) break;
        enum err e = store_piece(r);
        if (e) return e;
        r->have = 0;
        r->piece++;
    }
    return ERR_OK;
}

/* The run of pieces that begins with the missing piece `from`: one past its last. */
static uint32_t run_end(struct import *im, const struct file *f, uint32_t from)
{
    uint32_t end = from + 1;
    uint64_t gap = 0;

    for (uint32_t i = end; i < f->n && gap <= GAP_MAX; i++) {
        if (store_has(im->s, &f->piece[i].hash)) {
            gap += f->piece[i].n;
        } else {
            end = i + 1;
            gap = 0;
        }
    }
    return end;
}

static enum err fetch_file(struct import *im, const struct file *f, struct why *why)
{
    enum err e = ERR_OK;

    for (uint32_t i = 0; i < f->n && !e;) {
        if (store_has(im->s, &f->piece[i].hash)) {
            i++;
            continue;
        }
        uint32_t end = run_end(im, f, i);
        const struct piece *first = &f->piece[i], *last = &f->piece[end - 1];
        struct run r = { .im = im, .file = f, .piece = i, .why = why };
        e = im->source->read(im->source, f->name, first->at, last->at + last->n - first->at,
                             take_bytes, &r, why);
        i = end;
    }
    return e;
}

enum err import_run(struct import *im, struct why *why)
{
    struct why ignored;

    im->last_ms = now_ms();
    enum err e = each_file(im, fetch_file, why);
    if (!e) return store_put_model(im->s, slice_of(im->body, im->body_n), &im->name, why);
    /* Whatever went wrong, what arrived is good. */
    (void)!store_commit(im->s, &ignored);
    return e;
}
