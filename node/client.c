#include "node/client.h"

#include "node/net.h"
#include "node/runtime_dir.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { N_SIGNALS = 2, RETRY_MS = 300 };

struct client {
    struct actor actor; /* first: gets the lines */
    struct client_config c;
    struct hub hub;
    struct net *net;
    uv_signal_t signal[N_SIGNALS];
    bool is_asking; /* a question is open */
    bool is_sent;   /* and the coordinator has it */
    struct msg_ASK question;
    uint32_t rid;
    bool is_stopping;

    /* coming back to it */
    uint8_t request[REQUEST_BYTES]; /* what the coordinator knows the question by */
    size_t n_heard;                 /* bytes of its answer's text */
    bool is_lost;                   /* the connection is, or the coordinator */
    bool is_unknown;                /* it is to be asked anew */
    uint64_t until_ms;              /* it is waited for */
    struct why lost_why;
    uv_timer_t retry;
};

/* --- lines: a thread that reads when it is told to --- */

struct line {
    struct note note; /* first */
    char *text;       /* owned; NULL at the end of the input */
};

/* One keyboard, one reader.  It may be in the middle of a read when the program ends, so nothing
 * of it is ever freed. */
static struct {
    sem_t wanted;
    pthread_mutex_t lock;
    struct actor *to; /* guarded by lock; NULL when the client has gone */
    bool is_started;
} reader = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void drop_line(struct note *n)
{
    free(((struct line *)n)->text);
    free(n);
}

static void post_line(char *text)
{
    struct line *l = malloc(sizeof *l);
    if (!l) {
        free(text);
        return;
    }
    *l = (struct line){ { .drop = drop_line }, text };
    pthread_mutex_lock(&reader.lock);
    if (!reader.to || actor_post(reader.to, &l->note)) drop_line(&l->note);
    pthread_mutex_unlock(&reader.lock);
}

static void *read_lines(void *arg)
{
    (void)arg;
    for (;;) {
        while (sem_wait(&reader.wanted)) continue;
        char *text = NULL;
        size_t cap = 0;
        ssize_t n = getline(&text, &cap, stdin);
        if (n > 0 && text[n - 1] == '\n') text[n - 1] = 0;
        if (n < 0) {
            free(text);
            text = NULL;
        }
        post_line(text);
        if (n < 0) return NULL;
    }
}

void client_read_line(struct client *c)
{
    if (!reader.is_started) {
        pthread_t thread;
        sigset_t all, old;
        sem_init(&reader.wanted, 0, 0);
        reader.to = &c->actor;
        sigfillset(&all); /* signals are the loop's */
        pthread_sigmask(SIG_BLOCK, &all, &old);
        int rc = pthread_create(&thread, NULL, read_lines, NULL);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (rc) {
            post_line(NULL);
            return;
        }
        pthread_detach(thread);
        reader.is_started = true;
    }
    sem_post(&reader.wanted);
}

static void on_note(struct actor *a, struct note *n)
{
    struct client *c = (struct client *)a;
    if (!c->is_stopping) c->c.on_line(c->c.arg, ((struct line *)n)->text);
    n->drop(n);
}

/* --- the question --- */

static void fail_question(struct client *c, const char *text)
{
    if (!c->is_asking) return;
    c->is_asking = c->is_sent = c->is_lost = false;
    c->c.on_fail(c->c.arg, text);
}

static void on_retry(uv_timer_t *t);

/* The coordinator has gone, perhaps for a moment only. */
static void lose(struct client *c, const char *text)
{
    struct why why;
    if (c->is_sent) c->until_ms = now_ms(&c->hub) + c->c.patience_ms;
    c->is_sent = false;
    if (c->c.patience_ms == 0 || c->question.plan_only) {
        fail_question(c, text);
        return;
    }
    if (!c->is_lost) {
        c->is_lost = true;
        fail(&c->lost_why, ERR_CLOSED, "%s", text);
        fail(&why, ERR_CLOSED, "%.300s; waiting for it, at most %u s", text,
             c->c.patience_ms / 1000);
        c->c.on_note(c->c.arg, slice_str(why.text));
    }
    uv_timer_start(&c->retry, on_retry, RETRY_MS, RETRY_MS);
}

static void dial(struct client *c);

