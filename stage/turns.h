/* turns.h - whose turn it is on the compute thread: tokens that somebody waits for, or prompts.
 *
 *     tokens   steps of running answers: few rows, computed through all layers at once
 *     prompts  many rows, computed some layers at a time, so that tokens pass in between
 *
 * Tokens go first; but after each batch of them prompts have half as long, so that many answers do
 * not keep a new one from its beginning.  While answers run, a prompt's batch is so small that one
 * layer of it takes no longer than a batch of tokens: so a token waits for at most about one and a
 * half of them here, and then takes one, and a stream slows to less than three of its usual
 * times.  Where no answer runs batches grow, until one takes TURNS_SHORT_US.
 *
 * A policy: it knows of no job, and time is an argument (us: microseconds, now_ns: any clock). */
#ifndef STAGE_TURNS_H
#define STAGE_TURNS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    TURNS_ROWS_START = 64, /* until a batch has been timed */
    TURNS_ROWS_MIN = 16,   /* a prompt's batch is never cut smaller where no answer runs, */
    TURNS_ROWS_LEAST = 8,  /* and where one does */
    TURNS_LONG_US = 400000,
    TURNS_SHORT_US = 150000,
    TURNS_PART_US = 20000,  /* of a prompt's batch, when no answer runs */
    TURNS_BLINK_US = 300,   /* nobody notices; with small models calling would cost more */
    TURNS_STREAM_MS = 5000, /* an answer runs when its last token was not longer ago */
};

struct turns {
    uint32_t rows_max, rows; /* of a prompt's batch: by memory, and now */
    uint32_t token_us;       /* a usual batch of tokens */
    uint64_t token_ns;       /* when the last one was done; 0: none was */
    uint64_t prompt_us;      /* what prompts had since */
    double row_layer_us;     /* of a prompt's row in one layer, last; 0: unknown */
};

void turns_init(struct turns *t, uint32_t rows_max);
/* Both wait: is it tokens' turn? */
bool turns_is_token(const struct turns *t);
/* Rows of the next batch of prompts.  The size may come from a time without answers. */
uint32_t turns_rows(const struct turns *t, uint64_t now_ns);
/* Layers of n_rows of prompts to compute before asking again; at least 1. */
uint32_t turns_layers(const struct turns *t, uint32_t n_rows, uint64_t now_ns);

void turns_did_tokens(struct turns *t, uint32_t us, uint64_t now_ns);
void turns_did_layers(struct turns *t, uint32_t n_rows, uint32_t n_layers, uint32_t us);
/* A prompt's batch of n_rows is through n_layers, and took us in all. */
void turns_did_prompts(struct turns *t, uint32_t n_rows, uint32_t n_layers, uint64_t us,
                       uint64_t now_ns);

#endif
