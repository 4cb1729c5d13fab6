#include "proto/neighbour.h"

#include <string.h>

/* --- hours --- */

/* "7:05" or "07:05", up to 24:00; NULL: it is not. */
static const char *take_time(uint16_t *out, const char *p)
{
    unsigned h = 0, m = 0, n = 0;
    for (; n < 2 && *p >= '0' && *p <= '9'; n++) h = h * 10 + (unsigned)(*p++ - '0');
    if (n == 0 || *p++ != ':') return NULL;
    for (n = 0; n < 2 && *p >= '0' && *p <= '9'; n++) m = m * 10 + (unsigned)(*p++ - '0');
    if (n != 2 || m > 59 || h * 60 + m > DAY_MINUTES) return NULL;
    *out = (uint16_t)(h * 60 + m);
    return p;
}

enum err hours_parse(struct hours *out, const char *text, struct why *why)
{
    struct hours h;
    const char *p = take_time(&h.from, text);
    p = p && *p == '-' ? take_time(&h.to, p + 1) : NULL;
    if (!p || *p) return fail(why, ERR_USAGE, "%s: hours are written as 22:00-07:00", text);
    h.from %= DAY_MINUTES;
    h.to %= DAY_MINUTES;
    *out = h;
    return ERR_OK;
}

static bool is_within(const struct hours *h, unsigned minute)
{
    if (h->from == h->to) return true;
    if (h->from < h->to) return minute >= h->from && minute < h->to;
    return minute >= h->from || minute < h->to;
}

static bool is_working_time(const struct neighbour_rules *r, unsigned minute)
{
    for (unsigned i = 0; i < r->n_hours; i++)
        if (is_within(&r->hours[i], minute)) return true;
    return r->n_hours == 0;
}

/* --- reasons --- */

enum {
    EASE_CELSIUS = 8,     /* so much below the limit half the threads are enough, and it is well */
    WAIT_PERCENT = 20,    /* of the time waiting for memory: the PC is short of it */
    MEMORY_SHARE = 20,    /* the part of all memory that is to stay available */
    PLENTY = 3,           /* times that part: who waits there waits for weights from the disk */
    PERCENT_OF_WELL = 70, /* of busy_percent: it ends below that */
    EASE_MS = 30000,      /* after the last reason for it */
};

/* hold_s: how long it must last; a moment's load, a hot second, is none. */
static const struct {
    const char *word, *text;
    unsigned hold_s;
} reasons[PAUSE_REASONS] = {
    [PAUSE_BY_HAND] = { "", "by hand", 0 },
    [PAUSE_HOURS] = { "", "until its hours begin", 0 },
    [PAUSE_BATTERY] = { "battery", "on battery", 0 },
    [PAUSE_HOT] = { "hot", "the processor is hot", 4 },
    [PAUSE_MEMORY] = { "memory", "the PC is short of memory", 4 },
    [PAUSE_BUSY] = { "busy", "its owner needs the PC", 10 },
    [PAUSE_PRESENT] = { "present", "its owner is at the PC", 0 },
    [PAUSE_LOAD] = { "load", "other programs need the processor", 10 },
};

enum pause_reason pause_reason_of(const char *word)
{
    for (int i = PAUSE_BATTERY; i < PAUSE_REASONS; i++)
        if (strcmp(word, reasons[i].word) == 0) return (enum pause_reason)i;
    return PAUSE_NONE;
}

const char *pause_text(enum pause_reason r)
{
    return reasons[r].text ? reasons[r].text : "";
}

static bool is_short(const struct neighbour_rules *r, const struct sensed *s, bool was)
{
    uint64_t least = r->memory_bytes ? r->memory_bytes : s->all / MEMORY_SHARE;
    bool may_wait = s->all > 0 && s->available >= least * PLENTY;
    if (was) least += least / 2;
    if (s->all > 0 && s->available < least) return true;
    return s->memory_wait_percent >= WAIT_PERCENT && !may_wait;
}

