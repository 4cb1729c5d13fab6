#include "ask/journal.h"

#include "base/log.h"
#include "store/file.h"
#include "store/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { NAME_OF_NODE = 16, NAME_MAX_BYTES = NAME_OF_NODE + 1 + 2 * REQUEST_BYTES };
enum { ITEM_BYTES = 8, LIKELY_BYTES = 8 };
static const char MAGIC[8] = { 's', 'w', 'r', 'm', 'r', 'q', '2', '\n' };

/* --- the bytes --- */

static void put_int(uint8_t **p, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) *(*p)++ = (uint8_t)(v >> 8 * i);
}

static uint64_t get_int(const uint8_t **p, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++) v |= (uint64_t) * (*p)++ << 8 * i;
    return v;
}

static void put_double(uint8_t **p, double d)
{
    uint64_t v;
    memcpy(&v, &d, sizeof v);
    put_int(p, v, 8);
}

static double get_double(const uint8_t **p)
{
    uint64_t v = get_int(p, 8);
    double d;
    memcpy(&d, &v, sizeof d);
    return d;
}

static void put_bytes(uint8_t **p, const void *bytes, size_t n)
{
    memcpy(*p, bytes, n);
    *p += n;
}

static void get_bytes(const uint8_t **p, void *out, size_t n)
{
    memcpy(out, *p, n);
    *p += n;
}

static size_t head_bytes(uint32_t n_prompt)
{
    return JOURNAL_HEAD_BYTES + 4 * (size_t)n_prompt + HASH_BYTES;
}

/* out [head_bytes]. */
static void write_head(uint8_t *out, const struct journal_head *h, const int32_t *ids)
{
    uint8_t *p = out;
    put_bytes(&p, MAGIC, sizeof MAGIC);
    put_bytes(&p, h->coordinator.b, ID_BYTES);
    put_bytes(&p, h->model, ID_BYTES);
    put_bytes(&p, h->client.b, ID_BYTES);
    put_bytes(&p, h->request, REQUEST_BYTES);
    put_double(&p, h->sampling.temperature);
    put_double(&p, h->sampling.top_p);
    put_double(&p, h->sampling.min_p);
    put_double(&p, h->sampling.frequency);
    put_double(&p, h->sampling.presence);
    put_int(&p, h->sampling.seed, 8);
    put_int(&p, h->sampling.top_k, 4);
    put_int(&p, h->sampling.likely, 4);
    put_int(&p, h->is_plain, 4);
    put_int(&p, h->limit, 4);
    put_int(&p, h->n_prompt, 4);
    for (uint32_t i = 0; i < h->n_prompt; i++) put_int(&p, (uint32_t)ids[i], 4);
    struct hash all = hash_of(slice_of(out, (size_t)(p - out)));
    put_bytes(&p, all.b, HASH_BYTES);
}

static size_t item_bytes(const struct sampling *s)
{
    return ITEM_BYTES + LIKELY_BYTES * (size_t)s->likely;
}

/* The check of the n-th token: of the head, of its place, of itself, of what is behind it. */
static uint32_t check_of(const uint8_t head_hash[HASH_BYTES], uint32_t n, uint32_t id,
                         struct slice likely)
{
    uint64_t seed, of_likely = 0;
    memcpy(&seed, head_hash, sizeof seed);
    if (likely.n > 0) {
        struct hash h = hash_of(likely);
        memcpy(&of_likely, h.b, sizeof of_likely);
    }
    return (uint32_t)draw_hash(seed ^ of_likely, (uint64_t)n << 32 | id);
}

static void put_likely(uint8_t **p, const struct likely *l, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &l[i].logprob, sizeof bits);
        put_int(p, (uint32_t)l[i].id, 4);
        put_int(p, bits, 4);
    }
}

static void get_likely(const uint8_t **p, struct likely *l, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        l[i].id = (int32_t)(uint32_t)get_int(p, 4);
        uint32_t bits = (uint32_t)get_int(p, 4);
        memcpy(&l[i].logprob, &bits, sizeof bits);
    }
}

static void read_head(struct journal_head *h, const uint8_t *p)
{
    p += sizeof MAGIC;
    get_bytes(&p, h->coordinator.b, ID_BYTES);
    get_bytes(&p, h->model, ID_BYTES);
    get_bytes(&p, h->client.b, ID_BYTES);
    get_bytes(&p, h->request, REQUEST_BYTES);
    h->sampling.temperature = get_double(&p);
    h->sampling.top_p = get_double(&p);
    h->sampling.min_p = get_double(&p);
    h->sampling.frequency = get_double(&p);
    h->sampling.presence = get_double(&p);
    h->sampling.seed = get_int(&p, 8);
    h->sampling.top_k = (uint32_t)get_int(&p, 4);
    h->sampling.likely = (uint32_t)get_int(&p, 4);
    h->is_plain = get_int(&p, 4) != 0;
    h->limit = (uint32_t)get_int(&p, 4);
    h->n_prompt = (uint32_t)get_int(&p, 4);
}

