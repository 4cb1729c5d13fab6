/* A node that fetches, among peers who lie: false bytes, wrong sizes, silence, tiles that nobody
 * asked for, floods, false manifests; and a node that gives, within its limits. */
#include "net/bans.h"
#include "tests/store/small.h"
#include "weights/holder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/net/nets.h"
#include "tests/store/checkpoint.h" /* remove_dir */

#define NAME "small:q80"
enum { PATH_BYTES = 256 };

static char root[] = "/tmp/test_fetch.XXXXXX";
static struct manifest model;
static struct hash model_id;
static struct store *source; /* all of the model; read on the loop by the makeshift givers */

static void path_of(char out[PATH_BYTES], const char *name)
{
    snprintf(out, PATH_BYTES, "%s/%s", root, name);
}

/* --- those who give --- */

enum kind {
    HONEST,
    FALSE_BYTES, /* one bit of every tile */
    SHORT_BYTES, /* the last byte is missing */
    LONG_BYTES,  /* one too many */
    OTHER_TILE,  /* a good tile, but not the one asked for, under its hash */
    SILENT,
    UNASKED, /* tiles that nobody asked for */
    AGAIN,   /* each tile three times */
    BUSY,
    EMPTY,  /* "not here", always */
    LEAVER, /* goes after some tiles */
    FALSE_MANIFEST,
    NO_NAME,
    FOREIGN_NAME, /* signed by somebody unknown */
    FORGED_NAME,  /* the trusted one's name and key, a signature that does not fit */
};

struct giver {
    struct box box; /* first */
    struct peers *peers;
    enum kind kind;
    unsigned asked, manifests;
    bool only_ends;
};

static struct identity publisher, stranger;

static void send_tile(struct giver *g, const struct mail *m, struct slice bytes, unsigned times)
{
    struct msg out = { .type = MSG_TILE, .rid = m->m.rid };

    out.u.TILE.hash = m->m.u.TILE_GET.hash;
    out.u.TILE.data = bytes;
    for (unsigned i = 0; i < times; i++) (void)!net_send(g->box.net, &m->from, &out);
}

static void refuse_tile(struct giver *g, const struct mail *m, unsigned code)
{
    struct msg out = { .type = MSG_TILE, .rid = m->m.rid };

    out.u.TILE.hash = m->m.u.TILE_GET.hash;
    out.u.TILE.refusal = code;
    (void)!net_send(g->box.net, &m->from, &out);
}

static void send_unasked(struct giver *g, const struct mail *m)
{
    static const uint8_t hash[HASH_BYTES] = { 9, 9 };
    struct msg out = { .type = MSG_TILE, .rid = 77 };

    out.u.TILE.hash = slice_of(hash, sizeof hash);
    out.u.TILE.data = slice_str("surprise");
    (void)!net_send(g->box.net, &m->from, &out);
}

static void give_tile(struct giver *g, const struct mail *m)
{
    static uint8_t copy[TILE_WIRE_MAX];
    struct slice v;
    struct hash h;

    g->asked++;
    memcpy(h.b, m->m.u.TILE_GET.hash.p, HASH_BYTES);
    if (store_tile(source, &h, &v)) {
        refuse_tile(g, m, REFUSE_NOT_HERE);
        return;
    }
    memcpy(copy, v.p, v.n);
    switch (g->kind) {
    case SILENT: return;
    case BUSY: refuse_tile(g, m, REFUSE_BUSY); return;
    case EMPTY: refuse_tile(g, m, REFUSE_NOT_HERE); return;
    case UNASKED: send_unasked(g, m); break;
    case FALSE_BYTES: copy[v.n / 2] ^= 1; break;
    case SHORT_BYTES: v.n--; break;
    case LONG_BYTES: v.n++; break;
    case OTHER_TILE: memset(copy, 0, v.n); break;
    default: break;
    }
    if (v.n) send_tile(g, m, slice_of(copy, v.n), g->kind == AGAIN ? 3 : 1);
    if (g->kind == LEAVER && g->asked == 5) net_ban(g->box.net, &m->from, 60000, "I leave");
}

