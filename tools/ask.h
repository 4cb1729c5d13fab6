/* ask.h - what the files of swarm-ask share.
 *
 *     swarm-ask.c    the command line, one question, its end
 *     ask_chat.c     the chat: lines, history, commands
 *     ask_report.c   plan and times in words */
#ifndef TOOLS_ASK_H
#define TOOLS_ASK_H

#include "ask/client.h"
#include "base/json.h"

#include <stdio.h>

/* One run of swarm-ask. */
struct ask {
    /* what is wanted */
    struct msg_ASK options; /* sampling, model, think, max_tokens; no conversation */
    const char *system;     /* or NULL */
    bool wants_stats, wants_json, is_chat;

    /* the conversation so far: the messages, comma-separated JSON; owned */
    struct text history;
    size_t kept;         /* bytes of history without the question that is open */
    struct text sending; /* owned: the conversation as it was sent */

    /* the answer under way; owned */
    struct text answer, reasoning, plan;
    struct text traced;     /* events of --trace; owned */
    const char *trace_file; /* NULL: none is wanted */
    bool is_answering;
    uint32_t place;   /* in the queue, as shown; 0: it does not wait */
    bool is_dim;      /* the terminal shows reasoning now */
    bool has_printed; /* some of the answer */

    struct client *client;
    int status; /* of the program */
};

/* --- swarm-ask.c --- */
/* Ask the history's conversation; ends in ask_chat_turn when this is a chat. */
void ask_send(struct ask *a);
/* Append {"role", "content"} to the history; content is made valid UTF-8. */
void ask_add_message(struct ask *a, const char *role, struct slice content);
void ask_forget(struct ask *a); /* history back to the system message */

/* --- ask_chat.c --- */
void ask_chat_begin(struct ask *a);
void ask_chat_line(struct ask *a, const char *line); /* NULL: end of input */
void ask_chat_turn(struct ask *a, bool is_answered); /* an answer has ended: the next line */
void ask_chat_interrupt(struct ask *a);              /* ctrl-C while nobody answers */

/* --- ask_report.c --- */
void ask_print_plan(FILE *f, const struct text *plan);
/* Write what was traced to a->trace_file.  ERR_MALFORMED, or of the file. */
MUST_CHECK enum err ask_write_trace(const struct ask *a, struct why *why);
void ask_print_stats(FILE *f, const struct msg_ASK_DONE *done);

#endif
