#include "model/unicode_nfc.h"

#include "model/unicode.h"

#include <stdlib.h>
#include <utf8proc.h>

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

void unicode_nfc(struct slice s, struct text *out)
{
    if (plainly_normal(s)) {
        text_add(out, s.p, s.n);
        return;
    }
    const utf8proc_option_t how = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    size_t n = 0, cap = EXPAND_MAX * s.n;
    int32_t *c = malloc(2 * cap * sizeof *c); /* the second half is scratch */
    for (size_t i = 0; c && i < s.n;) {
        size_t len;
        bool bad;
        int last = 0;
        int32_t ch = (int32_t)utf8_get(s.p + i, s.n - i, &len, &bad);
        utf8proc_ssize_t k =
            utf8proc_decompose_char(ch, c + n, (utf8proc_ssize_t)(cap - n), how, &last);
        if (k < 0 || (size_t)k > cap - n) { /* not of a well-formed text */
            free(c);
            c = NULL;
            break;
        }
        n += (size_t)k;
        i += len;
    }
    if (!c) {
        out->failed = true;
        return;
    }
    order(c, n, c + cap);
    utf8proc_ssize_t m = utf8proc_normalize_utf32(c, (utf8proc_ssize_t)n, how);
    for (utf8proc_ssize_t i = 0; i < m; i++) {
        uint8_t bytes[4];
        text_add(out, bytes, utf8_put((uint32_t)c[i], bytes));
    }
    if (m < 0) out->failed = true;
    free(c);
}