static size_t wire_name(uint8_t out[ID_BYTES + SIG_BYTES + 64], const struct identity *who,
                        const char *text)
{
    struct store_name n = { .id = model_id };

    strcpy(n.name, text);
    name_sign(&n, who);
    memcpy(out, n.publisher, ID_BYTES);
    memcpy(out + ID_BYTES, n.sig, SIG_BYTES);
    memcpy(out + ID_BYTES + SIG_BYTES, text, strlen(text));
    return ID_BYTES + SIG_BYTES + strlen(text);
}

static void give_manifest(struct giver *g, const struct mail *m)
{
    struct msg out = { .type = MSG_MANIFEST, .rid = m->m.rid };
    uint8_t name[ID_BYTES + SIG_BYTES + 64], *body;
    size_t n;
    struct manifest other = model;

    g->manifests++;
    if (g->kind == FALSE_MANIFEST) other.arch.context++;
    assert_int_equal(manifest_encode(&other, &body, &n), ERR_OK);
    out.u.MANIFEST.model = m->m.u.MANIFEST_GET.model;
    out.u.MANIFEST.body = slice_of(body, n);
    out.u.MANIFEST.names.n = g->kind != NO_NAME;
    out.u.MANIFEST.names.p[0] =
        slice_of(name, wire_name(name, g->kind == FOREIGN_NAME ? &stranger : &publisher, NAME));
    if (g->kind == FORGED_NAME) name[ID_BYTES + 5] ^= 1;
    assert_int_equal(net_send(g->box.net, &m->from, &out), ERR_OK);
    free(body);
}

static void giver_mail(struct box *b, struct mail *m)
{
    struct giver *g = (struct giver *)b;

    if (m->m.type == MSG_RECORDS || m->m.type == MSG_RECORDS_GET) {
        peers_on_mail(g->peers, m);
        return;
    }
    if (m->m.type == MSG_TILE_GET) give_tile(g, m);
    if (m->m.type == MSG_MANIFEST_GET) give_manifest(g, m);
    m->note.drop(&m->note);
}

static void giver_peer(struct box *b, const struct node_id *id, bool up)
{
    peers_on_peer(((struct giver *)b)->peers, id, up);
}

static void nothing(void *arg)
{
    (void)arg;
}

static void no_join(void *arg, const struct link *l, const char *why)
{
    (void)arg;
    (void)l;
    (void)why;
}

static struct peers *open_peers(struct box *b, const struct link *join, uint32_t n_join,
                                void (*on_change)(void *), void *arg)
{
    struct peers *p;
    struct peers_config c = { .hub = b->hub,
                              .net = b->net,
                              .me = &b->me,
                              .swarm = swarm_key_public(),
                              .join = join,
                              .n_join = n_join,
                              .arg = arg,
                              .on_change = on_change,
                              .on_join_failed = no_join };
    assert_int_equal(peers_open(&p, &c), ERR_OK);
    return p;
}

static void giver_announce(struct giver *g)
{
    uint8_t addr[6];
    struct record_body r = { .state = RECORD_ACTIVE, .gives_ends = 1 };

    r.addrs.n = 1;
    r.addrs.p[0] = loopback_addr(addr, net_port(g->box.net));
    r.model = slice_of(model_id.b, HASH_BYTES);
    r.model_name = slice_str(NAME);
    r.gives = (struct uints){ .n = g->only_ends ? 0 : 2, .p = { 0, model.arch.n_layers } };
    assert_int_equal(peers_announce(g->peers, &r), ERR_OK);
}

static void giver_open(struct giver *g, struct hub *hub, enum kind kind)
{
    *g = (struct giver){ .box = { .on_mail = giver_mail, .on_peer = giver_peer }, .kind = kind };
    box_open(&g->box, hub);
    g->peers = open_peers(&g->box, NULL, 0, nothing, NULL);
    giver_announce(g);
}

static void giver_close(struct giver *g)
{
    peers_close(g->peers);
    box_close(&g->box);
}

/* --- the one who fetches --- */

struct fetcher {
    struct box box; /* first */
    struct peers *peers;
    struct holder *holder, *closed; /* closed: to be freed after the loop */
    struct link join[4];
    char dir[PATH_BYTES];
    bool held, failed;
    enum err err;
    struct why why;
    unsigned bad;
    bool computing;
};

static void fetcher_mail(struct box *b, struct mail *m)
{
    struct fetcher *f = (struct fetcher *)b;

    if (m->m.type == MSG_RECORDS || m->m.type == MSG_RECORDS_GET)
        peers_on_mail(f->peers, m);
    else if (m->m.type >= MSG_MANIFEST_GET && m->m.type <= MSG_TILE_CANCEL && f->holder)
        holder_on_mail(f->holder, m);
    else
        m->note.drop(&m->note);
}

