#include "weights/fetch_impl.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdlib.h>

/* --- jobs, and the end --- */

void fetch_job(struct fetch *f, struct depot_job *j,
               void (*run)(struct depot_job *, struct store *), void (*done)(struct depot_job *))
{
    j->run = run;
    j->done = done;
    f->jobs++;
    depot_do(f->c.depot, j);
}

static void drop_arrivals(struct arrival *a)
{
    for (struct arrival *next; a; a = next) {
        next = a->next;
        a->mail->note.drop(&a->mail->note);
        free(a);
    }
}

static void free_fetch(struct fetch *f)
{
    drop_arrivals(f->first);
    drop_arrivals(f->batch);
    wants_fini(&f->wants);
    wants_fini(&f->tables);
    wants_fini(&f->planned);
    gather_close(f->gather);
    free(f->manifest);
    free(f);
}

bool fetch_job_done(struct fetch *f)
{
    f->jobs--;
    if (!f->closing) return true;
    if (!f->jobs) free_fetch(f);
    return false;
}

void fetch_finish(struct fetch *f, enum err e, const char *why)
{
    if (f->state == FETCH_OVER) return;
    f->state = FETCH_OVER;
    uv_timer_stop(f->timer);
    f->c.on_done(f->c.arg, e, why);
}

/* --- sources --- */

static void groups_of(const struct record_body *b, bool has[GATHER_GROUPS])
{
    memset(has, 0, GATHER_GROUPS * sizeof *has);
    for (uint32_t i = 0; i + 1 < b->gives.n; i += 2)
        for (uint32_t l = b->gives.p[i]; l < b->gives.p[i + 1] && l < GROUP_ENDS; l++)
            has[l] = true;
    has[GROUP_ENDS] = b->gives_ends != 0;
}

static bool is_near(const struct fetch *f, const struct entry *e)
{
    struct slice addr = net_addr(f->c.net, &e->id);

    if (!addr.n && e->body.addrs.n) addr = e->body.addrs.p[0];
    return addr.n && (addr_is_loopback(addr) || addr_is_private(addr));
}

static unsigned source_of(const struct fetch *f, const struct node_id *id)
{
    unsigned i = 0;
    while (i < GATHER_PEERS && !(f->source[i].used && node_id_equal(&f->source[i].id, id))) i++;
    return i;
}

static void source_gone(struct fetch *f, unsigned i)
{
    if (f->gather) gather_peer_gone(f->gather, i);
    f->source[i].used = false;
}

/* One who announces the model becomes a source, if there is a place. */
static void offer_source(struct fetch *f, const struct entry *e)
{
    bool has[GATHER_GROUPS];
    unsigned i = source_of(f, &e->id);

    if (i == GATHER_PEERS)
        for (i = 0; i < GATHER_PEERS && f->source[i].used; i++) continue;
    if (i == GATHER_PEERS) return;
    f->source[i] = (struct source){ .id = e->id, .used = true, .gave = f->source[i].gave };
    groups_of(&e->body, has);
    gather_peer(f->gather, i, is_near(f, e), has);
}

static bool may_give(const struct fetch *f, const struct entry *e)
{
    const struct record_body *b = &e->body;

    return entry_is_alive(b) && b->model.n == HASH_BYTES && (b->gives.n || b->gives_ends) &&
           memcmp(b->model.p, f->name.id.b, HASH_BYTES) == 0 && !net_is_banned(f->c.net, &e->id) &&
           !node_id_equal(&e->id, f->c.me);
}

/* Near ones first, from a random place on; lost: those who could not be reached lately, else those
 * who could. */
static void offer_all(struct fetch *f, bool lost, bool named[GATHER_PEERS])
{
    const struct directory *d = peers_directory(f->c.peers);
    const struct measured *measured = peers_measured(f->c.peers);
    uint32_t n = directory_n(d), start;

    random_bytes(&start, sizeof start);
    for (uint32_t i = 0; i < 2 * n; i++) {
        uint32_t at = (start % n + i) % n;
        const struct entry *e = directory_nth(d, at);
        if (!may_give(f, e) || is_near(f, e) != (i < n) || measured[at].lost != lost) continue;
        offer_source(f, e);
        unsigned k = source_of(f, &e->id);
        if (k < GATHER_PEERS) named[k] = true;
    }
}

