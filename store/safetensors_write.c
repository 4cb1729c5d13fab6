/* The writer.  Tensors are ordered like the reference's: widest elements first, then by name, so
 * that each lies aligned when the data begins at a multiple of 8. */
#include "store/safetensors.h"

#include "base/json.h"
#include "store/file.h"

#include <stdlib.h>

static uint32_t elem_bytes(const struct st_tensor *t)
{
    switch (t->dtype) {
    case ST_F32:
    case ST_I32: return 4;
    case ST_F16:
    case ST_BF16: return 2;
    case ST_I64: return 8;
    case ST_U8: return 1;
    case ST_OTHER: break;
    }
    return 0;
}

static const char *dtype_spelling(enum st_dtype d)
{
    static const char *const NAMES[] = { "F32", "F16", "BF16", "I32", "I64", "U8" };
    return d < ST_OTHER ? NAMES[d] : NULL;
}

static int writing_order(const void *pa, const void *pb)
{
    const struct st_tensor *a = *(const struct st_tensor *const *)pa;
    const struct st_tensor *b = *(const struct st_tensor *const *)pb;
    uint32_t wa = elem_bytes(a), wb = elem_bytes(b);

    if (wa != wb) return wa > wb ? -1 : 1;
    return strcmp(a->name, b->name);
}

static int by_name(const void *pa, const void *pb)
{
    return strcmp((*(const struct st_tensor *const *)pa)->name,
                  (*(const struct st_tensor *const *)pb)->name);
}

static enum err check_tensor(const struct st_tensor *t, struct why *why)
{
    uint64_t total = elem_bytes(t);

    if (total == 0) return fail(why, ERR_UNSUPPORTED, "tensor %s: a type not written", t->name);
    if (t->n_dims > ST_DIMS_MAX)
        return fail(why, ERR_RANGE, "tensor %s: too many dimensions", t->name);
    for (uint32_t i = 0; i < t->n_dims; i++)
        if (__builtin_mul_overflow(total, t->dim[i], &total)) total = UINT64_MAX;
    if (total != t->data.n)
        return fail(why, ERR_RANGE, "tensor %s: %zu bytes of data do not fit its shape", t->name,
                    t->data.n);
    return ERR_OK;
}

static void add_entry(struct text *h, const struct st_tensor *t, uint64_t begin)
{
    json_write_str(h, slice_str(t->name));
    text_printf(h, ":{\"dtype\":\"%s\",\"shape\":[", dtype_spelling(t->dtype));
    for (uint32_t i = 0; i < t->n_dims; i++)
        text_printf(h, "%s%llu", i ? "," : "", (unsigned long long)t->dim[i]);
    text_printf(h, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)begin,
                (unsigned long long)(begin + t->data.n));
}

static enum err write_file(const char *path, const struct st_tensor *const *t, uint32_t n,
                           struct why *why)
{
    struct text h = { 0 };
    uint64_t at = 0;

    text_str(&h, "{");
    for (uint32_t i = 0; i < n; i++) {
        if (i) text_str(&h, ",");
        add_entry(&h, t[i], at);
        at += t[i]->data.n;
    }
    text_str(&h, "}");
    while (!h.failed && h.n % 8) text_str(&h, " ");

    struct file_out f;
    enum err e =
        h.failed ? fail(why, ERR_NOMEM, "%s: out of memory", path) : file_create(&f, path, why);
    if (!e) {
        uint8_t len[8];
        for (int i = 0; i < 8; i++) len[i] = (uint8_t)((uint64_t)h.n >> (8 * i));
        file_put(&f, len, sizeof len);
        file_put(&f, h.p, h.n);
        for (uint32_t i = 0; i < n; i++) file_put(&f, t[i]->data.p, t[i]->data.n);
        e = file_finish(&f, ERR_OK, why);
    }
    free(h.p);
    return e;
}

enum err safetensors_write(const char *path, const struct st_tensor *t, uint32_t n, struct why *why)
{
    const struct st_tensor **order = calloc((size_t)n + 1, sizeof(struct st_tensor *));
    enum err e = order ? ERR_OK : fail(why, ERR_NOMEM, "%s: out of memory", path);

    for (uint32_t i = 0; i < n && !e; i++) {
        order[i] = &t[i];
        e = check_tensor(&t[i], why);
    }
    if (!e) {
        qsort(order, n, sizeof *order, by_name);
        for (uint32_t i = 1; i < n && !e; i++)
            if (strcmp(order[i - 1]->name, order[i]->name) == 0)
                e = fail(why, ERR_EXISTS, "tensor %s is given twice", order[i]->name);
    }
    if (!e) {
        qsort(order, n, sizeof *order, writing_order);
        e = write_file(path, order, n, why);
    }
    free(order);
    return e;
}
