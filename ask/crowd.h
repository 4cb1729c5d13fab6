/* crowd.h - many askers in one process, for measuring and for tests.
 *
 * Each asks one question at his time, may cancel it, and notes when each piece of the answer came.
 * Times are microseconds since crowd_run began. */
#ifndef ASK_CROWD_H
#define ASK_CROWD_H

#include "base/json.h"
#include "proto/identity.h"

enum { CROWD_MAX = 128 };

struct crowd_mark {
    uint64_t us;
    uint32_t index; /* tokens made by then */
};

struct crowd_asker {
    /* what he asks; borrowed */
    uint32_t who;             /* askers of one number are one client, with one connection */
    const char *conversation; /* JSON, as in ASK */
    uint32_t tokens;
    uint64_t seed;
    double temperature;
    bool later;
    uint32_t begin_ms;
    uint32_t cancel_ms; /* after begin_ms; 0: he does not */

    /* what he got; the pointers are freed by crowd_free */
    struct text answer;
    struct crowd_mark *mark; /* [n_marks] */
    uint32_t n_marks, cap;
    uint32_t n_prompt, n_tokens;
    uint64_t begin_us, end_us;
    uint32_t first_place, place, n_places; /* in the queue: what he heard first, last, how often */
    bool has_fallen_back;                  /* a place was worse than the one before */
    bool is_done, is_cancelled;
    char failed[300]; /* in a sentence; empty: he was answered, or nothing came in time */
};

/* A conversation of one question; free it.  NULL: no memory. */
char *crowd_question(const char *text);

struct crowd_config {
    const struct link *link; /* whom they ask; borrowed, as the key, until crowd_run is back */
    const struct swarm_key *swarm;
    uint32_t limit_ms;
    void *arg;
    void (*on_tick)(void *arg, uint64_t now_us); /* every few milliseconds; NULL: nobody looks */
};

/* Run until all questions have ended, or limit_ms.  ERR_NOMEM. */
MUST_CHECK enum err crowd_run(const struct crowd_config *config, struct crowd_asker *a, uint32_t n,
                              struct why *why);
void crowd_free(struct crowd_asker *a, uint32_t n);

/* The usual (median) and the longest time of a token, microseconds, of those that came in [from,
 * to); false: fewer than two did. */
bool crowd_pace(const struct crowd_asker *a, uint64_t from_us, uint64_t to_us, double *usual,
                double *longest);

#endif
