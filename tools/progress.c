#include "tools/progress.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    BAR = 24, /* characters */
    REDRAW_MS = 100,
    LINE_MS = 5000,
};

static uint64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void size_text(char out[SIZE_TEXT], uint64_t bytes)
{
    static const char *const UNITS[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    double v = (double)bytes;
    int u = 0;

    while (v >= 1024 && u < 4) {
        v /= 1024;
        u++;
    }
    snprintf(out, SIZE_TEXT, u && v < 100 ? "%.1f %s" : "%.0f %s", v, UNITS[u]);
}

void time_text(char out[SIZE_TEXT], double seconds)
{
    unsigned long s = (unsigned long)(seconds + 0.5);

    if (seconds < 0.9995)
        snprintf(out, SIZE_TEXT, "%.0f ms", seconds * 1000);
    else if (seconds < 59.95)
        snprintf(out, SIZE_TEXT, "%.1f s", seconds);
    else if (s < 3600)
        snprintf(out, SIZE_TEXT, "%lu:%02lu", s / 60, s % 60);
    else
        snprintf(out, SIZE_TEXT, "%lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
}

void progress_start(struct progress *p, const char *label, bool quiet)
{
    *p = (struct progress){ .label = label, .quiet = quiet, .terminal = isatty(STDERR_FILENO) };
    p->start_ms = p->last_ms = clock_ms();
}

/* "812 MiB/s, 0:21 left" */
static void rate_text(char out[64], const struct progress *p, uint64_t done, uint64_t total)
{
    char rate[SIZE_TEXT], left[SIZE_TEXT];
    double seconds = (double)(p->last_ms - p->start_ms) / 1000;
    double per_second = seconds > 0 ? (double)done / seconds : 0;

    out[0] = 0;
    if (per_second < 1) return;
    size_text(rate, (uint64_t)per_second);
    time_text(left, (double)(total - done) / per_second);
    snprintf(out, 64, "%s/s, %s left", rate, left);
}

void progress_set(struct progress *p, uint64_t done, uint64_t total)
{
    char all[SIZE_TEXT], now[SIZE_TEXT], rate[64], bar[BAR + 1];
    uint64_t at = clock_ms();

    if (done > total) done = total;
    if (p->quiet || at - p->last_ms < (p->terminal ? REDRAW_MS : LINE_MS)) return;
    p->last_ms = at;
    unsigned percent = total ? (unsigned)(done / (total / 100 + 1)) : 100;
    if (total && done == total) percent = 100;
    size_text(now, done);
    size_text(all, total);
    rate_text(rate, p, done, total);
    if (log_is_json()) {
        log_info("%s: %u%%, %s of %s, %s", p->label, percent, now, all, rate);
        return;
    }
    if (!p->terminal) {
        fprintf(stderr, "%s: %u%%, %s of %s, %s\n", p->label, percent, now, all, rate);
        return;
    }
    unsigned full = percent * BAR / 100;
    memset(bar, '.', BAR);
    memset(bar, '#', full < BAR ? full : BAR);
    bar[BAR] = 0;
    fprintf(stderr, "\r%s [%s] %u%% %s of %s, %s\033[K", p->label, bar, percent, now, all, rate);
    fflush(stderr);
    p->drawn = true;
}

double progress_end(struct progress *p)
{
    if (p->drawn) fputs("\r\033[K", stderr);
    p->drawn = false;
    return (double)(clock_ms() - p->start_ms) / 1000;
}
