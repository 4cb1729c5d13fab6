/* bench_convert.c - swarm-bench convert: swarm-convert against the disk and the processor. */
#include "proto/identity.h"
#include "store/file.h"
#include "store/pack.h"
#include "store/safetensors.h"
#include "tools/bench.h"
#include "tools/bench_nodes.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    ROUNDS_MAX = 64,
    TENSORS_MAX = 512,
    NAME_BYTES = 64,
    POOL_VALUES = 64 << 20, /* random values that all tensors are cut from */
    WRITE_BYTES = 1 << 20,
    MEMORY_TARGET_MIB = 512,
    TILES = 32, /* packed in a round */
    COLS = 4096,
};

static struct bench bench;
static const char *source, *type = "q40";
static uint64_t size = UINT64_C(2) << 30;
static uint32_t rounds = 3;

static const struct arg options[] = {
    { "source", ARG_STR, &source, "DIR",
      "convert this checkpoint (of one file) instead of a random one" },
    { "size", ARG_SIZE, &size, "SIZE", "of the random checkpoint, about (default: 2G)" },
    { "type", ARG_STR, &type, "TYPE", "of the weights: q40 (default), q80, f16, bf16 or f32" },
    { "rounds", ARG_U32, &rounds, "N", "of everything; medians are printed (default: 3)" },
    BENCH_OPTIONS(bench),
    { 0 },
};
static const struct args args = {
    .program = "swarm-bench convert",
    .usage = "[options]",
    .about = "Measures swarm-convert on a random checkpoint in a temporary folder, against what "
             "the threads pack without a disk, and what the disk takes without packing.",
    .options = options,
    .more = "All rates are of the source's bytes, the median of the rounds. The bound of a "
            "conversion is the lower of the\n"
            "two others. The temporary folder is on the disk of TMPDIR (default: /tmp).",
};

/* --- a random checkpoint --- */

struct checkpoint {
    uint16_t *value; /* owned; [POOL_VALUES] bf16 */
    uint64_t at;     /* the next tensor's first value */
    struct st_tensor tensor[TENSORS_MAX];
    char name[TENSORS_MAX][NAME_BYTES];
    uint32_t n;
    uint32_t hidden, heads, kv_heads, head_dim, inner, expert, experts, vocab;
};

static enum err fill_values(struct checkpoint *c, struct why *why)
{
    uint64_t x = 88172645463325252u; /* xorshift64, Marsaglia 2003 */

    c->value = malloc(POOL_VALUES * sizeof *c->value);
    if (!c->value) return fail(why, ERR_NOMEM, "out of memory");
    for (uint32_t i = 0; i < POOL_VALUES; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        float v = ((float)(x >> 40) * 0x1p-24f - 0.5f) * 0.1f;
        uint32_t bits;
        memcpy(&bits, &v, sizeof bits);
        c->value[i] = (uint16_t)(bits >> 16);
    }
    return ERR_OK;
}

/* Tensors begin at odd places of the pool, so that no two tiles are equal. */
__attribute__((format(printf, 4, 5))) static void add(struct checkpoint *c, uint64_t rows,
                                                      uint64_t cols, const char *name, ...)
{
    struct st_tensor *t = &c->tensor[c->n];
    uint64_t n = rows * (cols ? cols : 1);
    va_list ap;

    va_start(ap, name);
    vsnprintf(c->name[c->n], NAME_BYTES, name, ap);
    va_end(ap);
    c->at = (c->at + 1000003) % (POOL_VALUES - n);
    *t = (struct st_tensor){ .name = c->name[c->n++],
                             .dtype = ST_BF16,
                             .n_dims = cols ? 2 : 1,
                             .dim = { rows, cols },
                             .data = slice_of(c->value + c->at, n * 2) };
}

static void add_mlp(struct checkpoint *c, uint32_t inner, const char *where)
{
    add(c, inner, c->hidden, "%s.gate_proj.weight", where);
    add(c, inner, c->hidden, "%s.up_proj.weight", where);
    add(c, c->hidden, inner, "%s.down_proj.weight", where);
}

