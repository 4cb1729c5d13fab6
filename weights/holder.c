#include "weights/holder.h"

#include "base/log.h"
#include "net/bans.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum {
    GIVES_MS = 5000,       /* while fetching: how often what we give is looked at again */
    LATE_TILES_MS = 60000, /* after a fetch: tiles that come late are no lie */
};

/* Work on the depot's thread; one of each at a time. */
struct look {
    struct depot_job job; /* first */
    struct holder *holder;
    struct holding pin;
    bool has_pin;
    uint32_t gives[RANGES_MAX], n_gives;
    bool gives_ends;
};
struct save {
    struct depot_job job; /* first */
    struct bans bans;
};

struct holder {
    struct holder_config c;
    struct store *store;       /* owned */
    bool writes;               /* it is open for writing */
    struct manifest *manifest; /* owned; NULL: not known yet */
    struct store_name name;
    char model[HASH_TEXT]; /* its id in hex; empty: not known */
    struct holding want;   /* what is to be held: found, chosen, or told to holder_change */
    struct holding served; /* what was wanted before, and is still served */
    bool missing;
    uint32_t gives[RANGES_MAX], n_gives;
    bool gives_ends;
    struct bans bans;
    struct publishers publishers;
    /* with holder_open */
    struct hub *hub;
    struct net *net;
    struct peers *peers;
    const struct node_id *me;
    struct depot *depot;
    struct serve *serve;
    struct fetch *fetch;
    uv_timer_t *timer; /* owned by its close callback; ends a fetch from outside its callbacks */
    bool looking, closing, paused;
    uint64_t over_ms, looked_ms;
    uint64_t done, total;
    enum err err;
    struct why why;
};

/* --- finding what is there --- */

/* The first layers without a gap that the store holds wholly. */
static void find_layers(struct store *s, const struct manifest *m, struct holding *out)
{
    uint32_t n = m->arch.n_layers, lo = 0;

    while (lo < n && !store_holds_layer(s, m, lo)) lo++;
    uint32_t hi = lo;
    while (hi < n && store_holds_layer(s, m, hi)) hi++;
    out->lo = lo == n ? 0 : lo;
    out->hi = lo == n ? 0 : hi;
}

/* What an earlier run had decided: the first pinned layers without a gap, and all parts.  false:
 * nothing. */
static bool find_pinned(struct store *s, const struct hash *id, const struct manifest *m,
                        struct holding *out)
{
    uint32_t n = m->arch.n_layers, lo = 0;
    struct store_pin pin;

    if (store_pin(s, id, &pin) || store_pin_empty(&pin)) return false;
    while (lo < n && !pin.layer[lo]) lo++;
    uint32_t hi = lo;
    while (hi < n && pin.layer[hi]) hi++;
    *out = (struct holding){
        .lo = lo == n ? 0 : lo, .hi = lo == n ? 0 : hi, .ends = pin.ends, .parts = pin.parts
    };
    struct why why;
    if (holding_check(out, m, "", &why)) out->parts.n = 0; /* of another version of the model */
    return true;
}

/* Of a model whose manifest is in the store: what is wanted, and is it there? */
static enum err look_for_layers(struct holder *h, struct why *why)
{
    const struct holder_config *c = &h->c;
    const struct manifest *m = h->manifest;
    bool has_ends = store_holds_layer(h->store, m, ARCH_ENDS);
    enum err e = c->has_layers ? holding_check(&c->layers, m, h->name.name, why) : ERR_OK;

    if (e) return e;
    h->want = c->layers;
    bool pinned = !c->has_layers && c->may_fetch && find_pinned(h->store, &h->name.id, m, &h->want);
    if (!c->has_layers && !pinned) find_layers(h->store, m, &h->want);
    h->want.ends = !c->no_ends && (h->want.ends || has_ends);
    bool nothing = holding_is_empty(&h->want);
    h->missing = c->may_fetch && (nothing || !holding_is_here(h->store, m, &h->want));
    if (!nothing || h->missing) return ERR_OK;
    return fail(why, ERR_NOTFOUND, "%s holds no whole layer of %s%s", c->dir, h->name.name,
                c->no_ends ? "" : " and not its ends either");
}

static enum err look_at_store(struct holder *h, struct why *why)
{
    enum err e = store_open(&h->store, h->c.dir, STORE_READ, why);

    h->manifest = calloc(1, sizeof *h->manifest);
    if (!h->manifest) return fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    if (!e) e = store_find_model(h->store, h->c.model, &h->name, h->manifest, why);
    if (!e) e = look_for_layers(h, why);
    if (e != ERR_NOTFOUND || !h->c.may_fetch) return e;
    h->missing = true; /* no store, or not that model: it is fetched */
    free(h->manifest);
    h->manifest = NULL;
    return ERR_OK;
}

