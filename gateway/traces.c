#include "gateway/traces.h"

#include "base/log.h"
#include "store/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { BUSY_MAX = 4 }; /* the disk is slow: others are not kept */

struct keeping {
    uv_work_t work;
    struct traces *t;
    struct text events; /* owned */
    char path[FILE_PATH_MAX];
    enum err err;
    struct why why;
};

enum err traces_check(const char *dir, struct why *why)
{
    char path[FILE_PATH_MAX];
    struct stat st;
    if (stat(dir, &st) || !S_ISDIR(st.st_mode))
        return fail(why, ERR_IO, "--traces %s: there is no such folder", dir);
    return file_path(path, dir, "trace-00.json", why);
}

void traces_add(struct text *all, struct slice events)
{
    enum { MOST = TRACES_EVENTS_MAX * TRACE_BYTES };
    const struct trace_event cut = { .kind = TRACE_CUT };
    uint8_t bytes[TRACE_BYTES];
    if (all->n > MOST) return;
    text_add(all, events.p, all->n + events.n <= MOST ? events.n : 0);
    if (all->n + events.n <= MOST) return;
    trace_encode(bytes, &cut);
    while (all->n <= MOST && !all->failed) text_add(all, bytes, sizeof bytes);
}

static void work(uv_work_t *w)
{
    struct keeping *k = w->data;
    struct text json = { 0 };
    struct file_out f;
    k->err = trace_write(&json, slice_of(k->events.p, k->events.n), "swarm-gateway " SWARM_VERSION);
    if (k->err) {
        fail(&k->why, k->err, "what the coordinator told of an answer cannot be drawn");
    } else if (!(k->err = file_create_private(&f, k->path, &k->why))) {
        file_put(&f, json.p, json.n);
        k->err = file_finish(&f, ERR_OK, &k->why);
    }
    free(json.p);
}

static void after_work(uv_work_t *w, int status)
{
    struct keeping *k = w->data;
    (void)status;
    if (k->err) log_warn("a trace is not kept: %s", k->why.text);
    k->t->busy--;
    free(k->events.p);
    free(k);
}

void traces_keep(struct traces *t, struct hub *hub, struct text *all)
{
    char name[32];
    struct keeping *k = t->dir && all->n > 0 && t->busy < BUSY_MAX ? calloc(1, sizeof *k) : NULL;
    if (!k) return;
    *k = (struct keeping){ .work.data = k, .t = t, .events = *all }; /* all that the thread reads */
    snprintf(name, sizeof name, "trace-%02u.json", t->n % TRACES_KEPT);
    if (file_path(k->path, t->dir, name, &k->why) ||
        uv_queue_work(&hub->loop, &k->work, work, after_work)) {
        free(k);
        return;
    }
    *all = (struct text){ 0 };
    t->n++;
    t->busy++;
}
