#include "tests/proto/noise_vectors.h"
#include "proto/noise.h"
#include "tests/proto/vectors.h"

enum { BUFFER = 1 << 17 };

/* One side of a vector as the file has it: heap slices, the empty one where a key is missing. */
struct side {
    struct slice prologue, s, e, rs;
    uint8_t psks[NOISE_PSKS_MAX][NOISE_KEY];
    unsigned n_psks;
    struct noise noise;
    struct noise_cipher send, receive;
    bool rekeyed;
};

static void add_psk(struct side *side, const struct json *v)
{
    if (!v) return;
    if (side->n_psks == NOISE_PSKS_MAX) fail_msg("more than %d psks", NOISE_PSKS_MAX);
    hex_bytes(side->psks[side->n_psks++], NOISE_KEY, v->text);
}

static void side_read(struct side *side, const struct json *v, const char *who)
{
    char name[64];
    struct slice *to[] = { &side->prologue, &side->s, &side->e, &side->rs };
    static const char *const of[] = { "prologue", "static", "ephemeral", "remote_static" };

    memset(side, 0, sizeof *side);
    for (unsigned i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s_%s", who, of[i]);
        *to[i] = member_bytes(v, name);
    }
    if (!side->prologue.p) side->prologue = member_bytes(v, "prologue");

    snprintf(name, sizeof name, "%s_psks", who);
    const struct json *list = json_get(v, name);
    for (const struct json *p = list ? list->child : NULL; p; p = p->next) add_psk(side, p);
    snprintf(name, sizeof name, "%s_psk", who);
    const struct json *one = json_get(v, name);
    if (!list) add_psk(side, one ? one : json_get(v, "psk"));
}

static void side_free(struct side *side)
{
    free((void *)side->prologue.p);
    free((void *)side->s.p);
    free((void *)side->e.p);
    free((void *)side->rs.p);
    noise_fini(&side->noise);
}

static enum err side_start(struct side *side, const char *name, bool initiator)
{
    return noise_init(&side->noise, &(struct noise_setup){
                                        .name = name,
                                        .initiator = initiator,
                                        .prologue = side->prologue,
                                        .static_secret = side->s.p,
                                        .remote_static = side->rs.p,
                                        .psks = (const uint8_t(*)[NOISE_KEY])side->psks,
                                        .n_psks = side->n_psks,
                                        .ephemeral_secret = side->e.p,
                                    });
}

/* One message from one side to the other; true when the ciphertext is the file's and the payload
 * comes out again. */
static bool pass(struct side *from, struct side *to, struct slice payload, struct slice want,
                 bool rekeyed)
{
    static uint8_t wire[BUFFER], back[BUFFER];
    size_t n = 0, got = 0;
    enum err e;

    if (!noise_done(&from->noise) && !from->send.has_key) {
        e = noise_write(&from->noise, payload, wire, sizeof wire, &n);
        if (e || n != want.n || memcmp(wire, want.p, n) != 0) return false;
        e = noise_read(&to->noise, slice_of(wire, n), back, sizeof back, &got);
        return !e && got == payload.n && memcmp(back, payload.p, got) == 0;
    }
    if (!from->send.has_key) {
        noise_split(&from->noise, &from->send, &from->receive);
        noise_split(&to->noise, &to->send, &to->receive);
    }
    if (rekeyed && !from->rekeyed) {
        from->rekeyed = true;
        noise_rekey(&from->send);
        noise_rekey(&to->receive);
    }
    if (noise_seal(&from->send, slice_of(NULL, 0), payload, wire)) return false;
    n = payload.n + NOISE_TAG;
    if (n != want.n || memcmp(wire, want.p, n) != 0) return false;
    if (noise_unseal(&to->receive, slice_of(NULL, 0), slice_of(wire, n), back)) return false;
    return memcmp(back, payload.p, payload.n) == 0;
}

static bool vector_run(const struct json *v, const char *name)
{
    struct side init, resp;
    struct slice hash = member_bytes(v, "handshake_hash");
    bool good, one_way = false;
    int i = 0;

    side_read(&init, v, "init");
    side_read(&resp, v, "resp");
    good = !side_start(&init, name, true) && !side_start(&resp, name, false);
    if (!good) fprintf(stderr, "%s: cannot start\n", name);
    if (good) one_way = noise_one_way(&init.noise);

    const struct json *list = json_get(v, "messages");
    good = good && list && list->n > 0;
    for (const struct json *m = list ? list->child : NULL; m && good; m = m->next, i++) {
        const struct json *dir = json_get(m, "dir");
        bool forth = one_way || (dir ? json_is_str(dir, "i2r") : i % 2 == 0);
        struct slice payload = member_bytes(m, "payload"), want = member_bytes(m, "ciphertext");

        good = pass(forth ? &init : &resp, forth ? &resp : &init, payload, want,
                    json_is_true(json_get(m, "rekeyed")));
        if (good && hash.n && noise_done(&init.noise))
            good = hash.n == NOISE_HASH && memcmp(init.noise.h, hash.p, hash.n) == 0 &&
                   memcmp(resp.noise.h, hash.p, hash.n) == 0;
        if (!good) fprintf(stderr, "%s: message %d differs\n", name, i);
        free((void *)payload.p);
        free((void *)want.p);
    }
    free((void *)hash.p);
    side_free(&init);
    side_free(&resp);
    return good;
}

static bool is_ours(const char *name)
{
    static const char suite[] = "_25519_ChaChaPoly_BLAKE2b";
    const char *at = strstr(name, suite);

    return strncmp(name, "Noise_", 6) == 0 && at && at[sizeof suite - 1] == 0 &&
           !strstr(name, "fallback") && !strstr(name, "hfs");
}

struct noise_count noise_vectors_run(const char *path)
{
    struct noise_count count = { 0 };
    struct json_doc *doc = file_json(path);
    const struct json *list = json_get(json_root(doc), "vectors");

    for (const struct json *v = list ? list->child : NULL; v; v = v->next) {
        char name[128] = "";
        const struct json *text = json_get(v, "protocol_name");
        if (!text) text = json_get(v, "name");
        if (text) snprintf(name, sizeof name, "%.*s", (int)text->text.n, (char *)text->text.p);
        if (!is_ours(name)) {
            count.skipped++;
            continue;
        }
        count.ran++;
        count.failed += !vector_run(v, name);
    }
    json_free(doc);
    return count;
}
