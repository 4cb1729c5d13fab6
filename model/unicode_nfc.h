/* unicode_nfc.h - Unicode normalization form C.
 *
 * Through utf8proc, except for the canonical ordering: its own is quadratic in a run of combining
 * marks, which a stranger may send. */
#ifndef MODEL_UNICODE_NFC_H
#define MODEL_UNICODE_NFC_H

#include "base/json.h"

/* Append NFC(s) to out; s is well-formed UTF-8.  Out of memory: out->failed. */
void unicode_nfc(struct slice s, struct text *out);

#endif
