/* predict_logits - is what the prediction layer computes what the reference computed?
 *
 *   predict_logits STORE MODEL EXPECTED
 *
 * MODEL with f32 everywhere; EXPECTED: safetensors with int32 input_ids [T] and f32 mtp_logits
 * [T - 1, vocab], row t for token t + 2.  The main model's rows are ours.  Every row within 5e-4
 * standard deviations, fed one at a time; fed several at a time, the same bits; and the layer's own
 * output fed back leaves no trace when it is forgotten. */
#include "model/predict.h"
#include "store/safetensors.h"
#include "tools/local.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IDS_MAX = 256, CHUNK = 7 };

static struct local l;
static struct predict *p;
static struct kv *kv;
static int32_t id[IDS_MAX];
static uint32_t n, vocab;
static uint8_t *x;    /* [n][row_bytes] the main model's last rows */
static float *logits; /* [n - 1][vocab] of one row at a time */

static void check(bool is_good, const char *what)
{
    if (is_good) return;
    fprintf(stderr, "predict_logits: %s\n", what);
    exit(1);
}

static struct slice tensor(const struct safetensors *f, const char *name)
{
    const struct st_tensor *t = safetensors_find(f, name);
    check(t != NULL, name);
    return t->data;
}

static void compute_rows(void)
{
    struct row rows[IDS_MAX];
    struct nonfinite bad;
    for (uint32_t i = 0; i < n; i++) rows[i] = (struct row){ l.kv, i };
    check(!ends_embed(l.ends, id, n, x), "embedding");
    check(!stage_forward(l.stage, rows, n, x, &bad), "the main model");
}

static void feed(uint32_t at, uint32_t n_rows)
{
    size_t row = arch_row_bytes(&l.weights.manifest.arch);
    check(!predict_feed(p, kv, x + at * row, id + at + 1, n_rows), "feeding");
}

/* The largest difference in standard deviations of what is expected. */
static double one_at_a_time(const float *want)
{
    double sum = 0, squares = 0, most = 0;
    size_t all = (size_t)(n - 1) * vocab;
    for (uint32_t i = 0; i + 1 < n; i++) {
        feed(i, 1);
        const float *got = predict_logits(p);
        check(got != NULL, "logits that are not finite");
        memcpy(logits + (size_t)i * vocab, got, vocab * sizeof *got);
    }
    for (size_t i = 0; i < all; i++) {
        double w, d;
        float f;
        memcpy(&f, want + i, sizeof f);
        w = f, d = fabs(w - (double)logits[i]);
        sum += w, squares += w * w;
        if (!(d <= most)) most = d; /* a NaN counts */
    }
    double mean = sum / (double)all;
    return most / sqrt(squares / (double)all - mean * mean);
}

static bool is_same(uint32_t row)
{
    const float *got = predict_logits(p);
    return got && memcmp(got, logits + (size_t)row * vocab, vocab * sizeof *got) == 0;
}

static void several_at_a_time(void)
{
    kv_trim(kv, 0);
    for (uint32_t i = 0; i + CHUNK < n; i += CHUNK) {
        feed(i, CHUNK);
        check(is_same(i + CHUNK - 1), "several rows give other bits than one at a time");
        uint32_t len = kv_len(kv);
        for (int32_t token = 5; token < 8; token++)
            check(!predict_again(p, kv, token), "feeding back");
        check(kv_len(kv) == len + 3 && !is_same(i + CHUNK - 1), "nothing was fed back");
        kv_trim(kv, len);
    }
    check(predict_again(p, kv, (int32_t)vocab) == ERR_NONFINITE, "a token of no vocabulary");
}

int main(int argc, char **argv)
{
    struct safetensors *f;
    struct why why;
    const struct kernels *k = kernels_pick(NULL, NULL);
    if (argc != 4) return 2;
    if (safetensors_open(&f, argv[3], &why) ||
        local_open(&l, argv[1], argv[2], IDS_MAX, k, workers_inline(), &why) ||
        weights_open_predict(&l.weights, &why)) {
        fprintf(stderr, "predict_logits: %s\n", why.text);
        return 2;
    }
    const struct arch *a = &l.weights.manifest.arch;
    struct slice ids = tensor(f, "input_ids"), want = tensor(f, "mtp_logits");
    n = (uint32_t)(ids.n / sizeof *id);
    vocab = a->vocab;
    check(n > CHUNK && n <= IDS_MAX && want.n == (size_t)(n - 1) * vocab * sizeof(float), "sizes");
    memcpy(id, ids.p, ids.n);
    x = malloc(n * arch_row_bytes(a));
    logits = malloc((size_t)n * vocab * sizeof *logits);
    check(x && logits && l.weights.predict.t, "no prediction layer");
    uint32_t cap = a->context < IDS_MAX ? a->context : IDS_MAX;
    check(!kv_open(&kv, a, a->n_layers, a->n_layers + 1, cap) &&
              !predict_open(&p, a, &l.weights.predict, &l.weights.ends, k, workers_inline()),
          "opening");
    compute_rows();
    double delta = one_at_a_time((const float *)(const void *)want.p);
    printf("max delta %.2g standard deviations of %u predictions\n", delta, n - 1);
    check(delta <= 5e-4, "out of bounds");
    several_at_a_time();
    predict_close(p);
    kv_close(kv);
    local_close(&l);
    safetensors_close(f);
    free(logits);
    free(x);
    return 0;
}
