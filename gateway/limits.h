/* limits.h - how often one may ask: buckets by name (a key's, an address's), in bounded memory. */
#ifndef GATEWAY_LIMITS_H
#define GATEWAY_LIMITS_H

#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>

enum { LIMITS_MAX = 4096 }; /* names remembered; of more the one longest silent is forgotten */

struct limits;

/* n in every period_ms, which may be used all at once.  n 0: no limit. */
MUST_CHECK enum err limits_open(struct limits **out, double n, uint64_t period_ms);
void limits_close(struct limits *l); /* NULL is fine */

/* May name do something that costs so much, now?  It is counted then.  Else *wait_ms is when it
 * may. What costs more than there ever is, is let through when all is there, and paid off
 * afterwards. */
bool limits_take(struct limits *l, struct slice name, double cost, uint64_t now_ms,
                 uint64_t *wait_ms);
/* Counted, and let through: what something that was let through has cost in the end. */
void limits_charge(struct limits *l, struct slice name, double cost, uint64_t now_ms);

#endif
