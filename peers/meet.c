#include "peers/meet.h"

#include "base/log.h"
#include "peers/book.h"
#include "peers/lan.h"
#include "store/file.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    TRY_MS = 1000,      /* between looks for somebody to dial */
    HARVEST_MS = 10000, /* between looks at what connected nodes announce */
    WRITE_MS = 5000,    /* the file is not written more often */
    BOOT_MIN_MS = 30000,
    BOOT_MAX_MS = 1200000,
};

struct boot {
    struct link link;
    bool dialing;
    unsigned failures;
    uint64_t next_ms;
    struct why said;
};

struct meet {
    struct meet_config cfg;
    char file[FILE_PATH_MAX]; /* empty: none */
    struct book book;
    struct boot boot[MEET_BOOTSTRAP_MAX];
    unsigned connected, dialing;
    uint64_t born_ms, try_ms, harvest_ms, write_ms;
    bool writing, write_failed;
    unsigned pending; /* dials, a write, and ourselves until meet_close */
};

static uint64_t now_of(const struct meet *m)
{
    return now_ms(m->cfg.hub);
}

static void release(struct meet *m)
{
    if (!--m->pending) free(m);
}

/* --- the file --- */

struct job {
    uv_work_t work;
    struct meet *meet;
    char path[FILE_PATH_MAX];
    size_t n;
    enum err e;
    struct why why;
    char text[BOOK_TEXT_MAX];
};

/* On a worker thread. */
static void write_file(uv_work_t *work)
{
    struct job *j = work->data;
    struct file_out f;

    j->e = file_create_private(&f, j->path, &j->why);
    if (j->e) return;
    file_put(&f, j->text, j->n);
    j->e = file_finish(&f, ERR_OK, &j->why);
}

static void on_written(uv_work_t *work, int status)
{
    struct job *j = work->data;
    struct meet *m = j->meet;

    m->writing = false;
    if (j->e && !m->write_failed)
        log_warn("the nodes that were met are not remembered: %s",
                 j->why.text[0] ? j->why.text : err_text(j->e));
    m->write_failed = j->e || status;
    free(j);
    release(m);
}

static void write_now(struct meet *m)
{
    if (!m->file[0] || !m->book.changed || m->writing) return;
    struct job *j = calloc(1, sizeof *j);
    if (!j) return; /* another time */
    j->work.data = j;
    j->meet = m;
    snprintf(j->path, sizeof j->path, "%s", m->file);
    j->n = book_print(&m->book, j->text);
    if (uv_queue_work(&m->cfg.hub->loop, &j->work, write_file, on_written)) {
        free(j);
        return;
    }
    m->book.changed = false;
    m->writing = true;
    m->write_ms = now_of(m) + WRITE_MS;
    m->pending++;
}

static void read_file(struct meet *m)
{
    struct why why = { "" };
    uint8_t *text;
    size_t n;

    enum err e = file_read(m->file, BOOK_TEXT_MAX, &text, &n, &why);
    if (e == ERR_NOTFOUND) return;
    if (e) {
        log_warn("the peers file is not used: %s", why.text);
        return;
    }
    if (!book_parse(&m->book, slice_of(text, n)))
        log_info("%s is of another swarm; a new one takes its place", m->file);
    else if (m->book.n)
        log_info("%u address%s of this swarm %s known from before", m->book.n,
                 m->book.n == 1 ? "" : "es", m->book.n == 1 ? "is" : "are");
    free(text);
}

enum err meet_file(char *out, size_t cap, const char *identity, struct why *why)
{
    size_t n = strlen(identity);

    if (n > 4 && strcmp(identity + n - 4, ".key") == 0) n -= 4;
    int len = snprintf(out, cap, "%.*s.peers", (int)n, identity);
    if (len < 0 || (size_t)len >= cap)
        return fail(why, ERR_RANGE, "the path %.100s... is too long", identity);
    return ERR_OK;
}

/* --- who was met --- */

static bool is_link_local(struct slice a)
{
    return a.n == ADDR_MAX && a.p[0] == 0xfe && (a.p[1] & 0xc0) == 0x80;
}

void meet_on_peer(struct meet *m, const struct node_id *id, bool up)
{
    if (!up) {
        if (m->connected > 0) m->connected--;
        return;
    }
    m->connected++;
    struct slice at = net_addr(m->cfg.net, id);
    if (net_dialled(m->cfg.net, id) && !is_link_local(at)) book_met(&m->book, id, at, unix_now());
}

/* Nodes that dialled us say in their records where they are reached. */
static void harvest(struct meet *m)
{
    const struct directory *d = peers_directory(m->cfg.peers);
    struct nets here;

    nets_find(&here);
    for (uint32_t i = 0; i < directory_n(d); i++) {
        const struct entry *e = directory_nth(d, i);
        struct slice from = net_addr(m->cfg.net, &e->id);
        if (!from.n) continue; /* not connected, or ourselves */
        for (uint32_t k = 0; k < e->body.addrs.n; k++) {
            struct slice a = e->body.addrs.p[k];
            bool ok = addr_is_loopback(a)  ? addr_is_loopback(from)
                      : addr_is_private(a) ? nets_have(&here, a) && !is_link_local(a)
                                           : true;
            if (ok) book_heard(&m->book, &e->id, a, unix_now());
        }
    }
}

bool meet_knows(const struct meet *m, const struct node_id *id)
{
    return book_knows(&m->book, id);
}

