/* gateway.h - the door that people use: OpenAI's interface in front of a swarm.
 *
 *     HTTP client -> http.c -> gateway.c (who may, what is it) -> reply.c (one answer) ->
 * coordinator
 *
 * A gateway keeps nothing beyond the requests under way: any number of them serve one swarm behind
 * a load balancer.  What users write is neither logged nor counted but in tokens. */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include "gateway/asker.h"
#include "net/http.h"
#include "proto/identity.h"

enum { GATEWAY_KEYS_MAX = 256, GATEWAY_KEY_BYTES = 128, GATEWAY_NAME_BYTES = 32 };

/* An API key, with the name that limits and metrics know it by. */
struct api_key {
    char name[GATEWAY_NAME_BYTES], key[GATEWAY_KEY_BYTES];
};

struct gateway_config {
    const struct identity *me;     /* borrowed */
    const struct swarm_key *swarm; /* borrowed */
    struct link link;              /* of the coordinator */
    uint32_t patience_ms;          /* for it to come back */
    const char *host;              /* to listen on */
    uint16_t port;
    const struct api_key *key; /* [n_keys] borrowed; none: everybody may ask */
    uint32_t n_keys;
    double per_minute, per_hour; /* requests of one key, or address where there are none; 0: any */
    double tokens_per_minute;    /* likewise, prompt and answer */
    bool no_page;                /* only the interface, not the web page */
    bool is_public;              /* others ask, too: they are told no address of a node */
    bool only_local;             /* foreign pages of this machine's browser may not (visitor.h) */
    const struct proxy_net *proxy; /* [n_proxies] borrowed: believed about whom they ask for */
    unsigned n_proxies;
    const char *usage_dir; /* where counts by day are kept; NULL: nowhere */
    const char *traces;    /* a folder for when what was computed (traces.h); NULL: none */
    const char *cors;      /* origin that pages may ask from; NULL: none */
};

/* Listens and serves until SIGINT or SIGTERM. */
MUST_CHECK enum err gateway_run(const struct gateway_config *c, struct why *why);

/* Lines of "NAME KEY", # begins a comment; at most GATEWAY_KEYS_MAX.  ERR_IO, ERR_MALFORMED,
 * ERR_DENIED (others may read the file) with why naming file and line. */
MUST_CHECK enum err gateway_read_keys(const char *path, struct api_key *out, uint32_t *n,
                                      struct why *why);

#endif
