/* usage.h - what a gateway served, day by day: counts, nobody's name, address or words.
 *
 * One small file a day and gateway, written anew every minute and at the end:
 *
 *     DIR/usage-2026-11-23-8080.json      (days of UTC; 8080 is the gateway's port)
 *     {"day":"2026-11-23","requests":120,...,"busiest_minute":9}
 *
 * A gateway that starts again goes on with the file of the day.  Files are written in libuv's
 * worker threads, one at a time; a disk that fails is logged once and costs no answer. */
#ifndef GATEWAY_USAGE_H
#define GATEWAY_USAGE_H

#include "base/json.h"
#include "net/actor.h"

/* Counted since the start, by whoever counts. */
enum usage_kind {
    USAGE_REQUESTS,
    USAGE_STREAMS,
    USAGE_PROMPT_TOKENS,
    USAGE_CACHED_TOKENS,
    USAGE_TOKENS,
    USAGE_REASONING_TOKENS,
    USAGE_REFUSED_KEY,
    USAGE_REFUSED_LIMIT,
    USAGE_CLIENT_ERRORS, /* answers of class 4xx, refusals included */
    USAGE_SERVER_ERRORS, /* 5xx */
    USAGE_GONE,
    USAGE_FIRST_TOKEN_MS, /* sum over requests */
    USAGE_KINDS
};

struct usage_book;

/* Makes dir, and those above it, if they are not there.  ERR_IO, ERR_RANGE with why; ERR_NOMEM. */
MUST_CHECK enum err usage_open(struct usage_book **out, struct hub *hub, const char *dir,
                               unsigned tag, uint64_t now_s, struct why *why);
/* Every second, with what is counted by now. */
void usage_tick(struct usage_book *b, const uint64_t count[USAGE_KINDS], uint64_t now_s);
/* The last word; after hub_fini.  NULL is fine. */
void usage_close(struct usage_book *b, const uint64_t count[USAGE_KINDS], uint64_t now_s);

#endif
