/* pieces.h - what the compute thread does for leaders elsewhere: members' work (model/share.h).
 *
 * A leader waits for it with a token half done, so it goes before everything else: between two
 * jobs, between the steps of a layer, and while this node's own rows wait for members of theirs
 * (else two nodes that lead for each other would wait for ever).  It has scratch of its own,
 * because a layer of this node's is half done beneath it. */
#ifndef STAGE_PIECES_H
#define STAGE_PIECES_H

#include "stage/compute.h"

struct pieces {
    const struct compute_config *c; /* borrowed */
    uint32_t rows_max;              /* of one pass; more are done in turns */
    struct stage *stage;            /* owned; NULL until the first work */
    uint64_t us;                    /* spent; whoever wants to know sets it to 0 before */
};

/* Compute it, on the compute thread: its result and compute_us.  ERR_NOMEM, and as
 * stage_share_work. */
MUST_CHECK enum err pieces_do(struct pieces *p, struct share_job *j);
void pieces_close(struct pieces *p);

/* How long one head group, expert, dense part takes for one row; 0 where none is held. */
void pieces_measure(struct pieces *p, struct pace *pace);

#endif
