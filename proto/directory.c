#include "proto/directory.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>

#define RECORD_DOMAIN "swarm-record-v2"

enum { BUCKETS = 4096, BANNED_MAX = 256, TAG_BYTES = 8 };

/* A node, in the dense array and in its bucket's chain. */
struct slot {
    struct entry entry;
    struct slot *next;       /* of the same bucket */
    uint32_t at;             /* in directory.slot */
    uint64_t heard;          /* when its newest record came, by our clock */
    uint64_t net[ADDRS_MAX]; /* of its public addresses; 0: none */
    uint8_t bytes[];         /* entry.record */
};

/* An id that signed two contents with one seq. */
struct banned {
    struct node_id id;
    uint64_t until; /* unix seconds */
};

struct directory {
    uint8_t tag[TAG_BYTES];           /* of the swarm */
    bool is_public;                   /* anyone may be in it */
    struct slot *slot[DIRECTORY_MAX]; /* [n] owned */
    uint32_t n;
    struct slot *bucket[BUCKETS];
    uint8_t
        key[crypto_shorthash_KEYBYTES]; /* secret: peers choose ids and could make them collide */
    struct banned banned[BANNED_MAX];   /* a ring: the oldest makes room */
    uint32_t next_banned;
};

/* --- rules for one record --- */

static enum err check_addr(struct slice a, struct why *why)
{
    static const uint8_t zero[16], mapped[12] = { [10] = 0xff, [11] = 0xff };

    if (a.n != ADDR_MIN && a.n != ADDR_MAX)
        return fail(why, ERR_RANGE, "an address of %zu bytes", a.n);
    if (a.p[a.n - 2] == 0 && a.p[a.n - 1] == 0)
        return fail(why, ERR_RANGE, "an address without a port");
    if (a.n == ADDR_MIN && (a.p[0] == 0 || a.p[0] >= 224)) /* 0/8; multicast, reserved, broadcast */
        return fail(why, ERR_RANGE, "an address that no node can have");
    if (a.n == ADDR_MAX && (a.p[0] == 0xff || !memcmp(a.p, zero, 16) || !memcmp(a.p, mapped, 12)))
        return fail(why, ERR_RANGE, "an address that no node can have");
    return ERR_OK;
}

static enum err check_ranges(const struct uints *l, struct why *why)
{
    if (l->n % 2) return fail(why, ERR_RANGE, "layers are not in pairs");
    for (uint32_t i = 0; i < l->n; i += 2)
        if (l->p[i] >= l->p[i + 1] || l->p[i + 1] > LAYER_MAX || (i > 0 && l->p[i] < l->p[i - 1]))
            return fail(why, ERR_RANGE, "layers %u to %u are empty, too high or out of order",
                        l->p[i], l->p[i + 1]);
    return ERR_OK;
}

uint32_t record_n_parts(const struct record_body *b)
{
    return (uint32_t)(b->parts.n / PART_BYTES);
}

static uint32_t get16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

struct record_part record_part_nth(const struct record_body *b, uint32_t i)
{
    const uint8_t *p = b->parts.p + (size_t)i * PART_BYTES;
    return (struct record_part){ .lo = get16(p),
                                 .hi = get16(p + 2),
                                 .kind = (enum record_part_kind)p[4],
                                 .item_lo = get16(p + 5),
                                 .item_hi = get16(p + 7) };
}

void record_part_put(uint8_t out[PART_BYTES], const struct record_part *p)
{
    const uint32_t v[4] = { p->lo, p->hi, p->item_lo, p->item_hi };

    for (unsigned i = 0; i < 4; i++) {
        uint8_t *to = out + 2 * i + (i > 1);
        to[0] = (uint8_t)(v[i] >> 8);
        to[1] = (uint8_t)v[i];
    }
    out[4] = (uint8_t)p->kind;
}

static enum err check_parts(const struct record_body *b, struct why *why)
{
    if (b->parts.n % PART_BYTES) return fail(why, ERR_RANGE, "parts of layers that are cut off");
    for (uint32_t i = 0; i < record_n_parts(b); i++) {
        struct record_part p = record_part_nth(b, i);
        if (p.lo >= p.hi || p.hi > LAYER_MAX || (unsigned)p.kind >= PART_KINDS ||
            p.item_lo >= p.item_hi || p.item_hi > PART_ITEMS_MAX)
            return fail(why, ERR_RANGE, "parts of layers that there are not");
    }
    return ERR_OK;
}

