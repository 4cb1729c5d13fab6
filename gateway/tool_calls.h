/* tool_calls.h - the calls of functions that a model writes into its answer, taken out of the
 * stream while it comes.
 *
 * Three ways of writing are understood (model/chat.h has the same from the other side):
 *
 *   GLM-4.5       <tool_call>NAME\n<arg_key>K</arg_key>\n<arg_value>V</arg_value>\n...</tool_call>
 *   INTELLECT-3
 * <tool_call>\n<function=NAME>\n<parameter=K>\nV\n</parameter>\n...</function>\n</tool_call> GLM-4
 * NAME\n{arguments}, and nothing else in the answer
 *
 * A name that is none of the request's tools is no call, but text.  Arguments become a JSON object;
 * a value is a string where the tool's schema says so, or where it is not JSON by itself. */
#ifndef GATEWAY_TOOL_CALLS_H
#define GATEWAY_TOOL_CALLS_H

#include "base/json.h"

enum { TOOL_CALL_MAX = 256 << 10, TOOL_CALLS_MAX = 128 }; /* bytes of one call; calls */

struct tool_events {
    void *arg;
    void (*on_text)(void *arg, struct slice text);
    void (*on_call)(void *arg, uint32_t index, struct slice name);
    /* Pieces of the call's arguments; together one JSON object. */
    void (*on_args)(void *arg, uint32_t index, struct slice json);
};

struct tool_calls {
    const struct json *tools; /* the request's "tools", borrowed; NULL: text passes untouched */
    struct tool_events on;
    struct text b;  /* owned: what is not decided yet */
    int state;      /* of tool_calls.c; 0 to begin with */
    size_t n_space; /* white space before a tag that may be a call */
    uint32_t n_calls;
    const struct json *tool; /* of the call that is being read */
    bool has_args;
};

void tool_calls_feed(struct tool_calls *t, struct slice text);
/* The answer is over: a call that was not finished is closed, all else said as text. */
void tool_calls_end(struct tool_calls *t);
void tool_calls_fini(struct tool_calls *t);

#endif
