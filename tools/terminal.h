/* terminal.h - text of strangers on a person's terminal.
 *
 * Nothing but printable characters, newlines and tabs gets through: a model's words cannot move the
 * cursor, change colours or speak to the terminal. */
#ifndef TOOLS_TERMINAL_H
#define TOOLS_TERMINAL_H

#include "base/json.h"

#include <stdio.h>

/* Append s (UTF-8, whole characters) to out without control characters: C0 but newline and tab,
 * DEL, C1 (U+0080..U+009F), and what overrides the direction of writing. */
void terminal_clean(struct text *out, struct slice s);

/* The same straight to f, flushed. */
void terminal_print(FILE *f, struct slice s);

/* Does f take colours?  A terminal, TERM not "dumb", NO_COLOR not set. */
bool terminal_has_style(FILE *f);

/* Dim from now on, or as usual again; nothing where there is no style. */
void terminal_dim(FILE *f, bool dim);

#endif
