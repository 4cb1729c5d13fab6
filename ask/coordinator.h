/* coordinator.h - one request's life, from a conversation to a streamed answer.
 *
 *     ask -> read the prompt -> open a pipeline -> prefill in chunks -> [row, token, text, row,
 * ...]
 *
 * When a stage is lost the pipeline finds another, and the rows of all ids so far, the prompt's and
 * the answer's, are made and sent again; the token that comes next is the one that would have come,
 * for rows are exact and dice belong to a position.
 *
 * A request may be found again by the one who asked, after his connection broke or this node was
 * started anew: it is written down (journal.h) before he hears the first word.
 *
 * Text and tokens stay on this node; stages see hidden rows.  What takes long (tokenizing,
 * embedding, logits, sampling) runs on the compute thread.  Requests are independent: each has its
 * own pipeline, stages and the compute thread put together what is ready. */
#ifndef ASK_COORDINATOR_H
#define ASK_COORDINATOR_H

#include "ask/pipeline.h"
#include "model/chat.h"
#include "stage/compute.h"
#include "stage/shelf.h"
#include "weights/weights.h"

enum {
    REQUESTS_MAX = 512, /* known at once: answered, waiting, kept for an asker who is away */
    CONVERSATIONS_MAX = 64 << 20, /* bytes of all their conversations */
    ANSWER_TOKENS = 8192,         /* reserved for an answer whose length nobody limited */
};

struct coordinator;
struct request;

struct coordinator_config {
    struct hub *hub;
    struct pipelines *pipelines;   /* all borrowed until coordinator_close */
    struct compute *compute;       /* opened with ends */
    const struct weights *weights; /* with ends */
    const struct tokenizer *tokenizer;
    enum chat_form form;
    enum draft_mode draft;     /* guesses of tokens to come (docs/drafts.md) */
    struct counters *counters; /* NULL: nobody counts */
    struct node_id me;
    struct shelf *shelf;     /* where names of rows are written down; NULL: nowhere */
    uint32_t answers;        /* at once; 0: ADMIT_ANSWERS_MAX */
    uint32_t queue;          /* requests that may wait for their turn, at most ADMIT_QUEUE_MAX */
    const char *journal_dir; /* where requests are written down; NULL: they are not */
};

MUST_CHECK enum err coordinator_open(struct coordinator **out, const struct coordinator_config *c);
/* Go on with the requests of before a restart; once, right after coordinator_open. */
void coordinator_restore(struct coordinator *c);
/* Takes no new requests; those that somebody waits for go on. */
void coordinator_drain(struct coordinator *c);
uint32_t coordinator_waited_for(const struct coordinator *c); /* so many */
/* Ends every request (on_fail, SHUTTING_DOWN) and takes no new ones; journals stay for the next
 * start. */
void coordinator_stop(struct coordinator *c);
/* After compute_close: frees everything. */
void coordinator_close(struct coordinator *c); /* NULL is fine */

/* What the asker hears, on the loop, never from inside coordinator_ask.  The last one is on_done or
 * on_fail; the request must not be used after it.  One with a number is still found by it after
 * on_done, until coordinator_heard: who knows what a broken line has swallowed. */
struct request_events {
    void *arg;
    void (*on_plan)(void *arg, struct slice json);
    void (*on_text)(void *arg, uint32_t index, struct slice text, bool is_thinking);
    void (*on_note)(void *arg, const char *text); /* what happens to the pipeline, for people */
    /* Its place in the queue (1 is next), and about how long it waits; 0: not known. */
    void (*on_place)(void *arg, uint32_t place, uint64_t wait_ms);
    void (*on_done)(void *arg, const struct msg_ASK_DONE *done);
    void (*on_fail)(void *arg, enum wire_error code, const char *text);
    /* Before on_text: of the tokens of that text, as ASK_TEXT has it; NULL: that is not told. */
    void (*on_likely)(void *arg, struct slice likely);
    void (*on_trace)(void *arg, struct slice events); /* proto/trace.h, at most TRACE_BYTES_MAX */
};

/* Take a request of client; q's slices are copied.  rank: of its turn, a lower one goes first; the
 * stages hear it too.  ERR_BUSY, ERR_RANGE (a sampling number),
 * ERR_NOTFOUND (another model), ERR_UNSUPPORTED (a model without chat form) with why. */
MUST_CHECK enum err coordinator_ask(struct coordinator *c, const struct node_id *client,
                                    uint8_t rank, const struct msg_ASK *q,
                                    const struct request_events *on, struct request **out,
                                    struct why *why);
/* The nodes of its model as JSON (map.h). */
void coordinator_map(const struct coordinator *c, struct text *out);
/* Stop answering: sessions are closed at once, on_done with reason "cancelled" is the last event.
 */
void coordinator_cancel(struct request *r);
/* The same for an asker who has gone: no event any more. */
void coordinator_drop(struct request *r);
/* The asker's connection broke: no event any more.  A request that he gave a number (q->request) is
 * computed on for ten seconds, and kept for ten minutes; another ends. */
void coordinator_detach(struct request *r);
/* His request of that number; NULL: there is none. */
struct request *coordinator_find(struct coordinator *c, const struct node_id *client,
                                 struct slice request);
/* He has heard all of it: r goes.  Nothing happens when that cannot be. */
void coordinator_heard(struct request *r);
/* He is back, or asks over another connection, and has n_heard bytes of the answer's text,
 * reasoning included: he gets what follows, some of it, even the last event, inside this call. */
void coordinator_attach(struct request *r, size_t n_heard, const struct request_events *on);

uint32_t coordinator_requests(const struct coordinator *c);
uint32_t coordinator_waiting(const struct coordinator *c); /* of them, for their turn */

#endif
