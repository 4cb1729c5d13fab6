/* bench_share.h - layers shared by real nodes, for swarm-bench share. */
#ifndef TOOLS_BENCH_SHARE_H
#define TOOLS_BENCH_SHARE_H

#include "tools/bench.h"

enum { BENCH_SHARE_ROUNDS = 101 };

struct bench_share {
    const char *dir, *model; /* model NULL: the only one */
    uint32_t layers;         /* of the model, all of them are measured */
    uint32_t tokens;         /* of the prompt */
    uint32_t rounds;         /* 1..BENCH_SHARE_ROUNDS */
    uint32_t delay;          /* ms either way between the nodes */
};

/* Start the nodes, ask them, add rows.  ERR_IO, ERR_TIMEOUT with why. */
MUST_CHECK enum err bench_share_nodes(struct bench *b, const struct bench_share *c,
                                      struct why *why);

#endif
