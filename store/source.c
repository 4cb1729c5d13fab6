#include "store/source.h"

#include "base/json.h"
#include "store/file.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FILES_MAX = 4096,
    FILE_NAME_MAX = 255,
    INDEX_MAX = 64 << 20, /* bytes: 44,691 tensors of the largest GLM take 5 MB */
};

struct shard {
    char name[FILE_NAME_MAX + 1];
    struct safetensors *st; /* owned */
    struct hash identity;
};

struct source {
    char dir[FILE_PATH_MAX];
    struct shard *shard; /* owned; [n_shards], ascending by name when from an index */
    uint32_t n_shards;
    struct source_tensor *tensor; /* owned; [n] ascending by name */
    uint32_t n;
    uint64_t bytes;
};

/* --- files --- */

static enum err identify(struct hash *out, const char *path, struct slice header, struct why *why)
{
    struct stat st;
    struct {
        struct hash header;
        int64_t size, mtime_s, mtime_ns, ctime_s, ctime_ns;
    } id;

    if (stat(path, &st) != 0) return fail(why, ERR_IO, "%s: %s", path, strerror(errno));
    id.header = hash_of(header);
    id.size = st.st_size;
    id.mtime_s = st.st_mtim.tv_sec, id.mtime_ns = st.st_mtim.tv_nsec;
    id.ctime_s = st.st_ctim.tv_sec, id.ctime_ns = st.st_ctim.tv_nsec;
    *out = hash_of(slice_of(&id, sizeof id));
    return ERR_OK;
}

static enum err open_shard(const struct source *s, struct shard *h, struct why *why)
{
    char path[FILE_PATH_MAX];
    enum err e = file_path(path, s->dir, h->name, why);

    if (!e) e = safetensors_open(&h->st, path, why);
    if (!e) e = identify(&h->identity, path, safetensors_header(h->st), why);
    return e;
}

enum err source_check_unchanged(const struct source *s, struct why *why)
{
    for (uint32_t i = 0; i < s->n_shards; i++) {
        char path[FILE_PATH_MAX];
        struct hash now;
        enum err e = file_path(path, s->dir, s->shard[i].name, why);
        if (!e) e = identify(&now, path, safetensors_header(s->shard[i].st), why);
        if (e) return e;
        if (memcmp(now.b, s->shard[i].identity.b, HASH_BYTES) != 0)
            return fail(why, ERR_IO, "%s changed while it was being read", path);
    }
    return ERR_OK;
}

/* --- the index of an index --- */

static bool plain_name(struct slice s)
{
    static const char END[] = ".safetensors";
    size_t end = sizeof END - 1;

    if (s.n <= end || s.n > FILE_NAME_MAX || s.p[0] == '.') return false;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= 0x20 || s.p[i] == 0x7f || s.p[i] == '/' || s.p[i] == '\\') return false;
    return memcmp(s.p + s.n - end, END, end) == 0;
}

static int by_file(const void *a, const void *b)
{
    return strcmp(((const struct shard *)a)->name, ((const struct shard *)b)->name);
}

/* The file names that the map mentions, each once, ascending. */
static enum err list_files(struct source *s, const struct json *map, const char *path,
                           struct why *why)
{
    uint32_t cap = 16;

    if (!(s->shard = calloc(cap, sizeof *s->shard))) return fail(why, ERR_NOMEM, "out of memory");
    for (const struct json *m = map->child; m; m = m->next) {
        struct shard h = { 0 };
        if (m->type != JSON_STRING || !plain_name(m->text))
            return fail(why, ERR_MALFORMED, "%s: tensor %.*s lies in a file with no plain name",
                        path, (int)(m->key.n < 200 ? m->key.n : 200), (const char *)m->key.p);
        memcpy(h.name, m->text.p, m->text.n);
        /* Tensors of one file mostly follow each other; the rest is found by halves. */
        if (s->n_shards && bsearch(&h, s->shard, s->n_shards, sizeof h, by_file)) continue;
        if (s->n_shards == FILES_MAX)
            return fail(why, ERR_RANGE, "%s names more than %d files", path, FILES_MAX);
        if (s->n_shards == cap) {
            struct shard *more = realloc(s->shard, (size_t)cap * 2 * sizeof *more);
            if (!more) return fail(why, ERR_NOMEM, "out of memory");
            s->shard = more;
            cap *= 2;
        }
        s->shard[s->n_shards++] = h;
        qsort(s->shard, s->n_shards, sizeof *s->shard, by_file);
    }
    if (s->n_shards == 0) return fail(why, ERR_MALFORMED, "%s: weight_map is empty", path);
    return ERR_OK;
}