static void add_attention(struct checkpoint *c, unsigned layer)
{
    uint64_t q = (uint64_t)c->heads * c->head_dim, kv = (uint64_t)c->kv_heads * c->head_dim;

    add(c, c->hidden, 0, "model.layers.%u.input_layernorm.weight", layer);
    add(c, c->hidden, 0, "model.layers.%u.post_attention_layernorm.weight", layer);
    add(c, q, c->hidden, "model.layers.%u.self_attn.q_proj.weight", layer);
    add(c, kv, c->hidden, "model.layers.%u.self_attn.k_proj.weight", layer);
    add(c, kv, c->hidden, "model.layers.%u.self_attn.v_proj.weight", layer);
    add(c, c->hidden, q, "model.layers.%u.self_attn.o_proj.weight", layer);
}

/* One dense layer, and one with as many experts as make up the size. */
static void add_all(struct checkpoint *c)
{
    char where[NAME_BYTES];

    add(c, c->vocab, c->hidden, "model.embed_tokens.weight");
    add(c, c->hidden, 0, "model.norm.weight");
    add(c, c->vocab, c->hidden, "lm_head.weight");
    add_attention(c, 0);
    add_mlp(c, c->inner, "model.layers.0.mlp");
    add_attention(c, 1);
    add(c, c->experts, c->hidden, "model.layers.1.mlp.gate.weight");
    add(c, c->experts, 0, "model.layers.1.mlp.gate.e_score_correction_bias");
    add_mlp(c, c->expert, "model.layers.1.mlp.shared_experts");
    for (uint32_t e = 0; e < c->experts; e++) {
        snprintf(where, sizeof where, "model.layers.1.mlp.experts.%u", e);
        add_mlp(c, c->expert, where);
    }
}

static void choose_shape(struct checkpoint *c)
{
    uint32_t scale = size >= UINT64_C(1) << 30 ? 16 : 1; /* of hidden 256, heads 2, ... */
    c->hidden = 256 * scale;
    c->heads = 2 * scale;
    c->kv_heads = scale > 1 ? 8 : 1;
    c->head_dim = 128;
    c->inner = 704 * scale;
    c->expert = 88 * scale;
    c->vocab = 512 * scale;
    c->experts = 8;
    add_all(c);
    uint64_t bytes = 0, each = UINT64_C(6) * c->hidden * c->expert;
    for (uint32_t i = 0; i < c->n; i++) bytes += c->tensor[i].data.n;
    if (size > bytes) c->experts += (uint32_t)fmin(128 - 8, (double)((size - bytes) / each));
    c->n = 0;
    add_all(c);
}

static enum err write_config(const struct checkpoint *c, const char *dir, struct why *why)
{
    char path[FILE_PATH_MAX];
    enum err e = file_path(path, dir, "config.json", why);
    if (e) return e;
    FILE *f = fopen(path, "we");
    if (!f) return fail(why, ERR_IO, "%s: %s", path, strerror(errno));
    fprintf(f,
            "{\"architectures\": [\"Glm4MoeForCausalLM\"], \"num_hidden_layers\": 2,"
            "\"hidden_size\": %u, \"vocab_size\": %u, \"num_attention_heads\": %u,"
            "\"num_key_value_heads\": %u, \"head_dim\": %u, \"intermediate_size\": %u,"
            "\"max_position_embeddings\": 2048, \"rms_norm_eps\": 1e-05, \"attention_bias\": false,"
            "\"tie_word_embeddings\": false, \"n_routed_experts\": %u, \"num_experts_per_tok\": 8,"
            "\"n_shared_experts\": 1, \"moe_intermediate_size\": %u, \"first_k_dense_replace\": 1,"
            "\"n_group\": 1, \"topk_group\": 1, \"routed_scaling_factor\": 1.0,"
            "\"norm_topk_prob\": true, \"use_qk_norm\": false, \"num_nextn_predict_layers\": 0,"
            "\"rope_theta\": 1000000, \"partial_rotary_factor\": 0.5, \"eos_token_id\": [1]}\n",
            c->hidden, c->vocab, c->heads, c->kv_heads, c->head_dim, c->inner, c->experts,
            c->expert);
    return fclose(f) ? fail(why, ERR_IO, "%s: %s", path, strerror(errno)) : ERR_OK;
}

static enum err make_checkpoint(const char *dir, struct why *why)
{
    struct checkpoint *c = calloc(1, sizeof *c);
    char path[FILE_PATH_MAX];