static enum err check_layers(const struct record_body *b, struct why *why)
{
    enum err e = check_ranges(&b->layers, why);
    if (!e) e = check_ranges(&b->gives, why);
    if (!e) e = check_ranges(&b->coming, why);
    if (!e) e = check_parts(b, why);
    if (e) return e;
    if ((b->layers.n > 0 || b->ends || b->gives.n > 0 || b->coming.n > 0 || b->parts.n > 0 ||
         b->gives_ends) &&
        b->model.n == 0)
        return fail(why, ERR_RANGE, "layers without a model");
    return ERR_OK;
}

static enum err check_rtts(const struct record_body *b, struct why *why)
{
    const struct slice r = b->rtts;

    if (r.n % RTT_BYTES) return fail(why, ERR_RANGE, "round trips that are cut off");
    for (size_t i = RTT_BYTES; i < r.n; i += RTT_BYTES)
        if (memcmp(r.p + i - RTT_BYTES, r.p + i, RTT_BYTES - 4) >= 0)
            return fail(why, ERR_RANGE, "round trips that are out of order");
    return ERR_OK;
}

/* What the table cannot say. */
static enum err check_body(const struct record_body *b, struct why *why)
{
    enum err e = check_layers(b, why);

    if (!e) e = check_rtts(b, why);
    for (uint32_t i = 0; i < b->addrs.n && !e; i++) e = check_addr(b->addrs.p[i], why);
    if (e) return e;
    if (b->expires <= b->made || b->expires - b->made > RECORD_TTL_MAX_S)
        return fail(why, ERR_RANGE, "a record's life is not 1 to %d seconds", RECORD_TTL_MAX_S);
    return ERR_OK;
}

static bool is_over(const struct record_body *b, uint64_t unix_s)
{
    return b->expires < unix_s && unix_s - b->expires > RECORD_SKEW_S;
}

static bool is_early(const struct record_body *b, uint64_t unix_s)
{
    return b->made > unix_s && b->made - unix_s > RECORD_SKEW_S;
}

static enum err check_clock(const struct record_body *b, uint64_t unix_s, struct why *why)
{
    if (is_over(b, unix_s)) return fail(why, ERR_RANGE, "a record has expired");
    if (is_early(b, unix_s))
        return fail(why, ERR_RANGE, "a record is from the future: its clock or ours is wrong");
    return ERR_OK;
}

/* What is signed: tag || body. */
static struct slice signed_bytes(uint8_t out[TAG_BYTES + RECORD_BYTES_MAX],
                                 const uint8_t tag[TAG_BYTES], struct slice body)
{
    memcpy(out, tag, TAG_BYTES);
    memcpy(out + TAG_BYTES, body.p, body.n);
    return slice_of(out, TAG_BYTES + body.n);
}

void record_sign(const struct identity *me, const struct swarm_key *swarm, struct slice body,
                 uint8_t sig[SIG_BYTES])
{
    uint8_t tag[TAG_BYTES], text[TAG_BYTES + RECORD_BYTES_MAX];

    swarm_key_tag(tag, swarm);
    identity_sign(me, RECORD_DOMAIN, signed_bytes(text, tag, body), sig);
}

enum err record_make(const struct identity *me, const struct swarm_key *swarm,
                     const struct record_body *body, uint8_t *out, size_t cap, size_t *n)
{
    struct record_body b = *body;

    *n = 0;
    b.id = slice_of(me->id.b, ID_BYTES);
    enum err e = check_body(&b, NULL);
    if (e) return e;
    if (cap < SIG_BYTES) return ERR_FULL;
    if ((e = record_body_encode(&b, out + SIG_BYTES, cap - SIG_BYTES, n))) return e;
    record_sign(me, swarm, slice_of(out + SIG_BYTES, *n), out);
    *n += SIG_BYTES;
    return ERR_OK;
}

/* --- the table --- */

enum err directory_open(struct directory **out, const struct swarm_key *swarm)
{
    *out = calloc(1, sizeof **out);
    if (!*out) return ERR_NOMEM;
    swarm_key_tag((*out)->tag, swarm);
    (*out)->is_public = memcmp(swarm->b, swarm_key_public()->b, sizeof swarm->b) == 0;
    random_bytes((*out)->key, sizeof(*out)->key);
    return ERR_OK;
}

