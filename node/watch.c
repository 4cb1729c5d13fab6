#include "node/watch.h"

#include "base/json.h"
#include "net/net.h"

#include <signal.h>
#include <stdlib.h>

enum { N_SIGNALS = 3, ANSWER_MS = 10000 };

struct watch {
    const struct watch_config *c;
    struct hub hub;
    struct net *net;
    uv_signal_t signal[N_SIGNALS];
    uv_timer_t timer; /* the next question, or an answer that does not come */
    struct text last; /* owned: the last answer */
    bool is_waiting;  /* for an answer */
    bool is_ending;
    enum err err;
    struct why why;
};

static void on_net_closed(void *arg)
{
    hub_stop(&((struct watch *)arg)->hub);
}

static void end(struct watch *w, enum err e, const char *text)
{
    if (w->is_ending) return;
    w->is_ending = true;
    w->err = e;
    if (e) (void)fail(&w->why, e, "%s", text);
    for (int i = 0; i < N_SIGNALS; i++) uv_close((uv_handle_t *)&w->signal[i], NULL);
    uv_close((uv_handle_t *)&w->timer, NULL);
    net_close(w->net, on_net_closed, w);
}

/* --- questions --- */

static void on_timer(uv_timer_t *t);

static void ask(struct watch *w, enum msg_type type)
{
    struct msg m = { .type = type, .rid = 1 };
    struct slice token = slice_of(w->c->node.token, TOKEN_BYTES);
    const struct holding *h = w->c->hold;
    if (type == MSG_DRAIN)
        m.u.DRAIN.token = token;
    else if (type == MSG_HOLD)
        m.u.HOLD = (struct msg_HOLD){ token, h->lo, h->hi, h->ends };
    else if (type == MSG_PAUSE)
        m.u.PAUSE = (struct msg_PAUSE){ token, w->c->pause };
    else
        m.u.STATUS_GET.token = token;
    w->is_waiting = true;
    uv_timer_start(&w->timer, on_timer, ANSWER_MS, 0);
    if (net_send(w->net, &w->c->node.link.id, &m)) end(w, ERR_CLOSED, "the node has gone");
}

static void on_timer(uv_timer_t *t)
{
    struct watch *w = t->data;
    if (w->is_waiting)
        end(w, ERR_TIMEOUT, "the node does not answer");
    else
        ask(w, MSG_STATUS_GET);
}

static void on_dialled(void *arg, const struct node_id *id, enum err e, const char *why)
{
    struct watch *w = arg;
    struct why text;
    (void)id;
    if (w->is_ending) return;
    if (!e) {
        bool is_pause = w->c->pause || w->c->resume;
        ask(w, w->c->drain  ? MSG_DRAIN
               : w->c->hold ? MSG_HOLD
               : is_pause   ? MSG_PAUSE
                            : MSG_STATUS_GET);
        return;
    }
    (void)fail(&text, e, "the node at %s:%u cannot be reached: %s", w->c->node.link.host,
               w->c->node.link.port, why);
    end(w, e, text.text);
}

/* --- answers --- */

static void on_status(struct watch *w, struct slice json)
{
    w->is_waiting = false;
    w->last.n = 0;
    text_add(&w->last, json.p, json.n);
    if (!w->c->on_status(w->c->arg, json))
        end(w, ERR_OK, "");
    else if (w->c->interval_ms && !w->is_ending)
        uv_timer_start(&w->timer, on_timer, w->c->interval_ms, 0);
    else
        uv_timer_stop(&w->timer);
}

static void on_mail(void *arg, struct mail *m)
{
    struct watch *w = arg;
    struct why why;
    if (!w->is_ending && node_id_equal(&m->from, &w->c->node.link.id)) {
        const struct msg *a = &m->m;
        if (a->type == MSG_STATUS && w->is_waiting) on_status(w, a->u.STATUS.status);
        if (a->type == MSG_ERROR && a->rid == 1) {
            (void)fail(&why, ERR_DENIED, "%.*s", (int)a->u.ERROR.text.n,
                       (const char *)a->u.ERROR.text.p);
            end(w, ERR_DENIED, why.text);
        }
    }
    m->note.drop(&m->note);
}

static void on_peer(void *arg, const struct node_id *id, bool up, const char *why)
{
    struct watch *w = arg;
    struct why text;
    if (up || w->is_ending || !node_id_equal(id, &w->c->node.link.id)) return;
    if (w->c->drain && !w->is_waiting) {
        end(w, ERR_OK, "");
        return;
    }
    (void)fail(&text, ERR_CLOSED, "the node has gone%s%s", *why ? ": " : "", why);
    end(w, ERR_CLOSED, text.text);
}

static void on_signal(uv_signal_t *s, int number)
{
    struct watch *w = s->data;
    if (number != SIGWINCH)
        end(w, ERR_CANCELLED, "interrupted");
    else if (w->last.n > 0 && !w->c->on_status(w->c->arg, slice_of(w->last.p, w->last.n)))
        end(w, ERR_OK, "");
}

/* --- life --- */

static void open_handles(struct watch *w)
{
    static const int number[N_SIGNALS] = { SIGINT, SIGTERM, SIGWINCH };
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < N_SIGNALS; i++) {
        uv_signal_init(&w->hub.loop, &w->signal[i]);
        w->signal[i].data = w;
        uv_signal_start(&w->signal[i], on_signal, number[i]);
    }
    uv_timer_init(&w->hub.loop, &w->timer);
    w->timer.data = w;
}

enum err watch_run(const struct watch_config *c, struct why *why)
{
    enum { ROLE_ASKS = 2 };
    struct watch *w = calloc(1, sizeof *w);
    if (!w) return fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    w->c = c;
    enum err e = hub_init(&w->hub);
    if (e) {
        free(w);
        return fail(why, e, "the loop cannot start: %s", err_text(e));
    }
    struct net_config nc = { .me = c->me,
                             .swarm = c->swarm,
                             .agent = "swarm-node " SWARM_VERSION,
                             .role = ROLE_ASKS,
                             .arg = w,
                             .on_mail = on_mail,
                             .on_peer = on_peer };
    e = net_open(&w->net, &w->hub, &nc, why);
    if (!e) {
        const struct link *l = &c->node.link;
        open_handles(w);
        net_dial(w->net, &l->id, l->host, l->port, on_dialled, w);
        hub_run(&w->hub);
        e = w->err;
        if (e) (void)fail(why, e, "%s", w->why.text);
    }
    hub_fini(&w->hub);
    free(w->last.p);
    free(w);
    return e;
}
