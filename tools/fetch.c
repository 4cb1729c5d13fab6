#include "tools/fetch.h"

#include "base/log.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    CONNECT_S = 20,
    STALL_S = 30, /* without STALL_BYTES a second for so long a connection is given up */
    STALL_BYTES = 64,
    WAIT_MAX_S = 30,
    REDIRECTIONS = 5,
};

struct fetch {
    struct folder_source source; /* first */
    CURL *curl;                  /* owned; keeps its connection between requests */
    const char *base;            /* borrowed */
    uint32_t retries;
    bool has_said; /* that it waits for a server; once is enough */
};

/* One range on its way to a sink. */
struct transfer {
    CURL *curl;
    const char *url;                 /* borrowed */
    uint64_t at;                     /* the next byte of the file that the sink gets */
    uint64_t left;                   /* bytes that it still wants */
    uint64_t skip;                   /* to be dropped first: the server sent from the beginning */
    bool whole;                      /* all there is, at most `left` bytes; not a range */
    bool started, too_long, lasting; /* lasting: what went wrong would go wrong again */
    folder_sink sink;
    void *arg;
    enum err err; /* of the sink */
    struct why *why;
};

bool fetch_is_url(const char *text)
{
    return strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0;
}

static struct fetch *fetch_of(struct folder_source *s)
{
    return (struct fetch *)s;
}

/* --- what arrives --- */

/* Before the first byte: does the server send what was asked for, or all of it? */
static void start(struct transfer *t)
{
    long status = 0;

    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    t->started = true;
    t->skip = t->whole || status == 206 ? 0 : t->at;
}

static size_t on_bytes(char *p, size_t size, size_t count, void *arg)
{
    struct transfer *t = arg;
    size_t got = size * count;
    struct slice bytes = slice_of(p, got);

    if (!t->started) start(t);
    size_t drop = bytes.n < t->skip ? bytes.n : (size_t)t->skip;
    t->skip -= drop;
    bytes = slice_of(bytes.p + drop, bytes.n - drop);
    if (bytes.n > t->left) {
        t->too_long = true;
        if (t->whole) return 0;
        bytes.n = (size_t)t->left;
    }
    if (bytes.n == 0) return t->too_long ? 0 : got;
    t->err = t->sink(t->arg, bytes);
    t->at += bytes.n;
    t->left -= bytes.n;
    return t->err || t->too_long ? 0 : got; /* 0 ends the transfer */
}

/* --- one request --- */

static bool will_pass(CURLcode code, long status)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM: return true;
    case CURLE_HTTP_RETURNED_ERROR: return status >= 500 || status == 429 || status == 408;
    default: return false;
    }
}

/* ERR_OK: all of it arrived.  t->lasting: to ask again would not help. */
static enum err request(struct transfer *t)
{
    char range[64], error[CURL_ERROR_SIZE] = "";
    long status = 0;

    t->started = t->too_long = t->lasting = false;
    snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)t->at,
             (unsigned long long)(t->at + t->left - 1));
    curl_easy_setopt(t->curl, CURLOPT_URL, t->url);
    curl_easy_setopt(t->curl, CURLOPT_RANGE, t->whole ? NULL : range);
    curl_easy_setopt(t->curl, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(t->curl, CURLOPT_ERRORBUFFER, error);
    CURLcode code = curl_easy_perform(t->curl);
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_setopt(t->curl, CURLOPT_ERRORBUFFER, NULL);

    if (t->err) {
        t->lasting = true;
        return t->err;
    }
    if (!t->whole && t->left == 0) return ERR_OK;
    t->lasting = !will_pass(code, status);
    if (t->whole && t->too_long)
        return fail(t->why, ERR_RANGE, "%s is longer than anything by that name", t->url);
    if (code == CURLE_HTTP_RETURNED_ERROR && (status == 404 || status == 410))
        return fail(t->why, ERR_NOTFOUND, "%s: the server has no such file (%ld)", t->url, status);
    if (code == CURLE_HTTP_RETURNED_ERROR && status == 416)
        return fail(t->why, ERR_MALFORMED, "%s is cut short: nothing at byte %llu", t->url,
                    (unsigned long long)t->at);
    if (code == CURLE_HTTP_RETURNED_ERROR)
        return fail(t->why, ERR_IO, "%s: the server says %ld", t->url, status);
    if (code)
        return fail(t->why, ERR_IO, "%s: %s", t->url, error[0] ? error : curl_easy_strerror(code));
    if (t->whole) return ERR_OK;
    t->lasting = true;
    return fail(t->why, ERR_MALFORMED, "%s is cut short: it ends at byte %llu", t->url,
                (unsigned long long)t->at);
}

static void wait_s(struct fetch *f, uint32_t seconds, const struct why *why)
{
    if (!f->has_said)
        log_warn("%s; asking again for a while (--retries %u)", why->text, (unsigned)f->retries);
    f->has_said = true;
    nanosleep(&(struct timespec){ .tv_sec = seconds }, NULL);
}