    if (!c) return fail(why, ERR_NOMEM, "out of memory");
    enum err e = fill_values(c, why);
    if (!e && mkdir(dir, 0700)) e = fail(why, ERR_IO, "%s: %s", dir, strerror(errno));
    if (!e) {
        choose_shape(c);
        e = write_config(c, dir, why);
    }
    if (!e) e = file_path(path, dir, "model.safetensors", why);
    if (!e) e = safetensors_write(path, c->tensor, c->n, why);
    free(c->value);
    free(c);
    return e;
}

/* --- packing alone --- */

/* Tiles of one bf16 tensor in memory, packed and hashed as a conversion does. */
struct packing {
    struct checkpoint values; /* its value only */
    struct st_tensor tensor;
    struct region region;
    struct tiling tiling;
    enum wtype type;
    float *rows;  /* owned; [TILES][GROUP_ROWS][COLS] */
    uint8_t *out; /* owned; [TILES] tiles */
    struct hash hash[TILES];
    enum err err[TILES];
};

static void pack_one(void *arg, uint32_t i)
{
    struct packing *p = arg;
    size_t n = tiling_tile_bytes(&p->tiling, i);
    uint8_t *out = p->out + i * n; /* all are whole */
    uint64_t bad;

    p->err[i] = pack_tile(&p->region, p->type, &p->tiling, i,
                          p->rows + (size_t)i * GROUP_ROWS * COLS, out, &bad);
    p->hash[i] = hash_of(slice_of(out, n));
}

static enum err packing_init(struct packing *p, struct why *why)
{
    if (!wtype_parse(type, &p->type)) return fail(why, ERR_USAGE, "unknown type '%s'", type);
    enum err e = fill_values(&p->values, why);
    if (e) return e;
    uint32_t rows = tiling_of(p->type, UINT32_MAX, COLS).groups_per_tile * GROUP_ROWS * TILES;
    p->tiling = tiling_of(p->type, rows, COLS);
    p->tensor = (struct st_tensor){ .dtype = ST_BF16,
                                    .data = slice_of(p->values.value, (size_t)rows * COLS * 2) };
    p->region = (struct region){ .t = &p->tensor, .rows = rows, .cols = COLS, .stride = COLS };
    p->rows = malloc(sizeof(float) * TILES * GROUP_ROWS * COLS);
    p->out = malloc(TILES * tiling_tile_bytes(&p->tiling, 0));
    return p->rows && p->out ? ERR_OK : fail(why, ERR_NOMEM, "out of memory");
}

static void packing_fini(struct packing *p)
{
    free(p->values.value);
    free(p->rows);
    free(p->out);
}

/* Bytes of source a second. */
static enum err time_packing(struct packing *p, double *rate, struct why *why)
{
    double began = bench_seconds();

    bench.workers->run(bench.workers, pack_one, p, TILES);
    *rate = (double)p->tensor.data.n / (bench_seconds() - began);
    for (uint32_t i = 0; i < TILES; i++)
        if (p->err[i]) return fail(why, p->err[i], "packing: %s", err_text(p->err[i]));
    return ERR_OK;
}

/* --- the disk alone --- */

/* Copy all of from, whose pages are in memory. */
static enum err copy_all(int to, int from, uint8_t *buffer)
{
    ssize_t n;

    while ((n = read(from, buffer, WRITE_BYTES)) > 0)
        for (ssize_t at = 0, did; at < n; at += did)
            if ((did = write(to, buffer + at, (size_t)(n - at))) <= 0) return ERR_IO;
    return n < 0 || fdatasync(to) ? ERR_IO : ERR_OK;
}

/* Seconds that the bytes of a file take to the disk.  These bytes: some disks are faster with
 * others. */
static enum err time_disk(const char *dir, const char *name, double *seconds, struct why *why)
{
    char path[FILE_PATH_MAX], plain[FILE_PATH_MAX];
    enum err e = file_path(path, dir, name, why);
    uint8_t *buffer = malloc(WRITE_BYTES);

