/* fair.h - who is next, when more want something than can have it at once.
 *
 * Start-time fair queueing: everybody has a clock that runs by the work that was done for him, and
 * of those who wait, the one whose clock is earliest is next.  Nobody's clock is earlier than the
 * one that was served last, so who stays away saves nothing up, and who comes anew takes nothing
 * from those who were there.  Between two who always want something the work differs by no more
 * than one piece of each.
 *
 * Who asks for users of his own has one share, which they share in the same way.
 *
 * A queue adds ranks: a lower one goes first, but one who waits becomes a rank better every
 * FAIR_RANK_MS, so nobody starves.
 *
 * Pure: times are arguments, nothing is allocated; places are their owners'.
 *
 * Source: P. Goyal, H. Vin, H. Cheng, Start-time Fair Queueing, SIGCOMM 1996. */
#ifndef PROTO_FAIR_H
#define PROTO_FAIR_H

#include <stdint.h>

enum {
    FAIR_SHARES = 256,    /* clocks that are remembered; of more the earliest is forgotten */
    FAIR_PLACES = 512,    /* in one queue */
    FAIR_RANK_MS = 10000, /* waiting, for a better rank */
};

/* --- shares --- */

struct fair_shares {
    uint64_t now; /* the clock of who was served last */
    uint32_t n;
    struct fair_share {
        uint64_t who, clock;
    } share[FAIR_SHARES]; /* only clocks that are later than now */
};

/* A name for the bytes of an id, for `who`. */
uint64_t fair_who(const uint8_t id[8]);

/* Who's clock. */
uint64_t fair_clock(const struct fair_shares *s, uint64_t who);
/* He, who was next, gets so much work. */
void fair_serve(struct fair_shares *s, uint64_t who, uint64_t work);
/* It was more than that (less: negative) after all. */
void fair_correct(struct fair_shares *s, uint64_t who, int64_t work);

/* --- a queue --- */

/* One who waits. */
struct fair_place {
    /* set by the owner before fair_join */
    uint64_t who;
    uint64_t user; /* of his own, who share what is his; 0: he has none */
    uint32_t rank; /* 0 first */
    uint64_t work; /* that he is thought to need */
    /* the queue's */
    struct fair_place *next;
    uint64_t since_ms, order; /* when he came first, and as which */
    uint32_t place;           /* of fair_order: 1 is next */
    uint64_t tag, user_tag;
};

struct fair_queue {
    struct fair_shares shares, users; /* by who, and by who and user */
    struct fair_place *first;         /* by order; borrowed until fair_leave */
    uint32_t n;
    uint64_t joined; /* so many so far */
};

/* To the end of the queue; n < FAIR_PLACES. */
void fair_join(struct fair_queue *q, struct fair_place *p, uint64_t now_ms);
void fair_leave(struct fair_queue *q, struct fair_place *p);
/* Who is next; NULL: nobody waits. */
struct fair_place *fair_next(const struct fair_queue *q, uint64_t now_ms);
/* p's turn: he leaves, and his clock runs. */
void fair_take(struct fair_queue *q, struct fair_place *p);
/* He could not be served and waits again, where he was. */
void fair_return(struct fair_queue *q, struct fair_place *p);
/* Whose turn it was needed so much more (less: negative) than p->work. */
void fair_settle(struct fair_queue *q, const struct fair_place *p, int64_t work);
/* Everybody's place, as it would be if nobody else came. */
void fair_order(struct fair_queue *q, uint64_t now_ms);

#endif
