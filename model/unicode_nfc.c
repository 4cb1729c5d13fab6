#include "model/unicode_nfc.h"

#include "model/unicode.h"

#include <stdlib.h>
#include <utf8proc.h>

static const utf8proc_option_t how = UTF8PROC_STABLE | UTF8PROC_COMPOSE;

enum { EXPAND_MAX = 2 }; /* decomposed code points a byte: at most 3 for 2 bytes, 4 for 3 */

static unsigned class_of(int32_t c)
{
    return (unsigned)utf8proc_get_property(c)->combining_class;
}

/* Put a run of marks in the order of their classes, equal ones as they came. */
static void order_marks(int32_t *mark, size_t n, int32_t *scratch)
{
    size_t at[257] = { 0 };
    for (size_t i = 0; i < n; i++) at[class_of(mark[i]) + 1]++;
    for (size_t c = 0; c < 256; c++) at[c + 1] += at[c];
    for (size_t i = 0; i < n; i++) scratch[at[class_of(mark[i])]++] = mark[i];
    memcpy(mark, scratch, n * sizeof *mark);
}

static void order(int32_t *c, size_t n, int32_t *scratch)
{
    for (size_t i = 0; i < n;) {
        size_t from = i;
        bool sorted = true;
        for (; i < n && class_of(c[i]); i++)
            if (i > from && class_of(c[i]) < class_of(c[i - 1])) sorted = false;
        if (!sorted) order_marks(c + from, i - from, scratch);
        if (i == from) i++;
    }
}

/* Every character below U+0300 stays what it is, whatever follows from below U+0300. */
static bool plainly_normal(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] >= 0xcc) return false;
    return true;
}

/* A run of characters that normalization may touch, decomposed. */
struct run {
    int32_t *c; /* owned: [2 * cap], the second half is scratch */
    size_t n, cap;
};

static bool decompose(struct run *r, uint32_t ch)
{
    int last = 0; /* of an option that we don't set */
    utf8proc_ssize_t room = (utf8proc_ssize_t)(r->cap - r->n);
    utf8proc_ssize_t k = utf8proc_decompose_char((int32_t)ch, r->c + r->n, room, how, &last);
    if (k < 0 || k > room) return false;
    r->n += (size_t)k;
    return true;
}

static bool compose(struct run *r, struct text *out)
{
    if (r->n == 0) return true;
    order(r->c, r->n, r->c + r->cap);
    utf8proc_ssize_t m = utf8proc_normalize_utf32(r->c, (utf8proc_ssize_t)r->n, how);
    for (utf8proc_ssize_t i = 0; i < m; i++) {
        uint8_t bytes[4];
        text_add(out, bytes, utf8_put((uint32_t)r->c[i], bytes));
    }
    r->n = 0;
    return m >= 0;
}

static bool normalize(struct slice s, struct run *r, struct text *out)
{
    size_t len;
    for (size_t i = 0; i < s.n; i += len) {
        bool bad;
        uint32_t ch = utf8_get(s.p + i, s.n - i, &len, &bad);
        if (unicode_is_normalizing(ch)) {
            if (!decompose(r, ch)) return false;
        } else { /* a wall: nothing moves past it, nothing composes with it */
            if (!compose(r, out)) return false;
            text_add(out, s.p + i, len);
        }
    }
    return compose(r, out);
}

void unicode_nfc(struct slice s, struct text *out)
{
    if (plainly_normal(s)) {
        text_add(out, s.p, s.n);
        return;
    }
    struct run r = { .cap = EXPAND_MAX * s.n };
    r.c = malloc(2 * r.cap * sizeof *r.c);
    if (!r.c || !normalize(s, &r, out)) out->failed = true;
    free(r.c);
}