/* Each mapped tensor must be in its file. */
static enum err check_map(struct source *s, const struct json *map, const char *path,
                          struct why *why)
{
    for (const struct json *m = map->child; m; m = m->next) {
        struct shard key = { 0 };
        char name[1025];
        if (m->key.n >= sizeof name || memchr(m->key.p, 0, m->key.n))
            return fail(why, ERR_MALFORMED, "%s: a tensor's name is unusable", path);
        memcpy(name, m->key.p, m->key.n);
        name[m->key.n] = 0;
        memcpy(key.name, m->text.p, m->text.n);
        const struct shard *h = bsearch(&key, s->shard, s->n_shards, sizeof key, by_file);
        if (!h || !safetensors_find(h->st, name))
            return fail(why, ERR_MALFORMED, "%s: tensor %s is not in %s", path, name, key.name);
    }
    return ERR_OK;
}

static enum err read_index(struct source *s, const char *path, struct why *why)
{
    struct json_doc *doc;
    uint8_t *p;
    size_t n;
    uint64_t in_files = 0;

    enum err e = file_read(path, INDEX_MAX, &p, &n, why);
    if (e) return e;
    e = json_parse(&doc, slice_of(p, n), path, why);
    free(p);
    if (e) return e;
    const struct json *map = json_get(json_root(doc), "weight_map");
    if (!map || map->type != JSON_OBJECT)
        e = fail(why, ERR_MALFORMED, "%s: key weight_map is missing or no object", path);
    if (!e) e = list_files(s, map, path, why);
    for (uint32_t i = 0; i < s->n_shards && !e; i++) {
        e = open_shard(s, &s->shard[i], why);
        if (!e) in_files += safetensors_n(s->shard[i].st);
    }
    if (!e) e = check_map(s, map, path, why);
    /* All mapped ones are there, and no name is mapped twice: more would be unmapped ones. */
    if (!e && in_files != map->n)
        e = fail(why, ERR_MALFORMED, "%s: its files hold %llu tensors, %u are mapped", path,
                 (unsigned long long)in_files, map->n);
    json_free(doc);
    return e;
}