/* The directory as it is now.  Who is connected stays, whatever it announces, as long as it owes us
 * something. */
static void refresh_sources(struct fetch *f)
{
    bool named[GATHER_PEERS] = { false }, any = false;
    uint64_t now = now_ms(f->c.hub);

    offer_all(f, false, named);
    for (unsigned i = 0; i < GATHER_PEERS; i++) any |= named[i];
    if (!any && now - f->tried_ms >= SUSPECTS_MS) {
        f->tried_ms = now;
        offer_all(f, true, named);
    }
    for (unsigned i = 0; i < GATHER_PEERS; i++)
        if (f->source[i].used && !named[i] && !gather_owes(f->gather, i)) source_gone(f, i);
}

/* --- asking --- */

static void say(struct fetch *f, unsigned source, enum msg_type type, uint32_t want)
{
    struct msg m = { .type = type, .rid = type == MSG_TILE_GET ? want + 1 : 0 };
    struct slice hash = slice_of(f->wants.p[want].hash.b, HASH_BYTES);

    if (type == MSG_TILE_GET)
        m.u.TILE_GET.hash = hash;
    else
        m.u.TILE_CANCEL.hash = hash;
    enum err e = net_send(f->c.net, &f->source[source].id, &m);
    if (e && type == MSG_TILE_GET)
        (void)gather_refused(f->gather, source, want, true, now_ms(f->c.hub));
}

/* May something be asked for?  Whole tiles are, so a slow rate asks for one and waits. */
static bool has_room(struct fetch *f, uint64_t now)
{
    double per_ms = (double)f->c.download / 1000;
    return !f->c.download || bucket_take(&f->room, now, per_ms, 250 * per_ms + 1);
}

static void ask_all(struct fetch *f)
{
    uint64_t now = now_ms(f->c.hub);
    struct gather_ask a;
    uint32_t r;

    while (f->gather && !f->paused && f->arrived_bytes < ARRIVED_MAX && has_room(f, now)) {
        random_bytes(&r, sizeof r);
        if (!gather_next(f->gather, now, r, &a)) return;
        bucket_owe(&f->room, (double)f->wants.p[a.piece].bytes);
        say(f, a.peer, MSG_TILE_GET, a.piece);
    }
}

void fetch_pause(struct fetch *f, bool is_paused)
{
    f->paused = is_paused;
    if (!is_paused) ask_all(f);
}

/* --- planning, on the depot's thread --- */

static void plan(struct fetch *f);

/* Layers of this model that are neither served nor wanted make room, if others have them.  true:
 * some did. */
static bool make_room(struct fetch *f, struct store *s)
{
    struct store_pin keep = { .ends = false };
    struct why why;
    uint64_t freed, need = disk_need(f->planned.room), room = disk_room(s, f->c.disk_limit);

    holding_pin(&keep, &f->holding);
    holding_pin(&keep, &f->serving);
    for (uint32_t l = 0; l < GROUP_ENDS; l++) keep.layer[l] |= !f->elsewhere[l];
    keep.ends |= !f->elsewhere[GROUP_ENDS];
    if (store_trim(s, &f->name.id, &keep, need - room, &freed, &why)) {
        log_warn("no room could be made: %s", why.text);
        return false;
    }
    if (freed)
        log_info("%" PRIu64 " KiB of layers that are no longer held were taken out", freed >> 10);
    return freed > 0;
}

static void on_plan(struct depot_job *j, struct store *s)
{
    struct fetch *f = (struct fetch *)(void *)((char *)j - offsetof(struct fetch, plan_job));
    bool tables = f->state == FETCH_TABLES;

    wants_fini(&f->planned);
    f->plan_err = tables ? wants_tables(&f->planned, s, f->manifest, &f->holding, &f->plan_why)
                         : wants_tiles(&f->planned, s, f->manifest, &f->holding, &f->plan_why);
    if (f->plan_err) return;
    f->plan_err = disk_check(s, f->c.disk_limit, f->planned.room, &f->plan_why);
    if (f->plan_err && !f->c.read_only && make_room(f, s))
        f->plan_err = disk_check(s, f->c.disk_limit, f->planned.room, &f->plan_why);
}

