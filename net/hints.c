#include "net/hints.h"

#include <string.h>

void hints_add(struct hints *h, struct slice addr)
{
    unsigned at = 0;
    while (at < h->n && (h->len[at] != addr.n || memcmp(h->addr[at], addr.p, addr.n) != 0)) at++;
    if (at == h->n) {
        if (h->n < HINTS_MAX) h->n++;
        at = h->n - 1;
    }
    memmove(&h->addr[1], &h->addr[0], at * sizeof h->addr[0]);
    memmove(&h->len[1], &h->len[0], at);
    memcpy(h->addr[0], addr.p, addr.n);
    h->len[0] = (uint8_t)addr.n;
}
