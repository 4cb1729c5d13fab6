/* journal.h - a request on disk, so that a coordinator that was killed goes on with it.
 *
 *     journal_start --durable--> journal_add, journal_add, ... --> journal_remove  (it has ended)
 *                                                              `-> journal_keep    (the node stops)
 *     the next start: journal_scan --> journal_resume --> journal_add, ...
 *
 * One file per request, 0600 in a folder 0700: what was asked, as ids; how it is sampled, with the
 * seed that was drawn; who may hear the answer.  This head is on disk before the first token is
 * told, with a hash of all of it.  Tokens are appended without waiting, each with a check of its
 * own: those that a crash takes away are drawn again, the same.  So a torn or garbled end is cut,
 * and a garbled head makes the file worthless.
 *
 *     "swrmrq2\n" coordinator[32] model[32] client[32] request[16]
 *     temperature f64, top_p f64, min_p f64, frequency f64, presence f64, seed u64, top_k u32,
 *     likely u32, plain u32, limit u32, n_prompt u32
 *     ids i32[n_prompt]  hash[32] of all before it
 *     then a token: id i32, check u32, (id i32, log probability f32)[likely]
 *     (little endian)
 *
 * Files are written in libuv's worker threads, one piece at a time for each; a disk that fails ends
 * the writing, never the request. */
#ifndef ASK_JOURNAL_H
#define ASK_JOURNAL_H

#include "model/tally.h"
#include "net/actor.h"
#include "proto/identity.h"

enum {
    JOURNAL_KEEP_S = 600,     /* a request that nobody came back for is forgotten */
    JOURNAL_FILES_MAX = 64,   /* taken up by one start */
    JOURNAL_HEAD_BYTES = 188, /* before the ids */
    JOURNAL_BYTES_MAX = JOURNAL_HEAD_BYTES + 32 + 8 * CONTEXT_MAX * (2 + LIKELY_MAX),
};

/* What a request is, besides its tokens. */
struct journal_head {
    struct node_id coordinator, client;
    uint8_t model[ID_BYTES], request[REQUEST_BYTES];
    struct sampling sampling;
    bool is_plain;  /* a text to go on with, no conversation */
    uint32_t limit; /* tokens of the answer, at least 1 */
    uint32_t n_prompt;
};

/* --- writing --- */

struct journal;

/* Begin the file of h with the prompt's ids [h->n_prompt], copied.  on_ready(arg, e) is called
 * once, on the loop, when the head is durable or (e) could not be made so; not after journal_keep
 * or journal_remove.  ERR_NOMEM, ERR_RANGE: there is no journal and no call. */
MUST_CHECK enum err journal_start(struct journal **out, struct hub *hub, const char *dir,
                                  const struct journal_head *h, const int32_t *ids,
                                  void (*on_ready)(void *arg, enum err e), void *arg);
/* likely [head's likely], NULL when that is 0. */
void journal_add(struct journal *j, int32_t id, const struct likely *likely);
/* The end of j; what was added is still written.  NULL is fine. */
void journal_keep(struct journal *j);
void journal_remove(struct journal *j); /* and the file goes */

/* --- reading --- */

/* What a file says. */
struct journal_entry {
    struct journal_head head;
    int32_t *ids; /* owned: the prompt's [n_prompt], then the answer's [n_tokens] */
    uint32_t n_tokens;
    struct likely *likely; /* owned: [n_tokens][head.sampling.likely]; NULL when that is 0 */
    size_t n_good; /* bytes of the file up to there */
};
/* Any bytes are safe.  ERR_MALFORMED, ERR_RANGE with why: worthless; ERR_NOMEM. */
MUST_CHECK enum err journal_parse(struct journal_entry *out, struct slice bytes, struct why *why);

/* Every request of this coordinator and model in dir, in no order; e's ids and likely are the callee's to free.
 * Files that are worthless or older than JOURNAL_KEEP_S are removed.  Blocks: for the start. */
void journal_scan(const char *dir, const struct node_id *me, const uint8_t model[ID_BYTES],
                  void (*found)(void *arg, struct journal_entry *e), void *arg);
/* Go on with the file of e, as journal_start; it is cut after what is good. */
MUST_CHECK enum err journal_resume(struct journal **out, struct hub *hub, const char *dir,
                                   const struct journal_entry *e);
#endif
