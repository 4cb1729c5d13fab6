#include "model/ngram.h"

#include <stdlib.h>

enum { CAP_FIRST = 1024 };

void ngram_fini(struct ngram *g)
{
    free(g->ids);
    free(g->before);
    free(g->last);
    *g = (struct ngram){ 0 };
}

/* cap is a power of two. */
static uint32_t bucket(const struct ngram *g, uint32_t end)
{
    uint64_t pair = (uint64_t)(uint32_t)g->ids[end - 1] << 32 | (uint32_t)g->ids[end];
    return (uint32_t)(pair * UINT64_C(0x9e3779b97f4a7c15) >> 40) & (g->cap - 1);
}

/* The pair that ends at `end` can be found from now on. */
static void insert(struct ngram *g, uint32_t end)
{
    uint32_t *last = &g->last[bucket(g, end)];
    g->before[end] = *last;
    *last = end + 1;
}

/* Twice the room; all pairs but the last token's go into the larger table. */
static enum err grow(struct ngram *g)
{
    uint32_t cap = g->cap ? 2 * g->cap : CAP_FIRST;
    int32_t *ids = realloc(g->ids, cap * sizeof *ids);
    if (ids) g->ids = ids;
    uint32_t *before = calloc(cap, sizeof *before), *last = calloc(cap, sizeof *last);
    if (!ids || !before || !last) {
        free(before);
        free(last);
        return ERR_NOMEM;
    }
    free(g->before);
    free(g->last);
    g->before = before;
    g->last = last;
    g->cap = cap;
    for (uint32_t end = 1; end + 1 < g->n; end++) insert(g, end);
    return ERR_OK;
}

enum err ngram_add(struct ngram *g, int32_t id)
{
    enum err e = g->n == g->cap ? grow(g) : ERR_OK;
    if (e) return e;
    g->ids[g->n++] = id;
    if (g->n > NGRAM_LEAST) insert(g, g->n - 2); /* the end of the text does not find itself */
    return ERR_OK;
}

/* How many tokens before and at `end` are those of the text's end. */
static uint32_t agreement(const struct ngram *g, uint32_t end)
{
    uint32_t n = 0;
    while (n < NGRAM_LONG && n <= end && g->ids[end - n] == g->ids[g->n - 1 - n]) n++;
    return n;
}

void ngram_find(const struct ngram *g, int32_t *out, uint32_t most, uint32_t *agree)
{
    *agree = 0;
    if (g->n < NGRAM_LEAST) return;
    uint32_t at = g->last[bucket(g, g->n - 1)], from = 0, best = NGRAM_LEAST - 1;
    for (unsigned looks = 0; at > 0 && looks < NGRAM_LOOKS; looks++) {
        uint32_t n = agreement(g, at - 1);
        if (n > best) {
            best = n;
            from = at;
        }
        at = g->before[at - 1];
    }
    if (best < NGRAM_LEAST) return;
    *agree = best;
    /* where the copied text ends it goes on with its own beginning */
    for (uint32_t i = 0; i < most; i++)
        out[i] = from + i < g->n ? g->ids[from + i] : out[from + i - g->n];
}
