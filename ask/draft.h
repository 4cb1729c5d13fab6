/* draft.h - drafts in the life of a request (model/draft.h says what they are).
 *
 * The step that follows a token takes drafts along; what comes back of it is picked, compared and
 * drafted on from in one job (compute.h, struct drafting).  Steps that are sent again after a loss,
 * or to an heir, go without: drafts under way are forgotten, and stages put what is sent next in
 * their place. */
#ifndef ASK_DRAFT_H
#define ASK_DRAFT_H

#include "ask/coordinator_impl.h"

/* The hidden rows x [n] of a step have come: fill in the drafts' part of the job that picks. */
void draft_rows_came(struct request *r, struct next_job *j, uint32_t n, const uint8_t *x);
/* The same for tokens made at home, from the row of the n_tokens-th on. */
void draft_home(struct request *r, struct next_job *j);
/* Rows at the end of a step of n that are to come back, when they are sent again or are a prompt's;
 * it has no drafts. */
uint32_t draft_want(struct request *r, uint32_t n);
/* The job is back: count what was guessed. */
void draft_came_back(struct request *r, const struct next_job *j);
/* What it picked, a copy: how many. */
uint32_t draft_tokens(const struct next_job *j, int32_t token[DRAFT_MAX + 1]);
/* Send the row of the last token, number n_rows of all, with those of the drafts. */
void draft_send(struct request *r, uint32_t n_rows);
/* A token is picked, the one before at before_ns: remember how long it took, if no draft helped. */
void draft_learn(struct request *r, uint64_t before_ns, uint32_t pick_us);
/* A number of a step was not finite: may a draft be at fault?  Then go on without drafts. */
bool draft_is_to_blame(struct request *r, enum wire_error code);
void draft_fini(struct request *r);

#endif
