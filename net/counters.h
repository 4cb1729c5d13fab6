/* counters.h - what this node gave and took: now, since its start, and in all its lives.
 *
 * A list of numbers that only grow.  Whoever does the work adds to them, on the loop.  Each second
 * a sample is taken, so that rates are means over the last ten seconds.  The sums live on in a
 * small file (0600) of the store's folder, one per identity, written every minute off the loop and
 * at the end; a kill costs a minute of counting.  A file that does not parse is put aside with a
 * warning. */
#ifndef NET_COUNTERS_H
#define NET_COUNTERS_H

#include "base/prom.h"
#include "net/net.h"

/*    name         key in file and status   meaning */
/* clang-format off */
#define COUNTER_LIST(C)                                                                            \
    C(ANSWERS,    "answers",     "answers to questions")                                           \
    C(TOKENS,     "tokens",      "tokens of answers")                                              \
    C(ROWS_OWN,   "rows_own",    "rows computed for questions asked here, times layers")           \
    C(ROWS_GIVEN, "rows_given",  "rows computed for others, times layers")                         \
    C(ROWS_TAKEN, "rows_taken",  "rows that others computed for us, times layers")                 \
    C(PIECES_GIVEN, "pieces_given", "rows through parts of layers computed for who leads them")     \
    C(PIECES_TAKEN, "pieces_taken", "rows through parts of layers that members computed for us")    \
    C(BYTES_IN,   "bytes_in",    "bytes received")                                                 \
    C(BYTES_OUT,  "bytes_out",   "bytes sent")                                                     \
    C(WEIGHTS_GIVEN, "weights_given", "bytes of weights given to others")                          \
    C(WEIGHTS_TAKEN, "weights_taken", "bytes of weights taken from others")                        \
    C(FAILED,     "failed",      "questions that failed")                                          \
    C(PROMPT,     "prompt",      "tokens of prompts")                                              \
    C(KNOWN,      "known",       "of them known from earlier questions")                           \
    C(GUESSED,    "guessed",     "tokens of answers guessed ahead")                                \
    C(RIGHT,      "right",       "of them right")                                                  \
    C(HEALS,      "heals",       "stages of answers that were lost and replaced")                  \
    C(HEAL_ROWS,  "heal_rows",   "rows sent again for that")                                       \
    C(ROUNDS,     "rounds",      "answers of members to what they were asked of shared layers")
/* clang-format on */

enum counter {
#define C(name, key, meaning) COUNT_##name,
    COUNTER_LIST(C)
#undef C
        COUNTERS
};
const char *counter_key(enum counter c);

/* How long things take, since the start; each a histogram. */
enum timing {
    TIME_DECODE,       /* a step with a token's rows through a stage's layers */
    TIME_PREFILL,      /* a step with rows of a prompt */
    TIME_DECODE_WAIT,  /* for the processor, before it */
    TIME_PREFILL_WAIT, /* likewise */
    TIME_FIRST,        /* from a question to its answer's first token */
    TIME_TOKEN,        /* a token of an answer, on average */
    TIME_HEAL,         /* from a loss until the answer goes on */
    TIMINGS,
};

enum { COUNTERS_SPAN_S = 10 };

struct counters {
    uint64_t now[COUNTERS];    /* since the start */
    uint64_t before[COUNTERS]; /* in earlier lives */
    uint64_t since;            /* unix seconds of the first life's start */
    struct histogram time[TIMINGS];
    /* the rest is counters.c's */
    struct hub *hub;
    const struct net *net; /* borrowed until counters_stop */
    char path[512];
    uv_timer_t timer;
    uint64_t sample[COUNTERS_SPAN_S + 1][COUNTERS];
    uint32_t n_samples; /* taken since the start */
    struct counters_save *saving;
    bool is_timing, has_complained;
};

/* Count from now on, on top of what the file in dir says for id.  The struct is the caller's, zero.
 * Never fails: a file that cannot be used is a warning. */
void counters_open(struct counters *c, struct hub *hub, const struct net *net, const char *dir,
                   const struct node_id *id);
/* No sample any more; before the net and the loop end. */
void counters_stop(struct counters *c);
/* After the loop: write the file once more. */
void counters_close(struct counters *c);

/* c may be NULL: nobody counts. */
static inline void counters_add(struct counters *c, enum counter k, uint64_t n)
{
    if (c) c->now[k] += n;
}

static inline void counters_time(struct counters *c, enum timing k, double us, uint64_t times)
{
    if (c) histogram_add(&c->time[k], us / 1e6, times);
}

/* Fetch what others count (bytes); done by itself once a second. */
void counters_refresh(struct counters *c);

/* A second, over the last COUNTERS_SPAN_S seconds (less after the start). */
double counters_rate(const struct counters *c, enum counter k);

/* The file's text, and back: ERR_MALFORMED for anything that counters_text does not write. */
enum { COUNTERS_TEXT = 2048 };
void counters_text(char out[COUNTERS_TEXT], const struct counters *c);
MUST_CHECK enum err counters_parse(struct counters *c, const char *text);

#endif