    if (!e) e = file_path(plain, bench_home(), "plain", why);
    if (!e && !buffer) e = fail(why, ERR_NOMEM, "out of memory");
    int from = e ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    int to = e ? -1 : open(plain, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (!e) {
        double began = bench_seconds();
        e = from < 0 || to < 0 ? ERR_IO : copy_all(to, from, buffer);
        *seconds = bench_seconds() - began;
        if (e) fail(why, e, "%s: %s", plain, strerror(errno));
        (void)unlink(plain);
    }
    if (from >= 0) close(from);
    if (to >= 0) close(to);
    free(buffer);
    return e;
}

/* --- conversions --- */

struct run {
    struct packing packing;
    char source[FILE_PATH_MAX], store[FILE_PATH_MAX], key[FILE_PATH_MAX];
    uint64_t bytes; /* of the source */
    double packed[ROUNDS_MAX], disk[ROUNDS_MAX], converted[ROUNDS_MAX], ratio[ROUNDS_MAX];
    double memory; /* the most of all rounds */
};

static enum err file_size(const char *dir, const char *name, uint64_t *n, struct why *why)
{
    char path[FILE_PATH_MAX];
    struct stat st;
    enum err e = file_path(path, dir, name, why);

    if (e) return e;
    if (stat(path, &st)) return fail(why, ERR_IO, "%s: %s", path, strerror(errno));
    *n = (uint64_t)st.st_size;
    return ERR_OK;
}

static enum err convert_once(struct run *r, double *seconds, struct why *why)
{
    char threads[16];
    uint64_t memory;
    const char *words[] = { "swarm-convert", r->source, "--store", r->store,    "--name",
                            "bench:any",     "--type",  type,      "--threads", threads,
                            "--publisher",   r->key,    "--quiet", NULL };

    snprintf(threads, sizeof threads, "%u", bench.workers->n);
    enum err e = bench_program(words, seconds, &memory, why);
    if (!e && (double)memory > r->memory) r->memory = (double)memory;
    return e;
}

static enum err one_round(struct run *r, unsigned k, struct why *why)
{
    double converting = 0, writing = 0;

    enum err e = convert_once(r, &converting, why);
    if (!e) e = time_disk(r->store, "data.mdb", &writing, why);
    bench_remove_folder(r->store);
    if (!e) e = time_packing(&r->packing, &r->packed[k], why);
    if (e) return e;
    r->converted[k] = (double)r->bytes / converting;
    r->disk[k] = (double)r->bytes / writing;
    r->ratio[k] = r->converted[k] / fmin(r->disk[k], r->packed[k]);
    return ERR_OK;
}

static enum err open_run(struct run *r, struct why *why)
{
    if (rounds < 1 || rounds > ROUNDS_MAX)
        return fail(why, ERR_USAGE, "--rounds: 1 to %d", ROUNDS_MAX);
    enum err e = packing_init(&r->packing, why);
    if (!e && proto_init()) e = fail(why, ERR_UNSUPPORTED, "libsodium does not start");
    if (!e) e = bench_nodes_init(why);
    if (!e) e = file_path(r->store, bench_home(), "store", why);
    if (!e) e = file_path(r->key, bench_home(), "publisher.key", why);
    if (e) return e;
    if (source && strlen(source) < sizeof r->source) {
        memcpy(r->source, source, strlen(source) + 1);
    } else {
        e = file_path(r->source, bench_home(), "checkpoint", why);
        if (!e) e = make_checkpoint(r->source, why);
    }
    return e ? e : file_size(r->source, "model.safetensors", &r->bytes, why);
}

static enum err measure(struct run *r, struct why *why)
{
    enum { MIB = 1 << 20 };
    enum err e = open_run(r, why);

    for (unsigned k = 0; k < rounds && !e; k++) e = one_round(r, k, why);
    if (e) return e;
    double packed = bench_median(r->packed, rounds) / MIB;
    double disk = bench_median(r->disk, rounds) / MIB;
    bench_add(&bench, "MiB/s", 0, packed, 0, "%s: packing and hashing in memory", type);
    bench_add(&bench, "MiB/s", 0, disk, 0, "%s: writing what becomes of it", type);
    bench_add(&bench, "MiB/s", fmin(packed, disk), bench_median(r->converted, rounds) / MIB,
              bench_median(r->ratio, rounds), "%s: swarm-convert", type);
    bench_add(&bench, "MiB", MEMORY_TARGET_MIB, r->memory / MIB, 0, "%s: memory", type);
    return ERR_OK;
}

int bench_convert(int argc, char **argv)
{
    static struct run r;
    struct why why = { "" };

    (void)args_parse(&args, argc, argv, NULL, 0);
    enum err e = bench_open(&bench, &args, &why);
    if (!e) e = measure(&r, &why);
    packing_fini(&r.packing);
    bench_nodes_fini();
    return bench_close(&bench, e, &why);
}
