#include "net/actor.h"

#include "base/log.h"

#include <assert.h>
#include <stdlib.h>

/* Notes handed out per wake before the sockets get their turn again. */
enum { LIMIT_USUAL = 1024, NOTES_PER_WAKE = 4096 };

/* --- the hub's list of actors with mail --- */

/* Does the bell have to be rung?  By the caller, when it holds no lock: whoever it wakes may take
 * the core of the one who rings. */
static bool ready_push(struct hub *h, struct actor *a)
{
    uv_mutex_lock(&h->lock);
    a->next_ready = NULL;
    *h->last_ready = a;
    h->last_ready = &a->next_ready;
    bool is_asleep = !h->is_awake;
    h->is_awake = true;
    uv_mutex_unlock(&h->lock);
    return is_asleep;
}

static struct actor *ready_pop(struct hub *h)
{
    uv_mutex_lock(&h->lock);
    struct actor *a = h->first_ready;
    if (a) h->first_ready = a->next_ready;
    if (!h->first_ready) h->last_ready = &h->first_ready;
    h->is_awake = a != NULL;
    uv_mutex_unlock(&h->lock);
    return a;
}

static void ready_remove(struct hub *h, const struct actor *a)
{
    uv_mutex_lock(&h->lock);
    for (struct actor **at = &h->first_ready; *at; at = &(*at)->next_ready) {
        if (*at != a) continue;
        *at = a->next_ready;
        if (!*at) h->last_ready = at;
        break;
    }
    uv_mutex_unlock(&h->lock);
}

/* --- delivery --- */

/* Take one note of a; *more says whether others wait. */
static struct note *note_pop(struct actor *a, bool *more)
{
    uv_mutex_lock(&a->lock);
    struct note *n = a->first;
    if (n) {
        a->first = n->next;
        a->depth--;
    }
    if (!a->first) a->last = &a->first;
    *more = a->first != NULL;
    a->ready = *more;
    uv_mutex_unlock(&a->lock);
    return n;
}

/* Many rings are one call, so each call empties every mailbox, also of what was posted meanwhile: a
 * note from one actor to the next does not wait for another turn of the loop, nor ring.
 * The actor is put back before its note is delivered and not touched after: on_note may end it. */
static void on_bell(struct bell *bell)
{
    struct hub *h = (struct hub *)(void *)((char *)bell - offsetof(struct hub, bell));

    for (int i = 0; i < NOTES_PER_WAKE; i++) {
        struct actor *a = ready_pop(h);
        if (!a) return;

        bool more;
        struct note *n = note_pop(a, &more);
        if (more) (void)ready_push(h, a); /* we are awake */
        if (n) a->on_note(a, n);
    }
    bell_ring(bell); /* the rest after the sockets have had their turn */
}

enum err actor_post_quietly(struct actor *a, struct note *n, struct hub **asleep)
{
    enum err e = ERR_OK;

    uv_mutex_lock(&a->lock);
    if (a->closed) {
        e = ERR_CLOSED;
    } else if (a->depth >= a->limit) {
        e = ERR_FULL;
    } else {
        n->next = NULL;
        *a->last = n;
        a->last = &n->next;
        a->depth++;
        if (!a->ready) {
            a->ready = true;
            if (ready_push(a->hub, a)) *asleep = a->hub;
        }
    }
    uv_mutex_unlock(&a->lock);
    return e;
}

void hub_wake(struct hub *h)
{
    bell_ring(&h->bell);
}

enum err actor_post(struct actor *a, struct note *n)
{
    struct hub *asleep = NULL; /* a may be gone when its note is */
    enum err e = actor_post_quietly(a, n, &asleep);
    if (asleep) hub_wake(asleep);
    return e;
}

enum err actor_init(struct actor *a, struct hub *h, const char *name, unsigned limit,
                    void (*on_note)(struct actor *, struct note *))
{
    *a = (struct actor){
        .name = name, .hub = h, .on_note = on_note, .limit = limit ? limit : LIMIT_USUAL
    };
    a->last = &a->first;
    return uv_mutex_init(&a->lock) ? ERR_NOMEM : ERR_OK;
}

/* The lock stays usable: another thread may be about to post, and must find `closed`. */
void actor_fini(struct actor *a)
{
    uv_mutex_lock(&a->lock);
    struct note *n = a->first;
    a->first = NULL;
    a->last = &a->first;
    a->depth = 0;
    a->closed = true;
    a->ready = false;
    uv_mutex_unlock(&a->lock);

    ready_remove(a->hub, a);
    while (n) {
        struct note *next = n->next;
        n->drop(n);
        n = next;
    }
}

/* --- the hub --- */

enum err hub_init(struct hub *h)
{
    *h = (struct hub){ 0 };
    h->last_ready = &h->first_ready;
    if (uv_mutex_init(&h->lock)) return ERR_NOMEM;
    if (uv_loop_init(&h->loop)) goto no_loop;
    if (bell_open(&h->bell, &h->loop, on_bell)) goto no_bell;
    return ERR_OK;
no_bell:
    (void)uv_run(&h->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&h->loop);
no_loop:
    uv_mutex_destroy(&h->lock);
    return ERR_NOMEM;
}

void hub_run(struct hub *h)
{
    (void)uv_run(&h->loop, UV_RUN_DEFAULT);
}

void hub_stop(struct hub *h)
{
    uv_stop(&h->loop);
}

static void print_leak(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (uv_is_closing(handle)) return;
    log_error("hub: a %s handle is still open", uv_handle_type_name(handle->type));
    abort();
}

/* Every owner has closed its handles by now; what is left is to let their callbacks run, and name
 * lookups that cannot be interrupted end. */
void hub_fini(struct hub *h)
{
    assert(!h->first_ready);
    bell_close(&h->bell);
    uv_walk(&h->loop, print_leak, NULL);
    while (uv_run(&h->loop, UV_RUN_DEFAULT)) {
    }
    if (uv_loop_close(&h->loop)) abort(); /* a handle was opened by one of the last callbacks */
    uv_mutex_destroy(&h->lock);
}
