#include "tools/ask.h"

#include <stdlib.h>
#include <unistd.h>

static const char help[] = "/new    forget this conversation and begin another\n"
                           "/help   this\n"
                           "/quit   leave (ctrl-D does too)\n"
                           "ctrl-C stops an answer.  Anything else is said to the model.\n";

/* Only a person needs a prompt. */
static void next_line(struct ask *a)
{
    if (isatty(STDIN_FILENO)) {
        fputs("> ", stdout);
        fflush(stdout);
    }
    client_read_line(a->client);
}

void ask_chat_begin(struct ask *a)
{
    if (isatty(STDIN_FILENO)) puts("Ask something.  /help lists the commands, /quit leaves.");
    next_line(a);
}

static bool is_blank(const char *line)
{
    return line[strspn(line, " \t\r")] == 0;
}

void ask_chat_line(struct ask *a, const char *line)
{
    if (!line || strcmp(line, "/quit") == 0) {
        if (!line && isatty(STDIN_FILENO)) puts("");
        client_stop(a->client);
    } else if (is_blank(line)) {
        next_line(a);
    } else if (strcmp(line, "/help") == 0) {
        fputs(help, stdout);
        next_line(a);
    } else if (strcmp(line, "/new") == 0) {
        ask_forget(a);
        puts("(a new conversation)");
        next_line(a);
    } else if (line[0] == '/' && !strchr(line, ' ')) {
        puts("there is no such command; /help lists them");
        next_line(a);
    } else {
        a->kept = a->history.n;
        ask_add_message(a, "user", slice_str(line));
        ask_send(a);
    }
}

/* A question without an answer is no part of the conversation. */
void ask_chat_turn(struct ask *a, bool is_answered)
{
    if (is_answered)
        ask_add_message(a, "assistant", slice_of(a->answer.p, a->answer.n));
    else
        a->history.n = a->kept;
    next_line(a);
}

void ask_chat_interrupt(struct ask *a)
{
    (void)a;
    fputs("\n(/quit leaves)\n> ", stdout);
    fflush(stdout);
}
