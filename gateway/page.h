/* page.h - the web page: files that are part of the program, and how they are served.
 *
 * gateway/web/ holds them; the build puts them into page_files.  The page is served to everybody,
 * for who has a key has to be able to type it in.  It may load and ask nothing but this gateway,
 * which its headers say; nothing of it is written by hand into HTML (gateway/web/README.md). */
#ifndef GATEWAY_PAGE_H
#define GATEWAY_PAGE_H

#include "net/http.h"

/* One file, as cmake/embed.cmake writes it. */
struct page_file {
    const char *path, *type, *etag;
    const unsigned char *bytes;
    size_t n;
};
extern const struct page_file page_files[];
extern const unsigned page_n_files;

/* Answers x if its path is one of the page's: 200, 304 when the reader has it, 405.  The status; 0:
 * it is not. */
unsigned page_serve(struct exchange *x);

#endif
