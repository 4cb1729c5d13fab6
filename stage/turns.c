#include "stage/turns.h"

void turns_init(struct turns *t, uint32_t rows_max)
{
    *t = (struct turns){ .rows_max = rows_max,
                         .rows = TURNS_ROWS_START < rows_max ? TURNS_ROWS_START : rows_max };
}

/* Does an answer run? */
static bool has_stream(const struct turns *t, uint64_t now_ns)
{
    return t->token_ns && now_ns - t->token_ns < TURNS_STREAM_MS * UINT64_C(1000000);
}

static uint32_t blink(const struct turns *t)
{
    return t->token_us > TURNS_BLINK_US ? t->token_us : TURNS_BLINK_US;
}

bool turns_is_token(const struct turns *t)
{
    return !t->token_ns || t->prompt_us >= t->token_us / 2;
}

uint32_t turns_rows(const struct turns *t, uint64_t now_ns)
{
    if (!has_stream(t, now_ns) || t->row_layer_us <= 0) return t->rows;
    double n = blink(t) / t->row_layer_us;
    uint32_t least = t->rows < TURNS_ROWS_LEAST ? t->rows : TURNS_ROWS_LEAST;
    return n >= t->rows ? t->rows : n > least ? (uint32_t)n : least;
}

uint32_t turns_layers(const struct turns *t, uint32_t n_rows, uint64_t now_ns)
{
    double goal = has_stream(t, now_ns) ? blink(t) / 2.0 : TURNS_PART_US;
    double layer = t->row_layer_us * n_rows;
    return layer > 0 && goal > layer ? (uint32_t)(goal / layer) : 1;
}

void turns_did_tokens(struct turns *t, uint32_t us, uint64_t now_ns)
{
    t->token_us = t->token_us ? (3 * t->token_us + us) / 4 : us;
    t->token_ns = now_ns;
    t->prompt_us = 0;
}

void turns_did_layers(struct turns *t, uint32_t n_rows, uint32_t n_layers, uint32_t us)
{
    t->prompt_us += us;
    t->row_layer_us = (double)us / n_layers / n_rows;
}

static uint32_t at_most(uint32_t n, uint32_t limit)
{
    return n < limit ? n : limit;
}

void turns_did_prompts(struct turns *t, uint32_t n_rows, uint32_t n_layers, uint64_t us,
                       uint64_t now_ns)
{
    bool is_stream = has_stream(t, now_ns);
    uint32_t least = at_most(is_stream ? TURNS_ROWS_LEAST : TURNS_ROWS_MIN, t->rows_max);
    uint64_t layer = us / n_layers, goal = is_stream ? blink(t) : UINT64_MAX / 2;
    bool is_long = us > TURNS_LONG_US || layer > goal + goal / 4;
    bool is_short = us < TURNS_SHORT_US && layer < goal / 2;
    if (is_long && n_rows > least)
        t->rows = n_rows / 2 > least ? n_rows / 2 : least;
    else if (is_short && n_rows == t->rows)
        t->rows = at_most(2 * t->rows, t->rows_max);
    else if (t->rows < least)
        t->rows = least;
}
