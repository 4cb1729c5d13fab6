/* question.h - the asker's side: questions to one coordinator, as many at once as one likes.
 *
 *     question_ask -> ASK -> ASK_PLAN, ASK_TEXT ... -> ASK_DONE, or an ERROR
 *          ^                                   |
 *          +--- the line broke, or the coordinator stops: ASK_RESUME, until patience ends
 *
 * The connection is made at the first question and again when it was lost.  An answer goes on where
 * it was: nothing is heard twice.  A coordinator of this machine is found again wherever it listens
 * after a restart. */
#ifndef ASK_QUESTION_H
#define ASK_QUESTION_H

#include "net/net.h"

struct questions; /* all of one asker */
struct question;

struct questions_config {
    struct hub *hub;
    struct net *net; /* borrowed until questions_close */
    struct link link;
    uint32_t
        patience_ms; /* for a coordinator to come back; 0: not at all, so nobody keeps answers */
};

/* What the asker hears, on the loop, never from inside question_ask. */
struct question_events {
    void *arg;
    void (*on_plan)(void *arg, struct slice json);
    /* index: tokens of the answer that have been made by now */
    void (*on_text)(void *arg, uint32_t index, struct slice text, bool is_thinking);
    void (*on_note)(void *arg, struct slice text); /* what happens to the pipeline, for people */
    /* It waits for its turn (place 1 is next), which text says in words; NULL: that is a note. */
    void (*on_place)(void *arg, uint32_t place, struct slice text);
    /* The question's end is one of these two; q is not to be used after it.  code: a wire_error; 0:
     * the coordinator could not be reached. */
    void (*on_done)(void *arg, const struct msg_ASK_DONE *done);
    void (*on_fail)(void *arg, unsigned code, const char *text);
    /* Before on_text: of that text's tokens, as ASK_TEXT has it; NULL: nobody wants it. */
    void (*on_likely)(void *arg, struct slice likely);
    void (*on_trace)(void *arg, struct slice events); /* proto/trace.h; NULL: likewise */
};

MUST_CHECK enum err questions_open(struct questions **out, const struct questions_config *c);
/* Ends without a word what is still asked; before net_close.  Mails and peers are not to be handed
 * on any more. */
void questions_close(struct questions *qs);

/* q's slices are borrowed until the end is heard. */
MUST_CHECK enum err question_ask(struct questions *qs, const struct msg_ASK *q,
                                 const struct question_events *on, struct question **out);
/* Stop the answer: on_done follows (reason 2), or on_fail; also from inside this call. */
void question_cancel(struct question *q);
/* Stop it, and hear nothing more. */
void question_drop(struct question *q);

/* Takes m. */
void questions_on_mail(struct questions *qs, struct mail *m);
void questions_on_peer(struct questions *qs, const struct node_id *id, bool up, const char *why);

#endif
