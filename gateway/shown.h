/* shown.h - what a page may show of a swarm, out of what its coordinator says of it.
 *
 * A page may be open to everybody, and a coordinator is somebody else: what it says is copied key
 * by known key, ids are shortened to what people tell nodes apart by, and addresses are taken out
 * of sentences.  Pure: bytes in, bytes out. */
#ifndef GATEWAY_SHOWN_H
#define GATEWAY_SHOWN_H

#include "base/json.h"

/* The members of `json` that ask/report.h and ask/map.h promise, and no others, as JSON; "null"
 * when it is no object. */
void shown_json(struct text *out, struct slice json);

/* A sentence without addresses, of one line. */
void shown_sentence(struct text *out, struct slice sentence);

/* The same as a JSON string. */
void shown_text(struct text *out, struct slice sentence);

#endif
