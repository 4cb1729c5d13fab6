/* chat.h - a conversation as the text that a model was trained on.
 *
 * Native forms (model-facts C.5 to C.8), no template engine: glm-4.5 (GLM-4.5, Air, 4.6),
 * glm-4 (GLM-4-0414), intellect-3 (ChatML).  The result is a list of segments, markers apart from
 * the text of users, tools and history, so that no text can smuggle a special token.
 *
 * What an OpenAI client sends is read as it means it: content null, absent or a list of text parts,
 * arguments as an object or as its JSON text, role tool also where a form says observation. */
#ifndef MODEL_CHAT_H
#define MODEL_CHAT_H

#include "base/err.h"
#include "base/json.h"
#include "model/tokenizer.h"

enum chat_form { CHAT_NONE, CHAT_GLM45, CHAT_GLM4, CHAT_INTELLECT3 };

const char *chat_form_name(enum chat_form f); /* "none", "glm-4.5", "glm-4", "intellect-3" */
bool chat_form_parse(const char *name, enum chat_form *out);

/* Which form a chat template's text is; ERR_UNSUPPORTED with why when none matches. */
MUST_CHECK enum err chat_form_detect(struct slice template_text, enum chat_form *out,
                                     struct why *why);

enum think { THINK_DEFAULT, THINK_ON, THINK_OFF };

/* The rendered conversation: text with ranges that are markers. */
struct chat_text {
    struct text text;
    struct chat_part {
        size_t lo, hi; /* bytes of text */
        bool marker;   /* written by the form: special tokens in it are recognised */
    } *part;           /* owned; ascending, adjoining */
    uint32_t n_parts, cap_parts;
};
void chat_text_fini(struct chat_text *c);

/* Render {"messages", "tools"?} (JSON as an OpenAI client sends it).
 *   ERR_MALFORMED with why: not such a list, an unknown role, arguments that are no object, ... */
MUST_CHECK enum err chat_render(enum chat_form f, const struct json *messages,
                                const struct json *tools, enum think think,
                                bool add_generation_prompt, struct chat_text *out, struct why *why);

/* A text as it is, for the model to go on with: nothing in it is a marker.  GLM forms begin every
 * text with [gMASK]<sop>, so that is put before it. */
MUST_CHECK enum err chat_plain(enum chat_form f, struct slice text, struct chat_text *out,
                               struct why *why);

/* The ids of a rendered conversation.  An added token is recognised only where it lies wholly
 * inside marker parts; the text between recognised tokens is pre-tokenized as one piece, across
 * parts, so the ids equal the reference's whenever no part of the users' text contains an added
 * token's text. */
MUST_CHECK enum err chat_encode(const struct tokenizer *t, const struct chat_text *c,
                                struct ids *out);

#endif
