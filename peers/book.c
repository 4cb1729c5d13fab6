#include "peers/book.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define HEADER "# swarm peers 1 "
enum { WAIT_MS = 10000, WAIT_MAX_MS = 1200000, HOUR_MS = 3600000, LINE_MAX = 256 };

void book_init(struct book *b, const struct swarm_key *swarm)
{
    *b = (struct book){ .n = 0 };
    swarm_key_tag(b->tag, swarm);
}

/* --- entries --- */

struct book_entry *book_find(struct book *b, const struct node_id *id, struct slice addr)
{
    for (uint32_t i = 0; i < b->n; i++) {
        struct book_entry *e = &b->entry[i];
        if (node_id_equal(&e->id, id) && e->addr_n == addr.n &&
            memcmp(e->addr, addr.p, addr.n) == 0)
            return e;
    }
    return NULL;
}

bool book_knows(const struct book *b, const struct node_id *id)
{
    for (uint32_t i = 0; i < b->n; i++)
        if (b->entry[i].ok && node_id_equal(&b->entry[i].id, id)) return true;
    return false;
}

/* Is a worth less than c?  Those that answered before the others; then the latest. */
static bool is_worse(const struct book_entry *a, const struct book_entry *c)
{
    bool a_good = a->ok > 0, c_good = c->ok > 0;

    if (a_good != c_good) return c_good;
    if (a->failed != c->failed) return a->failed > c->failed;
    return a->seen < c->seen;
}

/* Of id's addresses, or (NULL) of all, the one that goes first. */
static struct book_entry *worst(struct book *b, const struct node_id *id, uint32_t *count)
{
    struct book_entry *w = NULL;

    *count = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        struct book_entry *e = &b->entry[i];
        if (id && !node_id_equal(&e->id, id)) continue;
        ++*count;
        if (!e->dialing && (!w || is_worse(e, w))) w = e;
    }
    return w;
}

/* The entry; a new one may take another's place.  NULL: no address, or all are being dialled. */
static struct book_entry *entry_get(struct book *b, const struct node_id *id, struct slice addr)
{
    uint32_t count;

    if (addr.n != ADDR_MIN && addr.n != ADDR_MAX) return NULL;
    struct book_entry *e = book_find(b, id, addr), *w = worst(b, id, &count);
    if (e) return e;
    if (count >= BOOK_ADDRS)
        e = w;
    else if (b->n < BOOK_MAX)
        e = &b->entry[b->n++];
    else
        e = worst(b, NULL, &count);
    if (!e) return NULL;
    *e = (struct book_entry){ .id = *id };
    memcpy(e->addr, addr.p, addr.n);
    e->addr_n = (uint8_t)addr.n;
    b->changed = true;
    return e;
}

void book_met(struct book *b, const struct node_id *id, struct slice addr, uint64_t unix_s)
{
    struct book_entry *e = entry_get(b, id, addr);
    if (!e) return;
    if (e->ok < UINT32_MAX) e->ok++;
    e->failed = 0;
    e->next_ms = 0;
    memset(e->tried_ms, 0, sizeof e->tried_ms);
    e->seen = unix_s;
    b->changed = true;
}

void book_heard(struct book *b, const struct node_id *id, struct slice addr, uint64_t unix_s)
{
    struct book_entry *e = entry_get(b, id, addr);
    if (e && !e->seen) e->seen = unix_s;
}

void book_failed(struct book *b, const struct node_id *id, struct slice addr, uint64_t now_ms)
{
    struct book_entry *e = book_find(b, id, addr);
    if (!e) return;
    unsigned doublings = e->failed < 4 ? 2 * e->failed : 8;
    uint64_t wait = (uint64_t)WAIT_MS << doublings;
    e->next_ms = now_ms + (wait < WAIT_MAX_MS ? wait : WAIT_MAX_MS);
    if (e->failed < UINT32_MAX) e->failed++;
    b->changed = true;
}

