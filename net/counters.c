#include "net/counters.h"

#include "base/log.h"
#include "store/file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { TICK_MS = 1000, SAVE_TICKS = 60, NAME_ID = 20 };

static const char *const keys[COUNTERS] = {
#define C(name, key, meaning) [COUNT_##name] = key,
    COUNTER_LIST(C)
#undef C
};

const char *counter_key(enum counter c)
{
    return keys[c];
}

/* --- the file --- */

void counters_text(char out[COUNTERS_TEXT], const struct counters *c)
{
    int n = snprintf(out, COUNTERS_TEXT, "since %" PRIu64 "\n", c->since);
    for (unsigned k = 0; k < COUNTERS; k++)
        n += snprintf(out + n, (size_t)(COUNTERS_TEXT - n), "%s %" PRIu64 "\n", keys[k],
                      c->before[k] + c->now[k]);
}

/* The number after "key " at *at, which moves past its line. */
static bool take_number(const char **at, const char *key, uint64_t *out)
{
    size_t n = strlen(key);
    char *end;
    const char *digits = *at + n + 1;

    if (strncmp(*at, key, n) != 0 || (*at)[n] != ' ' || *digits < '0' || *digits > '9')
        return false;
    *out = strtoull(digits, &end, 10);
    if (*end != '\n' || *out > UINT64_MAX / 2) return false;
    *at = end + 1;
    return true;
}

/* A counter that an older file does not have starts at 0. */
enum err counters_parse(struct counters *c, const char *text)
{
    uint64_t since, before[COUNTERS] = { 0 };

    if (!take_number(&text, "since", &since)) return ERR_MALFORMED;
    for (unsigned k = 0; k < COUNTERS; k++) (void)take_number(&text, keys[k], &before[k]);
    if (*text) return ERR_MALFORMED;
    c->since = since;
    memcpy(c->before, before, sizeof before);
    return ERR_OK;
}

static void read_file(struct counters *c)
{
    struct why why;
    uint8_t *bytes;
    size_t n;
    enum err e = file_read(c->path, COUNTERS_TEXT, &bytes, &n, &why);

    if (e == ERR_NOTFOUND) return;
    if (!e && (strlen((char *)bytes) != n || counters_parse(c, (char *)bytes))) {
        char aside[sizeof c->path + 8];
        snprintf(aside, sizeof aside, "%s.bad", c->path);
        e = fail(&why, ERR_MALFORMED, "%s cannot be read; it is put aside as %s", c->path, aside);
        (void)rename(c->path, aside);
        free(bytes);
    } else if (!e) {
        free(bytes);
    }
    if (e) log_warn("what this node gave and took is counted from zero: %s", why.text);
}

struct counters_save {
    uv_work_t work;
    struct counters *c; /* NULL: gone */
    char path[512], text[COUNTERS_TEXT];
    enum err err;
    struct why why;
};

static void write_file(struct counters_save *s)
{
    struct file_out f;
    s->err = file_create_private(&f, s->path, &s->why);
    if (s->err) return;
    file_put(&f, s->text, strlen(s->text));
    s->err = file_finish(&f, ERR_OK, &s->why);
}

static void fill(struct counters_save *s, struct counters *c)
{
    s->c = c;
    memcpy(s->path, c->path, sizeof s->path);
    counters_text(s->text, c);
}

static void complain(struct counters *c, const struct counters_save *s)
{
    if (s->err && !c->has_complained)
        log_warn("what this node gave and took is not kept: %s", s->why.text);
    c->has_complained = s->err != ERR_OK;
}

static void on_work(uv_work_t *w)
{
    write_file(w->data);
}

static void on_saved(uv_work_t *w, int status)
{
    struct counters_save *s = w->data;
    (void)status;
    if (s->c) {
        s->c->saving = NULL;
        complain(s->c, s);
    }
    free(s);
}

static void save(struct counters *c)
{
    if (c->saving) return; /* the disk is slow */
    struct counters_save *s = calloc(1, sizeof *s);
    if (!s) return;
    fill(s, c);
    s->work.data = s;
    if (uv_queue_work(&c->hub->loop, &s->work, on_work, on_saved))
        free(s);
    else
        c->saving = s;
}

/* --- the clock --- */

void counters_refresh(struct counters *c)
{
    struct traffic t = net_traffic(c->net, NULL);
    c->now[COUNT_BYTES_IN] = t.in;
    c->now[COUNT_BYTES_OUT] = t.out;
}

static void on_tick(uv_timer_t *t)
{
    struct counters *c = t->data;
    counters_refresh(c);
    c->n_samples++;
    memcpy(c->sample[c->n_samples % (COUNTERS_SPAN_S + 1)], c->now, sizeof c->now);
    if (c->n_samples % SAVE_TICKS == 0) save(c);
}

double counters_rate(const struct counters *c, enum counter k)
{
    enum { RING = COUNTERS_SPAN_S + 1 };
    uint32_t span = c->n_samples < COUNTERS_SPAN_S ? c->n_samples : COUNTERS_SPAN_S;
    if (span == 0) return 0;
    uint64_t last = c->sample[c->n_samples % RING][k];
    uint64_t first = c->sample[(c->n_samples - span) % RING][k]; /* the zeroth is all zero */
    return (double)(last - first) / span;
}

/* --- life --- */

void counters_open(struct counters *c, struct hub *hub, const struct net *net, const char *dir,
                   const struct node_id *id)
{
    char name[NODE_ID_TEXT];
    node_id_text(name, id);
    c->hub = hub;
    c->net = net;
    c->since = unix_now();
    snprintf(c->path, sizeof c->path, "%s/counters-%.*s", dir, NAME_ID, name);
    read_file(c);
    uv_timer_init(&hub->loop, &c->timer);
    c->timer.data = c;
    uv_timer_start(&c->timer, on_tick, TICK_MS, TICK_MS);
    c->is_timing = true;
}

void counters_stop(struct counters *c)
{
    if (!c->is_timing) return;
    c->is_timing = false;
    counters_refresh(c);
    uv_close((uv_handle_t *)&c->timer, NULL);
}

void counters_close(struct counters *c)
{
    struct counters_save last = { 0 };
    if (!c->path[0]) return;
    fill(&last, c);
    write_file(&last);
    complain(c, &last);
}
