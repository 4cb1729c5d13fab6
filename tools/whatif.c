#include "tools/whatif.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOW = 1000000, SPEC_MAX = 120 };

/* --- descriptions --- */

static double unit_of(const char *s, const char *end)
{
    static const struct {
        const char *name;
        double factor;
    } units[] = { { "M", 1 << 20 }, { "G", 1 << 30 }, { "T", 1.0 * (1 << 30) * 1024 } };
    for (unsigned i = 0; i < 3; i++)
        if (strncmp(s, units[i].name, (size_t)(end - s)) == 0 && end - s == 1)
            return units[i].factor;
    return 0;
}

static bool is_unit(const char *s, const char *end, const char *unit)
{
    return (size_t)(end - s) == strlen(unit) && memcmp(s, unit, (size_t)(end - s)) == 0;
}

/* "16G", "40GB/s", "20ms" or "10Mbit", from word to end. */
static bool read_word(struct whatif_pc *pc, const char *word, const char *end)
{
    char *rest;
    double v = strtod(word, &rest);
    if (rest == word || !(v >= 0) || v > 1e9) return false;
    if (is_unit(rest, end, "GB/s") && v > 0) {
        pc->gbs = v;
    } else if (is_unit(rest, end, "ms") && v < 60000) {
        pc->rtt_ms = v;
    } else if (is_unit(rest, end, "Mbit") && v > 0) {
        pc->mbit = v;
    } else {
        double bytes = v * unit_of(rest, end);
        if (!(bytes >= 1 << 20) || bytes > 1e15) return false;
        pc->ram = (uint64_t)bytes;
    }
    return true;
}

/* "x4" or "x?". */
static bool read_count(struct whatif *w, uint32_t *count, const char *word, const char *end)
{
    char *rest;
    if (is_unit(word, end, "x?")) {
        w->as_many_as_needed = true;
        return true;
    }
    unsigned long n = strtoul(word + 1, &rest, 10);
    *count = n <= WHATIF_PCS_MAX ? (uint32_t)n : WHATIF_PCS_MAX + 1;
    return rest == end && rest > word + 1 && n > 0;
}

static enum err add_pcs(struct whatif *w, const struct whatif_pc *pc, uint32_t count,
                        struct why *why)
{
    if (count > WHATIF_PCS_MAX - w->n)
        return fail(why, ERR_USAGE, "more than %d PCs are described", WHATIF_PCS_MAX);
    while (count-- > 0) {
        uint8_t seed[32] = { 'p', 'c', (uint8_t)w->n };
        struct identity me;
        identity_from_seed(&me, seed);
        w->pc[w->n] = *pc;
        w->pc[w->n++].id = me.id;
    }
    return ERR_OK;
}

enum err whatif_add(struct whatif *w, const char *spec, struct why *why)
{
    struct whatif_pc pc = { 0 };
    uint32_t count = 1;
    if (w->as_many_as_needed)
        return fail(why, ERR_USAGE, "'%.60s' comes after x?, which must be the last", spec);
    for (const char *at = spec; *at;) {
        size_t n = strcspn(at, ", \t\n");
        bool good =
            n == 0 || (*at == 'x' ? read_count(w, &count, at, at + n) : read_word(&pc, at, at + n));
        if (!good)
            return fail(why, ERR_USAGE,
                        "'%.*s' in '%.60s': memory (16G), its speed (40GB/s), the round trip "
                        "(20ms), the uplink (10Mbit) or a number of such PCs (x4) is meant",
                        (int)(n < 30 ? n : 30), at, spec);
        at += n + (at[n] != 0);
    }
    if (!pc.ram || pc.gbs <= 0)
        return fail(why, ERR_USAGE, "'%.60s': memory and its speed are needed, as in 16G,40GB/s",
                    spec);
    return add_pcs(w, &pc, count, why);
}

enum err whatif_add_file(struct whatif *w, const char *path, struct why *why)
{
    char line[SPEC_MAX];
    unsigned number = 0;
    enum err e = ERR_OK;
    FILE *f = fopen(path, "r");
    if (!f) return fail(why, ERR_IO, "%s: %s", path, strerror(errno));
    while (!e && fgets(line, sizeof line, f)) {
        struct why of_line;
        number++;
        line[strcspn(line, "#\n")] = 0;
        if (line[strspn(line, " \t")] == 0) continue;
        e = whatif_add(w, line + strspn(line, " \t"), &of_line);
        if (e) (void)fail(why, e, "%s:%u: %.250s", path, number, of_line.text);
    }
    fclose(f);
    return e;
}

/* --- who holds what --- */

static uint64_t layer_room(const struct whatif *w)
{
    uint64_t most = 0;
    for (uint32_t l = 0; l < w->arch.n_layers; l++)
        if (arch_bytes(&w->arch, l) > most) most = arch_bytes(&w->arch, l);
    return most + (uint64_t)w->positions * arch_kv_bytes(&w->arch);
}

static void find_room(const struct whatif *w, struct whatif_pc *pc, bool with_ends)
{
    uint64_t taken = WHATIF_SYSTEM + (with_ends ? arch_bytes(&w->arch, ARCH_ENDS) : 0);
    uint64_t fits = pc->ram > taken ? (pc->ram - taken) / layer_room(w) : 0;
    pc->fits = fits < w->arch.n_layers ? (uint32_t)fits : w->arch.n_layers;
}

