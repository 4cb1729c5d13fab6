#include "proto/chain.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>

_Static_assert(HASH_WIRE == crypto_generichash_BYTES, "BLAKE2b-256");

static void put32(uint8_t out[4], uint32_t v)
{
    for (int i = 0; i < 4; i++) out[i] = (uint8_t)(v >> 8 * i);
}

void chain_row(uint8_t out[HASH_WIRE], const void *row, size_t bytes)
{
    crypto_generichash(out, HASH_WIRE, row, bytes, NULL, 0);
}

static void root(uint8_t out[HASH_WIRE], const char *domain, const uint8_t model[ID_BYTES],
                 struct slice more)
{
    crypto_generichash_state st;
    crypto_generichash_init(&st, NULL, 0, HASH_WIRE);
    crypto_generichash_update(&st, (const uint8_t *)domain, strlen(domain) + 1);
    crypto_generichash_update(&st, model, ID_BYTES);
    if (more.n) crypto_generichash_update(&st, more.p, more.n);
    crypto_generichash_final(&st, out, HASH_WIRE);
}

/* The arithmetic's version is part of the model's id. */
void chain_root_rows(uint8_t out[HASH_WIRE], const uint8_t model[ID_BYTES],
                     const struct node_id *coordinator, uint32_t lo)
{
    uint8_t more[ID_BYTES + 4];
    memcpy(more, coordinator->b, ID_BYTES);
    put32(more + ID_BYTES, lo);
    root(out, "swarm-rows-v1", model, slice_of(more, sizeof more));
}

void chain_root_ids(uint8_t out[HASH_WIRE], const uint8_t model[ID_BYTES])
{
    root(out, "swarm-ids-v1", model, (struct slice){ 0 });
}

void chain_ids(uint8_t out[HASH_WIRE], const uint8_t before[HASH_WIRE],
               const int32_t ids[PREFIX_BLOCK])
{
    uint8_t in[HASH_WIRE + 4 * PREFIX_BLOCK];
    memcpy(in, before, HASH_WIRE);
    for (int i = 0; i < PREFIX_BLOCK; i++) put32(in + HASH_WIRE + 4 * i, (uint32_t)ids[i]);
    crypto_generichash(out, HASH_WIRE, in, sizeof in, NULL, 0);
}

/* --- a session's --- */

void chain_init(struct chain *c, const uint8_t root_name[HASH_WIRE])
{
    *c = (struct chain){ 0 };
    memcpy(c->root, root_name, HASH_WIRE);
}

void chain_fini(struct chain *c)
{
    free(c->h);
    c->h = NULL;
    c->n = c->cap = 0;
}

const uint8_t *chain_name(const struct chain *c, uint32_t k)
{
    assert(k == UINT32_MAX || k < c->n);
    return k == UINT32_MAX ? c->root : c->h + (size_t)k * HASH_WIRE;
}

bool chain_is(const struct chain *c, uint32_t k, const uint8_t h[HASH_WIRE])
{
    return !c->is_lost && k < c->n && memcmp(chain_name(c, k), h, HASH_WIRE) == 0;
}

/* Room for one name more at the end; NULL: no memory. */
static uint8_t *add(struct chain *c)
{
    if (c->n == c->cap) {
        uint32_t cap = 2 * c->cap + 8;
        uint8_t *h = realloc(c->h, (size_t)cap * HASH_WIRE);
        if (!h) return NULL;
        c->h = h;
        c->cap = cap;
    }
    return c->h + (size_t)c->n++ * HASH_WIRE;
}

enum err chain_know(struct chain *c, const uint8_t h[HASH_WIRE])
{
    assert(c->at == c->n * PREFIX_BLOCK);
    uint8_t *to = add(c);
    if (!to) return ERR_NOMEM;
    memcpy(to, h, HASH_WIRE);
    c->at = c->back_to = c->n * PREFIX_BLOCK;
    return ERR_OK;
}

static void go_back(struct chain *c, uint32_t pos)
{
    uint32_t n = pos / PREFIX_BLOCK;
    bool is_whole = pos % PREFIX_BLOCK == 0;
    c->is_lost =
        pos > 0 && (c->is_lost || pos > c->at || (!is_whole && n * PREFIX_BLOCK < c->back_to));
    if (c->is_lost) return;
    c->n = n < c->n ? n : c->n;
    c->at = pos;
    if (is_whole && c->back_to > pos) c->back_to = pos;
}

/* The block that ends here is whole. */
static bool close_block(struct chain *c)
{
    crypto_generichash_state st;
    uint32_t first = c->at - PREFIX_BLOCK;
    uint8_t before[HASH_WIRE];
    memcpy(before, chain_name(c, c->n - 1), HASH_WIRE); /* 0 - 1: the root */
    uint8_t *to = add(c);
    if (!to) return false;
    crypto_generichash_init(&st, NULL, 0, HASH_WIRE);
    crypto_generichash_update(&st, before, HASH_WIRE);
    crypto_generichash_update(&st, c->recent[first % CHAIN_RECENT], PREFIX_BLOCK * HASH_WIRE);
    crypto_generichash_final(&st, to, HASH_WIRE);
    return true;
}
_Static_assert(CHAIN_RECENT % PREFIX_BLOCK == 0, "a block lies in one piece");

void chain_feed(struct chain *c, uint32_t pos, const uint8_t *hashes, uint32_t n)
{
    if (pos != c->at || c->is_lost) go_back(c, pos);
    for (uint32_t i = 0; i < n && !c->is_lost; i++) {
        memcpy(c->recent[c->at % CHAIN_RECENT], hashes + (size_t)i * HASH_WIRE, HASH_WIRE);
        c->at++;
        if (c->at > CHAIN_RECENT && c->back_to < c->at - CHAIN_RECENT)
            c->back_to = c->at - CHAIN_RECENT;
        if (c->at % PREFIX_BLOCK == 0) c->is_lost = !close_block(c);
    }
}
