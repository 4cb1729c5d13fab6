#include "weights/fetch_impl.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

/* --- candidates --- */

static bool may_be_meant(const struct fetch *f, const struct record_body *b)
{
    struct hash id;

    if (!entry_is_alive(b) || b->model.n != HASH_BYTES) return false;
    if (!f->c.model) return true;
    if (hash_parse(&id, f->c.model)) return memcmp(id.b, b->model.p, HASH_BYTES) == 0;
    return b->model_name.n == strlen(f->c.model) &&
           memcmp(b->model_name.p, f->c.model, b->model_name.n) == 0;
}

static struct candidate *candidate_of(struct seek *k, const uint8_t *id)
{
    for (unsigned i = 0; i < k->n; i++)
        if (memcmp(k->candidate[i].id.b, id, HASH_BYTES) == 0) return &k->candidate[i];
    return NULL;
}

static void count_candidates(struct fetch *f, uint64_t now)
{
    const struct directory *d = peers_directory(f->c.peers);
    struct seek *k = &f->seek;

    for (unsigned i = 0; i < k->n; i++) k->candidate[i].nodes = 0;
    for (uint32_t i = 0; i < directory_n(d); i++) {
        const struct entry *e = directory_nth(d, i);
        if (node_id_equal(&e->id, f->c.me) || !may_be_meant(f, &e->body)) continue;
        struct candidate *c = candidate_of(k, e->body.model.p);
        if (!c && k->n < CANDIDATES_MAX) {
            c = &k->candidate[k->n++];
            *c = (struct candidate){ .nodes = 0 };
            memcpy(c->id.b, e->body.model.p, HASH_BYTES);
            if (!k->found_ms) k->found_ms = now;
        }
        if (c) c->nodes++;
    }
}

/* --- asking --- */

/* Somebody who announces c's model: from a random place in the directory on.  Those who could not
 * be reached lately come last. */
static bool pick_node(struct fetch *f, const struct candidate *c, struct node_id *out)
{
    const struct directory *d = peers_directory(f->c.peers);
    const struct measured *measured = peers_measured(f->c.peers);
    uint32_t n = directory_n(d), start;
    bool found = false;

    random_bytes(&start, sizeof start);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = (start % n + i) % n;
        const struct entry *e = directory_nth(d, at);
        if (node_id_equal(&e->id, f->c.me) || !may_be_meant(f, &e->body)) continue;
        if (memcmp(e->body.model.p, c->id.b, HASH_BYTES) != 0) continue;
        if (net_is_banned(f->c.net, &e->id) || (found && measured[at].lost)) continue;
        *out = e->id;
        found = true;
        if (!measured[at].lost) break;
    }
    return found;
}

static void ask(struct fetch *f, struct candidate *c, uint64_t now)
{
    struct msg m = { .type = MSG_MANIFEST_GET, .rid = 1 };

    if (!pick_node(f, c, &c->whom)) return;
    m.u.MANIFEST_GET.model = slice_of(c->id.b, HASH_BYTES);
    c->asked_ms = now;
    c->asked = net_send(f->c.net, &c->whom, &m) == ERR_OK;
}

/* The one that most nodes announce, of those that are not refused. */
static struct candidate *best(struct seek *k)
{
    struct candidate *b = NULL;

    for (unsigned i = 0; i < k->n; i++) {
        struct candidate *c = &k->candidate[i];
        if (!c->refused && c->nodes && (!b || c->nodes > b->nodes)) b = c;
    }
    return b;
}

static void say_waiting(struct fetch *f, uint64_t now)
{
    uint32_t n = directory_n(peers_directory(f->c.peers));

    if (now - f->seek.since_ms < SEEK_FIRST_MS) return;
    if (f->seek.said_ms && now - f->seek.said_ms < SEEK_WORD_MS) return;
    f->seek.said_ms = now;
    log_info("waiting for a node that holds %s (nodes known: %u)",
             f->c.model ? f->c.model : "a model", n);
}

void seek_tick(struct fetch *f, uint64_t now)
{
    struct seek *k = &f->seek;

    if (k->mail) return;
    if (!k->since_ms) k->since_ms = now;
    count_candidates(f, now);
    struct candidate *c = best(k);
    for (unsigned i = 0; i < k->n && !c && now - k->found_ms > SEEK_REFUSE_MS; i++) {
        if (!k->candidate[i].refused) continue;
        fetch_finish(f, ERR_AUTH, k->candidate[i].why.text);
        return;
    }
    if (!c) say_waiting(f, now);
    if (!c || (!f->c.model && now - k->found_ms < SEEK_SETTLE_MS)) return;
    if (!c->asked || now - c->asked_ms > SEEK_ANSWER_MS) ask(f, c, now);
}

void seek_on_gone(struct fetch *f, const struct node_id *id)
{
    struct seek *k = &f->seek;

    for (unsigned i = 0; i < k->n; i++)
        if (node_id_equal(&k->candidate[i].whom, id)) k->candidate[i].asked = false;
}

/* --- a manifest, on the depot's thread --- */

