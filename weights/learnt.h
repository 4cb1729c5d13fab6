/* learnt.h - how much each expert was used, in a small file, so that after a restart what is worth
 * most comes into memory first.
 *
 *     swarm-experts 1 MODEL-ID
 *     LAYER EXPERT WORTH          one line for each that was used; WORTH (keep.h) in 10,000ths
 *
 * A file that is not there, is another model's or does not parse is none: nothing but time is
 * lost. */
#ifndef WEIGHTS_LEARNT_H
#define WEIGHTS_LEARNT_H

#include "weights/keep.h"
#include "weights/units.h"

void learnt_read(const char *path, const struct units *u, struct keep *k);
void learnt_write(const char *path, const struct units *u, const struct keep *k);

/* The same as text: false when it is not this model's or does not parse; what came before the
 * mistake counts. */
bool learnt_parse(const char *text, const struct units *u, struct keep *k);

#endif