/* Ask until all has arrived; each byte that does gives new patience. */
static enum err ask(struct fetch *f, struct transfer *t)
{
    uint32_t tries = 0, pause = 1;
    uint64_t before = t->left;

    for (;;) {
        enum err e = request(t);
        if (!e || t->lasting) return e;
        if (t->left < before) {
            tries = 0;
            pause = 1;
            before = t->left;
        }
        if (tries++ == f->retries) return e;
        wait_s(f, pause, t->why);
        pause = 2 * pause < WAIT_MAX_S ? 2 * pause : WAIT_MAX_S;
    }
}

/* --- the source --- */

static enum err file_url(char out[FILE_PATH_MAX], const struct fetch *f, const char *file,
                         struct why *why)
{
    size_t n = strlen(f->base);
    const char *slash = n && f->base[n - 1] == '/' ? "" : "/";
    int len = snprintf(out, FILE_PATH_MAX, "%s%s%s", f->base, slash, file);

    return len > 0 && len < FILE_PATH_MAX ? ERR_OK : fail(why, ERR_RANGE, "the URL is too long");
}

static enum err fetch_read(struct folder_source *s, const char *file, uint64_t at, uint64_t n,
                           folder_sink sink, void *arg, struct why *why)
{
    struct fetch *f = fetch_of(s);
    char url[FILE_PATH_MAX];
    enum err e = file_url(url, f, file, why);

    if (e || n == 0) return e;
    struct transfer t = {
        .curl = f->curl, .url = url, .at = at, .left = n, .sink = sink, .arg = arg, .why = why
    };
    return ask(f, &t);
}

struct small {
    uint8_t *p;
    size_t n;
};

static enum err keep(void *arg, struct slice bytes)
{
    struct small *s = arg;
    memcpy(s->p + s->n, bytes.p, bytes.n); /* on_bytes gives no more than there is room for */
    s->n += bytes.n;
    return ERR_OK;
}

static enum err fetch_read_small(struct folder_source *source, const char *file, size_t max,
                                 uint8_t **out, size_t *n, struct why *why)
{
    struct fetch *f = fetch_of(source);
    struct small s = { malloc(max + 1), 0 };
    char url[FILE_PATH_MAX];
    enum err e = s.p ? file_url(url, f, file, why) : fail(why, ERR_NOMEM, "out of memory");
    uint32_t tries = 0;

    while (!e) { /* a small file is asked for whole each time */
        struct transfer t = { .curl = f->curl,
                              .url = url,
                              .left = max,
                              .whole = true,
                              .sink = keep,
                              .arg = &s,
                              .why = why };
        s.n = 0;
        e = request(&t);
        if (!e || t.lasting || tries++ == f->retries) break;
        wait_s(f, tries < WAIT_MAX_S ? tries : WAIT_MAX_S, why);
        e = ERR_OK;
    }
    if (e) {
        free(s.p);
        return e;
    }
    s.p[s.n] = 0;
    *out = s.p;
    *n = s.n;
    return ERR_OK;
}

/* --- life --- */

static void only_http(CURL *c)
{
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(c, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
    curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
}

static void only_https(CURL *c)
{
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, "https");
#else
    curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS, (long)CURLPROTO_HTTPS);
#endif
}

static void set_up(struct fetch *f)
{
    CURL *c = f->curl;

    only_http(c);
    if (strncmp(f->base, "https:", 6) == 0) only_https(c);
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(c, CURLOPT_MAXREDIRS, (long)REDIRECTIONS);
    curl_easy_setopt(c, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)STALL_S);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 1L);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "swarm-store/" SWARM_VERSION);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_bytes);
}

enum err fetch_open(struct fetch **out, const char *url, uint32_t retries, struct why *why)
{
    if (strpbrk(url, "?# "))
        return fail(why, ERR_USAGE, "%s: the URL of a folder has no '?', '#' or space", url);
    if (curl_global_init(CURL_GLOBAL_DEFAULT))
        return fail(why, ERR_UNSUPPORTED, "libcurl does not start");
    struct fetch *f = calloc(1, sizeof *f);
    if (!f) return fail(why, ERR_NOMEM, "out of memory");
    f->source = (struct folder_source){ fetch_read, fetch_read_small };
    f->base = url;
    f->retries = retries;
    if (!(f->curl = curl_easy_init())) {
        free(f);
        return fail(why, ERR_NOMEM, "out of memory");
    }
    set_up(f);
    *out = f;
    return ERR_OK;
}

void fetch_close(struct fetch *f)
{
    if (!f) return;
    curl_easy_cleanup(f->curl);
    curl_global_cleanup();
    free(f);
}

struct folder_source *fetch_source(struct fetch *f)
{
    return &f->source;
}