static enum err check_head(const struct journal_head *h, struct slice bytes, struct why *why)
{
    if (h->n_prompt == 0 || h->n_prompt > CONTEXT_MAX || h->limit == 0 || h->limit > CONTEXT_MAX)
        return fail(why, ERR_RANGE, "%u ids, %u tokens to come", h->n_prompt, h->limit);
    size_t n = head_bytes(h->n_prompt);
    if (bytes.n < n)
        return fail(why, ERR_MALFORMED, "it ends in its head, after %zu bytes", bytes.n);
    struct hash all = hash_of(slice_of(bytes.p, n - HASH_BYTES));
    if (memcmp(all.b, bytes.p + n - HASH_BYTES, HASH_BYTES) != 0)
        return fail(why, ERR_MALFORMED, "its head does not have its hash");
    return sampling_check(&h->sampling, why);
}

static void free_entry(struct journal_entry *e)
{
    free(e->ids);
    free(e->likely);
    e->ids = NULL;
    e->likely = NULL;
}

enum err journal_parse(struct journal_entry *out, struct slice bytes, struct why *why)
{
    *out = (struct journal_entry){ 0 };
    if (bytes.n < JOURNAL_HEAD_BYTES || memcmp(bytes.p, MAGIC, sizeof MAGIC) != 0)
        return fail(why, ERR_MALFORMED, "it is not a request's journal");
    struct journal_head *h = &out->head;
    read_head(h, bytes.p);
    enum err e = check_head(h, bytes, why);
    if (e) return e;

    uint32_t width = h->sampling.likely;
    size_t head = head_bytes(h->n_prompt), item = item_bytes(&h->sampling);
    size_t most = (bytes.n - head) / item;
    if (most > h->limit) most = h->limit;
    out->ids = malloc((h->n_prompt + most) * sizeof *out->ids);
    if (width > 0) out->likely = malloc((most + 1) * width * sizeof *out->likely);
    if (!out->ids || (width > 0 && !out->likely)) {
        free_entry(out);
        return fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    }
    const uint8_t *p = bytes.p + JOURNAL_HEAD_BYTES, *hash = bytes.p + head - HASH_BYTES;
    for (uint32_t i = 0; i < h->n_prompt; i++) out->ids[i] = (int32_t)get_int(&p, 4);
    p = bytes.p + head;
    while (out->n_tokens < most) {
        uint32_t id = (uint32_t)get_int(&p, 4), check = (uint32_t)get_int(&p, 4);
        struct slice behind = slice_of(p, item - ITEM_BYTES);
        if (check != check_of(hash, out->n_tokens, id, behind)) break;
        if (width > 0) get_likely(&p, out->likely + (size_t)out->n_tokens * width, width);
        out->ids[h->n_prompt + out->n_tokens++] = (int32_t)id;
    }
    out->n_good = head + out->n_tokens * item;
    return ERR_OK;
}

/* --- the files --- */

static void file_name(char out[NAME_MAX_BYTES + 1], const struct journal_head *h)
{
    char *p = out;
    for (unsigned i = 0; i < NAME_OF_NODE / 2; i++) p += sprintf(p, "%02x", h->coordinator.b[i]);
    *p++ = '-';
    for (unsigned i = 0; i < REQUEST_BYTES; i++) p += sprintf(p, "%02x", h->request[i]);
}

/* --- writing --- */

struct journal {
    uv_work_t work;
    struct hub *hub;
    void (*on_ready)(void *arg, enum err e); /* NULL: has been called, or nobody wants it */
    void *arg;
    char dir[FILE_PATH_MAX], name[NAME_MAX_BYTES + 1];
    uint8_t hash[HASH_BYTES]; /* of the head */
    uint32_t n_tokens;        /* added */
    struct sampling sampling;
    bool is_working, is_ending, is_removing;

    /* the worker's while it works */
    int fd;      /* -1: not open */
    bool is_new; /* the file is to be made; else cut at n_good and gone on with */
    size_t n_good;
    bool is_last; /* the file is closed after this piece, and goes if is_removing */
    uint8_t *out; /* owned; the bytes being written */
    size_t n_out, cap_out;
    enum err failed; /* for good */

    /* what comes next */
    uint8_t *next; /* owned */
    size_t n_next, cap_next;
    bool has_failed; /* and the log knows */
};

