/* What this machine decided to hold; care.h says what that means and how it is written. */
#include "store/care.h"
#include "store/store_impl.h"

enum {
    PIN_WHOLE = 1, /* versions of the record */
    PIN_PARTS = 2,
    PIN_BYTES = 2 + (PIN_LAYERS_MAX + 7) / 8,
    PART_BYTES = 9,
};

bool store_pin_empty(const struct store_pin *p)
{
    if (p->ends || p->parts.n) return false;
    for (int i = 0; i < PIN_LAYERS_MAX; i++)
        if (p->layer[i]) return false;
    return true;
}

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static enum err get_parts(struct parts *out, struct slice v)
{
    if (v.n == 0 || v.n % PART_BYTES != 0 || v.n / PART_BYTES > PARTS_MAX) return ERR_MALFORMED;
    for (const uint8_t *p = v.p; p < v.p + v.n; p += PART_BYTES) {
        struct part one = { get16(p), get16(p + 2), p[4], get16(p + 5), get16(p + 7) };
        if (one.lo >= one.hi || one.hi > PIN_LAYERS_MAX || one.kind >= SHARD_ENDS ||
            one.item_lo >= one.item_hi)
            return ERR_MALFORMED;
        out->p[out->n++] = one;
    }
    return ERR_OK;
}

enum err store_pin(struct store *s, const struct hash *id, struct store_pin *out)
{
    struct slice v;

    *out = (struct store_pin){ 0 };
    enum err e = store_get(s, DB_PINS, hash_slice(id), &v);
    if (e) return e == ERR_NOTFOUND ? ERR_OK : e;
    if (v.n < PIN_BYTES || v.p[1] > 1) return ERR_MALFORMED;
    if (v.p[0] == PIN_PARTS)
        e = get_parts(&out->parts, slice_of(v.p + PIN_BYTES, v.n - PIN_BYTES));
    else if (v.n != PIN_BYTES || v.p[0] != PIN_WHOLE)
        e = ERR_MALFORMED;
    if (e) {
        *out = (struct store_pin){ 0 };
        return e;
    }
    out->ends = v.p[1];
    for (int i = 0; i < PIN_LAYERS_MAX; i++) out->layer[i] = v.p[2 + i / 8] >> i % 8 & 1;
    return ERR_OK;
}

struct putting {
    const struct hash *id;
    uint8_t bytes[PIN_BYTES + PARTS_MAX * PART_BYTES];
    size_t n;
    bool empty;
};

static int put(struct store *s, MDB_txn *txn, void *arg)
{
    struct putting *p = arg;
    MDB_val k = { HASH_BYTES, (void *)(uintptr_t)p->id->b }, v = { p->n, p->bytes };

    if (!p->empty) return mdb_put(txn, s->db[DB_PINS], &k, &v, 0);
    int rc = mdb_del(txn, s->db[DB_PINS], &k, NULL);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

enum err store_put_pin(struct store *s, const struct hash *id, const struct store_pin *pin,
                       struct why *why)
{
    struct putting p = { .id = id, .n = PIN_BYTES, .empty = store_pin_empty(pin) };

    p.bytes[0] = pin->parts.n ? PIN_PARTS : PIN_WHOLE;
    p.bytes[1] = pin->ends;
    for (int i = 0; i < PIN_LAYERS_MAX; i++)
        if (pin->layer[i]) p.bytes[2 + i / 8] |= (uint8_t)(1 << i % 8);
    for (uint32_t i = 0; i < pin->parts.n; i++, p.n += PART_BYTES) {
        const struct part *one = &pin->parts.p[i];
        uint8_t *to = p.bytes + p.n;
        put16(to, one->lo);
        put16(to + 2, one->hi);
        to[4] = one->kind;
        put16(to + 5, one->item_lo);
        put16(to + 7, one->item_hi);
    }
    return store_write(s, put, &p, "pinning", why);
}