static void fetcher_peer(struct box *b, const struct node_id *id, bool up)
{
    struct fetcher *f = (struct fetcher *)b;

    peers_on_peer(f->peers, id, up);
    if (f->holder) holder_on_peer(f->holder, id, up);
}

static void on_directory(void *arg)
{
    struct fetcher *f = arg;
    if (f->holder) holder_on_directory(f->holder);
}

static bool computes(void *arg)
{
    return ((struct fetcher *)arg)->computing;
}

static enum err choose_all(void *arg, const struct manifest *m, uint64_t room, struct holding *out,
                           struct why *why)
{
    (void)arg;
    *out = (struct holding){ .lo = 0, .hi = m->arch.n_layers, .ends = true };
    if (holding_bytes(m, out) <= room) return ERR_OK;
    snprintf(why->text, sizeof why->text, "not one layer fits");
    return ERR_DISKFULL;
}

static void on_held(void *arg, const struct holding *h)
{
    (void)h;
    ((struct fetcher *)arg)->held = true;
}

static void on_fail(void *arg, enum err e, const char *why)
{
    struct fetcher *f = arg;
    f->failed = true;
    f->err = e;
    snprintf(f->why.text, sizeof f->why.text, "%s", why);
}

struct wish {
    const char *dir, *model;
    bool has_layers;
    struct holding layers;
    uint64_t disk, upload;
    bool may_fetch, may_change;
};

static bool fetcher_open(struct fetcher *f, struct hub *hub, const struct wish *w,
                         const struct giver *g, unsigned n)
{
    struct why why = { "" };
    struct holding held;
    bool complete;

    *f = (struct fetcher){ .box = { .on_mail = fetcher_mail, .on_peer = fetcher_peer } };
    box_open(&f->box, hub);
    for (unsigned i = 0; i < n; i++)
        f->join[i] = (struct link){ .id = g[i].box.me.id,
                                    .host = "127.0.0.1",
                                    .port = net_port(g[i].box.net) };
    f->peers = open_peers(&f->box, f->join, n, on_directory, f);
    path_of(f->dir, w->dir);
    struct holder_config c = { .dir = f->dir,
                               .model = w->model,
                               .has_layers = w->has_layers,
                               .layers = w->layers,
                               .disk_limit = w->disk,
                               .upload = w->upload,
                               .may_fetch = w->may_fetch,
                               .may_change = w->may_change,
                               .arg = f,
                               .choose = choose_all,
                               .computes = computes,
                               .on_held = on_held,
                               .on_change = nothing,
                               .on_fail = on_fail };
    struct holder *h;
    if (holder_find(&h, &c, &complete, &held, &why)) fail_msg("%s", why.text);
    if (holder_open(h, hub, f->box.net, f->peers, &f->box.me.id, &why)) fail_msg("%s", why.text);
    f->holder = h;
    return complete;
}

static void fetcher_close(struct fetcher *f)
{
    f->closed = f->holder;
    holder_close(f->holder);
    f->holder = NULL;
    peers_close(f->peers);
    box_close(&f->box);
}

static bool is_over(void *arg)
{
    struct fetcher *f = arg;
    return f->held || f->failed;
}

/* The store has these layers, whole, and nothing in it is damaged. */
static void count_fault(void *arg, const char *model_, const char *what, const char *how)
{
    (void)arg;
    fail_msg("%s: %s: %s", model_, what, how);
}

static void check_store(const char *dir, const struct holding *want)
{
    struct store *s;
    struct why why = { "" };
    struct manifest *m = malloc(sizeof *m);
    struct store_name name;
    struct store_check c = { .fault = count_fault };

    if (store_open(&s, dir, STORE_READ, &why)) fail_msg("%s", why.text);
    if (store_find_model(s, NAME, &name, m, &why)) fail_msg("%s", why.text);
    assert_memory_equal(name.id.b, model_id.b, HASH_BYTES);
    assert_true(name_is_signed(&name));
    for (uint32_t l = 0; l < model.arch.n_layers; l++)
        assert_int_equal(store_holds_layer(s, m, l), l >= want->lo && l < want->hi);
    assert_int_equal(store_holds_layer(s, m, ARCH_ENDS), want->ends);
    assert_int_equal(store_check(s, &c, &why), ERR_OK);
    store_close(s);
    free(m);
}

