/* fetch.h - a model folder on a web server, as a folder_source; the only file that knows libcurl.
 *
 * A range is asked for, and asked for again from where it stopped when the connection breaks: after
 * 1, 2, 4, ... 30 s, `retries` times in a row without a byte.  A server that does not know ranges
 * sends the whole file; what lies before the range is then read and dropped.  What arrives is
 * bounded by what was asked for; redirections lead to http and https only, from https to https.
 * Nobody is believed: hashes are checked by who reads. */
#ifndef TOOLS_FETCH_H
#define TOOLS_FETCH_H

#include "store/folder.h"

struct fetch;

/* Is this the URL of a folder, and not a path? */
bool fetch_is_url(const char *text);

/* url is borrowed.  ERR_USAGE with why: no URL of a folder. */
MUST_CHECK enum err fetch_open(struct fetch **out, const char *url, uint32_t retries,
                               struct why *why);
void fetch_close(struct fetch *f); /* NULL is fine */
struct folder_source *fetch_source(struct fetch *f);

#endif
