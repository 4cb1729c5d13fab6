/* The reader.  Every rule of the format is checked when a file is opened, before anything believes
 * an offset; after that a tensor is a pointer into the map.
 *
 * Deliberately stricter than the reference implementation: duplicate names, unknown fields of an
 * entry, blanks before the header's '{', and names with control characters are refused. */
#include "store/safetensors.h"

#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HEADER_MAX = 100000000, /* the reference's limit */
    NAME_LEN_MAX = 1024,
};

struct safetensors {
    struct st_tensor *t; /* owned; ascending by data offset */
    uint32_t n;
    uint32_t *by_name; /* owned; [n] indices into t, ascending by name */
    char *names;       /* owned; what t[].name points into */
    const uint8_t *map;
    size_t map_n;
};

/* Element sizes in bits: sub-byte types exist. */
static const struct {
    const char *name;
    enum st_dtype dtype;
    uint32_t bits;
} DTYPES[] = {
    { "F32", ST_F32, 32 },      { "F16", ST_F16, 16 },      { "BF16", ST_BF16, 16 },
    { "I32", ST_I32, 32 },      { "I64", ST_I64, 64 },      { "U8", ST_U8, 8 },
    { "BOOL", ST_OTHER, 8 },    { "I8", ST_OTHER, 8 },      { "I16", ST_OTHER, 16 },
    { "U16", ST_OTHER, 16 },    { "U32", ST_OTHER, 32 },    { "U64", ST_OTHER, 64 },
    { "F64", ST_OTHER, 64 },    { "C64", ST_OTHER, 64 },    { "F8_E5M2", ST_OTHER, 8 },
    { "F8_E4M3", ST_OTHER, 8 }, { "F8_E8M0", ST_OTHER, 8 }, { "F8_E5M2FNUZ", ST_OTHER, 8 },
    { "F4", ST_OTHER, 4 },      { "F6_E2M3", ST_OTHER, 6 }, { "F8_E4M3FNUZ", ST_OTHER, 8 },
    { "F6_E3M2", ST_OTHER, 6 },
};
enum { N_DTYPES = sizeof DTYPES / sizeof DTYPES[0] };

static int dtype_find(const struct json *v)
{
    for (int i = 0; i < N_DTYPES; i++)
        if (json_is_str(v, DTYPES[i].name)) return i;
    return -1;
}

/* Where an error is: the file, and the tensor once its name is known to be printable. */
struct at {
    const char *path;
    const char *name;
    struct why *why;
};

static enum err bad(const struct at *at, const char *what)
{
    return fail(at->why, ERR_MALFORMED, "%s: tensor %s: %s", at->path, at->name, what);
}

static enum err parse_dtype(struct st_tensor *t, uint32_t *bits, const struct json *v,
                            const struct at *at)
{
    if (!v) return bad(at, "dtype is missing");
    if (v->type != JSON_STRING) return bad(at, "dtype is not a string");
    int i = dtype_find(v);
    if (i < 0)
        return fail(at->why, ERR_MALFORMED, "%s: tensor %s: unknown dtype %.*s", at->path, at->name,
                    (int)(v->text.n < 32 ? v->text.n : 32), (const char *)v->text.p);
    t->dtype = DTYPES[i].dtype;
    t->dtype_name = DTYPES[i].name;
    *bits = DTYPES[i].bits;
    return ERR_OK;
}

/* dims, and the number of bits they make with an element of `bits`. */
static enum err parse_shape(struct st_tensor *t, uint64_t *total_bits, uint32_t bits,
                            const struct json *v, const struct at *at)
{
    if (!v) return bad(at, "shape is missing");
    if (v->type != JSON_ARRAY) return bad(at, "shape is not a list");
    if (v->n > ST_DIMS_MAX) return bad(at, "more than 8 dimensions");

    uint64_t total = bits;
    t->n_dims = 0;
    for (const struct json *d = v->child; d; d = d->next) {
        uint64_t *dim = &t->dim[t->n_dims++];
        if (!json_u64(d, dim)) return bad(at, "a dimension is not a whole number");
        if (__builtin_mul_overflow(total, *dim, &total)) return bad(at, "the shape overflows");
    }
    *total_bits = total;
    return ERR_OK;
}