static void on_retry(uv_timer_t *t)
{
    struct client *c = t->data;
    struct why why;
    if (!c->is_lost || !c->is_asking || c->is_sent) {
        uv_timer_stop(t);
    } else if (now_ms(&c->hub) >= c->until_ms) {
        uv_timer_stop(t);
        c->is_lost = false;
        fail(&why, ERR_CLOSED, "%.300s, and it has not come back within %u s", c->lost_why.text,
             c->c.patience_ms / 1000);
        fail_question(c, why.text);
    } else {
        dial(c);
    }
}

/* A node of this machine may listen elsewhere now. */
static void look_around(struct client *c)
{
    struct local_node node[16];
    unsigned n = 0;
    if (!c->is_lost || runtime_find(node, 16, &n, NULL)) return;
    for (unsigned i = 0; i < n; i++) {
        if (!node_id_equal(&node[i].link.id, &c->c.link.id)) continue;
        c->c.link = node[i].link;
        return;
    }
}

/* Ask, or ask for what is missing.  Each time with another number, so that what was said to the
 * one before is not taken for an answer to this one. */
static void send_question(struct client *c)
{
    struct msg m = { .type = MSG_ASK, .rid = ++c->rid };
    if (c->is_lost && !c->is_unknown) {
        m.type = MSG_ASK_RESUME;
        m.u.ASK_RESUME.request = slice_of(c->request, REQUEST_BYTES);
        m.u.ASK_RESUME.heard = c->n_heard;
    } else {
        m.u.ASK = c->question;
        if (c->c.patience_ms > 0) m.u.ASK.request = slice_of(c->request, REQUEST_BYTES);
    }
    enum err e = net_send(c->net, &c->c.link.id, &m);
    if (e == ERR_RANGE)
        fail_question(c, "the conversation is too long to send");
    else if (e && !c->is_lost)
        fail_question(c, err_text(e));
    else
        c->is_sent = !e;
}

static void on_dialled(void *arg, const struct node_id *id, enum err e, const char *why)
{
    struct client *c = arg;
    struct why text;
    (void)id;
    if (!c->is_asking || c->is_sent || c->is_stopping) return;
    if (!e) {
        send_question(c);
        return;
    }
    if (c->is_lost) return; /* the next try will tell */
    fail(&text, e, "%s:%u cannot be asked: %s", c->c.link.host, c->c.link.port, why);
    fail_question(c, text.text);
}

static void dial(struct client *c)
{
    look_around(c);
    net_dial(c->net, &c->c.link.id, c->c.link.host, c->c.link.port, on_dialled, c);
}

void client_ask(struct client *c, const struct msg_ASK *q)
{
    c->question = *q;
    c->is_asking = true;
    c->is_sent = c->is_lost = c->is_unknown = false;
    c->n_heard = 0;
    random_bytes(c->request, REQUEST_BYTES);
    dial(c);
}

void client_cancel(struct client *c)
{
    if (!c->is_asking) return;
    struct msg m = { .type = MSG_ASK_CANCEL, .rid = c->rid };
    if (!c->is_sent || net_send(c->net, &c->c.link.id, &m)) fail_question(c, "cancelled");
}

/* --- what comes back --- */

static void on_error(struct client *c, const struct msg_ERROR *e)
{
    struct why why;
    fail(&why, ERR_DENIED, "%.*s", (int)e->text.n, (const char *)e->text.p);
    if (e->code == WIRE_SHUTTING_DOWN) {
        lose(c, why.text);
    } else if (e->code == WIRE_NO_SUCH_SESSION && c->is_lost && c->n_heard == 0) {
        c->is_unknown = true; /* it had not got so far */
        send_question(c);
    } else {
        fail_question(c, why.text);
    }
}

/* So that it need not be kept for us any longer.  false: the line broke under the last word; it is
 * told again when we come back. */
static bool say_heard(struct client *c)
{
    struct msg m = { .type = MSG_ASK_HEARD };
    if (c->c.patience_ms == 0 || c->question.plan_only) return true;
    m.u.ASK_HEARD.request = slice_of(c->request, REQUEST_BYTES);
    return net_send(c->net, &c->c.link.id, &m) == ERR_OK;
}