struct book_entry *book_next(struct book *b, uint64_t now_ms,
                             bool (*allowed)(void *arg, const struct book_entry *e), void *arg)
{
    struct book_entry *best = NULL;

    for (uint32_t i = 0; i < b->n; i++) {
        struct book_entry *e = &b->entry[i];
        if (e->dialing || now_ms < e->next_ms || (best && !is_worse(best, e))) continue;
        if (e->tried_ms[0] && now_ms < e->tried_ms[0] + HOUR_MS) continue;
        if (allowed(arg, e)) best = e;
    }
    if (!best) return NULL;
    memmove(best->tried_ms, best->tried_ms + 1, sizeof best->tried_ms - sizeof *best->tried_ms);
    best->tried_ms[BOOK_TRIES - 1] = now_ms ? now_ms : 1;
    return best;
}

/* --- the file --- */

static void tag_text(char out[17], const uint8_t tag[8])
{
    for (int i = 0; i < 8; i++) snprintf(out + 2 * i, 3, "%02x", tag[i]);
}

size_t book_print(const struct book *b, char out[BOOK_TEXT_MAX])
{
    char tag[17], id[NODE_ID_TEXT], at[64];

    tag_text(tag, b->tag);
    size_t n =
        (size_t)snprintf(out, BOOK_TEXT_MAX,
                         HEADER "%s\n# where nodes of this swarm were met: id, address, last "
                                "seen, good and failed tries\n",
                         tag);
    for (uint32_t i = 0; i < b->n; i++) {
        const struct book_entry *e = &b->entry[i];
        if (!addr_text(at, sizeof at, slice_of(e->addr, e->addr_n))) continue;
        node_id_text(id, &e->id);
        int more =
            snprintf(out + n, BOOK_TEXT_MAX - n, "%s %s %" PRIu64 " %" PRIu32 " %" PRIu32 "\n", id,
                     at, e->seen, e->ok, e->failed);
        if (more < 0 || (size_t)more >= BOOK_TEXT_MAX - n) break; /* cannot be: 256 short lines */
        n += (size_t)more;
    }
    return n;
}

/* The next word of a line, cut off; NULL: none. */
static char *word(char **line)
{
    char *w = *line + strspn(*line, " \t\r");
    size_t n = strcspn(w, " \t\r");

    if (!n) return NULL;
    *line = w + n + (w[n] != 0);
    w[n] = 0;
    return w;
}

static bool number(char **line, uint64_t max, uint64_t *out)
{
    char *w = word(line), *end;

    if (!w || w[0] < '0' || w[0] > '9') return false;
    *out = strtoull(w, &end, 10);
    return *end == 0 && *out <= max;
}

static void parse_line(struct book *b, char *line)
{
    struct node_id id;
    uint8_t addr[ADDR_MAX];
    uint64_t seen, ok, failed;
    char *w = word(&line);

    if (!w || w[0] == '#' || node_id_parse(&id, w, NULL)) return;
    w = word(&line);
    size_t n = w ? addr_parse(addr, w) : 0;
    if (!n || !number(&line, UINT64_MAX, &seen) || !number(&line, UINT32_MAX, &ok) ||
        !number(&line, UINT32_MAX, &failed))
        return;
    if (b->n == BOOK_MAX) return;
    struct book_entry *e = entry_get(b, &id, slice_of(addr, n));
    if (!e) return;
    e->seen = seen;
    e->ok = (uint32_t)ok;
    e->failed = (uint32_t)failed;
}

bool book_parse(struct book *b, struct slice text)
{
    char line[LINE_MAX], tag[17], want[sizeof HEADER + 16];

    tag_text(tag, b->tag);
    snprintf(want, sizeof want, HEADER "%s", tag);
    size_t n = strlen(want), at = 0;
    if (text.n < n || memcmp(text.p, want, n) != 0) return false;
    while (at < text.n) {
        const uint8_t *end = memchr(text.p + at, '\n', text.n - at);
        size_t len = end ? (size_t)(end - (text.p + at)) : text.n - at;
        if (len < sizeof line && !memchr(text.p + at, 0, len)) {
            memcpy(line, text.p + at, len);
            line[len] = 0;
            parse_line(b, line);
        }
        at += len + 1;
    }
    b->changed = false;
    return true;
}