static void all_here(struct fetch *f)
{
    if (f->state == FETCH_TILES) {
        fetch_finish(f, ERR_OK, "");
        return;
    }
    f->state = FETCH_TILES;
    wants_fini(&f->tables);
    f->tables = f->wants;
    f->wants = (struct wants){ 0 };
    gather_close(f->gather);
    f->gather = NULL;
    plan(f);
}

static enum err begin_gather(struct fetch *f)
{
    uint16_t *group = calloc(f->planned.n + 1, sizeof *group);

    if (!group) return ERR_NOMEM;
    wants_fini(&f->wants);
    f->wants = f->planned;
    f->planned = (struct wants){ 0 };
    for (uint32_t i = 0; i < f->wants.n; i++) group[i] = want_group(&f->wants.p[i]);
    enum err e = gather_open(&f->gather, group, f->wants.n);
    free(group);
    return e;
}

static void on_planned(struct depot_job *j)
{
    struct fetch *f = (struct fetch *)(void *)((char *)j - offsetof(struct fetch, plan_job));

    if (!fetch_job_done(f)) return;
    enum err e = f->plan_err;
    if (!e && f->c.read_only && f->planned.n) {
        fetch_finish(f, ERR_DENIED,
                     "the store lacks some of that and is open for reading only; start the node "
                     "with these --layers");
        return;
    }
    if (!e) e = begin_gather(f);
    if (e) {
        fetch_finish(f, e, f->plan_err ? f->plan_why.text : err_text(e));
        return;
    }
    if (f->state == FETCH_TILES) {
        f->done_bytes = f->wants.bytes_here;
        f->total_bytes = f->wants.bytes_here + f->wants.bytes;
        f->c.on_progress(f->c.arg, f->done_bytes, f->total_bytes);
    }
    if (!gather_left(f->gather)) {
        all_here(f);
        return;
    }
    refresh_sources(f);
    ask_all(f);
}

static void plan(struct fetch *f)
{
    const struct directory *d = peers_directory(f->c.peers);
    bool has[GATHER_GROUPS];

    memset(f->elsewhere, 0, sizeof f->elsewhere);
    for (uint32_t i = 0; i < directory_n(d); i++) {
        const struct entry *e = directory_nth(d, i);
        if (!may_give(f, e)) continue;
        groups_of(&e->body, has);
        for (uint32_t l = 0; l < GATHER_GROUPS; l++) f->elsewhere[l] |= has[l];
    }
    fetch_job(f, &f->plan_job, on_plan, on_planned);
}

/* The manifest is known: what to hold of it, and how much of the disk may be used? */
static void on_room(struct depot_job *j, struct store *s)
{
    struct fetch *f = (struct fetch *)(void *)((char *)j - offsetof(struct fetch, plan_job));
    struct store_usage u;

    f->total_bytes = 0;
    f->plan_err = store_usage(s, &u, &f->plan_why);
    if (!f->plan_err) f->total_bytes = disk_room(s, f->c.disk_limit) + u.file_bytes - u.free_bytes;
}

static void on_room_known(struct depot_job *j)
{
    struct fetch *f = (struct fetch *)(void *)((char *)j - offsetof(struct fetch, plan_job));
    struct why why = { "" };

    if (!fetch_job_done(f)) return;
    enum err e = f->plan_err;
    if (e) why = f->plan_why;
    if (!e) e = f->c.choose(f->c.arg, f->manifest, f->total_bytes, &f->holding, &why);
    if (e) {
        fetch_finish(f, e, why.text);
        return;
    }
    plan(f);
}

void fetch_found(struct fetch *f)
{
    f->state = FETCH_TABLES;
    fetch_job(f, &f->plan_job, on_room, on_room_known);
}

