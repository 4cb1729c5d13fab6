/* log.h - lines on stderr, for people or for programs, one subject each.
 *
 * As text a line is `HH:MM:SS level text`; control characters are replaced, so that no peer or file
 * can move the terminal's cursor.  As JSON it is one object:
 *
 *     {"time":"2026-01-31T12:00:00.123Z","level":"info","program":"swarm-node","node":"swm1...",
 *      "message":"..."}
 *
 * in UTF-8, whatever bytes the message holds; "node" once it is known.  What users ask and are
 * answered is never logged.  Safe from any thread; a line is written by one call. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Lines above this level are dropped; LOG_INFO at start.  Set once, before threads. */
void log_set_level(enum log_level level);
/* JSON from now on, of this program (borrowed); likewise. */
void log_set_json(const char *program);
bool log_is_json(void);
/* Replaces in place what could move a terminal's cursor or turn its text around: controls, also
 * those of two bytes, and bytes that are no UTF-8. */
void log_clean(char *text);
/* Who this node is, for JSON; likewise.  A short word, copied. */
void log_set_node(const char *node);

__attribute__((format(printf, 2, 3))) void log_line(enum log_level level, const char *fmt, ...);

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

#endif
