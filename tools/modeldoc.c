/* modeldoc - the sizes in docs/models.md, from the shapes of the models and the layout of tiles:
 * the page on stdin with the table behind "<!-- sizes -->" computed anew, up to the next empty
 * line. */
#include "store/folder.h"
#include "store/random.h"
#include "tools/shapes.h"

#include <stdio.h>
#include <string.h>

/* A type of weights as people call it: experts may have another one than the rest. */
struct kind {
    const char *name, *rest, *experts;
};
static const struct kind kinds[] = {
    { "q40", "q40", "q40" },
    { "mix: q80, experts q40", "q80", "q40" },
    { "q80", "q80", "q80" },
    { "bf16", "bf16", "bf16" },
};
static const struct {
    const char *shape, *name;
    bool predicts; /* with the prediction layer, which shapes leave out */
} models[] = {
    { "glm-4.5-air", "glm-4.5-air", true },
    { "intellect-3", "intellect-3, glm-4.5-air without its prediction layer", false },
    { "glm-4-9b", "glm-4-9b", false },
};

static enum err settle(struct arch *a, const char *shape, bool predicts, const struct kind *k,
                       struct why *why)
{
    struct hf_config cfg;
    struct random_options o = { .exchange = FT_BF16, .kv = FT_F16, .mlp_parts = 8, .chat = "none" };

    if (!wtype_parse(k->rest, &o.type)) return fail(why, ERR_USAGE, "no type %s", k->rest);
    enum err e = shape_read(&cfg, shape, why);
    if (!e) e = random_settle(&cfg, &o, why);
    if (e) return e;
    *a = cfg.arch;
    a->n_predict = predicts;
    if (!wtype_parse(k->experts, &a->type[WR_EXPERTS]))
        return fail(why, ERR_USAGE, "no type %s", k->experts);
    return arch_check(a, why);
}

/* 1234567 as 1,234,567. */
static void print_bytes(uint64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);

    for (int i = 0; i < len; i++) {
        putchar(digits[i]);
        if (i + 1 < len && (len - i - 1) % 3 == 0) putchar(',');
    }
}

static void row(const struct manifest *m, const char *model, const char *type)
{
    const struct arch *a = &m->arch;
    uint64_t all = folder_layer_bytes(m, ARCH_ENDS), token = arch_token_bytes(a, ARCH_ENDS);
    uint32_t n = arch_all_layers(a);

    for (uint32_t l = 0; l < n; l++) {
        all += folder_layer_bytes(m, l);
        if (l < a->n_layers) token += arch_token_bytes(a, l);
    }
    printf("| %s | %s | %u | ", model, type, n + 1);
    print_bytes(folder_layer_bytes(m, a->n_layers - 1));
    fputs(" | ", stdout);
    print_bytes(folder_layer_bytes(m, ARCH_ENDS));
    fputs(" | ", stdout);
    print_bytes(all);
    printf(" (%.1f GB) | %.2f GB |\n", (double)all / 1e9, (double)token / 1e9);
}

static enum err table(struct why *why)
{
    puts(
        "| model | type | `.tiles` files | a layer, bytes | the ends, bytes | all of them, bytes | "
        "read for a token |\n|---|---|---|---|---|---|---|");
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            struct manifest m = { 0 };
            enum err e = settle(&m.arch, models[i].shape, models[i].predicts, &kinds[k], why);
            if (e) return e;
            if (m.arch.n_experts || strcmp(kinds[k].rest, kinds[k].experts) == 0)
                row(&m, models[i].name, kinds[k].name);
        }
    return ERR_OK;
}

int main(void)
{
    char line[4096];
    struct why why = { "" };
    bool skip = false;

    while (fgets(line, sizeof line, stdin)) {
        if (strcmp(line, "\n") == 0) skip = false;
        if (!skip) fputs(line, stdout);
        if (strcmp(line, "<!-- sizes -->\n") != 0) continue;
        skip = true;
        if (table(&why)) {
            fprintf(stderr, "modeldoc: %s\n", why.text);
            return 1;
        }
    }
    return ferror(stdin) || fflush(stdout) ? 1 : 0;
}
