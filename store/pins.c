/* What this machine decided to hold; care.h says what that means and how it is written. */
#include "store/care.h"
#include "store/store_impl.h"

enum {
    PIN_VERSION = 1,
    PIN_BYTES = 2 + (PIN_LAYERS_MAX + 7) / 8,
};

bool store_pin_empty(const struct store_pin *p)
{
    if (p->ends) return false;
    for (int i = 0; i < PIN_LAYERS_MAX; i++)
        if (p->layer[i]) return false;
    return true;
}

enum err store_pin(struct store *s, const struct hash *id, struct store_pin *out)
{
    struct slice v;

    *out = (struct store_pin){ 0 };
    enum err e = store_get(s, DB_PINS, hash_slice(id), &v);
    if (e) return e == ERR_NOTFOUND ? ERR_OK : e;
    if (v.n != PIN_BYTES || v.p[0] != PIN_VERSION || v.p[1] > 1) return ERR_MALFORMED;
    out->ends = v.p[1];
    for (int i = 0; i < PIN_LAYERS_MAX; i++) out->layer[i] = v.p[2 + i / 8] >> i % 8 & 1;
    return ERR_OK;
}

struct putting {
    const struct hash *id;
    uint8_t bytes[PIN_BYTES];
    bool empty;
};

static int put(struct store *s, MDB_txn *txn, void *arg)
{
    struct putting *p = arg;
    MDB_val k = { HASH_BYTES, (void *)(uintptr_t)p->id->b }, v = { PIN_BYTES, p->bytes };

    if (!p->empty) return mdb_put(txn, s->db[DB_PINS], &k, &v, 0);
    int rc = mdb_del(txn, s->db[DB_PINS], &k, NULL);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

enum err store_put_pin(struct store *s, const struct hash *id, const struct store_pin *pin,
                       struct why *why)
{
    struct putting p = { id, { PIN_VERSION, pin->ends }, store_pin_empty(pin) };

    for (int i = 0; i < PIN_LAYERS_MAX; i++)
        if (pin->layer[i]) p.bytes[2 + i / 8] |= (uint8_t)(1 << i % 8);
    return store_write(s, put, &p, "pinning", why);
}