void directory_close(struct directory *d)
{
    if (!d) return;
    for (uint32_t i = 0; i < d->n; i++) free(d->slot[i]);
    free(d);
}

uint32_t directory_n(const struct directory *d)
{
    return d->n;
}

const struct entry *directory_nth(const struct directory *d, uint32_t i)
{
    return i < d->n ? &d->slot[i]->entry : NULL;
}

static uint32_t bucket_of(const struct directory *d, const struct node_id *id)
{
    uint8_t hash[crypto_shorthash_BYTES];

    crypto_shorthash(hash, id->b, ID_BYTES, d->key);
    return (uint32_t)(hash[0] | hash[1] << 8) % BUCKETS;
}

/* Where the pointer to id's slot is, or would be. */
static struct slot **find_link(struct directory *d, const struct node_id *id)
{
    struct slot **link = &d->bucket[bucket_of(d, id)];

    while (*link && !node_id_equal(&(*link)->entry.id, id)) link = &(*link)->next;
    return link;
}

const struct entry *directory_find(const struct directory *d, const struct node_id *id)
{
    const struct slot *s = d->bucket[bucket_of(d, id)];

    while (s && !node_id_equal(&s->entry.id, id)) s = s->next;
    return s ? &s->entry : NULL;
}

static void drop(struct directory *d, struct slot *s)
{
    struct slot **link = find_link(d, &s->entry.id);

    assert(*link == s);
    *link = s->next;
    d->slot[s->at] = d->slot[--d->n];
    d->slot[s->at]->at = s->at;
    free(s);
}

/* Kept for the life that the record states, from when it came; and never past its end.  When our
 * clock is set back, what was taken before may be from the future now: it would stand in the way of
 * its node's next ones. */
static bool is_stale(const struct slot *s, uint64_t unix_s)
{
    const struct record_body *b = &s->entry.body;
    return is_over(b, unix_s) || is_early(b, unix_s) || unix_s > s->heard + (b->expires - b->made);
}

void directory_expire(struct directory *d, uint64_t unix_s)
{
    for (uint32_t i = 0; i < d->n;)
        if (is_stale(d->slot[i], unix_s))
            drop(d, d->slot[i]); /* the last has come to i */
        else
            i++;
}

static bool is_banned(const struct directory *d, const struct node_id *id, uint64_t unix_s)
{
    for (uint32_t i = 0; i < BANNED_MAX; i++)
        if (d->banned[i].until > unix_s && node_id_equal(&d->banned[i].id, id)) return true;
    return false;
}

static void ban(struct directory *d, const struct node_id *id, uint64_t unix_s)
{
    d->banned[d->next_banned] = (struct banned){ *id, unix_s + DIRECTORY_BAN_S };
    d->next_banned = (d->next_banned + 1) % BANNED_MAX;
}

/* Have a place for one more; drops the expired, else the longest silent. */
static enum err make_room(struct directory *d, uint64_t unix_s, struct why *why)
{
    if (d->n < DIRECTORY_MAX) return ERR_OK;
    directory_expire(d, unix_s);
    if (d->n < DIRECTORY_MAX) return ERR_OK;

    struct slot *oldest = d->slot[0];
    for (uint32_t i = 1; i < d->n; i++)
        if (d->slot[i]->heard < oldest->heard) oldest = d->slot[i];
    if (unix_s < oldest->heard || unix_s - oldest->heard <= DIRECTORY_SILENT_S)
        return fail(why, ERR_FULL, "the directory holds %d nodes, all of them heard from lately",
                    DIRECTORY_MAX);
    drop(d, oldest);
    return ERR_OK;
}

/* The network of a public address, as a number: an IPv4 /24 or an IPv6 /56. */
static uint64_t net_of(struct slice addr)
{
    uint64_t key = addr.n == ADDR_MIN ? 1 : 2;

    if (addr_is_loopback(addr) || addr_is_private(addr)) return 0;
    for (int i = 0; i < (addr.n == ADDR_MIN ? 3 : 7); i++) key = key << 8 | addr.p[i];
    return key;
}

static void find_nets(uint64_t net[ADDRS_MAX], const struct record_body *b)
{
    for (uint32_t i = 0; i < ADDRS_MAX; i++) net[i] = i < b->addrs.n ? net_of(b->addrs.p[i]) : 0;
}