/* --- all tensors by name --- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct source_tensor *)a)->t->name,
                  ((const struct source_tensor *)b)->t->name);
}

static enum err gather(struct source *s, struct why *why)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < s->n_shards; i++) n += safetensors_n(s->shard[i].st);
    if (n > UINT32_MAX / 2) return fail(why, ERR_RANGE, "%s: too many tensors", s->dir);
    s->tensor = calloc((size_t)n + 1, sizeof *s->tensor);
    if (!s->tensor) return fail(why, ERR_NOMEM, "%s: no memory for its tensors", s->dir);
    for (uint32_t i = 0; i < s->n_shards; i++) {
        for (uint32_t k = 0; k < safetensors_n(s->shard[i].st); k++) {
            const struct st_tensor *t = safetensors_nth(s->shard[i].st, k);
            s->tensor[s->n++] = (struct source_tensor){ t, i, false };
            s->bytes += t->data.n;
        }
    }
    qsort(s->tensor, s->n, sizeof *s->tensor, by_name);
    for (uint32_t i = 1; i < s->n; i++)
        if (by_name(&s->tensor[i - 1], &s->tensor[i]) == 0)
            return fail(why, ERR_MALFORMED, "tensor %s is in %s and in %s", s->tensor[i].t->name,
                        source_file(s, s->tensor[i - 1].file), source_file(s, s->tensor[i].file));
    return ERR_OK;
}

static enum err open_files(struct source *s, struct why *why)
{
    static const char SINGLE[] = "model.safetensors";
    char single[FILE_PATH_MAX], index[FILE_PATH_MAX];
    enum err e = file_path(single, s->dir, SINGLE, why);

    if (!e) e = file_path(index, s->dir, "model.safetensors.index.json", why);
    if (e) return e;
    bool one = access(single, F_OK) == 0, many = access(index, F_OK) == 0;
    if (one && many)
        return fail(why, ERR_MALFORMED, "%s holds both %s and an index: one of them is stale",
                    s->dir, SINGLE);
    if (!one && !many)
        return fail(why, ERR_NOTFOUND, "%s holds neither %s nor model.safetensors.index.json",
                    s->dir, SINGLE);
    if (many) return read_index(s, index, why);

    if (!(s->shard = calloc(1, sizeof *s->shard))) return fail(why, ERR_NOMEM, "out of memory");
    memcpy(s->shard[0].name, SINGLE, sizeof SINGLE);
    s->n_shards = 1;
    return open_shard(s, &s->shard[0], why);
}

enum err source_open(struct source **out, const char *dir, struct why *why)
{
    struct source *s = calloc(1, sizeof *s);

    if (!s) return fail(why, ERR_NOMEM, "%s: out of memory", dir);
    if (strlen(dir) >= sizeof s->dir) {
        free(s);
        return fail(why, ERR_USAGE, "the path %.100s... is too long", dir);
    }
    memcpy(s->dir, dir, strlen(dir) + 1);
    enum err e = open_files(s, why);
    if (!e) e = gather(s, why);
    if (e) {
        source_close(s);
        return e;
    }
    *out = s;
    return ERR_OK;
}

void source_close(struct source *s)
{
    if (!s) return;
    for (uint32_t i = 0; i < s->n_shards; i++) safetensors_close(s->shard[i].st);
    free(s->shard);
    free(s->tensor);
    free(s);
}

uint32_t source_n(const struct source *s)
{
    return s->n;
}

struct source_tensor *source_nth(struct source *s, uint32_t i)
{
    return i < s->n ? &s->tensor[i] : NULL;
}

/* Index of the first tensor whose name is not below name. */
static uint32_t lower_bound(const struct source *s, const char *name)
{
    uint32_t lo = 0, hi = s->n;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (strcmp(s->tensor[mid].t->name, name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct source_tensor *source_find(struct source *s, const char *name)
{
    struct source_tensor *t = source_nth(s, lower_bound(s, name));
    return t && strcmp(t->t->name, name) == 0 ? t : NULL;
}

struct source_tensor *source_find_prefix(struct source *s, const char *prefix)
{
    struct source_tensor *t = source_nth(s, lower_bound(s, prefix));
    return t && strncmp(t->t->name, prefix, strlen(prefix)) == 0 ? t : NULL;
}

uint64_t source_bytes(const struct source *s)
{
    return s->bytes;
}

const char *source_file(const struct source *s, uint32_t file)
{
    return s->shard[file].name;
}

const struct hash *source_identity(const struct source *s, uint32_t file)
{
    return &s->shard[file].identity;
}

/* --- page cache --- */

static void advise(const struct st_tensor *t, uint64_t lo, uint64_t hi, int advice)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = (uintptr_t)(t->data.p + lo) / page * page;
    uintptr_t to = (uintptr_t)(t->data.p + hi);

    /* Only advice: what it does to pages that others still use is that they are read again. */
    if (hi > lo) (void)madvise((void *)from, to - from, advice);
}

void source_will_need(const struct st_tensor *t, uint64_t lo, uint64_t hi)
{
    advise(t, lo, hi, MADV_WILLNEED);
}

void source_done_with(const struct st_tensor *t, uint64_t lo, uint64_t hi)
{
    advise(t, lo, hi, MADV_DONTNEED);
}
