/* depth.h - how many drafts are worth their time.
 *
 * A trip of the pipeline with k drafts gives 1 + a1 + a1 a2 + ... tokens, a_i the share of ith
 * drafts that were right when those before were; it takes what a trip without takes, and so much
 * more for each draft.  Both are learned from the trips themselves, apart for each source of drafts
 * (agreements of different lengths, the prediction layer); the k with most tokens a second is
 * taken.
 *
 * Never much slower than without: what trips with drafts gained or lost is added up, and while more
 * is lost than DEPTH_LOSS of the time there are no drafts.  Where they did not help for a while
 * they are tried again, more and more seldom; and now and then a trip goes without, so that its
 * time stays known.
 *
 * Pure: times are arguments, from the beginning of one trip's drafting to that of the next. */
#ifndef MODEL_DEPTH_H
#define MODEL_DEPTH_H

#include <stdbool.h>
#include <stdint.h>

enum {
    DRAFT_MAX = 15,    /* drafts of one trip */
    DEPTH_SOURCES = 6, /* agreements of 2, 3, 4-5, 6-9, more tokens; the prediction layer */
    DEPTH_PREDICT = 5,
    DEPTH_BINS = 4, /* ith drafts: 1st, 2nd, 3rd, all further ones */
};
static const double DEPTH_LOSS = 0.015;

struct depth {
    bool is_home;       /* set by the caller: a trip is no more than its computing */
    double plain_us;    /* a trip without drafts; 0: not known yet */
    uint32_t n_plain;   /* such trips, of those that counted */
    uint32_t n_drafted; /* trips with drafts since the last one without */
    double all_us;      /* time of all trips */
    double saved_us;    /* by drafts; below 0: lost */
    struct depth_source {
        double seen[DEPTH_BINS], right[DEPTH_BINS]; /* older ones fade */
        double draft_us;                            /* for one draft */
        uint32_t n_tried;                           /* trips */
        uint32_t most_tried;                        /* drafts in one of them */
        uint32_t rest;                              /* choices until it is tried again */
        uint32_t rests;                             /* how long that is the next time */
    } source[DEPTH_SOURCES];
};

/* {0} but for what is believed of the sources before anything is known. */
void depth_init(struct depth *d);
/* Which source an agreement of n tokens is. */
uint32_t depth_source_of(uint32_t agree);
/* A trip is over: with n drafts of this source (0: none) of which `right` were right. */
void depth_trip(struct depth *d, uint32_t source, uint32_t n, uint32_t right, double us);
/* How many drafts of at most `most`; 0: none.  *gain: by what factor tokens come faster then. */
uint32_t depth_choose(struct depth *d, uint32_t source, uint32_t most, double *gain);

#endif
