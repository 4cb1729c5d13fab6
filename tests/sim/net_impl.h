/* net_impl.h - what the files of the simulated network share: net_sim.c (the calls of net.h),
 * line_sim.c (connections and what is on its way) and dial_sim.c. */
#ifndef SIM_NET_IMPL_H
#define SIM_NET_IMPL_H

#include "net/hints.h"
#include "tests/sim/net_sim.h"

enum {
    LANES = 16, /* sessions and rids share them: some order more than is promised */
    CONNECT_US = 5 * SECOND,
    SILENT_MIN_US = 15 * SECOND, /* as net_sock.c: three PINGs unanswered */
    SILENT_MAX_US = 20 * SECOND,
    PING_US = 5 * SECOND,
    BACKOFF_MIN_MS = 1000,
    BACKOFF_MAX_MS = 60000,
    STRIKES = 3,
    STRIKES_MS = 600000,
    BAN_MS = 600000,
    CLOGS_MAX = 64,
    LOOPBACK_US = 30,
};

struct cable;
struct peer;

enum letter_kind { LETTER_UP, LETTER_MAIL, LETTER_PING, LETTER_PONG, LETTER_CUT };

/* Something on its way to one end. */
struct letter {
    struct letter *next;
    struct cable *cable;
    unsigned to;
    enum letter_kind kind;
    unsigned lane, rid_lane; /* equal when it names only one of session and rid, or neither */
    uint64_t sent_us;        /* of a PING, for its PONG */
    uint64_t at_us;          /* when it arrives */
    struct event *event;     /* NULL: held back */
    size_t n;
    uint8_t bytes[];
};

struct end {
    struct cable *cable;
    struct net *net;                /* NULL: that node has gone */
    struct place *place;            /* outlives the net */
    struct node_id id;              /* of that node */
    bool is_up, is_opening, is_cut; /* cut: a CUT is on its way here */
    uint64_t rx_us, bad_us;         /* bad: since when nothing can be heard; 0: it can */
    struct event *watch;
    /* towards this end: */
    struct letter *first, **last;
    size_t queued;
    uint64_t free_us, lane_us[LANES];
    char why[160];
};

/* One connection; end 0 made it. */
struct cable {
    struct cable *prev, *next;
    unsigned busy; /* calls that still need it */
    struct end end[2];
    bool has_hole; /* nothing comes through any more, and nobody says so */
};

struct parcel {
    struct parcel *next;
    size_t n;
    uint8_t bytes[];
};

struct peer {
    struct node_id id;
    struct end *end; /* ours, of the connection that is up */
    struct hints hints;
    unsigned dials;
    struct parcel *first, **last; /* owned: wait for a connection */
    size_t waiting;
    uint64_t retry_ms, backoff_ms, ban_until_ms;
    uint64_t strike_ms[STRIKES];
    uint32_t rtt_us, rtt_last_us;
};

/* Something that happens later to a net, or not when it has gone by then. */
struct task {
    struct task *next;
    struct net *net;
    struct event *event;
    void (*run)(struct task *t);
    /* of a dial */
    bool is_dial, has_id, waits_up;
    struct node_id id;
    struct peer *peer;
    uint8_t addr[HINTS_MAX][ADDR_MAX];
    size_t addr_n[HINTS_MAX];
    unsigned n_addrs, at;
    uint64_t began_us;
    net_result *result;
    void *arg;
    /* of others */
    char why[160];
};

struct net {
    struct net *next; /* of all */
    struct net_config cfg;
    struct hub *hub;
    struct place *place;
    uint8_t addr[ADDR_MIN];
    uint16_t port;
    bool is_killed, closing;
    uint64_t instance;
    struct peer **peers; /* [n_peers] owned */
    uint32_t n_peers, cap_peers;
    struct peer **table; /* [2 * cap_peers] by the first bytes of the id; owned */
    struct task *tasks;  /* owned */
    uv_timer_t tick;     /* holds the loop, as the real one's sockets do */
    void (*done)(void *arg);
    void *done_arg;
};

/* All there is. */
extern struct lines {
    struct net *nets;
    struct cable *cables;
    size_t queue_max;
    unsigned jitter;
    struct clog {
        const struct place *from, *to;
        uint64_t until_us;
    } clog[CLOGS_MAX];
    unsigned n_clogs;
    struct net_sim_count count;
} lines;

static inline struct end *line_other(const struct end *e)
{
    return &e->cable->end[e == &e->cable->end[0]];
}

/* --- net_sim.c --- */
struct peer *sim_peer_find(const struct net *n, const struct node_id *id); /* or NULL */
struct peer *sim_peer_get(struct net *n, const struct node_id *id);
bool sim_is_banned(const struct net *n, const struct peer *p);
void line_drop_waiting(struct peer *p);
/* A task is owned by its net; run frees it, or sets it off again. */
struct task *line_task_new(struct net *n, void (*run)(struct task *t));
void line_task_free(struct task *t);
void line_task_at(struct task *t, uint64_t us);
/* What waited for a connection; one message over it, ERR_FULL when too much is on its way. */
void line_send_waiting(struct net *n, struct peer *p);
enum err line_send_bytes(struct net *n, struct peer *p, const struct msg *m, const void *bytes,
                         size_t len);

/* --- line_sim.c --- */
bool line_path_open(const struct place *from, const struct place *to);
uint64_t line_distance_us(const struct place *a, const struct place *b);
uint64_t line_jitter_us(uint64_t us);
/* A letter is posted, filled in, and sent. */
struct letter *line_post(struct end *to, enum letter_kind kind, size_t n);
void line_choose_lanes(struct letter *l, const struct msg *m);
void line_send_letter(struct letter *l);
void line_drop_letters(struct end *to);
void line_ping(struct end *e);
/* An end gives up: its owner is told in a moment (why), the other end when the news comes (said).
 */
void line_close_end(struct end *e, const char *why, const char *said, bool is_orderly);
/* The pieces of that: the end is forgotten; the other is told; nobody needs the cable any more. */
void line_detach(struct end *e);
void line_send_cut(struct end *to, const char *why, bool is_orderly);
void line_cable_free_if_done(struct cable *c);
void line_refresh_end(struct end *e);
void line_refresh_cable(struct cable *c);
void line_tell_peer(struct net *n, const struct node_id *id, bool up, const char *why);
/* What is to be told of an older connection comes before news of the next. */
void line_tell_old_news(struct net *n, const struct node_id *id);
void line_strike(struct net *n, struct peer *p, const char *what);
struct mail *line_mail_new(const struct node_id *from, bool loopback, const void *p, size_t n);
void line_mail_drop(struct note *n);
void line_trace_mail(const struct place *from, const struct msg *m);

/* --- dial_sim.c --- */
enum err line_dial_hints(struct net *n, struct peer *p);
/* id is connected: dials that waited for that are over. */
void line_dials_met(struct net *n, const struct node_id *id);

#endif