/* data_offsets into t->data, still relative to the data buffer: only n and the begin are meant. */
static enum err parse_offsets(struct st_tensor *t, uint64_t *begin, uint64_t data_n,
                              const struct json *v, const struct at *at)
{
    uint64_t end = 0;

    if (!v) return bad(at, "data_offsets are missing");
    if (v->type != JSON_ARRAY || v->n != 2) return bad(at, "data_offsets are not two numbers");
    if (!json_u64(v->child, begin) || !json_u64(v->child->next, &end))
        return bad(at, "data_offsets are not whole numbers");
    if (*begin > end) return bad(at, "data_offsets run backwards");
    if (end > data_n) return bad(at, "its data lies past the end of the file");
    t->data.n = (size_t)(end - *begin);
    return ERR_OK;
}

static enum err parse_entry(struct st_tensor *t, const uint8_t *data, uint64_t data_n,
                            const struct json *v, const struct at *at)
{
    uint32_t bits = 0;
    uint64_t total_bits = 0, begin = 0;

    if (v->type != JSON_OBJECT) return bad(at, "its entry is not an object");
    for (const struct json *m = v->child; m; m = m->next)
        if (!slice_is(m->key, "dtype") && !slice_is(m->key, "shape") &&
            !slice_is(m->key, "data_offsets"))
            return bad(at, "its entry has an unknown field");

    enum err e = parse_dtype(t, &bits, json_get(v, "dtype"), at);
    if (!e) e = parse_shape(t, &total_bits, bits, json_get(v, "shape"), at);
    if (!e) e = parse_offsets(t, &begin, data_n, json_get(v, "data_offsets"), at);
    if (e) return e;
    if (total_bits % 8 || total_bits / 8 != t->data.n)
        return bad(at, "shape and dtype do not fit its data_offsets");
    t->data.p = data + begin;
    return ERR_OK;
}

static enum err check_metadata(const struct json *v, const char *path, struct why *why)
{
    if (v->type != JSON_OBJECT)
        return fail(why, ERR_MALFORMED, "%s: __metadata__ is not an object", path);
    for (const struct json *m = v->child; m; m = m->next)
        if (m->type != JSON_STRING)
            return fail(why, ERR_MALFORMED, "%s: __metadata__ holds something else than text",
                        path);
    return ERR_OK;
}

/* A name into f->names, NUL-terminated.  Returns where the next one goes, NULL if unusable. */
static char *take_name(char *to, struct slice key)
{
    if (key.n == 0 || key.n > NAME_LEN_MAX) return NULL;
    for (size_t i = 0; i < key.n; i++)
        if (key.p[i] < 0x20 || key.p[i] == 0x7f) return NULL;
    memcpy(to, key.p, key.n);
    to[key.n] = 0;
    return to + key.n + 1;
}

static int by_offset(const void *pa, const void *pb)
{
    const struct st_tensor *a = pa, *b = pb;

    if (a->data.p != b->data.p) return a->data.p < b->data.p ? -1 : 1;
    if (a->data.n != b->data.n) return a->data.n < b->data.n ? -1 : 1; /* empty ones first */
    return strcmp(a->name, b->name);
}

static int by_name(const void *pa, const void *pb, void *arg)
{
    const struct st_tensor *t = arg;
    return strcmp(t[*(const uint32_t *)pa].name, t[*(const uint32_t *)pb].name);
}

/* The data is covered exactly: no hole, no overlap, nothing left over. */
static enum err check_cover(const struct safetensors *f, const uint8_t *data, uint64_t data_n,
                            const char *path, struct why *why)
{
    const uint8_t *end = data;

    for (uint32_t i = 0; i < f->n; i++) {
        const struct st_tensor *t = &f->t[i];
        if (t->data.p != end)
            return fail(why, ERR_MALFORMED, "%s: tensor %s: %s", path, t->name,
                        t->data.p > end ? "there is a hole before its data"
                                        : "its data overlaps another tensor's");
        end += t->data.n;
    }
    if ((uint64_t)(end - data) != data_n)
        return fail(why, ERR_MALFORMED, "%s: %llu bytes follow the last tensor", path,
                    (unsigned long long)(data_n - (uint64_t)(end - data)));
    return ERR_OK;
}

static enum err index_names(struct safetensors *f, const char *path, struct why *why)
{
    for (uint32_t i = 0; i < f->n; i++) f->by_name[i] = i;
    qsort_r(f->by_name, f->n, sizeof *f->by_name, by_name, f->t);
    for (uint32_t i = 1; i < f->n; i++)
        if (by_name(&f->by_name[i - 1], &f->by_name[i], f->t) == 0)
            return fail(why, ERR_MALFORMED, "%s: tensor %s is there twice", path,
                        f->t[f->by_name[i]].name);
    return ERR_OK;
}

