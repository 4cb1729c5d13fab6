#include "node/pause.h"

#include "net/net.h"
#include "node/sensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

struct pause {
    struct pause_config c;
    uv_timer_t timer;
    uv_work_t look;
    /* touched by the pool's thread while is_looking */
    struct sensors sensors;
    struct sensed looked;
    /* the loop's */
    struct sensed sensed; /* the last that was looked at */
    struct neighbour neighbour;
    uint64_t since_s; /* unix time of the mode and its reason */
    bool is_looking, is_closing, is_timer_closed;
};

/* --- looking --- */

static uint64_t own_us(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u)) return 0;
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static bool judge(struct pause *p)
{
    if (!neighbour_step(&p->neighbour, p->c.rules, &p->sensed, now_ms(p->c.hub))) return false;
    p->since_s = unix_now();
    return true;
}

static void look(uv_work_t *w)
{
    struct pause *p = w->data;
    sensors_read(&p->sensors, own_us(), unix_now(), &p->looked);
}

static void free_when_done(struct pause *p)
{
    if (p->is_timer_closed && !p->is_looking) free(p);
}

static void on_looked(uv_work_t *w, int status)
{
    struct pause *p = w->data;
    p->is_looking = false;
    if (p->is_closing) {
        free_when_done(p);
        return;
    }
    p->sensed = p->looked;
    if (!status && judge(p)) p->c.on_change(p->c.arg);
}

static void on_timer(uv_timer_t *t)
{
    struct pause *p = t->data;
    if (p->is_looking) return; /* a sensor takes its time */
    p->is_looking = uv_queue_work(&p->c.hub->loop, &p->look, look, on_looked) == 0;
}

/* --- the calls --- */

void pause_by_hand(struct pause *p, bool is_paused)
{
    p->neighbour.by_hand = is_paused;
    if (judge(p)) p->c.on_change(p->c.arg);
}

enum neighbour_mode pause_mode(const struct pause *p)
{
    return p->neighbour.mode;
}

void pause_describe(const struct pause *p, char out[PAUSE_TEXT])
{
    char at[32] = "";
    time_t t = (time_t)p->since_s;
    struct tm tm;
    out[0] = 0;
    if (p->neighbour.mode != NEIGHBOUR_PAUSE) return;
    if (localtime_r(&t, &tm)) (void)strftime(at, sizeof at, " since %H:%M", &tm);
    snprintf(out, PAUSE_TEXT, "paused: %s%s", pause_text(p->neighbour.reason), at);
}

/* --- life --- */

enum err pause_open(struct pause **out, const struct pause_config *c, struct why *why)
{
    struct pause *p = calloc(1, sizeof *p);
    if (!p) return fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    p->c = *c;
    enum err e = sensors_init(&p->sensors, c->sensors, why);
    if (e) {
        free(p);
        return e;
    }
    if (uv_timer_init(&c->hub->loop, &p->timer)) abort(); /* it cannot fail */
    p->timer.data = p->look.data = p;
    look(&p->look);
    p->sensed = p->looked;
    (void)judge(p);
    uv_timer_start(&p->timer, on_timer, PAUSE_LOOK_MS, PAUSE_LOOK_MS);
    *out = p;
    return ERR_OK;
}

static void on_timer_closed(uv_handle_t *h)
{
    struct pause *p = h->data;
    p->is_timer_closed = true;
    free_when_done(p);
}

void pause_close(struct pause *p)
{
    if (!p) return;
    p->is_closing = true;
    uv_close((uv_handle_t *)&p->timer, on_timer_closed);
}
