/* http.h - HTTP/1.1 on the loop, for the gateway and a node's metrics: whole requests in, whole
 * answers or streams out.
 *
 * The only file that knows libmicrohttpd, which runs on libuv's loop here, without threads.  An
 * exchange is one request and its answer:
 *
 *     head and body read, within limits -> on_request -> http_reply, or
 *                                                        http_stream, http_put ..., http_end
 *     the answer is sent, or the client has gone -> on_closed, always, once
 *
 * Answers may come in on_request or any time later.  That a client has gone is noticed at once,
 * also while nothing is sent.  TLS is a reverse proxy's to make. */
#ifndef NET_HTTP_H
#define NET_HTTP_H

#include "base/json.h"
#include "net/actor.h"

enum {
    HTTP_BODY_MAX = (1 << 20) + (64 << 10), /* a conversation, and what is asked of it */
    HTTP_HEAD_MAX = 16 << 10,
    HTTP_CONNECTIONS_MAX = 512,
    HTTP_PER_ADDRESS_MAX = 64,
    HTTP_REQUEST_MS = 30000,   /* for a whole request to come in */
    HTTP_BEHIND_MAX = 4 << 20, /* bytes that a reader may be behind, then it is dropped */
    HTTP_ADDR_TEXT = 48,
};

struct http;
struct exchange;

struct http_config {
    struct hub *hub;
    const char *host;     /* an address to listen on */
    uint16_t port;        /* 0: any free one */
    uint32_t connections; /* at once; 0: HTTP_CONNECTIONS_MAX */
    size_t body_max;      /* of a request; 0: HTTP_BODY_MAX */
    void *arg;
    void (*on_request)(void *arg, struct exchange *x);
    void (*on_closed)(void *arg, struct exchange *x); /* x is freed after it */
};

MUST_CHECK enum err http_open(struct http **out, const struct http_config *c, struct why *why);
/* Ends every exchange; h is freed by the loop. */
void http_close(struct http *h);
uint16_t http_port(const struct http *h);
uint32_t http_connections(const struct http *h);

/* --- the request; all borrowed from x --- */

const char *http_method(const struct exchange *x); /* "GET", ... */
const char *http_path(const struct exchange *x);   /* without the query */
struct slice http_body(const struct exchange *x);
const char *http_header(const struct exchange *x, const char *name); /* NULL: not there */
/* All values of a header that may come several times, separated by commas. */
void http_join_header(const struct exchange *x, const char *name, struct text *out);
const char *http_query(const struct exchange *x, const char *name);  /* NULL: not there */
const char *http_peer(const struct exchange *x); /* address of the other side, as text */
/* The owner's own. */
void http_set_user(struct exchange *x, void *user);
void *http_user(const struct exchange *x);

/* --- the answer --- */

/* Before http_reply or http_stream; at most 12, of up to 255 bytes. */
void http_add_header(struct exchange *x, const char *name, const char *value);
void http_reply(struct exchange *x, unsigned status, const char *type, struct slice body);
void http_stream(struct exchange *x, const char *type);
void http_put(struct exchange *x, struct slice bytes); /* copied */
void http_end(struct exchange *x);
bool http_is_streaming(const struct exchange *x);

#endif
