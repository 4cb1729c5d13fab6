#include "tools/plan_print.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { WIDTH_USUAL = 80, WIDTH_MIN = 40, WIDTH_MAX = 160, LEFT_SHOWN = 8 };

struct printer {
    FILE *f;
    struct plan_look look;
    const struct json *p, *stages;
    uint32_t n;
};

/* --- reading --- */

static double ms_of(const struct json *v, const char *key)
{
    return (double)json_number_of(v, key) / 1e3;
}

static const struct json *nth(const struct json *list, uint64_t i)
{
    const struct json *v = list && list->type == JSON_ARRAY ? list->child : NULL;
    while (v && i-- > 0) v = v->next;
    return v;
}

static uint32_t count(const struct json *list)
{
    return list && list->type == JSON_ARRAY ? list->n : 0;
}

/* A string of the other side, printable ASCII only; cut to fit. */
static void word(char *out, size_t cap, const struct json *v)
{
    size_t n = 0;
    for (size_t i = 0; v && v->type == JSON_STRING && i < v->text.n && n + 1 < cap; i++)
        if (v->text.p[i] > 0x20 && v->text.p[i] < 0x7f) out[n++] = (char)v->text.p[i];
    out[n] = 0;
}

static void name_of(const struct printer *pr, char out[NODE_ID_SHORT], const struct json *v)
{
    char id[80];
    struct node_id node;
    word(id, sizeof id, json_get(v, "id"));
    if (node_id_parse(&node, id, NULL))
        snprintf(out, NODE_ID_SHORT, "?");
    else if (pr->look.name)
        snprintf(out, NODE_ID_SHORT, "%s", pr->look.name(pr->look.arg, &node));
    else
        node_id_short(out, &node);
}

/* "layers 3-5" or "layer 7" for [lo, hi). */
static void layers_text(char *out, size_t cap, uint64_t lo, uint64_t hi)
{
    if (hi <= lo + 1)
        snprintf(out, cap, "layer %" PRIu64, lo);
    else
        snprintf(out, cap, "layers %" PRIu64 "-%" PRIu64, lo, hi - 1);
}

static void layers_of(char *out, size_t cap, const struct json *v)
{
    layers_text(out, cap, json_number_of(v, "lo"), json_number_of(v, "hi"));
}

static double per_second(uint64_t token_us)
{
    return token_us ? 1e6 / (double)token_us : 0;
}

static double compute_ms(const struct json *stage)
{
    uint64_t lo = json_number_of(stage, "lo"), hi = json_number_of(stage, "hi");
    return hi > lo ? (double)(hi - lo) * ms_of(stage, "layer_us") : 0;
}

/* --- the picture --- */

static void repeat(FILE *f, const char *what, unsigned n)
{
    while (n-- > 0) fputs(what, f);
}

/* From `from`, `hop` on the way and `work` computing, of `all` ms in `width` columns. */
static void bar(const struct printer *pr, double from, double hop, double work, double all,
                unsigned width)
{
    double scale = all > 0 ? width / all : 0;
    unsigned a = (unsigned)(from * scale + 0.5), b = (unsigned)((from + hop) * scale + 0.5);
    unsigned c = (unsigned)((from + hop + work) * scale + 0.5);
    if (c > width) c = width;
    if (b > c) b = c;
    if (a > b) a = b;
    if (work > 0 && a == c) { /* whatever takes part is seen */
        if (a == width) a--;
        b = a;
        c = a + 1;
    }
    fputs(pr->look.utf8 ? "▕" : "|", pr->f);
    repeat(pr->f, " ", a);
    repeat(pr->f, pr->look.utf8 ? "░" : ".", b - a);
    repeat(pr->f, pr->look.utf8 ? "█" : "#", c - b);
    repeat(pr->f, " ", width - c);
    fputs(pr->look.utf8 ? "▏" : "|", pr->f);
}

static void row(const struct printer *pr, const char *what, const char *who, double from,
                double hop, double work, double all)
{
    enum { WHAT = 14, WHO = 17, NUMBERS = 19, EDGES = 6 };
    bool has_who = pr->look.width >= 64;
    unsigned used = WHAT + NUMBERS + EDGES + (has_who ? WHO : 0);
    unsigned width = pr->look.width > used + 8 ? pr->look.width - used : 8;
    char sum[40];
    fprintf(pr->f, "  %-*s", WHAT, what);
    if (has_who) fprintf(pr->f, "%-*s ", WHO, who);
    bar(pr, from, hop, work, all, width);
    snprintf(sum, sizeof sum, hop + work < 10 ? "%.2f + %.2f ms" : "%.1f + %.1f ms", hop, work);
    fprintf(pr->f, " %s\n", sum);
}

