/* sign_sim.h - signatures of a simulated swarm (sign_sim.c). */
#ifndef SIM_SIGN_SIM_H
#define SIM_SIGN_SIM_H

#include <stdint.h>

void sign_sim_begin(uint64_t seed);

#endif