/* --- storing, on the depot's thread --- */

static void on_store(struct depot_job *j, struct store *s)
{
    struct fetch *f = (struct fetch *)(void *)((char *)j - offsetof(struct fetch, store_job));
    uint64_t need = 0;

    for (struct arrival *a = f->batch; a; a = a->next) {
        const struct want *w = &f->wants.p[a->want];
        a->err = want_check(w, f->manifest, a->mail->m.u.TILE.data, &a->why);
        if (!a->err) need += store_value_bytes(w->bytes);
    }
    f->store_err = disk_room(s, f->c.disk_limit) >= need
                       ? ERR_OK
                       : disk_check(s, f->c.disk_limit, need, &f->store_why);
    for (struct arrival *a = f->batch; a && !f->store_err; a = a->next)
        if (!a->err)
            f->store_err = store_put_hashed(s, a->mail->m.u.TILE.data, &f->wants.p[a->want].hash,
                                            &f->store_why);
    if (!f->store_err) f->store_err = store_commit(s, &f->store_why);
}

static void store_next(struct fetch *f);

/* Bytes that are not the tile's.  (A number that is not finite was so at the publisher: its hash is
 * the model's.) */
static void take_bad(struct fetch *f, const struct arrival *a)
{
    unsigned i = source_of(f, &a->from);

    gather_bad(f->gather, a->want);
    if (i < GATHER_PEERS) source_gone(f, i);
    f->c.on_bad(f->c.arg, &a->from, a->why.text);
}

static void take_stored(struct fetch *f, const struct arrival *a)
{
    unsigned i = source_of(f, &a->from);
    const struct want *w = &f->wants.p[a->want];

    gather_stored(f->gather, a->want);
    f->count.tiles++;
    f->count.bytes += w->bytes;
    counters_add(f->c.counters, COUNT_WEIGHTS_TAKEN, w->bytes);
    if (f->state == FETCH_TILES) f->done_bytes += w->bytes;
    if (i == GATHER_PEERS || f->source[i].gave) return;
    f->source[i].gave = true;
    f->count.peers++;
}

static void on_stored(struct depot_job *j)
{
    struct fetch *f = (struct fetch *)(void *)((char *)j - offsetof(struct fetch, store_job));
    struct arrival *batch = f->batch;

    if (!fetch_job_done(f)) return;
    f->storing = false;
    f->batch = NULL;
    struct why not_finite = { "" };
    for (struct arrival *a = batch; a; a = a->next) {
        f->arrived_bytes -= a->mail->n;
        if (a->err == ERR_NONFINITE) not_finite = a->why;
        if (a->err)
            take_bad(f, a);
        else if (!f->store_err)
            take_stored(f, a);
    }
    drop_arrivals(batch);
    if (f->store_err || not_finite.text[0]) {
        fetch_finish(f, f->store_err ? f->store_err : ERR_NONFINITE,
                     f->store_err ? f->store_why.text : not_finite.text);
        return;
    }
    if (f->state == FETCH_TILES) f->c.on_progress(f->c.arg, f->done_bytes, f->total_bytes);
    if (!gather_left(f->gather)) {
        all_here(f);
        return;
    }
    store_next(f);
    ask_all(f);
}

static void store_next(struct fetch *f)
{
    size_t bytes = 0;
    struct arrival **end = &f->first;

    if (f->storing || !f->first) return;
    while (*end && (bytes == 0 || bytes + (*end)->mail->n <= BATCH_BYTES)) {
        bytes += (*end)->mail->n;
        end = &(*end)->next;
    }
    struct arrival *rest = *end;
    *end = NULL;
    f->batch = f->first;
    f->first = rest;
    if (!rest) f->last = &f->first;
    f->storing = true;
    fetch_job(f, &f->store_job, on_store, on_stored);
}

/* --- what comes --- */

