/* chat_impl.h - what the chat forms share: reading messages, writing marked text. */
#ifndef MODEL_CHAT_IMPL_H
#define MODEL_CHAT_IMPL_H

#include "model/chat.h"

/* One rendering.  The first error stays; everything after it is a no-op. */
struct chat {
    const struct json *messages, *tools; /* a list; a list that is not empty, or NULL */
    enum think think;
    bool generation_prompt;
    struct chat_text *out;
    struct why *why;
    enum err e;
    uint32_t at;         /* number of the message in hand, for errors */
    struct text content; /* owned; the content of a message that came in parts */
};

void chat_glm45(struct chat *c);
void chat_glm4(struct chat *c);
void chat_intellect3(struct chat *c);

/* Writing.  Marks are the form's own words: special tokens in them count. */
void chat_mark(struct chat *c, const char *text);
void chat_say(struct chat *c, struct slice text);
void chat_say_json(struct chat *c, const struct json *v, unsigned indent);
/* A value among text: a string as it is, anything else as JSON. */
void chat_say_value(struct chat *c, const struct json *v);

/* Reading.  Each fails with a sentence that names the message. */
__attribute__((format(printf, 2, 3))) void chat_refuse(struct chat *c, const char *fmt, ...);
bool chat_role_is(const struct json *message, const char *role);
void chat_refuse_role(struct chat *c, const struct json *message);
/* The text of a message: a string, null, or a list of parts of type text.  Good until the next
 * call. */
struct slice chat_content(struct chat *c, const struct json *message);
struct slice chat_string(const struct json *object, const char *name); /* empty if there is none */
/* The function of a tool or of a call: its member "function", or itself. */
const struct json *chat_function(struct chat *c, const struct json *v);
/* The calls of an assistant's message, or NULL. */
const struct json *chat_calls(const struct json *message);
/* A call's arguments, an object: as sent, or parsed from a string into *doc, which the caller
 * frees.  NULL: it has none. */
const struct json *chat_arguments(struct chat *c, const struct json *function,
                                  struct json_doc **doc);

/* An assistant's message in its two parts: the reasoning (its own field, else what stands before
 * </think> in the content) and the answer. */
struct chat_answer {
    struct slice reasoning, content;
};
struct chat_answer chat_split_thinking(struct chat *c, const struct json *message);

/* Without the white space at both ends, as Python's str.strip. */
struct slice chat_strip(struct slice s);

#endif
