#include "node/client.h"

#include "node/net.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { N_SIGNALS = 2 };

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
    c->is_asking = c->is_sent = false;
    c->c.on_fail(c->c.arg, text);
}

static void send_question(struct client *c)
{
    struct msg m = { .type = MSG_ASK, .rid = c->rid };
    m.u.ASK = c->question;
    enum err e = net_send(c->net, &c->c.link.id, &m);
    if (e == ERR_RANGE)
        fail_question(c, "the conversation is too long to send");
    else if (e)
        fail_question(c, err_text(e));
    else
        c->is_sent = true;
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
    fail(&text, e, "%s:%u cannot be asked: %s", c->c.link.host, c->c.link.port, why);
    fail_question(c, text.text);
}

void client_ask(struct client *c, const struct msg_ASK *q)
{
    c->question = *q;
    c->is_asking = true;
    c->is_sent = false;
    c->rid++;
    net_dial(c->net, &c->c.link.id, c->c.link.host, c->c.link.port, on_dialled, c);
}

void client_cancel(struct client *c)
{
    if (!c->is_asking) return;
    struct msg m = { .type = MSG_ASK_CANCEL, .rid = c->rid };
    if (!c->is_sent || net_send(c->net, &c->c.link.id, &m)) fail_question(c, "cancelled");
}

/* --- what comes back --- */

static void on_answer(struct client *c, const struct mail *m)
{
    const struct msg *a = &m->m;
    struct why why;
    switch (a->type) {
    case MSG_ASK_PLAN: c->c.on_plan(c->c.arg, a->u.ASK_PLAN.plan); break;
    case MSG_ASK_TEXT: c->c.on_text(c->c.arg, a->u.ASK_TEXT.text, a->u.ASK_TEXT.thinking); break;
    case MSG_ASK_NOTE: c->c.on_note(c->c.arg, a->u.ASK_NOTE.text); break;
    case MSG_ASK_DONE:
        c->is_asking = c->is_sent = false;
        c->c.on_done(c->c.arg, &a->u.ASK_DONE);
        break;
    case MSG_ERROR:
        fail(&why, ERR_DENIED, "%.*s", (int)a->u.ERROR.text.n, (const char *)a->u.ERROR.text.p);
        fail_question(c, why.text);
        break;
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
    fail_question(c, text.text);
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
    net_close(c->net, on_net_closed, c);
}

void client_close(struct client *c)
{
    hub_fini(&c->hub);
    free(c);
}