static void keep_arrival(struct fetch *f, struct mail *m, uint32_t want)
{
    struct arrival *a = calloc(1, sizeof *a);
    unsigned other;

    if (!a) {
        gather_bad(f->gather, want);
        m->note.drop(&m->note);
        return;
    }
    *a = (struct arrival){ .mail = m, .from = m->from, .want = want };
    f->arrived_bytes += m->n;
    *f->last = a;
    f->last = &a->next;
    if (gather_cancel(f->gather, want, &other)) say(f, other, MSG_TILE_CANCEL, want);
    store_next(f);
    ask_all(f);
}

static void on_tile(struct fetch *f, struct mail *m)
{
    const struct msg_TILE *t = &m->m.u.TILE;
    uint32_t want = wants_find(&f->wants, t->hash.p);
    unsigned i = source_of(f, &m->from);
    uint64_t now = now_ms(f->c.hub);
    bool wanted = false, late = wants_find(&f->tables, t->hash.p) != UINT32_MAX;
    bool known = f->gather && want != UINT32_MAX && i < GATHER_PEERS;

    if (known && (t->refusal || !t->data.n)) {
        late |= gather_refused(f->gather, i, want, t->refusal == 2, now);
        ask_all(f);
    } else if (known) {
        late |= gather_arrived(f->gather, i, want, now, &wanted);
    }
    if (wanted) {
        keep_arrival(f, m, want);
        return;
    }
    if (!late && now >= f->c.lenient_ms)
        net_strike(f->c.net, &m->from, "a tile that it was not asked for");
    m->note.drop(&m->note);
}

void fetch_on_mail(struct fetch *f, struct mail *m)
{
    if (m->m.type == MSG_MANIFEST)
        seek_on_manifest(f, m);
    else if (m->m.type == MSG_TILE && f->state != FETCH_OVER)
        on_tile(f, m);
    else
        m->note.drop(&m->note);
}

void fetch_on_peer(struct fetch *f, const struct node_id *id, bool up)
{
    unsigned i = source_of(f, id);

    if (!up && i < GATHER_PEERS) source_gone(f, i);
    if (!up) seek_on_gone(f, id);
    fetch_on_directory(f);
}

void fetch_on_directory(struct fetch *f)
{
    if (f->state == FETCH_SEEK || f->state == FETCH_OVER || !f->gather) return;
    refresh_sources(f);
    ask_all(f);
}

/* --- opening and closing --- */

static void on_tick(uv_timer_t *t)
{
    struct fetch *f = t->data;
    uint64_t now = now_ms(f->c.hub);

    if (f->state == FETCH_SEEK) {
        if (f->c.known)
            fetch_found(f);
        else
            seek_tick(f, now);
        return;
    }
    if (!f->gather) return;
    gather_tick(f->gather, now);
    fetch_on_directory(f);
}

enum err fetch_open(struct fetch **out, const struct fetch_config *c)
{
    struct fetch *f = calloc(1, sizeof *f);

    if (!f) return ERR_NOMEM;
    f->manifest = calloc(1, sizeof *f->manifest);
    f->timer = malloc(sizeof *f->timer);
    if (!f->manifest || !f->timer) {
        free(f->manifest);
        free(f->timer);
        free(f);
        return ERR_NOMEM;
    }
    f->c = *c;
    f->last = &f->first;
    if (c->serving) f->serving = *c->serving;
    if (c->known) {
        *f->manifest = *c->known;
        f->name = *c->known_name;
    }
    if (uv_timer_init(&c->hub->loop, f->timer)) abort(); /* it cannot fail */
    f->timer->data = f;
    uv_timer_start(f->timer, on_tick, 0, FETCH_TICK_MS);
    *out = f;
    return ERR_OK;
}

static void on_timer_closed(uv_handle_t *h)
{
    free(h);
}

void fetch_close(struct fetch *f)
{
    if (!f) return;
    f->closing = true;
    f->state = FETCH_OVER;
    uv_close((uv_handle_t *)f->timer, on_timer_closed);
    if (!f->jobs) free_fetch(f);
}

const struct store_name *fetch_name(const struct fetch *f)
{
    return &f->name;
}

struct fetched fetch_counts(const struct fetch *f)
{
    return f->count;
}
