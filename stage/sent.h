/* sent.h - the rows that a stage has sent on for a session, by position: its journal.
 *
 * When another stage is lost, the living ones need not compute again: what they are sent a second
 * time they answer with these rows.  Memory is limited for a session and for all of a node; a
 * session that would go over it forgets its rows for good, and is computed again when it must be.
 */
#ifndef STAGE_SENT_H
#define STAGE_SENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SENT_SESSION_BYTES = 64 << 20, SENT_NODE_BYTES = 256 << 20 };

struct sent {
    uint8_t *p; /* owned: rows of positions [from, n) */
    size_t cap; /* bytes */
    uint32_t from, n;
    bool has_forgotten;
};

/* Rows of positions [pos, pos + n); those that do not follow the ones kept are not kept.  used:
 * bytes of all sessions of the node, kept up to date. */
void sent_add(struct sent *s, size_t *used, uint32_t pos, uint32_t n, const void *rows,
              size_t row_bytes);
void sent_trim(struct sent *s, uint32_t n); /* keeps those before position n */
/* None, and the first one to come is that of position pos. */
void sent_begin(struct sent *s, uint32_t pos);
/* The row of position pos, from <= pos < n. */
static inline const uint8_t *sent_row(const struct sent *s, uint32_t pos, size_t row_bytes)
{
    return s->p + (pos - s->from) * row_bytes;
}
void sent_forget(struct sent *s, size_t *used);

#endif