static void picture(const struct printer *pr)
{
    double all = ms_of(pr->p, "token_us"), at = 0;
    char layers[64], name[NODE_ID_SHORT];
    for (uint32_t i = 0; i < pr->n; i++) {
        const struct json *s = nth(pr->stages, i);
        double hop = ms_of(s, "hop_us"), work = compute_ms(s);
        layers_of(layers, sizeof layers, s);
        name_of(pr, name, s);
        row(pr, layers, name, at, hop, work, all);
        at += hop + work;
    }
    row(pr, "head", "here", at, ms_of(pr->p, "home_us"), ms_of(pr->p, "head_us"), all);
    fprintf(pr->f, "  (%s on the way, %s computing; one token from left to right)\n",
            pr->look.utf8 ? "░" : ".", pr->look.utf8 ? "█" : "#");
}

/* --- the words --- */

static void say_first(const struct printer *pr)
{
    const struct json *first = json_get(pr->p, "first_token");
    if (count(first) == 0) return;
    fputs("The first token comes after ", pr->f);
    for (uint32_t i = 0; i < count(first); i++) {
        const struct json *t = nth(first, i);
        fprintf(pr->f, "%s%.2f s for a prompt of %" PRIu64, i ? ", " : "",
                json_real_of(t, "ms") / 1e3, json_number_of(t, "prompt"));
    }
    fputs(" tokens.\n", pr->f);
}

/* What to change first: the slowest stage, or the ways. */
static void say_bottleneck(const struct printer *pr)
{
    double all = ms_of(pr->p, "token_us"), ways = ms_of(pr->p, "home_us");
    const struct json *slowest = nth(pr->stages, json_number_of(pr->p, "bottleneck"));
    char layers[64], name[NODE_ID_SHORT];
    for (uint32_t i = 0; i < pr->n; i++) ways += ms_of(nth(pr->stages, i), "hop_us");
    if (!slowest || all <= 0) return;
    if (pr->n > 1 && ways > all / 2) {
        fprintf(pr->f, "Most time is spent on the way: %.1f of %.1f ms.\n", ways, all);
    } else {
        layers_of(layers, sizeof layers, slowest);
        name_of(pr, name, slowest);
        fprintf(pr->f, "Most time is spent in %s on %s: %.1f of %.1f ms.\n", layers, name,
                compute_ms(slowest), all);
    }
    for (uint32_t i = 0; i < pr->n; i++) {
        const struct json *known = json_get(nth(pr->stages, i), "hop_known");
        if (!known || json_is_true(known)) continue;
        layers_of(layers, sizeof layers, nth(pr->stages, i));
        fprintf(pr->f,
                "The way to %s is not measured yet: the longer of two known ones stands for it.\n",
                layers);
    }
}

static void say_shared(const struct printer *pr)
{
    char layers[64], name[NODE_ID_SHORT];
    for (uint32_t i = 0; i < pr->n; i++) {
        const struct json *s = nth(pr->stages, i);
        uint64_t n = json_number_of(s, "together");
        layers_of(layers, sizeof layers, s);
        name_of(pr, name, s);
        if (n > 1)
            fprintf(pr->f, "%s shares %s with %" PRIu64 " other%s of its network.\n", name, layers,
                    n - 1, n > 2 ? "s" : "");
    }
}

static void say_spares(const struct printer *pr)
{
    char layers[64], name[NODE_ID_SHORT], spare[NODE_ID_SHORT];
    for (uint32_t i = 0; i < pr->n; i++) {
        const struct json *s = nth(pr->stages, i), *spares = json_get(s, "spares");
        layers_of(layers, sizeof layers, s);
        name_of(pr, name, s);
        if (count(spares) == 0) {
            fprintf(pr->f, "No spare for %s: if %s leaves, answers wait.\n", layers, name);
            continue;
        }
        fprintf(pr->f, "If %s leaves, %s go%s to ", name, layers,
                json_number_of(s, "hi") == json_number_of(s, "lo") + 1 ? "es" : "");
        for (uint32_t k = 0; k < count(spares); k++) {
            name_of(pr, spare, nth(spares, k));
            fprintf(pr->f, "%s%s", k ? " and " : "", spare);
        }
        fprintf(pr->f, ": %.1f tokens/s.\n", per_second(json_number_of(s, "spare_token_us")));
    }
}

static void say_ranges(const struct printer *pr, const char *key, const char *before)
{
    const struct json *list = json_get(pr->p, key);
    char layers[64];
    if (count(list) == 0) return;
    fputs(before, pr->f);
    for (uint32_t i = 0; i < count(list); i++) {
        uint64_t lo = 0, hi = 0;
        if (!json_u64(nth(nth(list, i), 0), &lo) || !json_u64(nth(nth(list, i), 1), &hi)) continue;
        layers_text(layers, sizeof layers, lo, hi);
        fprintf(pr->f, "%s%s", i ? ", " : "", layers);
    }
    fputs(".\n", pr->f);
}

static const char *left_text(const char *why)
{
    static const struct {
        const char *why, *text;
    } texts[] = {
        { "no_room", "has no room for the conversation" },
        { "refused", "refused this request" },
        { "lost", "did not answer lately" },
        { "banned", "broke the protocol and is banned" },
        { "joining", "is still fetching its layers" },
        { "draining", "is about to leave, or pauses for its owner" },
        { "parts", "holds parts of layers, for who leads them" },
        { "empty", "holds no layer of the model" },
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strcmp(why, texts[i].why) == 0) return texts[i].text;
    return "is not needed";
}

