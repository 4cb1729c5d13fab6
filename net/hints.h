/* hints.h - addresses at which a node may be reached, the one heard last first. */
#ifndef NET_HINTS_H
#define NET_HINTS_H

#include "base/slice.h"
#include "proto/messages.h"

enum { HINTS_MAX = 8 };

struct hints {
    uint8_t addr[HINTS_MAX][ADDR_MAX]; /* as on the wire: 4 or 16 bytes, then the port */
    uint8_t len[HINTS_MAX];
    unsigned n;
};

static inline bool hint_is_address(struct slice addr)
{
    return addr.n == ADDR_MIN || addr.n == ADDR_MAX;
}

/* addr (hint_is_address) comes first; of too many the last is forgotten. */
void hints_add(struct hints *h, struct slice addr);

#endif
