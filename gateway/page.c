#include "gateway/page.h"

#include <string.h>

/* Scripts, styles and answers of this gateway alone; no frame around it, no form out of it. */
static const char policy[] = "default-src 'none'; script-src 'self'; style-src 'self'; "
                             "img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
                             "form-action 'none'; frame-ancestors 'none'";

static const struct page_file *find(const char *path)
{
    for (unsigned i = 0; i < page_n_files; i++)
        if (strcmp(page_files[i].path, path) == 0) return &page_files[i];
    return NULL;
}

/* If-None-Match: a list of them, or a star. */
static bool is_had(struct exchange *x, const char *etag)
{
    const char *had = http_header(x, "If-None-Match");
    return had && (strcmp(had, "*") == 0 || strstr(had, etag));
}

unsigned page_serve(struct exchange *x)
{
    const struct page_file *f = find(http_path(x));
    if (!f) return 0;
    if (strcmp(http_method(x), "GET") != 0 && strcmp(http_method(x), "HEAD") != 0) {
        http_add_header(x, "Allow", "GET, HEAD");
        http_reply(x, 405, "text/plain", slice_str("the page can only be read\n"));
        return 405;
    }
    http_add_header(x, "Content-Security-Policy", policy);
    http_add_header(x, "X-Content-Type-Options", "nosniff");
    http_add_header(x, "Referrer-Policy", "no-referrer");
    http_add_header(x, "Cross-Origin-Opener-Policy", "same-origin");
    http_add_header(x, "Cache-Control",
                    "no-cache"); /* kept, but asked after: a new program, a new page */
    http_add_header(x, "ETag", f->etag);
    unsigned status = is_had(x, f->etag) ? 304 : 200;
    http_reply(x, status, f->type, status == 304 ? slice_str("") : slice_of(f->bytes, f->n));
    return status;
}
