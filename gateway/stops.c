#include "gateway/stops.h"

#include <string.h>

/* Does one of the stops begin at p, as far as n bytes tell?  *is_whole: all of it is there. */
static bool begins(const struct stops *s, const char *p, size_t n, bool *is_whole)
{
    bool is_prefix = false;
    *is_whole = false;
    for (unsigned i = 0; i < s->n; i++) {
        size_t k = n < s->len[i] ? n : s->len[i];
        if (memcmp(p, s->text[i], k) != 0) continue;
        is_prefix = true;
        *is_whole |= k == s->len[i];
    }
    return is_prefix;
}

/* Say what can no longer become a stop; stay at the first byte that can. */
static void release(struct stops *s, stops_say *say, void *arg)
{
    size_t at = 0;
    bool is_whole = false;
    while (at < s->n_held && !begins(s, s->held + at, s->n_held - at, &is_whole)) at++;
    if (at > 0) say(arg, slice_of(s->held, at));
    s->n_held -= at;
    memmove(s->held, s->held + at, s->n_held);
    if (is_whole) {
        s->is_found = true;
        s->n_held = 0;
    }
}

bool stops_feed(struct stops *s, struct slice text, stops_say *say, void *arg)
{
    if (s->is_found) return true;
    if (s->n == 0) {
        if (text.n > 0) say(arg, text);
        return false;
    }
    while (text.n > 0 && !s->is_found) {
        size_t n = STOP_BYTES_MAX < text.n ? STOP_BYTES_MAX : text.n;
        memcpy(s->held + s->n_held, text.p, n);
        s->n_held += n;
        text = slice_of(text.p + n, text.n - n);
        release(s, say, arg);
    }
    return s->is_found;
}

void stops_flush(struct stops *s, stops_say *say, void *arg)
{
    if (s->n_held > 0) say(arg, slice_of(s->held, s->n_held));
    s->n_held = 0;
}
