#include "tests/sim/liar.h"

#include "tests/sim/model_sim.h"

#include <string.h>

enum { KNOWN_MAX = 16, STAGES_MAX = 8 };

/* How an insider lies. */
enum habit {
    OTHER_POSITION,
    OTHER_WANT,
    OTHER_COUNT,
    OTHER_STEP,
    SWALLOWS_ROWS,
    SWALLOWS_STEPS,
    GRANTS_LESS,
    SWALLOWS_RECORDS,
    MIXED,
    HABITS
};

/* Sessions that were opened last: all that can be known of them. */
static struct {
    struct secret {
        uint8_t session[SESSION_BYTES];
        uint32_t rid;
        struct node_id stage[STAGES_MAX];
        unsigned n_stages;
        uint64_t pos, step; /* of the next ACT */
    } of[KNOWN_MAX];
    unsigned n;
    const struct identity *insider;
    enum habit habit;
    /* borrowed, while there are liars */
    struct liar *liars;
    unsigned n_liars, n_nodes;
    struct sim_node *nodes;
} known;

static void on_moment(void *arg);

static struct secret *secret_of(struct slice session)
{
    for (unsigned i = 0; i < KNOWN_MAX && i < known.n; i++)
        if (memcmp(known.of[i].session, session.p, SESSION_BYTES) == 0) return &known.of[i];
    return NULL;
}

static void overhear(const struct node_id *to, const struct msg *m)
{
    if (m->type == MSG_SESS_OPEN) {
        struct secret *k = secret_of(m->u.SESS_OPEN.session);
        if (!k) {
            k = &known.of[known.n++ % KNOWN_MAX];
            *k = (struct secret){ .rid = m->rid };
            memcpy(k->session, m->u.SESS_OPEN.session.p, SESSION_BYTES);
        }
        if (k->n_stages < STAGES_MAX) k->stage[k->n_stages++] = *to;
    } else if (m->type == MSG_ACT) {
        struct secret *k = secret_of(m->u.ACT.session);
        if (!k) return;
        k->pos = m->u.ACT.pos + m->u.ACT.rows;
        k->step = m->u.ACT.step + 1;
        /* The best moment for a lie about a session is while it is at work. */
        if (draw_is(FOR_LIES, 2))
            (void)world_at(NULL, world_us() + draw_below(FOR_LIES, 20 * MS), on_moment, k);
    }
}

/* false: m is swallowed. */
static bool twist(enum habit h, struct msg *m)
{
    bool is_act = m->type == MSG_ACT, is_done = m->type == MSG_STEP_DONE;
    switch (h) {
    case OTHER_POSITION:
        if (is_act) m->u.ACT.pos += draw_from(FOR_LIES, 1, 3);
        break;
    case OTHER_WANT:
        if (is_act) m->u.ACT.want = m->u.ACT.want ? 0 : 1;
        break;
    case OTHER_COUNT:
        if (is_act) m->u.ACT.rows += 1;
        break;
    case OTHER_STEP:
        if (is_act) m->u.ACT.step += 1;
        if (is_done) m->u.STEP_DONE.step += draw_is(FOR_LIES, 50) ? 1 : 7;
        break;
    case SWALLOWS_ROWS: return !is_act;
    case SWALLOWS_STEPS: return !is_done;
    case GRANTS_LESS:
        if (m->type == MSG_SESS_OK) m->u.SESS_OK.limit = 1;
        break;
    default: return m->type != MSG_RECORDS;
    }
    return true;
}

static bool listen_in(struct net *n, const struct node_id *to, struct msg *m)
{
    overhear(to, m);
    if (!known.insider || net_sim_identity(n) != known.insider || !draw_is(FOR_LIES, 3))
        return true;
    enum habit h = known.habit == MIXED ? (enum habit)draw_below(FOR_LIES, MIXED) : known.habit;
    return twist(h, m);
}

unsigned liar_open(struct liar *l, unsigned n, unsigned lo, struct sim_node *nodes,
                   unsigned n_nodes)
{
    unsigned hi = n_nodes;
    memset(&known, 0, sizeof known);
    if (lo >= hi) return 0;
    known.habit = (enum habit)draw_below(FOR_LIES, HABITS);
    known.liars = l;
    known.n_liars = n;
    known.nodes = nodes;
    known.n_nodes = n_nodes;
    net_sim_on_send = listen_in;
    bool has_insider = draw_is(FOR_LIES, 50);
    for (unsigned i = 0; i < n; i++)
        l[i] = (struct liar){ (unsigned)draw_from(FOR_LIES, lo, hi - 1), has_insider };
    return n;
}

void liar_close(void)
{
    known.insider = NULL;
    known.n_liars = 0;
    net_sim_on_send = NULL;
}

void liar_restart(struct liar *l, unsigned n, struct sim_node *node)
{
    for (unsigned i = 0; i < n; i++)
        if (l[i].index == node->index && l[i].is_insider) known.insider = &node->me;
}

