#include "gateway/usage.h"

#include "base/log.h"
#include "store/file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

enum { MINUTE_S = 60, DAY_S = 86400, BYTES_MAX = 2048 };

static const char *const keys[USAGE_KINDS] = {
    [USAGE_REQUESTS] = "requests",
    [USAGE_STREAMS] = "streams",
    [USAGE_PROMPT_TOKENS] = "prompt_tokens",
    [USAGE_CACHED_TOKENS] = "cached_tokens",
    [USAGE_TOKENS] = "tokens",
    [USAGE_REASONING_TOKENS] = "reasoning_tokens",
    [USAGE_REFUSED_KEY] = "refused_key",
    [USAGE_REFUSED_LIMIT] = "refused_limit",
    [USAGE_CLIENT_ERRORS] = "client_errors",
    [USAGE_SERVER_ERRORS] = "server_errors",
    [USAGE_GONE] = "gone",
    [USAGE_FIRST_TOKEN_MS] = "first_token_ms",
};

struct page {
    char path[FILE_PATH_MAX], text[BYTES_MAX];
};

struct usage_book {
    struct hub *hub;
    char dir[FILE_PATH_MAX];
    unsigned tag;
    uint64_t day;                 /* number of it */
    uint64_t before[USAGE_KINDS]; /* of this day, counted by gateways before */
    uint64_t from[USAGE_KINDS];   /* what was counted when the day, or this gateway, began */
    uint64_t minute, minute_from; /* number of it; requests when it began */
    uint64_t busiest;             /* requests of one minute of the day */
    struct saving *saving;        /* NULL: nothing is being written */
    bool has_complained;
};

struct saving {
    uv_work_t work;
    struct usage_book *b; /* NULL: it has gone */
    struct page page;
    enum err err;
    struct why why;
};

/* --- a page --- */

static void day_text(char out[16], uint64_t day)
{
    time_t t = (time_t)(day * DAY_S);
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(out, 16, "%Y-%m-%d", &tm);
}

static enum err page_path(const struct usage_book *b, char out[FILE_PATH_MAX], struct why *why)
{
    char day[16], name[64];
    day_text(day, b->day);
    snprintf(name, sizeof name, "usage-%s-%u.json", day, b->tag);
    return file_path(out, b->dir, name, why);
}

static void write_page(const struct usage_book *b, const uint64_t count[USAGE_KINDS],
                       struct page *out)
{
    char day[16];
    struct why why;
    day_text(day, b->day);
    int n = snprintf(out->text, BYTES_MAX, "{\"day\":\"%s\"", day);
    for (unsigned i = 0; i < USAGE_KINDS; i++)
        n += snprintf(out->text + n, BYTES_MAX - (size_t)n, ",\"%s\":%" PRIu64, keys[i],
                      b->before[i] + count[i] - b->from[i]);
    snprintf(out->text + n, BYTES_MAX - (size_t)n, ",\"busiest_minute\":%" PRIu64 "}\n",
             b->busiest);
    if (page_path(b, out->path, &why)) out->path[0] = 0; /* it was short enough at the start */
}

static enum err save_page(const struct page *p, struct why *why)
{
    struct file_out f;
    enum err e = file_create_private(&f, p->path, why);
    if (e) return e;
    file_put(&f, p->text, strlen(p->text));
    return file_finish(&f, ERR_OK, why);
}

/* What was counted today before this start. */
static void read_page(struct usage_book *b)
{
    char path[FILE_PATH_MAX];
    struct json_doc *doc;
    struct why why;
    uint8_t *bytes;
    size_t n;
    if (page_path(b, path, &why) || file_read(path, BYTES_MAX, &bytes, &n, &why)) return;
    if (!json_parse(&doc, slice_of(bytes, n), path, &why)) {
        for (unsigned i = 0; i < USAGE_KINDS; i++)
            b->before[i] = json_number_of(json_root(doc), keys[i]);
        b->busiest = json_number_of(json_root(doc), "busiest_minute");
        json_free(doc);
    }
    free(bytes);
}

/* --- in time --- */

static void complain(struct usage_book *b, enum err e, const char *why)
{
    if (e && !b->has_complained) log_warn("usage is not written down: %s", why);
    b->has_complained = e != ERR_OK;
}

static void work(uv_work_t *w)
{
    struct saving *s = w->data;
    s->err = save_page(&s->page, &s->why);
}

static void after_work(uv_work_t *w, int status)
{
    struct saving *s = w->data;
    (void)status;
    if (s->b) {
        s->b->saving = NULL;
        complain(s->b, s->err, s->why.text);
    }
    free(s);
}

static void save(struct usage_book *b, const uint64_t count[USAGE_KINDS])
{
    struct saving *s = b->saving ? NULL : calloc(1, sizeof *s); /* else the disk is slow */
    if (!s) return;
    s->b = b;
    s->work.data = s;
    write_page(b, count, &s->page);
    if (uv_queue_work(&b->hub->loop, &s->work, work, after_work))
        free(s);
    else
        b->saving = s;
}

static void end_minute(struct usage_book *b, const uint64_t count[USAGE_KINDS], uint64_t now_s)
{
    uint64_t n = count[USAGE_REQUESTS] - b->minute_from;
    if (n > b->busiest) b->busiest = n;
    b->minute = now_s / MINUTE_S;
    b->minute_from = count[USAGE_REQUESTS];
}

void usage_tick(struct usage_book *b, const uint64_t count[USAGE_KINDS], uint64_t now_s)
{
    if (now_s / MINUTE_S == b->minute) return;
    end_minute(b, count, now_s);
    save(b, count);
    if (now_s / DAY_S == b->day) return;
    b->day = now_s / DAY_S;
    b->busiest = 0;
    memset(b->before, 0, sizeof b->before);
    memcpy(b->from, count, sizeof b->from);
}

/* --- life --- */

/* With the folders above it. */
static bool make_dir(const char *dir)
{
    char path[FILE_PATH_MAX];
    snprintf(path, sizeof path, "%s", dir);
    for (char *p = path + 1; *p; p++) {
        if (*p != '/') continue;
        *p = 0;
        (void)mkdir(path, 0700); /* what fails here fails below too */
        *p = '/';
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

enum err usage_open(struct usage_book **out, struct hub *hub, const char *dir, unsigned tag,
                    uint64_t now_s, struct why *why)
{
    char path[FILE_PATH_MAX];
    *out = NULL;
    if (strlen(dir) >= FILE_PATH_MAX - 64)
        return fail(why, ERR_RANGE, "%.60s...: the folder's name is too long", dir);
    if (!make_dir(dir))
        return fail(why, ERR_IO, "%s: the folder for usage cannot be made: %s", dir,
                    strerror(errno));
    struct usage_book *b = calloc(1, sizeof *b);
    if (!b) return fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    b->hub = hub;
    b->tag = tag;
    b->day = now_s / DAY_S;
    b->minute = now_s / MINUTE_S;
    snprintf(b->dir, sizeof b->dir, "%s", dir);
    enum err e = page_path(b, path, why);
    if (e) {
        free(b);
        return e;
    }
    read_page(b);
    *out = b;
    return ERR_OK;
}

void usage_close(struct usage_book *b, const uint64_t count[USAGE_KINDS], uint64_t now_s)
{
    struct page page;
    struct why why;
    if (!b) return;
    end_minute(b, count, now_s);
    write_page(b, count, &page);
    complain(b, save_page(&page, &why), why.text);
    if (b->saving) b->saving->b = NULL;
    free(b);
}