/* --- tests --- */

static struct hub *new_hub(void)
{
    struct hub *h = malloc(sizeof *h);
    assert_int_equal(hub_init(h), ERR_OK);
    return h;
}

static void end_hub(struct hub *h)
{
    hub_fini(h);
    free(h);
}

static const struct wish all_of_it = { "f", NAME, true, { .lo = 0, .hi = 3, .ends = true },
                                       0,   0,    true, false };

/* Fetch from givers of these kinds; the fetcher as it is at the end, closed. */
static struct fetcher fetch_from(const enum kind *kind, unsigned n, const struct wish *w,
                                 struct giver *g, unsigned ms)
{
    struct hub *hub = new_hub();
    static struct fetcher f;

    for (unsigned i = 0; i < n; i++) giver_open(&g[i], hub, kind[i]);
    bool complete = fetcher_open(&f, hub, w, g, n);
    if (!complete) (void)run_until(hub, is_over, &f, ms);
    for (unsigned i = 0; i < n; i++) f.bad += net_is_banned(f.box.net, &g[i].box.me.id);
    fetcher_close(&f);
    for (unsigned i = 0; i < n; i++) giver_close(&g[i]);
    end_hub(hub);
    holder_free(f.closed);
    return f;
}

static void clean(const char *name)
{
    char dir[PATH_BYTES];
    path_of(dir, name);
    remove_dir(dir);
}

static void test_honest(void **state)
{
    static const enum kind kind[] = { HONEST, HONEST };
    static const struct wish some = { "f", NAME, true, { .lo = 1, .hi = 3, .ends = false },
                                      0,   0,    true, false };
    struct giver g[2];
    struct fetcher f = fetch_from(kind, 2, &some, g, 10000);
    (void)state;

    if (!f.held) fail_msg("%s", f.why.text);
    check_store(f.dir, &some.layers);
    assert_true(g[0].asked > 0 && g[1].asked > 0); /* from both */
    unsigned first = g[0].asked + g[1].asked;
    f = fetch_from(kind, 2, &all_of_it, g, 10000); /* then the rest, and only that */
    assert_true(f.held);
    check_store(f.dir, &all_of_it.layers);
    unsigned all = 0;
    for (uint32_t l = 0; l < 3; l++) all += manifest_n_tiles(&model.arch, l) + 1;
    all += manifest_n_tiles(&model.arch, ARCH_ENDS) + 1 + model.n_tokenizer;
    assert_true(first + g[0].asked + g[1].asked <= all);
    f = fetch_from(kind, 2, &all_of_it, g, 10000);
    assert_int_equal(g[0].asked + g[1].asked + g[0].manifests + g[1].manifests, 0);
    clean("f");
}

static void test_without_names(void **state)
{
    static const enum kind kind[] = { HONEST };
    struct giver g[1];
    char id[HASH_TEXT];
    struct wish w = { "f", NULL, false, { .lo = 0, .hi = 0, .ends = false }, 0, 0, true, false };
    (void)state;

    struct fetcher f = fetch_from(kind, 1, &w, g, 10000); /* whatever the swarm has, all of it */
    assert_true(f.held);
    check_store(f.dir, &all_of_it.layers);
    clean("f");
    hash_text(id, &model_id);
    w.model = id;
    f = fetch_from(kind, 1, &w, g, 10000);
    assert_true(f.held);
    check_store(f.dir, &all_of_it.layers);
    clean("f");
}

/* One of each beside an honest one: all comes, and who sent false bytes is banned, and only he. */
static void test_liars(void **state)
{
    static const struct {
        enum kind kind;
        bool banned;
    } liar[] = { { FALSE_BYTES, true }, { SHORT_BYTES, true }, { LONG_BYTES, true },
                 { OTHER_TILE, true },  { UNASKED, true },     { AGAIN, true },
                 { SILENT, false },     { BUSY, false },       { EMPTY, false },
                 { LEAVER, false } };
    (void)state;

    for (unsigned i = 0; i < sizeof liar / sizeof *liar; i++) {
        const enum kind kind[] = { liar[i].kind, HONEST };
        struct giver g[2];
        struct fetcher f = fetch_from(kind, 2, &all_of_it, g, 20000);
        if (!f.held) fail_msg("liar %u: %s", i, f.why.text);
        check_store(f.dir, &all_of_it.layers);
        assert_true(g[0].asked > 0 || g[0].manifests > 0);
        if ((f.bad > 0) != liar[i].banned && g[0].asked > 4) fail_msg("liar %u: %u", i, f.bad);
        clean("f");
    }
}