static enum err parse_header(struct safetensors *f, const struct json *root, const uint8_t *data,
                             uint64_t data_n, const char *path, struct why *why)
{
    size_t names_n = 0;

    if (root->type != JSON_OBJECT)
        return fail(why, ERR_MALFORMED, "%s: the header is not an object", path);
    for (const struct json *m = root->child; m; m = m->next) names_n += m->key.n + 1;

    f->t = calloc((size_t)root->n + 1, sizeof *f->t);
    f->by_name = calloc((size_t)root->n + 1, sizeof *f->by_name);
    f->names = malloc(names_n + 1);
    if (!f->t || !f->by_name || !f->names)
        return fail(why, ERR_NOMEM, "%s: no memory for %u tensors", path, root->n);

    char *next = f->names;
    for (const struct json *m = root->child; m; m = m->next) {
        enum err e;
        if (slice_is(m->key, "__metadata__")) {
            if ((e = check_metadata(m, path, why))) return e;
            continue;
        }
        struct st_tensor *t = &f->t[f->n];
        t->name = next;
        next = take_name(next, m->key);
        if (!next)
            return fail(why, ERR_MALFORMED,
                        "%s: a tensor's name is empty, too long, or has control characters", path);
        if ((e = parse_entry(t, data, data_n, m, &(struct at){ path, t->name, why }))) return e;
        f->n++;
    }
    qsort(f->t, f->n, sizeof *f->t, by_offset);

    enum err e = index_names(f, path, why);
    return e ? e : check_cover(f, data, data_n, path, why);
}

static uint64_t le64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

static enum err parse_map(struct safetensors *f, const char *path, struct why *why)
{
    uint64_t header_n = le64(f->map), left = f->map_n - 8;

    if (header_n > HEADER_MAX)
        return fail(why, ERR_MALFORMED, "%s: a header of %llu bytes, at most %d are read", path,
                    (unsigned long long)header_n, HEADER_MAX);
    if (header_n > left) return fail(why, ERR_MALFORMED, "%s: the header is cut short", path);
    if (header_n == 0 || f->map[8] != '{')
        return fail(why, ERR_MALFORMED, "%s: the header does not begin with '{'", path);

    struct json_doc *doc;
    enum err e = json_parse(&doc, slice_of(f->map + 8, (size_t)header_n), path, why);
    if (e) return e;
    e = parse_header(f, json_root(doc), f->map + 8 + header_n, left - header_n, path, why);
    json_free(doc);
    return e;
}

static enum err map_file(struct safetensors *f, const char *path, struct why *why)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not hang us */

    if (fd < 0)
        return fail(why, errno == ENOENT ? ERR_NOTFOUND : ERR_IO, "%s: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return fail(why, ERR_IO, "%s is not a file", path);
    }
    if (st.st_size < 8) {
        close(fd);
        return fail(why, ERR_MALFORMED, "%s is too short for a safetensors file", path);
    }
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    int saved = errno;
    close(fd);
    if (map == MAP_FAILED) return fail(why, ERR_IO, "%s: %s", path, strerror(saved));
    f->map = map;
    f->map_n = (size_t)st.st_size;
    return ERR_OK;
}

enum err safetensors_open(struct safetensors **out, const char *path, struct why *why)
{
    struct safetensors *f = calloc(1, sizeof *f);
    if (!f) return fail(why, ERR_NOMEM, "%s: out of memory", path);

    enum err e = map_file(f, path, why);
    if (!e) e = parse_map(f, path, why);
    if (e) {
        safetensors_close(f);
        return e;
    }
    *out = f;
    return ERR_OK;
}

void safetensors_close(struct safetensors *f)
{
    if (!f) return;
    if (f->map) munmap((void *)(uintptr_t)f->map, f->map_n);
    free(f->t);
    free(f->by_name);
    free(f->names);
    free(f);
}

uint32_t safetensors_n(const struct safetensors *f)
{
    return f->n;
}

const struct st_tensor *safetensors_nth(const struct safetensors *f, uint32_t i)
{
    return i < f->n ? &f->t[i] : NULL;
}

const struct st_tensor *safetensors_find(const struct safetensors *f, const char *name)
{
    uint32_t lo = 0, hi = f->n;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        const struct st_tensor *t = &f->t[f->by_name[mid]];
        int c = strcmp(name, t->name);
        if (c == 0) return t;
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

struct slice safetensors_header(const struct safetensors *f)
{
    return slice_of(f->map, 8 + (size_t)le64(f->map));
}