static bool is_stage_of(const struct secret *k, const struct node_id *id)
{
    for (unsigned i = 0; i < k->n_stages; i++)
        if (node_id_equal(&k->stage[i], id)) return true;
    return false;
}

static void lie_about_session(struct sim_node *me, const struct node_id *to, const struct secret *k)
{
    static uint8_t rows[2 * SIM_ROW_BYTES];
    struct slice session = slice_of(k->session, SESSION_BYTES);
    if (draw_is(FOR_LIES, 80)) to = &k->stage[draw_below(FOR_LIES, k->n_stages)];
    if (node_id_equal(to, &me->me.id)) return;
    struct msg m = { .type = MSG_ACT };
    sim_embed(9, rows);
    sim_embed(10, rows + SIM_ROW_BYTES);
    switch (draw_below(FOR_LIES, 6)) {
    case 0:
        if (is_stage_of(k, &me->me.id)) return; /* false rows are the audits' */
        m.rid = draw_is(FOR_LIES, 30) ? k->rid : 0;
        m.u.ACT.session = session;
        m.u.ACT.pos = draw_is(FOR_LIES, 80) ? k->pos : draw_below(FOR_LIES, 40);
        m.u.ACT.step = k->step;
        m.u.ACT.rows = draw_from(FOR_LIES, 1, 2);
        m.u.ACT.want = 1;
        m.u.ACT.x = slice_of(rows, (size_t)m.u.ACT.rows * SIM_ROW_BYTES);
        break;
    case 1:
        m.type = MSG_STEP_DONE;
        m.u.STEP_DONE.session = session;
        m.u.STEP_DONE.step = k->step + draw_below(FOR_LIES, 2);
        break;
    case 2:
        m.type = MSG_SESS_CLOSE;
        m.u.SESS_CLOSE.session = session;
        break;
    case 3:
        m.type = MSG_KV_TRIM;
        m.rid = 1;
        m.u.KV_TRIM.session = session;
        break;
    case 4:
        m.type = MSG_SESS_FAIL;
        m.rid = k->rid;
        m.u.SESS_FAIL.session = session;
        m.u.SESS_FAIL.code = WIRE_NONFINITE;
        m.u.SESS_FAIL.text = slice_str("a lie");
        break;
    default:
        m.type = MSG_SESS_OK;
        m.rid = k->rid;
        m.u.SESS_OK.session = session;
        m.u.SESS_OK.limit = 1;
        break;
    }
    if (net_send(me->net, to, &m)) trace("nobody hears the lie");
}

/* Records of others: old, or changed. */
static void lie_about_nodes(struct sim_node *me, const struct node_id *to)
{
    uint8_t record[RECORD_BYTES_MAX];
    const struct directory *d = peers_directory(me->peers);
    if (directory_n(d) == 0) return;
    const struct entry *e = directory_nth(d, (uint32_t)draw_below(FOR_LIES, directory_n(d)));
    struct msg m = { .type = MSG_RECORDS };
    memcpy(record, e->record.p, e->record.n);
    if (draw_is(FOR_LIES, 60)) record[draw_below(FOR_LIES, e->record.n)] ^= 1;
    m.u.RECORDS.records.n = 1;
    m.u.RECORDS.records.p[0] = slice_of(record, e->record.n);
    if (net_send(me->net, to, &m)) trace("nobody hears the lie");
}

static struct sim_node *any_liar(void)
{
    return &known.nodes[known.liars[draw_below(FOR_LIES, known.n_liars)].index];
}

static void on_moment(void *arg)
{
    if (known.n_liars == 0) return;
    struct sim_node *me = any_liar();
    if (!me->runs || place_is_frozen(&me->place)) return;
    struct place *before = world_enter(&me->place);
    trace("lies about a session");
    lie_about_session(me, &known.nodes[draw_below(FOR_LIES, known.n_nodes)].me.id, arg);
    (void)world_enter(before);
}

void liar_speak(void)
{
    struct sim_node *me = any_liar();
    const struct sim_node *to = &known.nodes[draw_below(FOR_LIES, known.n_nodes)];
    if (!me->runs || place_is_frozen(&me->place) || me == to) return;
    struct place *before = world_enter(&me->place);
    trace("lies to %s", to->place.name);
    for (unsigned i = 0; i < 3; i++) switch (draw_below(FOR_LIES, 4)) {
        case 0: net_sim_garbage(me->net, &to->me.id); break;
        case 1:
            if (known.n > 0)
                lie_about_session(
                    me, &to->me.id,
                    &known.of[draw_below(FOR_LIES, known.n < KNOWN_MAX ? known.n : KNOWN_MAX)]);
            break;
        default: lie_about_nodes(me, &to->me.id); break;
        }
    (void)world_enter(before);
}