/* A ban outlives the node that spoke it. */
static void test_ban_is_kept(void **state)
{
    static const enum kind kind[] = { FALSE_BYTES };
    struct giver g[1];
    struct bans *b = malloc(sizeof *b);
    struct why why;
    char dir[PATH_BYTES];
    (void)state;

    struct fetcher f = fetch_from(kind, 1, &all_of_it, g, 1500);
    assert_false(f.held || f.failed); /* it waits for somebody else */
    assert_int_equal(f.bad, 1);
    path_of(dir, "f");
    assert_int_equal(bans_load(b, dir, unix_now(), &why), ERR_OK);
    assert_int_equal(b->n, 1);
    assert_true(node_id_equal(&b->ban[0].id, &g[0].box.me.id));
    assert_non_null(strstr(b->ban[0].why, "other bytes"));
    assert_in_range(b->ban[0].until, unix_now() + BAN_S - 60, unix_now() + BAN_S);
    assert_int_equal(bans_load(b, dir, unix_now() + BAN_S + 1, &why), ERR_OK);
    assert_int_equal(b->n, 0);
    for (unsigned i = 0; i < BANS_MAX + 10; i++) { /* the oldest make room */
        struct node_id id = { { (uint8_t)i, (uint8_t)(i >> 8), 1 } };
        bans_add(b, &id, 1000 + i, "a\nb");
    }
    assert_int_equal(b->n, BANS_MAX);
    assert_int_equal(b->ban[0].until, 1000 + 10 + BAN_S);
    assert_int_equal(bans_save(b, &why), ERR_OK);
    assert_int_equal(bans_load(b, dir, 1000, &why), ERR_OK);
    assert_int_equal(b->n, BANS_MAX);
    assert_string_equal(b->ban[9].why, "a b");
    free(b);
    clean("f");
}

static void test_manifests(void **state)
{
    static const struct {
        enum kind kind;
        enum err err;
        const char *text;
    } how[] = { { FOREIGN_NAME, ERR_AUTH,
                  "whom you do not trust yet; if you do: --trust-publisher" },
                { FORGED_NAME, ERR_AUTH, "is not that of" },
                { NO_NAME, ERR_AUTH, "nobody has signed" } };
    (void)state;

    for (unsigned i = 0; i < sizeof how / sizeof *how; i++) {
        const enum kind kind[] = { how[i].kind };
        struct giver g[1];
        struct fetcher f = fetch_from(kind, 1, &all_of_it, g, 15000);
        assert_true(f.failed);
        assert_int_equal(f.err, how[i].err);
        if (!strstr(f.why.text, how[i].text)) fail_msg("%s", f.why.text);
        clean("f");
    }
    static const enum kind two[] = { FALSE_MANIFEST, HONEST };
    struct giver g[2];
    struct fetcher f = fetch_from(two, 2, &all_of_it, g, 25000);
    assert_true(f.held);
    if (g[0].manifests) assert_int_equal(f.bad, 1);
    clean("f");
}

static void test_disk_limit(void **state)
{
    static const enum kind kind[] = { HONEST };
    struct wish w = all_of_it;
    struct giver g[1];
    (void)state;

    w.disk = 1 << 20;
    struct fetcher f = fetch_from(kind, 1, &w, g, 10000);
    assert_true(f.failed);
    assert_int_equal(f.err, ERR_DISKFULL);
    if (!strstr(f.why.text, "MiB more are needed")) fail_msg("%s", f.why.text);
    clean("f");
    w.has_layers = false;
    w.disk = 100 << 10;
    f = fetch_from(kind, 1, &w, g, 10000);
    assert_true(f.failed);
    if (!strstr(f.why.text, "not one layer fits")) fail_msg("%s", f.why.text);
    clean("f");
    w = all_of_it;
    w.layers.hi = 7;
    f = fetch_from(kind, 1, &w, g, 10000);
    assert_int_equal(f.err, ERR_RANGE);
    clean("f");
}