static void take_gives(struct holder *h)
{
    if (!h->manifest) return;
    h->n_gives = layers_here(h->store, h->manifest, h->gives, RANGES_MAX);
    h->gives_ends = store_holds_layer(h->store, h->manifest, ARCH_ENDS);
}

/* The folders that dir lies in: ~/.local/share may be new.  What fails here fails below too. */
static void make_parents(const char *dir)
{
    char path[FILE_PATH_MAX];

    if (strlen(dir) >= sizeof path) return;
    strcpy(path, dir);
    for (char *p = path + 1; *p; p++) {
        if (*p != '/') continue;
        *p = 0;
        (void)mkdir(path, 0755);
        *p = '/';
    }
}

static enum err open_for_writing(struct holder *h, struct why *why)
{
    if (h->missing) make_parents(h->c.dir);
    store_close(h->store);
    h->store = NULL;
    enum err e = store_open(&h->store, h->c.dir, STORE_WRITE, why);
    h->writes = !e;
    if (e != ERR_BUSY || h->missing) return e;
    log_warn("%s; this node will not change what it holds", why->text);
    return store_open(&h->store, h->c.dir, STORE_READ, why);
}

enum err holder_find(struct holder **out, const struct holder_config *c, bool *complete,
                     struct holding *held, struct why *why)
{
    struct holder *h = calloc(1, sizeof *h);

    if (!h) return fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    h->c = *c;
    *out = h;
    enum err e = look_at_store(h, why);
    if (!e && (h->missing || c->may_change)) e = open_for_writing(h, why);
    if (!e) e = publishers_load(&h->publishers, why);
    for (unsigned i = 0; i < c->n_trust && !e; i++)
        e = publishers_trust(&h->publishers, &c->trust[i], "swarm-node --trust-publisher", why);
    if (!e) e = bans_load(&h->bans, c->dir, unix_now(), why);
    if (e) return e;
    take_gives(h);
    if (h->manifest) hash_text(h->model, &h->name.id);
    h->served = h->want;
    *complete = !h->missing;
    *held = h->want;
    return ERR_OK;
}

/* --- looking again, on the depot's thread --- */

static void on_look(struct depot_job *j, struct store *s)
{
    struct look *k = (struct look *)j;
    struct holder *h = k->holder;
    struct store_pin pin = { 0 };
    struct why why;

    k->n_gives = layers_here(s, h->manifest, k->gives, RANGES_MAX);
    k->gives_ends = store_holds_layer(s, h->manifest, ARCH_ENDS);
    if (!k->has_pin) return;
    holding_pin(&pin, &k->pin);
    if (store_put_pin(s, &h->name.id, &pin, &why)) log_warn("%s", why.text);
}

static void on_looked(struct depot_job *j)
{
    struct look *k = (struct look *)j;
    struct holder *h = k->holder;

    h->looking = false;
    bool news = !j->cancelled && (k->n_gives != h->n_gives || k->gives_ends != h->gives_ends ||
                                  memcmp(k->gives, h->gives, k->n_gives * sizeof *k->gives) != 0);
    if (news) {
        memcpy(h->gives, k->gives, sizeof h->gives);
        h->n_gives = k->n_gives;
        h->gives_ends = k->gives_ends;
    }
    free(k);
    if (news && !h->closing) h->c.on_change(h->c.arg);
}

static void look(struct holder *h, const struct holding *pin)
{
    struct look *k = h->looking && !pin ? NULL : calloc(1, sizeof *k);

    if (!k) return;
    *k = (struct look){ .holder = h, .has_pin = pin != NULL };
    if (pin) k->pin = *pin;
    k->job.run = on_look;
    k->job.done = on_looked;
    h->looking = true;
    h->looked_ms = now_ms(h->hub);
    depot_do(h->depot, &k->job);
}

/* --- those who send false bytes --- */

static void on_save(struct depot_job *j, struct store *s)
{
    struct why why;
    (void)s;
    if (bans_save(&((struct save *)j)->bans, &why)) log_warn("%s", why.text);
}

static void on_saved(struct depot_job *j)
{
    free(j);
}

