/* A request's journal: whatever its bytes, what is read keeps to its bounds, and reading what it
 * calls good again gives the same. */
#include "ask/journal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct journal_entry e, again;
    struct why why = { "" };

    if (journal_parse(&e, slice_of(data, n), &why)) {
        if (!why.text[0] || e.ids || e.likely) abort();
        return 0;
    }
    if (e.n_good > n || e.head.n_prompt == 0 || e.n_tokens > e.head.limit) abort();
    if (journal_parse(&again, slice_of(data, e.n_good), &why)) abort();
    uint32_t ids = e.head.n_prompt + e.n_tokens;
    if (again.n_tokens != e.n_tokens || again.n_good != e.n_good) abort();
    if (memcmp(again.ids, e.ids, ids * sizeof *e.ids) != 0) abort();
    free(e.ids);
    free(again.ids);
    free(e.likely);
    free(again.likely);
    return 0;
}