/* The head is durable when the file is, and its name in the folder. */
static enum err make_file(struct journal *j, int dir)
{
    j->fd = openat(dir, j->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (j->fd < 0) return ERR_IO;
    enum err e = file_write(j->fd, j->out, j->n_out);
    j->n_out = 0;
    if (!e && (fdatasync(j->fd) || fsync(dir))) e = ERR_IO;
    if (e) unlinkat(dir, j->name, 0);
    return e;
}

static enum err reopen_file(struct journal *j, int dir)
{
    j->fd = openat(dir, j->name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    if (j->fd < 0 || ftruncate(j->fd, (off_t)j->n_good)) return ERR_IO;
    return lseek(j->fd, 0, SEEK_END) < 0 ? ERR_IO : ERR_OK;
}

static enum err open_file(struct journal *j)
{
    if (j->is_new && mkdir(j->dir, 0700) && errno != EEXIST) return ERR_IO;
    int dir = open(j->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) return ERR_IO;
    enum err e = j->is_new ? make_file(j, dir) : reopen_file(j, dir);
    close(dir);
    return e;
}

static void remove_file(const struct journal *j)
{
    int dir = open(j->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) return;
    (void)unlinkat(dir, j->name, 0);
    close(dir);
}

/* In a worker thread. */
static void work(uv_work_t *w)
{
    struct journal *j = w->data;
    if (!j->failed && j->fd < 0) j->failed = open_file(j);
    if (!j->failed) j->failed = file_write(j->fd, j->out, j->n_out);
    j->n_out = 0;
    if (!j->is_last) return;
    if (j->fd >= 0) close(j->fd);
    if (j->is_removing) remove_file(j);
}

static void after_work(uv_work_t *w, int status);

/* The next piece.  One at a time, so that the worker and the loop never touch the same bytes. */
static void give_work(struct journal *j)
{
    uint8_t *out = j->out;
    if (j->n_out == 0) { /* else: the head of a new file */
        j->out = j->next;
        j->n_out = j->n_next;
        j->next = out;
        size_t cap = j->cap_out;
        j->cap_out = j->cap_next;
        j->cap_next = cap;
        j->n_next = 0;
    }
    j->is_last = j->is_ending && j->n_next == 0;
    j->is_working = true;
    j->work.data = j;
    if (uv_queue_work(&j->hub->loop, &j->work, work, after_work) == 0) return;
    abort(); /* only for want of a callback */
}

static void after_work(uv_work_t *w, int status)
{
    struct journal *j = w->data;
    (void)status; /* nobody cancels it */
    j->is_working = false;
    if (j->is_last) {
        free(j->out);
        free(j->next);
        free(j);
        return;
    }
    if (j->failed && !j->has_failed)
        log_warn("%s: an answer's journal cannot be written; it would not survive a restart",
                 j->dir);
    enum err e = j->failed;
    if (e) j->has_failed = true;
    if (j->n_next > 0 || j->is_ending) give_work(j);
    void (*on_ready)(void *, enum err) = j->on_ready;
    j->on_ready = NULL;
    if (on_ready) on_ready(j->arg, e);
}

static struct journal *make(struct hub *hub, const char *dir, const struct journal_head *h)
{
    struct journal *j = calloc(1, sizeof *j);
    if (!j) return NULL;
    j->hub = hub;
    j->fd = -1;
    j->sampling = h->sampling;
    snprintf(j->dir, sizeof j->dir, "%s", dir);
    file_name(j->name, h);
    return j;
}

enum err journal_start(struct journal **out, struct hub *hub, const char *dir,
                       const struct journal_head *h, const int32_t *ids,
                       void (*on_ready)(void *arg, enum err e), void *arg)
{
    *out = NULL;
    if (strlen(dir) >= FILE_PATH_MAX || h->n_prompt > CONTEXT_MAX) return ERR_RANGE;
    struct journal *j = make(hub, dir, h);
    size_t n = head_bytes(h->n_prompt);
    if (j) j->out = malloc(n);
    if (!j || !j->out) {
        free(j);
        return ERR_NOMEM;
    }
    write_head(j->out, h, ids);
    memcpy(j->hash, j->out + n - HASH_BYTES, HASH_BYTES);
    j->n_out = j->cap_out = n;
    j->is_new = true;
    j->on_ready = on_ready;
    j->arg = arg;
    give_work(j);
    *out = j;
    return ERR_OK;
}

enum err journal_resume(struct journal **out, struct hub *hub, const char *dir,
                        const struct journal_entry *e)
{
    const struct journal_head *h = &e->head;
    *out = NULL;
    if (strlen(dir) >= FILE_PATH_MAX) return ERR_RANGE;
    struct journal *j = make(hub, dir, h);
    uint8_t *head = malloc(head_bytes(h->n_prompt));
    if (!j || !head) {
        free(j);
        free(head);
        return ERR_NOMEM;
    }
    write_head(head, h, e->ids);
    memcpy(j->hash, head + head_bytes(h->n_prompt) - HASH_BYTES, HASH_BYTES);
    free(head);
    j->n_tokens = e->n_tokens;
    j->n_good = e->n_good;
    give_work(j); /* opens it */
    *out = j;
    return ERR_OK;
}

void journal_add(struct journal *j, int32_t id, const struct likely *likely)
{
    size_t item = item_bytes(&j->sampling);
    if (j->has_failed) return;
    if (j->cap_next - j->n_next < item) {
        size_t cap = 2 * j->cap_next + 64 * item;
        uint8_t *p = realloc(j->next, cap);
        if (!p) {
            j->has_failed = true; /* a gap would be worse than an end */
            return;
        }
        j->next = p;
        j->cap_next = cap;
    }
    uint8_t *p = j->next + j->n_next, *behind = p + ITEM_BYTES;
    put_likely(&behind, likely, j->sampling.likely);
    struct slice rest = slice_of(p + ITEM_BYTES, item - ITEM_BYTES);
    put_int(&p, (uint32_t)id, 4);
    put_int(&p, check_of(j->hash, j->n_tokens++, (uint32_t)id, rest), 4);
    j->n_next += item;
    if (!j->is_working) give_work(j);
}

static void end(struct journal *j, bool remove)
{
    if (!j) return;
    j->on_ready = NULL;
    j->is_ending = true;
    j->is_removing = remove;
    if (!j->is_working) give_work(j);
}

void journal_keep(struct journal *j)
{
    end(j, false);
}

void journal_remove(struct journal *j)
{
    end(j, true);
}

/* --- reading --- */

static bool is_ours(const char *name, const struct node_id *me)
{
    struct journal_head h = { .coordinator = *me };
    char ours[NAME_MAX_BYTES + 1];
    file_name(ours, &h);
    return strlen(name) == NAME_MAX_BYTES && strncmp(name, ours, NAME_OF_NODE + 1) == 0;
}

/* The whole of a file of ours that is not too old; NULL: it is none, with why. */
static uint8_t *read_all(int dir, const char *name, size_t *n, struct why *why)
{
    struct stat st;
    uint8_t *bytes = NULL;
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    *n = 0;
    if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_uid != geteuid())
        fail(why, ERR_IO, "it is no file of ours");
    else if (st.st_size > JOURNAL_BYTES_MAX)
        fail(why, ERR_RANGE, "%lld bytes", (long long)st.st_size);
    else if (time(NULL) - st.st_mtime > JOURNAL_KEEP_S)
        fail(why, ERR_TIMEOUT, "nobody came back for it in time");
    else if (!(bytes = malloc((size_t)st.st_size + 1)))
        fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    while (bytes && *n < (size_t)st.st_size) {
        ssize_t k = read(fd, bytes + *n, (size_t)st.st_size - *n);
        if (k <= 0) break; /* what is missing is missing */
        *n += (size_t)k;
    }
    if (fd >= 0) close(fd);
    return bytes;
}

static enum err read_entry(int dir, const char *name, const struct node_id *me,
                           const uint8_t model[ID_BYTES], struct journal_entry *e, struct why *why)
{
    size_t n;
    uint8_t *bytes = read_all(dir, name, &n, why);
    if (!bytes) return ERR_IO;
    enum err err = journal_parse(e, slice_of(bytes, n), why);
    free(bytes);
    if (err) return err;
    char right[NAME_MAX_BYTES + 1];
    file_name(right, &e->head);
    if (strcmp(right, name) != 0 || !node_id_equal(&e->head.coordinator, me))
        err = fail(why, ERR_MALFORMED, "it is another request's");
    else if (memcmp(e->head.model, model, ID_BYTES) != 0)
        err = fail(why, ERR_NOTFOUND, "it is of another model");
    if (err) free_entry(e);
    return err;
}

void journal_scan(const char *path, const struct node_id *me, const uint8_t model[ID_BYTES],
                  void (*found)(void *arg, struct journal_entry *e), void *arg)
{
    DIR *dir = opendir(path);
    if (!dir) return; /* there has been no request */
    unsigned n = 0;
    for (struct dirent *d; n < JOURNAL_FILES_MAX && (d = readdir(dir));) {
        if (!is_ours(d->d_name, me)) continue;
        struct journal_entry e = { 0 };
        struct why why = { "" };
        if (read_entry(dirfd(dir), d->d_name, me, model, &e, &why)) {
            log_info("a request's journal is removed: %s", why.text);
            (void)unlinkat(dirfd(dir), d->d_name, 0);
            continue;
        }
        n++;
        found(arg, &e);
    }
    closedir(dir);
}
