/* The validating pass and the cursor.  Whatever mp_check accepts, msgpack-c has to read as the same
 * values; the cursor has to be safe also on what mp_check refuses. */
#include "tests/proto/oracle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct slice bytes = slice_of(data, n);
    struct mp_reader r = mp_open(bytes, false), skipper = r;
    struct mp_item it;
    struct why why;

    while (!mp_next(&r, &it)) {
    }
    enum err skipped = mp_skip(&skipper);
    if (mp_check(bytes, MP_OBJECTS, &why)) return 0;
    if (skipped || skipper.p != skipper.end) abort();
    if (!oracle_reads_the_same(bytes)) abort();
    skipper = mp_open(bytes, true);
    if (!mp_skip(&skipper) != oracle_writes_the_same(bytes)) abort();
    return 0;
}