static void say_left_one(const struct printer *pr, const struct json *l)
{
    char name[NODE_ID_SHORT], why[16];
    uint64_t us = json_number_of(l, "token_us"), best = json_number_of(pr->p, "token_us");
    name_of(pr, name, l);
    word(why, sizeof why, json_get(l, "why"));
    fprintf(pr->f, "  %s ", name);
    if (strcmp(why, "spare") == 0)
        fputs("is a spare\n", pr->f);
    else if (strcmp(why, "slower") != 0)
        fprintf(pr->f, "%s\n", left_text(why));
    else if (us >= UINT32_MAX)
        fputs("cannot be part of any pipeline\n", pr->f);
    else
        fprintf(pr->f, "is slower: with it %.1f tokens/s at best, %.1f ms more a token\n",
                per_second(us), us > best ? (double)(us - best) / 1e3 : 0);
}

static void say_left(const struct printer *pr)
{
    const struct json *left = json_get(pr->p, "left");
    uint64_t more = json_number_of(pr->p, "left_more");
    if (count(left) == 0 || pr->n == 0) return;
    fputs("Not part of it:\n", pr->f);
    for (uint32_t i = 0; i < count(left); i++)
        if (i < LEFT_SHOWN)
            say_left_one(pr, nth(left, i));
        else
            more++;
    if (more > 0) fprintf(pr->f, "  and %" PRIu64 " more (--json lists them)\n", more);
}

static void say_more(const struct printer *pr)
{
    const struct json *m = json_get(pr->p, "more");
    uint64_t us = json_number_of(m, "token_us"), now = json_number_of(pr->p, "token_us");
    char layers[64];
    if (json_number_of(m, "n_layers") == 0) return;
    fprintf(pr->f,
            "One more PC like the others (%.2f ms a layer, %.1f ms away, room for %" PRIu64
            " layer%s) ",
            ms_of(m, "layer_us"), ms_of(m, "rtt_us"), json_number_of(m, "n_layers"),
            json_number_of(m, "n_layers") == 1 ? "" : "s");
    layers_of(layers, sizeof layers, m);
    if (us == 0 && pr->n == 0)
        fputs("would not be enough.\n", pr->f);
    else if (us == 0)
        fputs("would bring nothing to one answer; it would let more be given at once.\n", pr->f);
    else if (pr->n == 0)
        fprintf(pr->f, "with %s would complete the model: %.1f tokens/s.\n", layers,
                per_second(us));
    else if (us < now)
        fprintf(pr->f, "with %s: %.1f tokens/s instead of %.1f.\n", layers, per_second(us),
                per_second(now));
    else
        fprintf(pr->f, "would not make it faster; as a spare it should hold %s.\n", layers);
}

void plan_print(FILE *f, struct slice plan, struct plan_look look)
{
    struct json_doc *doc = NULL;
    char model[80];
    if (plan.n == 0 || json_parse(&doc, plan, "the plan", NULL)) return;
    struct printer pr = { .f = f, .look = look, .p = json_root(doc) };
    pr.stages = json_get(pr.p, "stages");
    pr.n = count(pr.stages);
    word(model, sizeof model, json_get(pr.p, "model"));
    if (pr.n > 0) {
        fprintf(f, "%s goes through %u node%s, about %.1f tokens a second (%.1f ms a token):\n",
                model, pr.n, pr.n == 1 ? "" : "s", json_real_of(pr.p, "tokens_per_s"),
                ms_of(pr.p, "token_us"));
        picture(&pr);
        say_first(&pr);
        say_bottleneck(&pr);
        say_shared(&pr);
        say_spares(&pr);
    } else {
        fprintf(f, "%s cannot be answered here.\n", model);
    }
    say_ranges(&pr, "gap", "Held by no usable node: ");
    say_ranges(&pr, "single", "Held by a single usable node: ");
    say_left(&pr);
    say_more(&pr);
    json_free(doc);
}

/* --- where it is shown --- */

static bool is_utf8(void)
{
    const char *names[] = { "LC_ALL", "LC_CTYPE", "LANG" };
    for (unsigned i = 0; i < 3; i++) {
        const char *v = getenv(names[i]);
        if (!v || !*v) continue;
        return strcasestr(v, "utf-8") || strcasestr(v, "utf8");
    }
    return false;
}

struct plan_look plan_look_of(FILE *f)
{
    struct winsize w;
    const char *columns = getenv("COLUMNS");
    unsigned width = WIDTH_USUAL;
    if (columns && atoi(columns) > 0)
        width = (unsigned)atoi(columns);
    else if (ioctl(fileno(f), TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
        width = w.ws_col;
    if (width < WIDTH_MIN) width = WIDTH_MIN;
    if (width > WIDTH_MAX) width = WIDTH_MAX;
    return (struct plan_look){ .width = width, .utf8 = is_utf8() };
}
