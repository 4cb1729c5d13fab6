/* unicode_nfc.h - Unicode normalization form C.
 *
 * utf8proc decomposes and composes.  Two things are ours: the canonical ordering, because
 * utf8proc's is quadratic in a run of combining marks, which a stranger may send; and which
 * characters are normalized at all, because token ids must not depend on the Unicode version of the
 * library that a system has (unicode_is_normalizing). */
#ifndef MODEL_UNICODE_NFC_H
#define MODEL_UNICODE_NFC_H

#include "base/json.h"

/* Append NFC(s) to out; s is well-formed UTF-8.  Out of memory: out->failed. */
void unicode_nfc(struct slice s, struct text *out);

#endif
