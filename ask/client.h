/* client.h - what swarm-ask runs on: a connection to a coordinator, lines of the keyboard and
 * interrupts, all as callbacks on one loop.
 *
 * One question at a time.  The connection is made at the first question and again when it was lost
 * between two.  When it is lost while an answer comes, or the coordinator stops, it is tried again
 * until patience ends, and the answer goes on where it was. */
#ifndef ASK_CLIENT_H
#define ASK_CLIENT_H

#include "proto/identity.h"

struct client;

struct client_config {
    const struct identity *me;     /* borrowed until client_close */
    const struct swarm_key *swarm; /* likewise */
    struct link link;
    uint32_t
        patience_ms; /* for a coordinator to come back; 0: not at all, so nobody keeps the answer */
    void *arg;
    void (*on_plan)(void *arg, struct slice json);
    /* index: tokens of the answer that have been made by now */
    void (*on_text)(void *arg, uint32_t index, struct slice text, bool is_thinking);
    void (*on_trace)(void *arg, struct slice events); /* as in question.h; NULL: not wanted */
    void (*on_note)(void *arg, struct slice text);    /* what happens to the pipeline, for people */
    /* It waits for its turn, which text says in words; NULL: that is a note as others. */
    void (*on_place)(void *arg, uint32_t place, struct slice text);
    /* The question's end is one of these two. */
    void (*on_done)(void *arg, const struct msg_ASK_DONE *done);
    void (*on_fail)(void *arg, const char *text);
    void (*on_line)(void *arg, const char *line); /* without the newline; NULL: no more */
    void (*on_interrupt)(void *arg);              /* ctrl-C, or SIGTERM */
};

MUST_CHECK enum err client_open(struct client **out, const struct client_config *c,
                                struct why *why);
/* Handle events until client_stop. */
void client_run(struct client *c);
void client_stop(struct client *c);
void client_close(struct client *c); /* after client_run */

/* Ask; q's slices are borrowed until the end is heard. */
void client_ask(struct client *c, const struct msg_ASK *q);
/* Stop the answer: on_done follows (reason 2), or on_fail. */
void client_cancel(struct client *c);
/* One more line of standard input, please: on_line. */
void client_read_line(struct client *c);

#endif
