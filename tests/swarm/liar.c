/* liar - a node that announces every layer of a store's model, and gives false bytes.
 *
 *   liar STORE MODEL JOIN-LINK
 *
 * Every tile that is asked for is sent with one bit changed; the manifest is the true one.  Its id
 * goes to stdout.  Until it is killed. */
#include "peers/peers.h"
#include "store/care.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct hub hub;
static struct net *net;
static struct peers *peers;
static struct store *store;
static struct store_name name;
static struct manifest manifest;

static void give_manifest(const struct mail *m)
{
    struct msg out = { .type = MSG_MANIFEST, .rid = m->m.rid };
    uint8_t wire[ID_BYTES + SIG_BYTES + 64];
    size_t n = strlen(name.name);

    if (store_manifest(store, &name.id, &manifest, &out.u.MANIFEST.body, NULL)) exit(2);
    memcpy(wire, name.publisher, ID_BYTES);
    memcpy(wire + ID_BYTES, name.sig, SIG_BYTES);
    memcpy(wire + ID_BYTES + SIG_BYTES, name.name, n);
    out.u.MANIFEST.model = m->m.u.MANIFEST_GET.model;
    out.u.MANIFEST.names =
        (struct bins){ .n = 1, .p = { slice_of(wire, ID_BYTES + SIG_BYTES + n) } };
    (void)!net_send(net, &m->from, &out);
}

static void give_tile(const struct mail *m)
{
    static uint8_t copy[TILE_WIRE_MAX];
    struct msg out = { .type = MSG_TILE, .rid = m->m.rid };
    struct hash h;
    struct slice v;

    memcpy(h.b, m->m.u.TILE_GET.hash.p, HASH_BYTES);
    if (store_tile(store, &h, &v)) return;
    memcpy(copy, v.p, v.n);
    copy[v.n / 2] ^= 4;
    out.u.TILE.hash = m->m.u.TILE_GET.hash;
    out.u.TILE.data = slice_of(copy, v.n);
    (void)!net_send(net, &m->from, &out);
}

static void on_mail(void *arg, struct mail *m)
{
    (void)arg;
    if (m->m.type == MSG_RECORDS || m->m.type == MSG_RECORDS_GET) {
        peers_on_mail(peers, m);
        return;
    }
    if (m->m.type == MSG_MANIFEST_GET) give_manifest(m);
    if (m->m.type == MSG_TILE_GET) give_tile(m);
    m->note.drop(&m->note);
}

static void on_peer(void *arg, const struct node_id *id, bool up, const char *why)
{
    (void)arg;
    (void)why;
    peers_on_peer(peers, id, up);
}

static void on_change(void *arg)
{
    (void)arg;
}

static void on_join_failed(void *arg, const struct link *l, const char *why)
{
    (void)arg;
    (void)l;
    fprintf(stderr, "liar: %s\n", why);
}

static void announce(const struct identity *me)
{
    uint16_t port = net_port(net);
    const uint8_t addr[6] = { 127, 0, 0, 1, (uint8_t)(port >> 8), (uint8_t)port };
    struct record_body r = { .version = 2, .state = RECORD_ACTIVE, .gives_ends = 1 };
    char text[NODE_ID_TEXT];

    r.addrs = (struct bins){ .n = 1, .p = { slice_of(addr, sizeof addr) } };
    r.model = slice_of(name.id.b, HASH_BYTES);
    r.model_name = slice_str(name.name);
    r.gives = (struct uints){ .n = 2, .p = { 0, manifest.arch.n_layers } };
    if (peers_announce(peers, &r)) exit(2);
    node_id_text(text, &me->id);
    puts(text);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct identity me;
    struct link join;
    struct why why = { "" };

    if (argc != 4 || proto_init() || link_parse(&join, argv[3], &why)) return 2;
    if (store_open(&store, argv[1], STORE_READ, &why) ||
        store_find_model(store, argv[2], &name, &manifest, &why) || hub_init(&hub)) {
        fprintf(stderr, "liar: %s\n", why.text);
        return 2;
    }
    identity_make(&me);
    struct net_config nc = { .me = &me,
                             .swarm = swarm_key_public(),
                             .listen_host = "127.0.0.1",
                             .agent = "liar",
                             .role = 1,
                             .on_mail = on_mail,
                             .on_peer = on_peer };
    if (net_open(&net, &hub, &nc, &why)) return 2;
    struct peers_config pc = { .hub = &hub,
                               .net = net,
                               .me = &me,
                               .swarm = swarm_key_public(),
                               .join = &join,
                               .n_join = 1,
                               .on_change = on_change,
                               .on_join_failed = on_join_failed };
    if (peers_open(&peers, &pc)) return 2;
    announce(&me);
    hub_run(&hub);
    return 0;
}
