#ifndef SIM_DRAFT_SIM_H
#define SIM_DRAFT_SIM_H

#include "stage/compute.h"

/* What the compute thread does for a job with drafting: the tokens that are drawn, as far as drafts
 * were right, and the next drafts. */
void sim_pick_and_draft(struct next_job *j);

#endif