/* Without room, layers that are neither served nor wanted go, if others have them. */
static uint64_t limit_for(const struct holding *want, uint64_t too_little)
{
    char dir[PATH_BYTES];
    struct store *s;
    struct store_usage u;
    struct wants w;
    struct why why = { "" };

    path_of(dir, "f");
    assert_int_equal(store_open(&s, dir, STORE_READ, &why), ERR_OK);
    assert_int_equal(store_usage(s, &u, &why), ERR_OK);
    assert_int_equal(wants_tables(&w, s, &model, want, &why), ERR_OK);
    uint64_t need = w.bytes;
    wants_fini(&w);
    store_close(s);
    need += store_value_bytes(holding_bytes(&model, want));
    return u.file_bytes - u.free_bytes + disk_need(need) - too_little;
}

static void test_makes_room(void **state)
{
    static const enum kind kind[] = { HONEST };
    static const struct holding ends = { .lo = 0, .hi = 1, .ends = true };
    struct wish w = { "f", NAME, true, { .lo = 0, .hi = 3, .ends = false }, 0, 0, true, false };
    struct giver g[1];
    struct why why;
    (void)state;

    struct fetcher f = fetch_from(kind, 1, &w, g, 10000);
    assert_true(f.held);
    for (unsigned others = 0; others < 2; others++) {
        struct hub *hub = new_hub();
        w.layers.hi = 1;
        w.may_change = true;
        w.disk = limit_for(&(struct holding){ .lo = 0, .hi = 0, .ends = true }, 30 << 10);
        giver_open(&g[0], hub, HONEST);
        g[0].only_ends = !others;
        giver_announce(&g[0]);
        assert_true(fetcher_open(&f, hub, &w, g, 1));
        run_for(hub, 1500); /* until it has heard what others give */
        assert_int_equal(holder_change(f.holder, &ends, &why), ERR_OK);
        assert_true(run_until(hub, is_over, &f, 10000));
        if (others != f.held) fail_msg("%s", f.why.text);
        fetcher_close(&f);
        giver_close(&g[0]);
        end_hub(hub);
        holder_free(f.closed);
    }
    struct store *s;
    assert_int_equal(store_open(&s, f.dir, STORE_READ, &why), ERR_OK);
    assert_true(store_holds_layer(s, &model, 0) && store_holds_layer(s, &model, ARCH_ENDS));
    assert_false(store_holds_layer(s, &model, 2)); /* the last goes first, and that was enough */
    assert_true(store_holds_layer(s, &model, 1));
    store_close(s);
    clean("f");
}

/* --- giving --- */

/* A peer that asks for what it likes, and counts. */
struct asker {
    struct box box; /* first */
    unsigned tiles, refused, downs;
    uint64_t bytes;
};

static void asker_mail(struct box *b, struct mail *m)
{
    struct asker *a = (struct asker *)b;

    if (m->m.type == MSG_TILE && m->m.u.TILE.refusal) a->refused++;
    if (m->m.type == MSG_TILE && !m->m.u.TILE.refusal) {
        struct hash is = hash_of(m->m.u.TILE.data);
        assert_memory_equal(is.b, m->m.u.TILE.hash.p, HASH_BYTES);
        a->tiles++;
        a->bytes += m->m.u.TILE.data.n;
    }
    m->note.drop(&m->note);
}

static void ask_tile(struct asker *a, const struct fetcher *of, const struct hash *h)
{
    struct msg m = { .type = MSG_TILE_GET, .rid = 1 };

    m.u.TILE_GET.hash = slice_of(h->b, HASH_BYTES);
    (void)!net_send(a->box.net, &of->box.me.id, &m);
}

static unsigned wanted_answers;
static bool has_answers(void *arg)
{
    const struct asker *a = arg;
    return a->tiles + a->refused >= wanted_answers;
}

static uint64_t ms_for(struct hub *hub, struct asker *a, const struct fetcher *f, unsigned n)
{
    uint64_t t = uv_hrtime();

    wanted_answers = a->tiles + a->refused + n;
    for (unsigned i = 0; i < n; i++) ask_tile(a, f, &model.tokenizer[0]);
    assert_true(run_until(hub, has_answers, a, 30000));
    return (uv_hrtime() - t) / 1000000;
}