static void on_bad(void *arg, const struct node_id *id, const char *what)
{
    struct holder *h = arg;
    struct save *save;
    char name[NODE_ID_TEXT], text[BAN_WHY];

    if (net_is_banned(h->net, id)) return; /* of several tiles that came together one is enough */
    save = calloc(1, sizeof *save);
    node_id_text(name, id);
    snprintf(text, sizeof text, "it sent %s", what);
    log_warn("node %s sent %s; it is banned for a day", name, what);
    bans_add(&h->bans, id, unix_now(), text);
    net_ban(h->net, id, (uint64_t)BAN_S * 1000, text);
    if (!save) return;
    save->bans = h->bans;
    save->job.run = on_save;
    save->job.done = on_saved;
    depot_do(h->depot, &save->job);
}

/* --- fetching --- */

/* For good: jobs on the depot's thread read it. */
static enum err take_manifest(struct holder *h, const struct manifest *m)
{
    if (h->manifest) return ERR_OK;
    h->manifest = malloc(sizeof *h->manifest);
    if (!h->manifest) return ERR_NOMEM;
    *h->manifest = *m;
    h->name = *fetch_name(h->fetch);
    hash_text(h->model, &h->name.id);
    return ERR_OK;
}

static enum err on_choose(void *arg, const struct manifest *m, uint64_t room, struct holding *out,
                          struct why *why)
{
    struct holder *h = arg;
    enum err e = take_manifest(h, m);

    if (e) return fail(why, e, "%s", err_text(e));
    *out = h->want;
    if (h->missing && h->c.has_layers) {
        *out = h->c.layers;
        e = holding_check(out, m, h->name.name, why);
    }
    if (!e && h->missing && holding_is_empty(out)) e = h->c.choose(h->c.arg, m, room, out, why);
    if (e) return e;
    if (h->c.no_ends) out->ends = false;
    h->want = *out;
    if (h->writes) look(h, out);
    h->c.on_change(h->c.arg);
    return ERR_OK;
}

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    struct holder *h = arg;

    h->done = done;
    h->total = total;
    if (h->c.progress) h->c.progress(done, total);
    if (now_ms(h->hub) - h->looked_ms >= GIVES_MS) look(h, NULL);
}

/* Outside the fetch's own calls: it can be closed. */
static void on_timer(uv_timer_t *t)
{
    struct holder *h = t->data;

    fetch_close(h->fetch);
    h->fetch = NULL;
    h->over_ms = now_ms(h->hub);
    if (!h->err) {
        h->missing = false;
        look(h, NULL);
        h->served = h->want;
        h->c.on_held(h->c.arg, &h->want);
    } else {
        h->c.on_fail(h->c.arg, h->err, h->why.text);
    }
}

static void on_fetched(void *arg, enum err e, const char *why)
{
    struct holder *h = arg;
    struct fetched n = fetch_counts(h->fetch);

    h->err = e;
    (void)fail(&h->why, e, "%s", why);
    uv_timer_start(h->timer, on_timer, 0, 0);
    log_info("fetched %" PRIu64 " tiles (%" PRIu64 " KiB) from %u nodes%s", n.tiles, n.bytes >> 10,
             n.peers, e ? "; more was wanted" : "");
    if (h->c.progress) h->c.progress(0, 0);
}

static enum err start_fetch(struct holder *h)
{
    struct fetch_config fc = { .hub = h->hub,
                               .net = h->net,
                               .peers = h->peers,
                               .depot = h->depot,
                               .me = h->me,
                               .counters = h->c.counters,
                               .publishers = &h->publishers,
                               .model = h->c.model,
                               .known = h->manifest,
                               .known_name = &h->name,
                               .read_only = !h->writes,
                               .serving = h->missing ? NULL : &h->served,
                               .lenient_ms = h->over_ms ? h->over_ms + LATE_TILES_MS : 0,
                               .disk_limit = h->c.disk_limit,
                               .download = h->c.download,
                               .arg = h,
                               .choose = on_choose,
                               .on_progress = on_progress,
                               .on_bad = on_bad,
                               .on_done = on_fetched };
    enum err e = fetch_open(&h->fetch, &fc);
    if (!e) fetch_pause(h->fetch, h->paused);
    return e;
}

void holder_pause(struct holder *h, bool is_paused)
{
    h->paused = is_paused;
    if (h->serve) serve_pause(h->serve, is_paused);
    if (h->fetch) fetch_pause(h->fetch, is_paused);
}

enum err holder_change(struct holder *h, const struct holding *want, struct why *why)
{
    uint32_t n = h->manifest ? h->manifest->arch.n_layers : 0;
    if (h->fetch || h->missing) return fail(why, ERR_BUSY, "something is fetched already");
    if (want->lo > want->hi || want->hi > n || holding_is_empty(want))
        return fail(why, ERR_RANGE, "layers %u to %u: the model has layers 0-%u", want->lo,
                    want->hi ? want->hi - 1 : 0, n - 1);
    h->want = *want;
    return start_fetch(h);
}