static bool is_loaded(const struct neighbour_rules *r, const struct sensed *s, bool was)
{
    uint32_t most = was ? r->busy_percent * PERCENT_OF_WELL / 100 : r->busy_percent;
    return s->others_percent >= 0 && (uint32_t)s->others_percent > most;
}

static bool is_hot(const struct neighbour_rules *r, const struct sensed *s, int below)
{
    return s->celsius != SENSED_UNKNOWN && s->celsius + below >= (int)r->hot_c;
}

/* was: it is wrong already, and ends only well away from the limit. */
static bool is_wrong(enum pause_reason why, const struct neighbour_rules *r, const struct sensed *s,
                     bool was)
{
    switch (why) {
    case PAUSE_BATTERY:
        return s->on_battery && (s->battery_percent == SENSED_UNKNOWN ||
                                 s->battery_percent <= (int)r->battery_percent);
    case PAUSE_HOT: return is_hot(r, s, was ? EASE_CELSIUS : 0);
    case PAUSE_MEMORY: return is_short(r, s, was);
    case PAUSE_BUSY: return s->is_present && is_loaded(r, s, was);
    case PAUSE_PRESENT: return s->is_present;
    case PAUSE_LOAD: return is_loaded(r, s, was);
    default: return false;
    }
}

/* --- the step --- */

/* The first reason that has held for its time. */
static enum pause_reason find_reason(struct neighbour *n, const struct neighbour_rules *r,
                                     const struct sensed *s, uint64_t now_ms)
{
    enum pause_reason first = PAUSE_NONE;
    bool wrong[PAUSE_REASONS] = {
        [PAUSE_BY_HAND] = n->by_hand, [PAUSE_HOURS] = !is_working_time(r, s->minute)
    };
    for (int i = PAUSE_BATTERY; i < PAUSE_REASONS; i++) {
        bool was = n->mode == NEIGHBOUR_PAUSE && n->bad_ms[i];
        wrong[i] = r->on[i] && is_wrong((enum pause_reason)i, r, s, was);
    }
    for (int i = PAUSE_BY_HAND; i < PAUSE_REASONS; i++) {
        if (!wrong[i])
            n->bad_ms[i] = 0;
        else if (!n->bad_ms[i])
            n->bad_ms[i] = now_ms + 1;
        bool holds = wrong[i] && now_ms + 1 - n->bad_ms[i] >= reasons[i].hold_s * UINT64_C(1000);
        if (holds && !first) first = (enum pause_reason)i;
    }
    return first;
}

/* Nothing holds a paused node any more; does it go on? */
static bool may_resume(const struct neighbour *n, const struct neighbour_rules *r, uint64_t now_ms)
{
    return !n->was_felt || now_ms - n->well_ms >= r->resume_s * UINT64_C(1000);
}

static bool wants_ease(const struct neighbour_rules *r, const struct sensed *s)
{
    return (r->on[PAUSE_BUSY] && s->is_present) ||
           (r->on[PAUSE_HOT] && (s->is_throttled || is_hot(r, s, EASE_CELSIUS)));
}

bool neighbour_step(struct neighbour *n, const struct neighbour_rules *r, const struct sensed *s,
                    uint64_t now_ms)
{
    enum pause_reason why = find_reason(n, r, s, now_ms);
    struct neighbour was = *n;

    if (why) {
        n->mode = NEIGHBOUR_PAUSE;
        n->reason = why;
        n->well_ms = now_ms;
        n->was_felt = why >= PAUSE_BATTERY;
    } else if (n->mode != NEIGHBOUR_PAUSE || may_resume(n, r, now_ms)) {
        bool is_wanted = wants_ease(r, s);
        if (is_wanted) n->eased_ms = now_ms;
        bool stays = n->mode == NEIGHBOUR_EASE && now_ms - n->eased_ms < EASE_MS;
        n->mode = is_wanted || stays ? NEIGHBOUR_EASE : NEIGHBOUR_RUN;
        n->reason = PAUSE_NONE;
    }
    if (n->mode == was.mode && n->reason == was.reason) return false;
    n->since_ms = now_ms;
    return true;
}