static bool has_net(const struct slot *s, uint64_t net)
{
    for (uint32_t i = 0; i < ADDRS_MAX; i++)
        if (s->net[i] == net) return true;
    return false;
}

/* Are there nodes enough in one of these networks, old (may be NULL) left aside? */
static bool nets_are_full(const struct directory *d, const struct slot *old,
                          const uint64_t net[ADDRS_MAX])
{
    for (uint32_t k = 0; k < ADDRS_MAX; k++) {
        uint32_t count = 0;
        if (!net[k] || (old && has_net(old, net[k]))) continue;
        for (uint32_t i = 0; i < d->n; i++) count += has_net(d->slot[i], net[k]);
        if (count >= DIRECTORY_NET_MAX) return true;
    }
    return false;
}

/* Keep a record that has passed every check, in place of the id's older one. */
static enum err keep(struct directory *d, const struct node_id *id, const struct record_body *b,
                     struct slice record, uint64_t unix_s, struct why *why)
{
    struct slot **link = find_link(d, id), *old = *link;
    uint64_t net[ADDRS_MAX];

    find_nets(net, b);
    if (d->is_public && nets_are_full(d, old, net))
        return fail(why, ERR_FULL, "%d nodes of that network are known already", DIRECTORY_NET_MAX);
    enum err e = old ? ERR_OK : make_room(d, unix_s, why);
    if (e) return e;

    struct slot *s = calloc(1, sizeof *s + record.n);
    if (!s) return ERR_NOMEM;
    memcpy(s->bytes, record.p, record.n);
    s->entry.id = *id;
    s->entry.record = slice_of(s->bytes, record.n);
    s->heard = unix_s;
    memcpy(s->net, net, sizeof net);
    e = record_body_decode(&s->entry.body, slice_of(s->bytes + SIG_BYTES, record.n - SIG_BYTES),
                           why);
    if (e) { /* can't be: the same bytes have been decoded before */
        free(s);
        return e;
    }
    link = find_link(d, id); /* make_room may have moved it */
    s->next = old ? old->next : NULL;
    s->at = old ? old->at : d->n++;
    *link = s;
    d->slot[s->at] = s;
    free(old);
    return ERR_OK;
}

/* What the id's older record says about a new one, before its signature is looked at: most offers
 * are repetitions, and a check of a signature costs more than all else here. */
static enum err check_newer(const struct entry *known, const struct record_body *b,
                            struct slice body, struct why *why)
{
    if (!known || b->seq > known->body.seq) return ERR_OK;
    bool same = known->record.n == body.n + SIG_BYTES &&
                memcmp(known->record.p + SIG_BYTES, body.p, body.n) == 0;
    if (b->seq == known->body.seq && !same) return ERR_OK; /* equivocation, if it is signed */
    return fail(why, ERR_EXISTS, "a record is not newer than the one known");
}

enum err directory_offer(struct directory *d, struct slice record, uint64_t unix_s, bool *news,
                         struct why *why)
{
    struct record_body b;
    struct node_id id;
    uint8_t text[TAG_BYTES + RECORD_BYTES_MAX];
    enum err e;

    *news = false;
    if (record.n <= SIG_BYTES) return fail(why, ERR_MALFORMED, "a record is cut short");
    if (record.n > RECORD_BYTES_MAX) return fail(why, ERR_RANGE, "a record is too long");
    struct slice body = slice_of(record.p + SIG_BYTES, record.n - SIG_BYTES);
    if ((e = record_body_decode(&b, body, why))) return e;
    if ((e = check_body(&b, why))) return e;
    if ((e = check_clock(&b, unix_s, why))) return e;
    memcpy(id.b, b.id.p, ID_BYTES);

    const struct entry *known = directory_find(d, &id);
    if (is_banned(d, &id, unix_s))
        return fail(why, ERR_DENIED, "a node that contradicted itself is not believed for now");
    if ((e = check_newer(known, &b, body, why))) return e;
    if (!identity_verify(&id, RECORD_DOMAIN, signed_bytes(text, d->tag, body), record.p))
        return fail(why, ERR_AUTH, "a record's signature does not verify");
    if (known && b.seq == known->body.seq) {
        drop(d, *find_link(d, &id));
        ban(d, &id, unix_s);
        return fail(why, ERR_DENIED, "a node signed two records with one number");
    }
    if ((e = keep(d, &id, &b, record, unix_s, why))) return e;
    *news = true;
    return ERR_OK;
}