static bool parse_name(struct store_name *out, struct slice wire, const struct hash *id)
{
    size_t n = wire.n - ID_BYTES - SIG_BYTES;

    if (wire.n <= ID_BYTES + SIG_BYTES || n >= sizeof out->name) return false;
    *out = (struct store_name){ .id = *id };
    memcpy(out->publisher, wire.p, ID_BYTES);
    memcpy(out->sig, wire.p + ID_BYTES, SIG_BYTES);
    memcpy(out->name, wire.p + ID_BYTES + SIG_BYTES, n);
    return strlen(out->name) == n && store_name_ok(out->name);
}

/* A name that is meant, and signed by somebody who is trusted. */
static enum err find_name(struct fetch *f, const struct msg_MANIFEST *m, const struct hash *id,
                          bool by_id, struct store_name *out, struct why *why)
{
    enum err e = ERR_NOTFOUND;
    struct store_name name;

    for (uint32_t i = 0; i < m->names.n && i < NAMES_MAX; i++) {
        if (!parse_name(&name, m->names.p[i], id)) continue;
        if (f->c.model && !by_id && strcmp(name.name, f->c.model) != 0) continue;
        e = publishers_check(f->c.publishers, &name, why);
        if (e) continue;
        *out = name;
        return ERR_OK;
    }
    if (e == ERR_NOTFOUND)
        return fail(why, ERR_AUTH, "nobody has signed %s for the model that is announced by it",
                    f->c.model ? f->c.model : "a name");
    return e;
}

static void on_look(struct depot_job *j, struct store *s)
{
    struct fetch *f = (struct fetch *)(void *)((char *)j - offsetof(struct fetch, seek.job));
    struct seek *k = &f->seek;
    const struct msg_MANIFEST *m = &k->mail->m.u.MANIFEST;
    struct hash id = hash_of(m->body), given, old_id;
    struct store_name old;

    k->false_bytes = memcmp(id.b, m->model.p, HASH_BYTES) != 0;
    if (k->false_bytes) {
        k->err = fail(&k->why, ERR_MALFORMED, "a manifest that is not the model's");
        return;
    }
    if ((k->err = manifest_decode(f->manifest, m->body, &k->why))) return;
    bool by_id = f->c.model && hash_parse(&given, f->c.model);
    k->err = find_name(f, m, &id, by_id, &f->name, &k->why);
    bool unnamed = k->err && by_id; /* the person gave the id: that is trust enough */
    if (unnamed) f->name = (struct store_name){ .id = id };
    if (k->err && !unnamed) return;
    old_id = id;
    if (!unnamed && !store_name_entry(s, f->name.name, &old)) old_id = old.id;
    if (!hash_equal(&old_id, &id)) {
        k->err =
            fail(&k->why, ERR_EXISTS,
                 "the name %s belongs to another model in this store; give another --store, or "
                 "take that one out with swarm-store remove",
                 f->name.name);
        return;
    }
    k->err = store_put_model(s, m->body, unnamed ? NULL : &f->name, &k->why);
}

static void on_looked(struct depot_job *j)
{
    struct fetch *f = (struct fetch *)(void *)((char *)j - offsetof(struct fetch, seek.job));
    struct seek *k = &f->seek;
    struct mail *m = k->mail;

    k->mail = NULL;
    if (!fetch_job_done(f)) {
        m->note.drop(&m->note);
        return;
    }
    struct candidate *c = candidate_of(k, m->m.u.MANIFEST.model.p);
    struct node_id from = m->from;
    m->note.drop(&m->note);
    if (c) c->asked = false;
    if (!k->err) {
        fetch_found(f);
    } else if (k->false_bytes) {
        f->c.on_bad(f->c.arg, &from, k->why.text);
    } else if (k->err == ERR_AUTH || k->err == ERR_MALFORMED || k->err == ERR_RANGE ||
               k->err == ERR_UNSUPPORTED) { /* this model, whoever has it */
        if (c) c->refused = true;
        if (c) c->why = k->why;
    } else {
        fetch_finish(f, k->err, k->why.text);
    }
}

void seek_on_manifest(struct fetch *f, struct mail *m)
{
    struct seek *k = &f->seek;
    const struct msg_MANIFEST *b = &m->m.u.MANIFEST;
    struct candidate *c = candidate_of(k, b->model.p);
    bool may_answer = c && node_id_equal(&c->whom, &m->from); /* perhaps late */
    bool asked = f->state == FETCH_SEEK && may_answer && c->asked;

    if (asked && (b->refusal || !b->body.n)) {
        c->asked_ms = now_ms(f->c.hub) - SEEK_ANSWER_MS + 1000; /* another, in a second */
    } else if (asked && !k->mail) {
        k->mail = m;
        fetch_job(f, &k->job, on_look, on_looked);
        return;
    }
    if (!may_answer && now_ms(f->c.hub) >= f->c.lenient_ms)
        net_strike(f->c.net, &m->from, "a manifest that it was not asked for");
    m->note.drop(&m->note);
}
