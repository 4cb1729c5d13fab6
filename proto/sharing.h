/* sharing.h - does it pay that nodes of one home compute layers together, and what brings it? Pure.
 *
 * One node leads a layer; hands around it compute head groups and experts (or dense parts).  A hand
 * that is asked costs a round: its round trip, what sealing and waking cost at both ends, and the
 * bytes of what is asked and answered.  There are at most two rounds in a layer, one for its head
 * groups and one for its experts, and each lasts as long as its slowest hand:
 *
 *     layer = trunk + max over hands (head groups) + max over hands (experts; the leader's shared)
 *     hand  = 0 without work, else round trip + round + bytes asked / line
 *             + items * (time of one + bytes answered / line)
 *
 * Work is dealt so that this maximum is the least there is: exactly, since the items of a kind cost
 * a hand the same.  Experts that a token chooses are drawn by their use, SHARING_DRAWS times with a
 * fixed seed, and the mean is taken: experts that only one hand holds make a split uneven.
 *
 * Three ways are compared: alone; experts and dense parts only, one round, and no K and V lie
 * elsewhere; all, two rounds.  Another way than alone must bring SHARING_GAIN_PERCENT, and head
 * groups as much again, since a session ends with the member that has its K and V.  Who shares
 * already goes on until it brings nothing at all. */
#ifndef PROTO_SHARING_H
#define PROTO_SHARING_H

#include "proto/directory.h"

enum {
    SHARING_HANDS_MAX = 9,        /* the leader and 8 others */
    SHARING_RTT_US = 2000,        /* over it a node is too far */
    SHARING_KBIT_MIN = 300000,    /* under it its line is too slow */
    SHARING_KBIT_USUAL = 1000000, /* of a line that nobody has measured */
    SHARING_ROUND_US = 150,       /* until measured: sealing, waking and copying, both ends */
    SHARING_DRAWS = 64,
    SHARING_GAIN_PERCENT = 10,
    SHARING_TEXT = 160,
};

/* What a node is told: never; when it pays, by prediction; whenever there is somebody. */
enum sharing_how { SHARING_OFF, SHARING_AUTO, SHARING_ON };
/* From "off", "auto", "on"; false: none of them. */
bool sharing_how_parse(enum sharing_how *out, const char *text);
const char *sharing_how_text(enum sharing_how how);

struct sharing_set {
    uint64_t bit[PART_ITEMS_MAX / 64];
};
static inline bool sharing_has(const struct sharing_set *s, uint32_t i)
{
    return s->bit[i / 64] >> i % 64 & 1;
}
static inline void sharing_add(struct sharing_set *s, uint32_t lo, uint32_t hi)
{
    for (uint32_t i = lo; i < hi; i++) s->bit[i / 64] |= UINT64_C(1) << i % 64;
}

/* Hand 0 leads. */
struct sharing_hand {
    const struct sharing_set *heads, *items; /* that it holds of the layer; borrowed */
    double head_us, item_us;                 /* one of them, for one token */
    double rtt_us;                           /* from the leader; 0 for itself */
    double kbit;                             /* of the line to it; 0: SHARING_KBIT_USUAL */
};

/* A layer of which a token is to be computed. */
struct sharing_layer {
    uint32_t heads, items; /* at most PART_ITEMS_MAX each */
    uint32_t top_k;        /* items that a token reads: of experts some, of dense parts all */
    double trunk_us;       /* the leader's alone: norms, router */
    double shared_us;      /* the shared expert: the leader's, while others compute experts */
    double round_us;       /* see SHARING_ROUND_US */
    uint32_t ask_bytes, piece_bytes; /* of a vector asked; of one that comes back */
    const float *use; /* [n_use][items] how often a token chooses each, of as many layers as this
                       * one stands for; NULL: all alike */
    uint32_t n_use;
    uint32_t draws;         /* 0: SHARING_DRAWS, which take a tenth of a millisecond */
    const uint8_t *head_of; /* [heads] the hand that computes it when all is shared, 0xff: nobody;
                             * NULL: whoever is best */
    const uint8_t *item_of; /* [items] likewise, of items that are all wanted */
};

enum sharing_way { SHARING_ALONE, SHARING_EXPERTS, SHARING_ALL, SHARING_WAYS };

/* Sums over layers. */
struct sharing {
    uint32_t n_layers;
    double us[SHARING_WAYS];      /* of all layers; HUGE_VAL: parts are held by nobody (there) */
    double of[SHARING_HANDS_MAX]; /* items and head groups that each computes of a token, by all */
};

/* Add a layer.  n <= SHARING_HANDS_MAX, items and heads in range. */
void sharing_add_layer(struct sharing *s, const struct sharing_layer *l,
                       const struct sharing_hand *hands, unsigned n);
/* The way to go.  now: the way that is gone. */
enum sharing_way sharing_choose(const struct sharing *s, enum sharing_way now);
/* Does it pay to share, or must parts be had from others? */
static inline bool sharing_pays(const struct sharing *s)
{
    return s->n_layers && sharing_choose(s, SHARING_ALONE) != SHARING_ALONE;
}

/* Who computes each of n items, of which all are wanted: who [n]; the time of the last.  start_us
 * [n_hands]: before a hand's first item.  HUGE_VAL: one is held by nobody, and its who is 0xff. */
double sharing_deal(uint8_t *who, uint32_t n, const struct sharing_set *const *holds,
                    const double *start_us, const double *item_us, unsigned n_hands);

/* May a node so far away, with such a line (0: not known), share layers?  limit_us: of the round
 * trip; 0: SHARING_RTT_US.  is_in: it does already, and may be three times as far, or have a third
 * of the line, for a while.  Else why says it in a sentence without its subject: "is 5.1 ms away,
 * and over 2 ms each layer waits longer than sharing saves". */
bool sharing_is_near(uint32_t rtt_us, uint32_t limit_us, uint32_t kbit, bool is_in,
                     char why[SHARING_TEXT]);

/* "a layer takes 1.31 ms alone, 0.94 ms with experts shared, 0.80 ms with all shared". */
void sharing_text(char out[SHARING_TEXT], const struct sharing *s);

#endif
