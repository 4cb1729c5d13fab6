#include "gateway/limits.h"

#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 64 };

struct account {
    char name[NAME_BYTES]; /* padded with zeros; longer ones are cut */
    double left;
    uint64_t at_ms;
};

struct limits {
    double n, per_ms;
    uint32_t used;
    struct account account[LIMITS_MAX];
};

enum err limits_open(struct limits **out, double n, uint64_t period_ms)
{
    struct limits *l = calloc(1, sizeof *l);
    if (!l) return ERR_NOMEM;
    l->n = n;
    l->per_ms = n / (double)period_ms;
    *out = l;
    return ERR_OK;
}

void limits_close(struct limits *l)
{
    free(l);
}

static struct account *find(struct limits *l, struct slice name, uint64_t now_ms)
{
    char key[NAME_BYTES] = "";
    uint32_t oldest = 0;
    memcpy(key, name.p, name.n < NAME_BYTES ? name.n : NAME_BYTES);
    for (uint32_t i = 0; i < l->used; i++) {
        struct account *a = &l->account[i];
        if (memcmp(a->name, key, NAME_BYTES) == 0) {
            double left = a->left + (double)(now_ms - a->at_ms) * l->per_ms;
            a->left = left < l->n ? left : l->n;
            a->at_ms = now_ms;
            return a;
        }
        if (a->at_ms < l->account[oldest].at_ms) oldest = i;
    }
    struct account *a = &l->account[l->used < LIMITS_MAX ? l->used++ : oldest];
    memcpy(a->name, key, NAME_BYTES);
    a->left = l->n;
    a->at_ms = now_ms;
    return a;
}

bool limits_take(struct limits *l, struct slice name, double cost, uint64_t now_ms,
                 uint64_t *wait_ms)
{
    *wait_ms = 0;
    if (l->n <= 0) return true;
    struct account *a = find(l, name, now_ms);
    double need = cost < l->n ? cost : l->n;
    if (a->left < need) {
        *wait_ms = (uint64_t)((need - a->left) / l->per_ms) + 1;
        return false;
    }
    a->left -= cost;
    return true;
}

void limits_charge(struct limits *l, struct slice name, double cost, uint64_t now_ms)
{
    if (l->n > 0) find(l, name, now_ms)->left -= cost;
}
