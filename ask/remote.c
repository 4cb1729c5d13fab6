#include "ask/remote.h"

#include <signal.h>
#include <stdlib.h>

struct remote {
    struct remote_config c;
    struct hub hub;
    struct net *net;
    struct peers *peers;
    struct pipelines *pipelines;
    struct pipeline *pipeline; /* owned; the session */
    /* what the blocked caller waits for */
    bool is_joined, is_open, has_rows;
    void *x;
    uint32_t n;
    bool is_closing;
    enum err err;
    struct why why;
};

/* --- events end the wait --- */

static void give_up(struct remote *r, enum err e, const char *text)
{
    if (r->err) return;
    r->err = fail(&r->why, e, "%s", text);
    hub_stop(&r->hub);
}

static void on_mail(void *arg, struct mail *m)
{
    struct remote *r = arg;
    if (r->is_closing)
        m->note.drop(&m->note);
    else if (m->m.type == MSG_RECORDS || m->m.type == MSG_RECORDS_GET)
        peers_on_mail(r->peers, m);
    else
        pipelines_on_mail(r->pipelines, m);
}

static void on_peer(void *arg, const struct node_id *id, bool up, const char *why)
{
    struct remote *r = arg;
    if (r->is_closing) return;
    peers_on_peer(r->peers, id, up);
    pipelines_on_peer(r->pipelines, id, up, why);
    if (up && node_id_equal(id, &r->c.link.id)) {
        r->is_joined = true;
        hub_stop(&r->hub);
    }
}

static void on_change(void *arg)
{
    struct remote *r = arg;
    if (r->pipelines && !r->is_closing) pipelines_on_change(r->pipelines);
}

static void on_join_failed(void *arg, const struct link *l, const char *why)
{
    struct remote *r = arg;
    struct why text;
    fail(&text, ERR_CLOSED, "%s:%u cannot be joined: %s", l->host, l->port, why);
    if (!r->is_joined) give_up(r, ERR_CLOSED, text.text);
}

static void on_open(void *arg)
{
    struct remote *r = arg;
    r->is_open = true;
    hub_stop(&r->hub);
}

static void on_rows(void *arg, uint32_t pos, uint32_t n, struct slice x)
{
    struct remote *r = arg;
    (void)pos;
    if (n != r->n || !r->x) return; /* pipeline.c gives what was wanted */
    memcpy(r->x, x.p, x.n);
    r->has_rows = true;
    hub_stop(&r->hub);
}

static void on_fail(void *arg, enum wire_error code, const char *text)
{
    (void)code;
    give_up(arg, ERR_CLOSED, text);
}

/* Let the loop run until the flag is set or something failed. */
static enum err wait_for(struct remote *r, const bool *flag, struct why *why)
{
    while (!*flag && !r->err) hub_run(&r->hub);
    return r->err ? fail(why, r->err, "%s", r->why.text) : ERR_OK;
}

/* --- the calls --- */

static enum err begin_session(struct remote *r, struct why *why)
{
    struct pipeline_wish wish = { .min_tokens = r->c.positions, .max_tokens = r->c.positions };
    struct pipeline_events on = {
        .arg = r, .on_open = on_open, .on_rows = on_rows, .on_fail = on_fail
    };
    pipeline_close(r->pipeline);
    r->pipeline = NULL;
    r->is_open = false;
    enum err e = pipeline_open(r->pipelines, &wish, &on, &r->pipeline);
    return e ? fail(why, e, "%s", err_text(e)) : wait_for(r, &r->is_open, why);
}

enum err remote_rows(struct remote *r, uint32_t pos, uint32_t n, void *x, struct why *why)
{
    if (r->err) return fail(why, r->err, "%s", r->why.text);
    enum err e = pos == 0 ? begin_session(r, why) : ERR_OK;
    if (e) return e;
    r->x = x;
    r->n = n;
    r->has_rows = false;
    pipeline_send(r->pipeline, pos, n, x, n);
    e = wait_for(r, &r->has_rows, why);
    r->x = NULL;
    return e;
}

static enum err open_parts(struct remote *r, struct why *why)
{
    enum { ROLE_ASKS = 2 };
    struct net_config nc = { .me = r->c.me,
                             .swarm = r->c.swarm,
                             .agent = "swarm-eval " SWARM_VERSION,
                             .role = ROLE_ASKS,
                             .arg = r,
                             .on_mail = on_mail,
                             .on_peer = on_peer };
    enum err e = net_open(&r->net, &r->hub, &nc, why);
    if (e) return e;
    struct peers_config pc = { .hub = &r->hub,
                               .net = r->net,
                               .me = r->c.me,
                               .swarm = r->c.swarm,
                               .join = &r->c.link,
                               .n_join = 1,
                               .arg = r,
                               .on_change = on_change,
                               .on_join_failed = on_join_failed };
    e = peers_open(&r->peers, &pc);
    struct pipelines_config lc = { .hub = &r->hub,
                                   .net = r->net,
                                   .peers = r->peers,
                                   .me = r->c.me->id,
                                   .n_layers = r->c.n_layers,
                                   .row_bytes = r->c.row_bytes,
                                   .patience_ms = 5000 };
    memcpy(lc.model, r->c.model, ID_BYTES);
    if (!e) e = pipelines_open(&r->pipelines, &lc);
    return e ? fail(why, e, "%s", err_text(e)) : ERR_OK;
}

enum err remote_open(struct remote **out, const struct remote_config *c, struct why *why)
{
    struct remote *r = calloc(1, sizeof *r);
    *out = NULL;
    if (!r) return fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    r->c = *c;
    enum err e = hub_init(&r->hub);
    if (e) {
        free(r);
        return fail(why, e, "the loop cannot start: %s", err_text(e));
    }
    signal(SIGPIPE, SIG_IGN);
    e = open_parts(r, why);
    if (!e) e = wait_for(r, &r->is_joined, why);
    if (e) {
        remote_close(r);
        return e;
    }
    *out = r;
    return ERR_OK;
}

static void on_net_closed(void *arg)
{
    hub_stop(&((struct remote *)arg)->hub);
}

void remote_close(struct remote *r)
{
    if (!r) return;
    r->is_closing = true;
    pipeline_close(r->pipeline);
    pipelines_close(r->pipelines);
    if (r->peers) peers_close(r->peers);
    if (r->net) {
        net_close(r->net, on_net_closed, r);
        hub_run(&r->hub);
    }
    hub_fini(&r->hub);
    free(r);
}