unsigned meet_connected(const struct meet *m)
{
    return m->connected;
}

/* --- dialling --- */

struct attempt {
    struct meet *meet;
    struct node_id id;
    uint8_t addr[ADDR_MAX];
    size_t addr_n;
    char at[64];
};

static void on_dialled(void *arg, const struct node_id *id, enum err e, const char *why)
{
    struct attempt *a = arg;
    struct meet *m = a->meet;
    struct slice addr = slice_of(a->addr, a->addr_n);
    struct book_entry *entry = book_find(&m->book, &a->id, addr);
    (void)id;

    m->dialing--;
    if (entry) entry->dialing = false;
    if (e && e != ERR_CANCELLED) {
        book_failed(&m->book, &a->id, addr, now_of(m));
        log_debug("met before, not there now: %s", why);
    }
    free(a);
    release(m);
}

static void dial(struct meet *m, struct book_entry *e)
{
    struct attempt *a = calloc(1, sizeof *a);
    char host[256];
    uint16_t port;

    if (!a) return;
    a->meet = m;
    a->id = e->id;
    a->addr_n = e->addr_n;
    memcpy(a->addr, e->addr, e->addr_n);
    if (!addr_text(a->at, sizeof a->at, slice_of(e->addr, e->addr_n)) ||
        hostport_parse(host, &port, a->at, NULL)) {
        free(a);
        return;
    }
    e->dialing = true;
    m->dialing++;
    m->pending++;
    net_dial(m->cfg.net, &a->id, host, port, on_dialled, a);
}

struct now {
    const struct meet *meet;
    struct nets here;
};

static bool may_dial(void *arg, const struct book_entry *e)
{
    const struct now *now = arg;
    struct slice a = slice_of(e->addr, e->addr_n);

    if (net_is_up(now->meet->cfg.net, &e->id)) return false; /* also we ourselves */
    return addr_is_loopback(a) || !addr_is_private(a) || nets_have(&now->here, a);
}

static void try_book(struct meet *m)
{
    struct now now = { .meet = m };

    if (m->connected + m->dialing >= MEET_ENOUGH || !m->book.n) return;
    nets_find(&now.here);
    while (m->dialing < MEET_DIALS) {
        struct book_entry *e = book_next(&m->book, now_of(m), may_dial, &now);
        if (!e) return;
        dial(m, e);
    }
}

/* --- bootstrap links --- */

struct boot_attempt {
    struct meet *meet;
    struct boot *boot;
};

static void on_booted(void *arg, const struct node_id *id, enum err e, const char *why)
{
    struct boot_attempt *a = arg;
    struct meet *m = a->meet;
    struct boot *b = a->boot;
    char text[400];
    (void)id;

    b->dialing = false;
    if (e && e != ERR_CANCELLED) {
        unsigned doublings = b->failures < 6 ? b->failures : 6;
        uint64_t wait = (uint64_t)BOOT_MIN_MS << doublings;
        b->failures++;
        b->next_ms = now_of(m) + (wait < BOOT_MAX_MS ? wait : BOOT_MAX_MS);
        if (strcmp(b->said.text, why) != 0) {
            (void)fail(&b->said, e, "%s", why);
            link_text(text, sizeof text, &b->link);
            log_warn("bootstrap node %s cannot be reached: %s", text, why);
        }
    }
    free(a);
    release(m);
}

static void try_bootstrap(struct meet *m)
{
    if (m->connected || now_of(m) - m->born_ms < MEET_PATIENCE_MS) return;
    for (unsigned i = 0; i < m->cfg.n_bootstrap; i++) {
        struct boot *b = &m->boot[i];
        if (b->dialing || now_of(m) < b->next_ms) continue;
        struct boot_attempt *a = calloc(1, sizeof *a);
        if (!a) return;
        *a = (struct boot_attempt){ m, b };
        b->dialing = true;
        m->pending++;
        net_dial(m->cfg.net, &b->link.id, b->link.host, b->link.port, on_booted, a);
    }
}

/* --- the clock, opening and closing --- */

void meet_tick(struct meet *m)
{
    uint64_t now = now_of(m);

    if (now >= m->try_ms) {
        m->try_ms = now + TRY_MS;
        try_book(m);
        try_bootstrap(m);
    }
    if (now >= m->harvest_ms) {
        m->harvest_ms = now + HARVEST_MS;
        harvest(m);
    }
    if (now >= m->write_ms) write_now(m);
}

enum err meet_open(struct meet **out, const struct meet_config *c)
{
    struct meet *m = calloc(1, sizeof *m);

    if (!m) return ERR_NOMEM;
    m->cfg = *c;
    book_init(&m->book, c->swarm);
    for (unsigned i = 0; i < c->n_bootstrap && i < MEET_BOOTSTRAP_MAX; i++)
        m->boot[i].link = c->bootstrap[i];
    m->cfg.swarm = NULL;
    m->cfg.bootstrap = NULL;
    m->cfg.file = NULL;
    m->born_ms = now_of(m);
    m->harvest_ms = m->born_ms + HARVEST_MS;
    m->pending = 1;
    if (c->file) {
        snprintf(m->file, sizeof m->file, "%s", c->file);
        read_file(m);
    }
    *out = m;
    return ERR_OK;
}

void meet_close(struct meet *m)
{
    if (!m) return;
    harvest(m);
    write_now(m);
    release(m);
}
