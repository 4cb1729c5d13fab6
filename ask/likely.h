/* likely.h - what a request remembers of how its tokens were picked (model/tally.h): opened before
 * the first one, handed to the compute thread with every picking job, and told beside the text. */
#ifndef ASK_LIKELY_H
#define ASK_LIKELY_H

#include "ask/coordinator_impl.h"

enum { LIKELY_TOKENS_MAX = 8192 }; /* of an answer whose log probabilities are told */

/* The client's wishes become r's sampling, and what of them cannot be: ERR_RANGE. */
MUST_CHECK enum err likely_read(struct sampling *s, const struct msg_ASK *q, struct why *why);

/* Before a picking job, none of r's is under way.  ERR_NOMEM. */
MUST_CHECK enum err likely_open(struct request *r);
/* Jobs of r get its tally. */
void likely_lend(struct request *r, struct next_job *j);
/* A job with n tokens is back, before the next one begins.  ERR_NOMEM. */
MUST_CHECK enum err likely_take(struct request *r, uint32_t n);
/* What is known of the i-th token of the answer; NULL: nobody asks. */
const struct likely *likely_of(const struct request *r, uint32_t i);
/* The same of a request taken up from its journal; takes all. */
void likely_restore(struct request *r, struct likely *all, uint32_t n);
void likely_fini(struct request *r);

/* answer_feed of the i-th token of the answer, with what is to be told of it. */
void likely_feed(struct request *r, uint32_t i);
/* The text that it belongs to is told now (is_heard: was before). */
void likely_say(struct request *r, bool is_heard);

#endif
