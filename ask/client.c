#include "ask/client.h"

#include "ask/question.h"

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
    struct questions *questions;
    struct question *question; /* that is open; NULL: none is */
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

static void on_plan(void *arg, struct slice json)
{
    struct client *c = arg;
    c->c.on_plan(c->c.arg, json);
}

static void on_text(void *arg, uint32_t index, struct slice text, bool is_thinking)
{
    struct client *c = arg;
    c->c.on_text(c->c.arg, index, text, is_thinking);
}

static void on_trace(void *arg, struct slice events)
{
    struct client *c = arg;
    if (c->c.on_trace) c->c.on_trace(c->c.arg, events);
}

static void on_progress(void *arg, struct slice text)
{
    struct client *c = arg;
    c->c.on_note(c->c.arg, text);
}

static void on_place(void *arg, uint32_t place, struct slice text)
{
    struct client *c = arg;
    if (c->c.on_place)
        c->c.on_place(c->c.arg, place, text);
    else
        c->c.on_note(c->c.arg, text);
}

static void on_done(void *arg, const struct msg_ASK_DONE *done)
{
    struct client *c = arg;
    c->question = NULL;
    c->c.on_done(c->c.arg, done);
}

static void on_fail(void *arg, unsigned code, const char *text)
{
    struct client *c = arg;
    (void)code;
    c->question = NULL;
    c->c.on_fail(c->c.arg, text);
}

void client_ask(struct client *c, const struct msg_ASK *q)
{
    struct question_events on = { c,       on_plan, on_text, on_progress, on_place,
                                  on_done, on_fail, NULL,    on_trace };
    if (question_ask(c->questions, q, &on, &c->question))
        c->c.on_fail(c->c.arg, err_text(ERR_NOMEM));
}

void client_cancel(struct client *c)
{
    if (c->question) question_cancel(c->question);
}

static void on_mail(void *arg, struct mail *m)
{
    struct client *c = arg;
    if (c->is_stopping)
        m->note.drop(&m->note);
    else
        questions_on_mail(c->questions, m);
}

static void on_peer(void *arg, const struct node_id *id, bool up, const char *why)
{
    struct client *c = arg;
    if (!c->is_stopping) questions_on_peer(c->questions, id, up, why);
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
    struct questions_config qc = { &c->hub, c->net, c->c.link, c->c.patience_ms };
    if (!e && (e = questions_open(&c->questions, &qc))) net_close(c->net, NULL, NULL);
    if (!e && (e = actor_init(&c->actor, &c->hub, "client", 0, on_note))) {
        questions_close(c->questions);
        net_close(c->net, NULL, NULL);
    }
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
    questions_close(c->questions);
    net_close(c->net, on_net_closed, c);
}

void client_close(struct client *c)
{
    hub_fini(&c->hub);
    free(c);
}