static void test_giving(void **state)
{
    static const struct wish full = { "full", NAME,    true,  { .lo = 0, .hi = 3, .ends = true },
                                      0,      4 << 20, false, false };
    struct hub *hub = new_hub();
    struct fetcher f;
    struct asker a = { .box = { .on_mail = asker_mail } };
    struct answer dialled;
    struct hash none = { { 1 } };
    (void)state;

    assert_true(fetcher_open(&f, hub, &full, NULL, 0));
    box_open(&a.box, hub);
    assert_int_equal(dial_wait(&a.box, &f.box.me.id, "127.0.0.1", net_port(f.box.net), &dialled),
                     ERR_OK);
    uint64_t ms = ms_for(hub, &a, &f, 4); /* 4 MiB at 4 MiB/s */
    assert_int_equal(a.tiles, 4);
    assert_in_range(ms, 700, 10000);
    f.computing = true; /* a tenth of it while it computes */
    ms = ms_for(hub, &a, &f, 1);
    assert_in_range(ms, 800, 20000);
    f.computing = false;
    wanted_answers = a.tiles + a.refused + 1;
    ask_tile(&a, &f, &none);
    assert_true(run_until(hub, has_answers, &a, 5000));
    assert_int_equal(a.refused, 1);
    print_message("1 MiB while computing, of 4 MiB/s: %llu ms\n", (unsigned long long)ms);

    for (unsigned i = 0; i < 60; i++)
        ask_tile(&a, &f, &model.tokenizer[0]); /* more than may wait */
    struct msg cancel = { .type = MSG_TILE_CANCEL };
    cancel.u.TILE_CANCEL.hash = slice_of(model.tokenizer[0].b, HASH_BYTES);
    assert_int_equal(net_send(a.box.net, &f.box.me.id, &cancel), ERR_OK);
    run_for(hub, 1500);
    assert_in_range(a.refused, 20, 40);
    assert_true(a.tiles < 10); /* those that waited were taken back */

    for (unsigned i = 0; i < 6000 && net_is_up(a.box.net, &f.box.me.id); i++) {
        ask_tile(&a, &f, &model.tokenizer[0]);
        if (i % 100 == 99) run_for(hub, 1);
    }
    run_for(hub, 300);
    assert_true(net_is_banned(f.box.net, &a.box.me.id)); /* a flood is a strike, and another ... */
    box_close(&a.box);
    fetcher_close(&f);
    end_hub(hub);
    holder_free(f.closed);
}

/* --- the world --- */

static int set_up(void **state)
{
    char path[PATH_BYTES];
    struct why why = { "" };
    struct publishers *p = malloc(sizeof *p);
    struct store *s;
    uint8_t *body;
    size_t n;
    struct store_name name = { .name = NAME };
    (void)state;

    if (!mkdtemp(root)) return 1;
    setenv("XDG_CONFIG_HOME", root, 1);
    identity_make(&publisher);
    identity_make(&stranger);
    path_of(path, "full");
    if (store_open(&s, path, STORE_WRITE, &why) || put_small(s, &model)) fail_msg("%s", why.text);
    assert_int_equal(manifest_encode(&model, &body, &n), ERR_OK);
    model_id = hash_of(slice_of(body, n));
    name.id = model_id;
    name_sign(&name, &publisher);
    assert_int_equal(store_put_model(s, slice_of(body, n), &name, &why), ERR_OK);
    store_close(s);
    path_of(path, "copy");
    if (store_open(&source, path, STORE_WRITE, &why) || put_small(source, &model))
        fail_msg("%s", why.text);
    assert_int_equal(store_commit(source, &why), ERR_OK);
    assert_int_equal(publishers_load(p, &why), ERR_OK);
    if (publishers_trust(p, &publisher.id, "the test's", &why)) fail_msg("%s", why.text);
    free(p);
    free(body);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    store_close(source);
    clean("full");
    clean("copy");
    clean("swarm");
    remove_dir(root);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_honest),     cmocka_unit_test(test_without_names),
        cmocka_unit_test(test_liars),      cmocka_unit_test(test_ban_is_kept),
        cmocka_unit_test(test_manifests),  cmocka_unit_test(test_disk_limit),
        cmocka_unit_test(test_makes_room), cmocka_unit_test(test_giving),
    };
    if (proto_init()) return 2;
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