enum err holder_rechoose(struct holder *h, const struct holding *want, struct why *why)
{
    if (!h->fetch || !h->missing || h->err || !h->manifest)
        return fail(why, ERR_BUSY, "it is here already, or not known yet");
    fetch_close(h->fetch);
    h->fetch = NULL;
    h->over_ms = now_ms(h->hub);
    h->want = *want;
    return start_fetch(h);
}

/* --- opening and closing --- */

enum err holder_open(struct holder *h, struct hub *hub, struct net *net, struct peers *peers,
                     const struct node_id *me, struct why *why)
{
    h->hub = hub;
    h->net = net;
    h->peers = peers;
    h->me = me;
    h->timer = malloc(sizeof *h->timer);
    if (!h->timer) return fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    if (uv_timer_init(&hub->loop, h->timer)) abort(); /* it cannot fail */
    h->timer->data = h;
    struct serve_config sc = { .hub = hub,
                               .net = net,
                               .upload = h->c.upload,
                               .counters = h->c.counters,
                               .arg = h->c.arg,
                               .computes = h->c.computes };
    bans_apply(&h->bans, net, unix_now());
    enum err e = depot_open(&h->depot, hub, h->store);
    sc.depot = h->depot;
    if (!e) e = serve_open(&h->serve, &sc);
    if (!e && h->missing) e = start_fetch(h);
    return e ? fail(why, e, "%s", err_text(e)) : ERR_OK;
}

static void on_timer_closed(uv_handle_t *t)
{
    free(t);
}

void holder_close(struct holder *h)
{
    if (!h || h->closing) return;
    h->closing = true;
    fetch_close(h->fetch);
    serve_close(h->serve);
    depot_close(h->depot);
    h->fetch = NULL;
    h->serve = NULL;
    h->depot = NULL;
    if (h->timer) uv_close((uv_handle_t *)h->timer, on_timer_closed);
    h->timer = NULL;
}

void holder_free(struct holder *h)
{
    if (!h) return;
    store_close(h->store);
    free(h->manifest);
    free(h);
}

/* --- events --- */

static void on_tile(struct holder *h, struct mail *m)
{
    if (h->fetch) {
        fetch_on_mail(h->fetch, m);
        return;
    }
    if (!h->over_ms || now_ms(h->hub) - h->over_ms > LATE_TILES_MS)
        net_strike(h->net, &m->from, "a tile that it was not asked for");
    m->note.drop(&m->note);
}

void holder_on_mail(struct holder *h, struct mail *m)
{
    switch (m->m.type) {
    case MSG_TILE:
    case MSG_MANIFEST: on_tile(h, m); break;
    default: serve_on_mail(h->serve, m); break;
    }
}

void holder_on_peer(struct holder *h, const struct node_id *id, bool up)
{
    serve_on_peer(h->serve, id, up);
    if (h->fetch) fetch_on_peer(h->fetch, id, up);
}

void holder_on_directory(struct holder *h)
{
    if (h->fetch) fetch_on_directory(h->fetch);
}

/* --- telling --- */

void holder_describe(const struct holder *h, struct record_body *r, bool joining)
{
    if (!h->manifest) return;
    r->model = slice_of(h->name.id.b, HASH_BYTES);
    r->model_name = slice_str(h->name.name);
    r->gives.n = h->n_gives;
    memcpy(r->gives.p, h->gives, h->n_gives * sizeof *h->gives);
    r->gives_ends = h->gives_ends;
    if (joining && h->want.lo < h->want.hi)
        r->layers = (struct uints){ .n = 2, .p = { h->want.lo, h->want.hi } };
    if (joining) r->ends = h->want.ends;
    if (!joining && h->fetch && h->want.lo < h->want.hi)
        r->coming = (struct uints){ .n = 2, .p = { h->want.lo, h->want.hi } };
}

struct store *holder_store(struct holder *h)
{
    return h->store;
}

struct depot *holder_depot(struct holder *h)
{
    return h->depot;
}

const struct hash *holder_id(const struct holder *h)
{
    return &h->name.id;
}

const char *holder_model(const struct holder *h)
{
    return h->model[0] ? h->model : h->c.model;
}

bool holder_text(const struct holder *h, char *out, size_t cap)
{
    if (!h->fetch) return false;
    snprintf(out, cap, "this node is still fetching its part of %s (%u %%)",
             h->name.name[0] ? h->name.name : "the model",
             h->total ? (unsigned)(h->done * 100 / h->total) : 0);
    return true;
}

struct serve_given holder_given(const struct holder *h)
{
    return h->serve ? serve_given(h->serve) : (struct serve_given){ 0 };
}
