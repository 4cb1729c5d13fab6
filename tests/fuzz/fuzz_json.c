/* JSON texts: parse, write, parse again; the second writing equals the first. */
#include "base/json.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct text written(const struct json_doc *doc, unsigned indent)
{
    struct text t = { 0 };
    json_write(&t, json_root(doc), indent);
    return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_doc *doc, *again;
    struct why why = { "" };
    enum err e = json_parse(&doc, slice_of(data, size), "input", &why);
    if (e) {
        if (doc || !why.text[0]) abort();
        return 0;
    }
    struct text first = written(doc, 0), wide = written(doc, 2);
    if (json_parse(&again, slice_of(wide.p, wide.n), "output", &why)) abort();
    struct text second = written(again, 0);
    if (first.n != second.n || memcmp(first.p, second.p, first.n) != 0) abort();
    json_free(doc);
    json_free(again);
    free(first.p);
    free(second.p);
    free(wide.p);
    return 0;
}