static double layer_us(const struct whatif *w, const struct whatif_pc *pc)
{
    double bytes = 0;
    for (uint32_t l = 0; l < w->arch.n_layers; l++) bytes += (double)arch_token_bytes(&w->arch, l);
    return bytes / w->arch.n_layers / (pc->gbs * 1e3);
}

static const struct whatif *sorting; /* for by_cost; one thread */

/* What a layer there costs, the way included. */
static double cost_of(const struct whatif_pc *pc)
{
    double way = pc->rtt_ms > 0 ? pc->rtt_ms * 1000 / 2 + PLAN_HOP_US : 0;
    return pc->fits ? way / pc->fits + layer_us(sorting, pc) : 1e300;
}

static int by_cost(const void *a, const void *b)
{
    uint32_t i = *(const uint32_t *)a, k = *(const uint32_t *)b;
    double x = cost_of(&sorting->pc[i]), y = cost_of(&sorting->pc[k]);
    return x != y ? (x < y ? -1 : 1) : (i > k) - (i < k);
}

/* Round and round, the cheapest first; the one who asks begins, for it need not go anywhere. */
static void place(struct whatif *w)
{
    uint32_t order[WHATIF_PCS_MAX], at = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        order[i] = i;
        find_room(w, &w->pc[i], i == 0);
    }
    sorting = w;
    qsort(order + 1, w->n - 1, sizeof *order, by_cost);
    for (uint32_t i = 0; i < w->n; i++) {
        struct whatif_pc *pc = &w->pc[order[i]];
        pc->lo = at;
        pc->hi = at + pc->fits;
        at = pc->hi % w->arch.n_layers;
    }
}

static uint32_t room_of_all(struct whatif *w)
{
    uint32_t layers = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        find_room(w, &w->pc[i], i == 0);
        layers += w->pc[i].fits;
    }
    return layers;
}

static enum err add_needed(struct whatif *w, struct why *why)
{
    while (w->as_many_as_needed && room_of_all(w) < w->arch.n_layers) {
        struct whatif_pc pc = w->pc[w->n - 1];
        if (w->n > 1 && pc.fits == 0)
            return fail(why, ERR_USAGE, "a PC of that memory holds not even one layer");
        enum err e = add_pcs(w, &pc, 1, why);
        if (e) return e;
    }
    return ERR_OK;
}

/* --- the plan --- */

static enum err announce(const struct whatif *w, struct directory *d, uint32_t i)
{
    const struct whatif_pc *pc = &w->pc[i];
    uint32_t all = w->arch.n_layers;
    uint8_t seed[32] = { 'p', 'c', (uint8_t)i }, record[RECORD_BYTES_MAX];
    static const uint8_t model[ID_BYTES] = { 1 };
    struct record_body b = { .version = 2,
                             .seq = 1,
                             .made = NOW,
                             .expires = NOW + RECORD_TTL_S,
                             .state = RECORD_ACTIVE,
                             .layer_us = plan_number(layer_us(w, pc)),
                             .uplink = pc->mbit > 0 ? plan_number(pc->mbit * 1000) : 0 };
    struct identity me;
    size_t n;
    bool news;
    b.model = slice_of(model, ID_BYTES);
    if (pc->hi <= all)
        b.layers = (struct uints){ pc->hi > pc->lo ? 2 : 0, { pc->lo, pc->hi } };
    else
        b.layers = (struct uints){ 4, { 0, pc->hi - all, pc->lo, all } };
    identity_from_seed(&me, seed);
    enum err e = record_make(&me, swarm_key_public(), &b, record, sizeof record, &n);
    return e ? e : directory_offer(d, slice_of(record, n), NOW, &news, NULL);
}

static enum err explain(struct whatif *w, const struct directory *d, struct why *why)
{
    struct measured m[WHATIF_PCS_MAX];
    double head = (double)arch_token_bytes(&w->arch, ARCH_ENDS) / (w->pc[0].gbs * 1e3);
    struct plan_query q = { .d = d,
                            .measured = m,
                            .model = { 1 },
                            .n_layers = w->arch.n_layers,
                            .max_tokens = 1,
                            .row_bytes = (uint32_t)arch_row_bytes(&w->arch),
                            .uplink = w->pc[0].mbit > 0 ? plan_number(w->pc[0].mbit * 1000) : 0,
                            .head_us = plan_number(head) };
    for (uint32_t i = 0; i < w->n; i++)
        m[i] = (struct measured){ .rtt_us = i > 0 ? plan_number(w->pc[i].rtt_ms * 1000) : 0 };
    enum err e = plan_explain(&w->plan, &q, why);
    /* The round trips are what was described: nothing about them is unknown. */
    for (uint32_t i = 0; i < w->plan.plan.n; i++) w->plan.plan.stage[i].hop_known = true;
    return e;
}

enum err whatif_plan(struct whatif *w, struct why *why)
{
    struct directory *d;
    if (w->n == 0) return fail(why, ERR_USAGE, "no PC is described");
    enum err e = add_needed(w, why);
    if (e) return e;
    place(w);
    e = directory_open(&d, swarm_key_public());
    if (e) return fail(why, e, "%s", err_text(e));
    for (uint32_t i = 0; i < w->n && !e; i++) e = announce(w, d, i);
    if (e)
        fail(why, e, "%s", err_text(e));
    else
        e = explain(w, d, why);
    directory_close(d);
    return e;
}
