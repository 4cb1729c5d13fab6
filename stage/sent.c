#include "stage/sent.h"

#include <stdlib.h>
#include <string.h>

void sent_forget(struct sent *s, size_t *used)
{
    *used -= s->cap;
    free(s->p);
    *s = (struct sent){ .has_forgotten = true };
}

static bool grow(struct sent *s, size_t *used, size_t need)
{
    size_t cap = 2 * s->cap > need ? 2 * s->cap : need;
    if (cap > SENT_SESSION_BYTES) cap = need;
    if (cap > SENT_SESSION_BYTES || *used - s->cap + cap > SENT_NODE_BYTES) return false;
    uint8_t *p = realloc(s->p, cap);
    if (!p) return false;
    *used += cap - s->cap;
    s->p = p;
    s->cap = cap;
    return true;
}

void sent_add(struct sent *s, size_t *used, uint32_t pos, uint32_t n, const void *rows,
              size_t row_bytes)
{
    if (s->has_forgotten || pos != s->n) return;
    size_t need = ((size_t)(s->n - s->from) + n) * row_bytes;
    if (need > s->cap && !grow(s, used, need)) {
        sent_forget(s, used);
        return;
    }
    memcpy(s->p + (s->n - s->from) * row_bytes, rows, n * row_bytes);
    s->n += n;
}

void sent_trim(struct sent *s, uint32_t n)
{
    if (n < s->n) s->n = n;
    if (n < s->from) s->from = n;
}

void sent_begin(struct sent *s, uint32_t pos)
{
    s->from = s->n = pos;
}