static void on_answer(struct client *c, const struct mail *m)
{
    const struct msg *a = &m->m;
    if (c->is_lost && a->type != MSG_ERROR) {
        c->is_lost = c->is_unknown = false;
        c->c.on_note(c->c.arg, slice_str("it is back, and the answer goes on"));
    }
    switch (a->type) {
    case MSG_ASK_PLAN: c->c.on_plan(c->c.arg, a->u.ASK_PLAN.plan); break;
    case MSG_ASK_TEXT:
        c->n_heard += a->u.ASK_TEXT.text.n;
        c->c.on_text(c->c.arg, (uint32_t)a->u.ASK_TEXT.index, a->u.ASK_TEXT.text,
                     a->u.ASK_TEXT.thinking);
        break;
    case MSG_ASK_NOTE: c->c.on_note(c->c.arg, a->u.ASK_NOTE.text); break;
    case MSG_ASK_DONE:
        if (!say_heard(c)) {
            lose(c, "the connection broke at the end of the answer");
            break;
        }
        c->is_asking = c->is_sent = false;
        c->c.on_done(c->c.arg, &a->u.ASK_DONE);
        break;
    case MSG_ERROR: on_error(c, &a->u.ERROR); break;
    default: break;
    }
}

static void on_mail(void *arg, struct mail *m)
{
    struct client *c = arg;
    if (c->is_asking && !c->is_stopping && m->m.rid == c->rid &&
        node_id_equal(&m->from, &c->c.link.id))
        on_answer(c, m);
    m->note.drop(&m->note);
}

static void on_peer(void *arg, const struct node_id *id, bool up, const char *why)
{
    struct client *c = arg;
    struct why text;
    if (up || !c->is_sent || c->is_stopping || !node_id_equal(id, &c->c.link.id)) return;
    fail(&text, ERR_CLOSED, "the connection to %s:%u is lost%s%s", c->c.link.host, c->c.link.port,
         *why ? ": " : "", why);
    lose(c, text.text);
}

/* --- life --- */

static void on_signal(uv_signal_t *s, int number)
{
    struct client *c = s->data;
    (void)number;
    if (!c->is_stopping) c->c.on_interrupt(c->c.arg);
}

enum err client_open(struct client **out, const struct client_config *config, struct why *why)
{
    static const int number[N_SIGNALS] = { SIGINT, SIGTERM };
    enum { ROLE_ASKS = 2 };
    struct client *c = calloc(1, sizeof *c);
    if (!c) return fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    c->c = *config;
    enum err e = hub_init(&c->hub);
    if (e) {
        free(c);
        return fail(why, e, "the loop cannot start: %s", err_text(e));
    }
    struct net_config nc = { .me = c->c.me,
                             .swarm = c->c.swarm,
                             .agent = "swarm-ask " SWARM_VERSION,
                             .role = ROLE_ASKS,
                             .arg = c,
                             .on_mail = on_mail,
                             .on_peer = on_peer };
    e = net_open(&c->net, &c->hub, &nc, why);
    if (!e && (e = actor_init(&c->actor, &c->hub, "client", 0, on_note)))
        net_close(c->net, NULL, NULL);
    if (e) {
        hub_fini(&c->hub);
        free(c);
        return e;
    }
    signal(SIGPIPE, SIG_IGN);
    uv_timer_init(&c->hub.loop, &c->retry);
    c->retry.data = c;
    for (int i = 0; i < N_SIGNALS; i++) {
        uv_signal_init(&c->hub.loop, &c->signal[i]);
        c->signal[i].data = c;
        uv_signal_start(&c->signal[i], on_signal, number[i]);
    }
    *out = c;
    return ERR_OK;
}

void client_run(struct client *c)
{
    hub_run(&c->hub);
}

static void on_net_closed(void *arg)
{
    hub_stop(&((struct client *)arg)->hub);
}

void client_stop(struct client *c)
{
    if (c->is_stopping) return;
    c->is_stopping = true;
    pthread_mutex_lock(&reader.lock);
    reader.to = NULL;
    pthread_mutex_unlock(&reader.lock);
    actor_fini(&c->actor);
    for (int i = 0; i < N_SIGNALS; i++) uv_close((uv_handle_t *)&c->signal[i], NULL);
    uv_close((uv_handle_t *)&c->retry, NULL);
    net_close(c->net, on_net_closed, c);
}

void client_close(struct client *c)
{
    hub_fini(&c->hub);
    free(c);
}
