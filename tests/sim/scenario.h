/* scenario.h - one swarm from a seed: who holds what, who asks, what goes wrong, what must hold.
 *
 * What must hold:
 *   1. Every token of every answer is the oracle's, in its place, once.
 *   2. A question ends or shows a sign of life within the coordinator's patience and a bound.
 *   3. When nothing goes wrong any more, every open question ends, no session remains on any stage
 *      and after ten minutes no journal, every directory holds every node's newest record, and
 * every coordinator answers.
 *   4. A node that keeps to the protocol is never struck.
 *   5. No assertion fails, and memory stays bounded. */
#ifndef SIM_SCENARIO_H
#define SIM_SCENARIO_H

#include <stdbool.h>
#include <stdint.h>

struct scenario_result {
    bool is_good;
    uint64_t hash, steps; /* of the trace; events */
    unsigned n_done, n_failed, n_faults;
    double seconds; /* of the world */
};

struct scenario_result scenario_run(uint64_t seed, bool is_verbose);

#endif
