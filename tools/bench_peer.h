/* bench_peer.h - llama.cpp in a process of its own, driven through scripts/llama_race.py: one JSON
 * line for a request, one for the answer.  While nothing is asked it computes nothing. */
#ifndef TOOLS_BENCH_PEER_H
#define TOOLS_BENCH_PEER_H

#include "tools/bench_group.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct peer {
    pid_t pid; /* 0: none was started */
    FILE *to, *from;
    char version[64];
    double load_s; /* opening the model, weights repacked */
};

struct peer_options {
    const char *python, *script, *gguf;
    uint32_t threads;
    uint32_t context;          /* tokens of the longest sequence */
    bool map_only;             /* weights are read from the file's map, and batches are small */
    const struct group *group; /* to run in; NULL: ours */
};

/* Start it and wait until the model is loaded.  ERR_NOTFOUND, ERR_IO with why: there is no such
 * Python or script, or llama.cpp's own words.  p is zero, and is to be closed whatever comes back.
 */
MUST_CHECK enum err peer_open(struct peer *p, const struct peer_options *o, struct why *why);
void peer_close(struct peer *p);

/* A request that takes time and the seconds that it took.
 *   what      "prefill" (n tokens), "fill" (a context of `context`), "decode" (n tokens behind it)
 *   returns   ERR_CLOSED: it died; ERR_UNSUPPORTED with its sentence: it refuses */
MUST_CHECK enum err peer_time(struct peer *p, const char *what, bool flash, uint32_t context,
                              uint32_t n, double *seconds, struct why *why);

#endif
