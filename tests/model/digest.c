/* digest - small random models from token ids to logits, one line of hash for each: what every
 * machine must print.
 *
 *   digest             print the lines (how digest.txt was made)
 *   digest FILE        compare them with FILE, line by line
 *   digest -t NAMES    are these the tables that this machine can run, in this order?
 *
 * Where the other tests compare tables on one machine, this compares machines: the file was written
 * on x86-64, and is read on aarch64 too.  Every table of the machine must give each line. */
#include "model/forward.h"
#include "tests/model/toy.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(bool ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "digest: %s\n", what);
    exit(1);
}

/* FNV-1a */
static uint64_t hash(uint64_t h, const void *p, size_t n)
{
    const uint8_t *b = p;
    for (size_t i = 0; i < n; i++) h = (h ^ b[i]) * 0x100000001b3;
    return h;
}

/* n tokens through the whole model: the first `together` in one batch, then one by one; the hash of
 * every hidden vector and of all logits. */
static uint64_t run(const struct toy *t, const struct kernels *k, uint32_t n, uint32_t together)
{
    struct workers *w = workers_inline();
    size_t row = arch_row_bytes(&t->a);
    uint8_t *x = malloc(n * row);
    float *logits = malloc(t->a.vocab * sizeof *logits);
    uint64_t h = 0xcbf29ce484222325;
    struct stage *s;
    struct ends *e;
    struct kv *kv;
    struct nonfinite bad;

    must(x && logits && !stage_open(&s, &t->a, t->layer, 0, t->a.n_layers, BATCH_MAX, k, w) &&
             !ends_open(&e, &t->a, &t->ends, 1, k, w) && !kv_open(&kv, &t->a, 0, t->a.n_layers, n),
         "cannot open a toy");
    for (uint32_t i = 0; i < n; i++) {
        int32_t id = (int32_t)(i * 7 % t->a.vocab);
        must(!ends_embed(e, &id, 1, x + i * row), "no embedding");
    }
    for (uint32_t at = 0, some; at < n; at += some) {
        struct row rows[BATCH_MAX];
        some = at ? 1 : together;
        for (uint32_t i = 0; i < some; i++) rows[i] = (struct row){ kv, at + i };
        must(!stage_forward(s, rows, some, x + at * row, &bad), "a number is not finite");
    }
    h = hash(h, x, n * row);
    for (uint32_t i = 0; i < n; i++) {
        must(!ends_logits(e, x + i * row, 1, logits, &bad), "a logit is not finite");
        h = hash(h, logits, t->a.vocab * sizeof *logits);
    }
    kv_close(kv);
    ends_close(e);
    stage_close(s);
    free(logits);
    free(x);
    return h;
}

/* One line: every table of this machine gives the same hash, or it says which does not. */
static void line(char out[64], unsigned shape, enum wtype type, uint32_t n, uint32_t together)
{
    struct toy t = { 0 };
    const struct kernels *k;
    uint64_t first = 0;

    toy_shape(shape, &t.a);
    toy_types(&t.a, type);
    /* (made without pow, whose last bit a libm may choose) */
    for (uint32_t f = 0; f < t.a.rope_half; f++) t.a.rope_freq[f] = 1 / (1 + 3.5 * f * f);
    toy_fill(&t, 40 + shape);
    for (unsigned i = 0; (k = kernels_nth(i)) != NULL; i++) {
        uint64_t h = run(&t, k, n, together);
        if (!i) first = h;
        if (h != first) fprintf(stderr, "digest: %s differs from scalar\n", k->isa);
        must(h == first, "the tables do not agree");
    }
    snprintf(out, 64, "toy %u %s %u tokens %016" PRIx64 "\n", shape, wtype_name(type), n, first);
    toy_free(&t);
}

/* Line i, or false past the end. */
static bool nth_line(unsigned i, char out[64])
{
    if (i < TOYS * WT_COUNT)
        line(out, i / WT_COUNT, (enum wtype)(i % WT_COUNT), 12, 9);
    else if (i == TOYS * WT_COUNT)
        line(out, 0, WT_Q40, KV_CHUNK + 3, KV_CHUNK - 1); /* into a second chunk of positions */
    else
        return false;
    return true;
}

static int compare(const char *path)
{
    char got[64], want[64];
    FILE *f = fopen(path, "r");
    must(f != NULL, "cannot read the file to compare with");
    for (unsigned i = 0; nth_line(i, got); i++) {
        if (!fgets(want, sizeof want, f)) want[0] = 0;
        if (strcmp(got, want) == 0) continue;
        fprintf(stderr, "this machine: %sthe file:     %s\n", got, want);
        return 1;
    }
    must(!fgets(want, sizeof want, f), "the file has more lines");
    fclose(f);
    return 0;
}

static int tables_are(char **names)
{
    const struct kernels *k;
    unsigned i = 0;
    for (; (k = kernels_nth(i)) != NULL && names[i]; i++)
        if (strcmp(k->isa, names[i]) != 0) break;
    if (!k && !names[i]) return 0;
    for (unsigned j = 0; (k = kernels_nth(j)) != NULL; j++) printf("%s\n", k->isa);
    return 1;
}

int main(int argc, char **argv)
{
    char text[64];
    if (argc > 2 && strcmp(argv[1], "-t") == 0) return tables_are(argv + 2);
    if (argc == 2) return compare(argv[1]);
    for (unsigned i = 0; nth_line(i, text); i++) fputs(text, stdout);
    return 0;
}
