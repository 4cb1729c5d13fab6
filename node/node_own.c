/* node_own.c - what a node shows its own user, and what he may do to it. */
#include "node/node_impl.h"

#include "base/log.h"
#include "home/runtime_dir.h"

#include <signal.h>
#include <stdio.h>

void node_link(const struct node *n, char *out, size_t cap)
{
    struct link l = { .id = n->me.id, .port = n->reached.port };
    snprintf(l.host, sizeof l.host, "%s", n->reached.host);
    link_text(out, cap, &l);
}

/* What is said in sentences, until the next look. */
struct sentences {
    char link[NODE_LINK_TEXT], reach[800], progress[200], pause[PAUSE_TEXT];
};

static struct status_source look(struct node *n, struct sentences *t)
{
    *t = (struct sentences){ 0 };
    node_link(n, t->link, sizeof t->link);
    find_text(n->find, t->reach, sizeof t->reach);
    counters_refresh(&n->counters);
    (void)holder_text(n->holder, t->progress, sizeof t->progress);
    if (n->pause) pause_describe(n->pause, t->pause);
    return (struct status_source){ .me = n->me.id,
                                   .name = n->c->name,
                                   .state = n->is_draining      ? "draining"
                                            : node_is_paused(n) ? "paused"
                                            : n->is_ready       ? "active"
                                                                : "joining",
                                   .pause = t->pause,
                                   .mode = n->pause ? pause_mode(n->pause) : NEIGHBOUR_RUN,
                                   .link = t->link,
                                   .reach = t->reach,
                                   .gateway = n->gateway ? beside_says(n->gateway) : NULL,
                                   .started_ms = n->started_ms,
                                   .hub = &n->hub,
                                   .net = n->net,
                                   .peers = n->peers,
                                   .services = &n->services,
                                   .counters = &n->counters,
                                   .progress = t->progress,
                                   .note = n->join_why.text };
}

static void describe(void *arg, struct text *out)
{
    struct sentences t;
    struct status_source s = look(arg, &t);
    status_json(out, &s);
}

static void measure(void *arg, struct text *out)
{
    struct sentences t;
    struct status_source s = look(arg, &t);
    metrics_text(out, &s);
}

enum err node_open_metrics(struct node *n, struct why *why)
{
    return n->c->metrics ? metrics_open(&n->metrics, &n->hub, n->c->metrics, measure, n, why)
                         : ERR_OK;
}

/* Where programs of this machine reach it: over loopback when it listens there. */
static struct link own_link(const struct node *n)
{
    struct link l = { .id = n->me.id, .port = net_port(n->net) };
    bool is_any = strcmp(n->listen_host, "0.0.0.0") == 0 || strcmp(n->listen_host, "::") == 0;
    snprintf(l.host, sizeof l.host, "%s", is_any ? "127.0.0.1" : n->listen_host);
    return l;
}

/* It says itself, where people look for it, what is wrong while this node cannot answer yet. */
enum err node_open_gateway(struct node *n, struct why *why)
{
    char text[NODE_LINK_TEXT];
    if (!n->c->gateway) return ERR_OK;
    struct link l = own_link(n);
    link_text(text, sizeof text, &l);
    struct beside_config c = { .hub = &n->hub,
                               .program = "swarm-gateway",
                               .link = text,
                               .listen = n->c->gateway,
                               .options = n->c->gateway_options,
                               .swarm_key = n->c->swarm_key };
    return beside_open(&n->gateway, &c, why);
}

static enum err rehold(void *arg, const struct holding *h, struct why *why)
{
    return node_rehold(arg, h, why);
}

/* As SIGTERM does it; the message has been dealt with when the signal arrives.  (A second SIGTERM
 * would stop at once.) */
static void drain(void *arg)
{
    const struct node *n = arg;
    if (!n->is_draining) (void)uv_kill(uv_os_getpid(), SIGTERM);
}

/* swarm-ask and `swarm-node status` of this user find us by this. */
void node_publish(struct node *n)
{
    struct why why;
    struct local_node me = { .link = own_link(n),
                             .answers = n->services.coordinator != NULL && !n->is_draining };
    snprintf(me.model, sizeof me.model, "%s", n->services.weights.name.name);
    memcpy(me.token, n->control.token, TOKEN_BYTES);
    if (runtime_publish(&me, &why))
        log_warn("swarm-ask and swarm-node status will not find this node by themselves: %s",
                 why.text);
    explicit_bzero(&me, sizeof me);
}

void node_open_control(struct node *n)
{
    n->control = (struct control){
        .net = n->net,
        .arg = n,
        .describe = describe,
        .hold = rehold,
        .drain = drain,
        .pause = node_pause,
    };
    random_bytes(n->control.token, TOKEN_BYTES);
    n->started_ms = now_ms(&n->hub);
    counters_open(&n->counters, &n->hub, n->net, n->c->store_dir, &n->me.id);
    node_publish(n);
}
