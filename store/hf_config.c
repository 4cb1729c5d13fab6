#include "store/hf_config.h"

#include "base/json.h"
#include "store/file.h"
#include "store/rope.h"

#include <stdlib.h>

enum {
    CONFIG_MAX = 4 << 20, /* bytes of a configuration file: real ones have a few thousand */
    TEMPLATE_MAX = 4 << 20,
    COUNT_MAX = 1 << 24, /* any count in a configuration; arch_check bounds each closer */
};

/* One file being read: the object that keys are looked up in, and where errors are. */
struct keys {
    const struct json *in;
    const char *path;
    struct why *why;
};

static enum err missing(const struct keys *k, const char *key)
{
    return fail(k->why, ERR_MALFORMED, "%s: key %s is missing", k->path, key);
}

/* The value of key; NULL when it is missing or null, which mean the same in these files. */
static const struct json *find(const struct keys *k, const char *key)
{
    const struct json *v = json_get(k->in, key);
    return v && v->type == JSON_NULL ? NULL : v;
}

static enum err get_u32(const struct keys *k, const char *key, uint32_t *out)
{
    const struct json *v = find(k, key);
    uint64_t u;

    if (!v) return missing(k, key);
    if (!json_u64(v, &u) || u > COUNT_MAX)
        return fail(k->why, ERR_RANGE, "%s: %s is not a whole number up to %d", k->path, key,
                    COUNT_MAX);
    *out = (uint32_t)u;
    return ERR_OK;
}

static enum err get_u32_or(const struct keys *k, const char *key, uint32_t otherwise, uint32_t *out)
{
    *out = otherwise;
    return find(k, key) ? get_u32(k, key, out) : ERR_OK;
}

/* A key that has two names. */
static enum err get_u32_either(const struct keys *k, const char *key, const char *alias,
                               uint32_t *out)
{
    return get_u32(k, find(k, key) || !find(k, alias) ? key : alias, out);
}

static enum err get_double(const struct keys *k, const char *key, double lo, double hi, double *out)
{
    const struct json *v = find(k, key);

    if (!v) return missing(k, key);
    if (!json_double(v, out) || !(*out >= lo && *out <= hi))
        return fail(k->why, ERR_RANGE, "%s: %s is not a number from %g to %g", k->path, key, lo,
                    hi);
    return ERR_OK;
}

static enum err get_double_or(const struct keys *k, const char *key, double otherwise, double lo,
                              double hi, double *out)
{
    *out = otherwise;
    return find(k, key) ? get_double(k, key, lo, hi, out) : ERR_OK;
}

static enum err get_said(const struct keys *k, const char *key, enum said *out)
{
    const struct json *v = find(k, key);

    *out = SAID_NOTHING;
    if (!v) return ERR_OK;
    if (v->type != JSON_TRUE && v->type != JSON_FALSE)
        return fail(k->why, ERR_MALFORMED, "%s: %s is neither true nor false", k->path, key);
    *out = v->type == JSON_TRUE ? SAID_YES : SAID_NO;
    return ERR_OK;
}

/* --- which class --- */

static const struct {
    const char *class_name, *model_type;
    enum arch_family family;
} FAMILIES[] = {
    { "Glm4ForCausalLM", "glm4", ARCH_GLM4 },
    { "Glm4MoeForCausalLM", "glm4_moe", ARCH_GLM4_MOE },
};
enum { N_FAMILIES = sizeof FAMILIES / sizeof FAMILIES[0] };

static enum err unknown_class(const struct keys *k, const char *key, const struct json *v)
{
    bool text = v->type == JSON_STRING;
    return fail(k->why, ERR_UNSUPPORTED,
                "%s: %s %.*s is not supported (Glm4ForCausalLM and Glm4MoeForCausalLM are)",
                k->path, key, text ? (int)(v->text.n < 64 ? v->text.n : 64) : 1,
                text ? (const char *)v->text.p : "?");
}

static enum err get_family(const struct keys *k, enum arch_family *out)
{
    const struct json *list = find(k, "architectures"), *type = find(k, "model_type");
    const struct json *name = list && list->type == JSON_ARRAY ? list->child : NULL;
    int by_name = -1, by_type = -1;

    for (int i = 0; i < N_FAMILIES; i++) {
        if (json_is_str(name, FAMILIES[i].class_name)) by_name = i;
        if (json_is_str(type, FAMILIES[i].model_type)) by_type = i;
    }
    if (list && !name) return fail(k->why, ERR_MALFORMED, "%s: architectures names none", k->path);
    if (name && by_name < 0) return unknown_class(k, "architectures", name);
    if (type && by_type < 0) return unknown_class(k, "model_type", type);
    if (!name && !type) return missing(k, "architectures");
    if (name && type && by_name != by_type)
        return fail(k->why, ERR_MALFORMED, "%s: architectures and model_type contradict each other",
                    k->path);
    *out = FAMILIES[name ? by_name : by_type].family;
    return ERR_OK;
}

/* Settings that would change the arithmetic; each must be missing, null, or say what we do. */
static enum err refuse_others(const struct keys *k)
{
    static const struct {
        const char *key, *only; /* only: the one value allowed, as text or a literal */
    } SETTINGS[] = {
        { "hidden_act", "silu" },           { "quantization_config", NULL },
        { "compression_config", NULL },     { "use_sliding_window", "false" },
        { "sliding_window", NULL },         { "scoring_func", "sigmoid" },
        { "topk_method", "noaux_tc" },      { "mlp_bias", "false" },
        { "logit_softcapping", NULL },      { "final_logit_softcapping", NULL },
        { "attn_logit_softcapping", NULL },
    };
    for (size_t i = 0; i < sizeof SETTINGS / sizeof SETTINGS[0]; i++) {
        const struct json *v = find(k, SETTINGS[i].key);
        const char *only = SETTINGS[i].only;
        if (!v) continue;
        if (only && json_is_str(v, only)) continue;
        if (only && v->type == JSON_FALSE && strcmp(only, "false") == 0) continue;
        return fail(k->why, ERR_UNSUPPORTED, "%s: %s is set to something that is not supported%s%s",
                    k->path, SETTINGS[i].key, only ? "; only this is: " : "", only ? only : "");
    }
    return ERR_OK;
}

/* --- rope --- */

static enum err get_rope_type(const struct keys *k, enum rope_type *out)
{
    static const char *const NAMES[] = { "default", "linear", "llama3", "yarn" };
    const struct json *v = find(k, "rope_type");

    if (!v) v = find(k, "type");
    *out = ROPE_DEFAULT;
    if (!v) return ERR_OK;
    for (int i = 0; i < 4; i++) {
        if (!json_is_str(v, NAMES[i])) continue;
        *out = (enum rope_type)i;
        return ERR_OK;
    }
    bool text = v->type == JSON_STRING;
    return fail(k->why, ERR_UNSUPPORTED,
                "%s: rope_type %.*s is not supported (default, linear, llama3 and yarn are)",
                k->path, text ? (int)(v->text.n < 32 ? v->text.n : 32) : 1,
                text ? (const char *)v->text.p : "?");
}

/* The scaling's own numbers; k looks into the object that holds them. */
static enum err get_scaling(const struct keys *k, struct rope *r)
{
    enum err e = get_rope_type(k, &r->type);

    if (e || r->type == ROPE_DEFAULT) return e;
    e = get_double(k, "factor", 1, 1e4, &r->factor);
    if (e || r->type == ROPE_LINEAR) return e;
    e = get_double(k, "original_max_position_embeddings", 1, 1e9, &r->original);
    if (e) return e;
    if (r->type == ROPE_LLAMA3) {
        e = get_double(k, "low_freq_factor", 1e-6, 1e6, &r->low);
        if (!e) e = get_double(k, "high_freq_factor", 1e-6, 1e6, &r->high);
        if (!e && r->low >= r->high)
            e = fail(k->why, ERR_RANGE, "%s: low_freq_factor is not below high_freq_factor",
                     k->path);
        return e;
    }
    if (find(k, "mscale") || find(k, "mscale_all_dim"))
        return fail(k->why, ERR_UNSUPPORTED, "%s: mscale of a yarn scaling is not supported",
                    k->path);
    if (json_get(k->in, "truncate") && !json_is_true(json_get(k->in, "truncate")))
        return fail(k->why, ERR_UNSUPPORTED,
                    "%s: truncate false of a yarn scaling is not supported", k->path);
    e = get_double_or(k, "beta_fast", 32, 1e-6, 1e6, &r->beta_fast);
    if (!e) e = get_double_or(k, "beta_slow", 1, 1e-6, 1e6, &r->beta_slow);
    if (!e) e = get_double_or(k, "attention_factor", 0, 1e-6, 1e6, &r->attention);
    return e;
}

/* A number that lies in rope_parameters in new files, beside it in old ones. */
static const struct keys *where(const struct keys *inner, const struct keys *outer, const char *key)
{
    return find(inner, key) ? inner : outer;
}

/* The object with rope's settings, NULL when there is none.  It has two names, and which one counts
 * where both are there has changed; it may hold an object for each kind of layer, of which our
 * families have one. */
static enum err find_rope(const struct keys *k, const struct json **out)
{
    const struct json *params = find(k, "rope_parameters"), *scaling = find(k, "rope_scaling");
    const char *name = params ? "rope_parameters" : "rope_scaling";

    *out = params ? params : scaling;
    if (params && scaling)
        return fail(k->why, ERR_UNSUPPORTED,
                    "%s: rope_parameters and rope_scaling are both set; remove one", k->path);
    if (*out && (*out)->type != JSON_OBJECT)
        return fail(k->why, ERR_MALFORMED, "%s: %s is not an object", k->path, name);
    for (const struct json *v = *out ? (*out)->child : NULL; v; v = v->next)
        if (v->type == JSON_OBJECT)
            return fail(k->why, ERR_UNSUPPORTED,
                        "%s: %s with an object %.*s in it is not supported", k->path, name,
                        (int)(v->key.n < 64 ? v->key.n : 64), (const char *)v->key.p);
    return ERR_OK;
}

/* Left out it is 0.5; the reference reads null as 1, and nobody means that. */
static enum err get_partial(const struct keys *inner, const struct keys *k, double *out)
{
    static const char KEY[] = "partial_rotary_factor";
    const struct keys *at = where(inner, k, KEY);

    if (!find(at, KEY) && (json_get(inner->in, KEY) || json_get(k->in, KEY)))
        return fail(k->why, ERR_MALFORMED, "%s: %s is null", k->path, KEY);
    return get_double_or(at, KEY, 0.5, 1e-6, 1, out);
}

static enum err get_rope(const struct keys *k, struct arch *a)
{
    struct keys inner = { NULL, k->path, k->why };
    struct rope r = { .type = ROPE_DEFAULT, .factor = 1 };
    double partial;

    enum err e = find_rope(k, &inner.in);
    if (e) return e;
    const struct keys *at = where(&inner, k, "rope_theta");
    /* The class default is 10000, which the published GLM-4.5 do not use. */
    if (!find(at, "rope_theta") && a->family == ARCH_GLM4_MOE) return missing(k, "rope_theta");
    e = get_double_or(at, "rope_theta", 10000, 1.0001, 1e15, &r.theta);
    if (!e) e = get_partial(&inner, k, &partial);
    if (!e && inner.in) e = get_scaling(&inner, &r);
    if (e) return e;

    r.dims = (uint32_t)(a->head_dim * partial);
    if (r.dims < 2 || r.dims % 2 || r.dims / 2 > ARCH_ROPE_MAX)
        return fail(k->why, ERR_RANGE,
                    "%s: partial_rotary_factor %g of head_dim %u gives %u rotary dimensions",
                    k->path, partial, a->head_dim, r.dims);
    rope_fill(a, &r);
    return ERR_OK;
}

/* --- the architecture --- */

static enum err get_experts(const struct keys *k, struct hf_config *c)
{
    struct arch *a = &c->arch;
    enum said norm;
    double scale;
    uint32_t predict = 0;

    enum err e = get_u32_either(k, "n_routed_experts", "num_local_experts", &a->n_experts);
    if (!e) e = get_u32(k, "num_experts_per_tok", &a->top_k);
    if (!e) e = get_u32(k, "n_shared_experts", &a->n_shared);
    if (!e) e = get_u32(k, "moe_intermediate_size", &a->moe_inter);
    if (!e) e = get_u32(k, "first_k_dense_replace", &a->n_dense);
    if (!e) e = get_u32_or(k, "n_group", 1, &a->n_group);
    if (!e) e = get_u32_or(k, "topk_group", 1, &a->topk_group);
    if (!e) e = get_double(k, "routed_scaling_factor", -1e6, 1e6, &scale);
    if (!e) e = get_said(k, "norm_topk_prob", &norm);
    if (!e && norm == SAID_NOTHING) e = missing(k, "norm_topk_prob");
    if (!e) e = get_said(k, "use_qk_norm", &c->qk_norm);
    if (e) return e;
    a->routed_scale = (float)scale;
    a->norm_topk = norm == SAID_YES;

    c->predict = SAID_NOTHING;
    if (!find(k, "num_nextn_predict_layers") && !find(k, "num_mtp_layers")) return ERR_OK;
    e = get_u32_either(k, "num_nextn_predict_layers", "num_mtp_layers", &predict);
    if (!e && predict > 1)
        e = fail(k->why, ERR_UNSUPPORTED,
                 "%s: num_nextn_predict_layers is %u, at most 1 is supported", k->path, predict);
    c->predict = predict ? SAID_YES : SAID_NO;
    return e;
}

/* What a dense model has for the numbers of experts. */
static void no_experts(struct hf_config *c)
{
    c->arch.n_dense = c->arch.n_layers;
    c->arch.n_group = c->arch.topk_group = 1;
    c->arch.routed_scale = 1;
    c->qk_norm = c->predict = SAID_NO;
}

static enum err get_arch(const struct keys *k, struct hf_config *c)
{
    struct arch *a = &c->arch;
    double eps = 0;

    enum err e = get_family(k, &a->family);
    if (!e) e = refuse_others(k);
    if (e) return e;
    bool moe = a->family == ARCH_GLM4_MOE;
    a->sandwich = a->rope_interleaved = !moe;

    e = get_u32(k, "num_hidden_layers", &a->n_layers);
    if (!e) e = get_u32(k, "hidden_size", &a->hidden);
    if (!e) e = get_u32(k, "vocab_size", &a->vocab);
    if (!e) e = get_u32(k, "num_attention_heads", &a->n_heads);
    if (!e) e = get_u32(k, "num_key_value_heads", &a->n_kv);
    /* A wrong 128 would show in the shape of q_proj; hidden / heads is wrong for GLM-4.5. */
    if (!e)
        e = moe ? get_u32(k, "head_dim", &a->head_dim)
                : get_u32_or(k, "head_dim", 128, &a->head_dim);
    if (!e) e = get_u32(k, "intermediate_size", &a->inter);
    if (!e) e = get_u32(k, "max_position_embeddings", &a->context);
    if (!e) e = get_double(k, "rms_norm_eps", 1e-12, 1, &eps);
    if (!e) e = get_said(k, "attention_bias", &c->attn_bias);
    if (!e) e = get_said(k, "tie_word_embeddings", &c->tied);
    if (!e && moe) e = get_experts(k, c);
    if (!e) e = get_rope(k, a);
    if (e) return e;
    a->eps = (float)eps;
    if (!moe) no_experts(c);
    return ERR_OK;
}

/* --- end tokens and sampling --- */

enum err hf_config_add_eos(struct hf_config *c, uint64_t id, const char *what, struct why *why)
{
    uint32_t at = 0;

    if (id >= c->arch.vocab || id > INT32_MAX)
        return fail(why, ERR_RANGE, "%s: end token %llu is not in the vocabulary of %u", what,
                    (unsigned long long)id, c->arch.vocab);
    while (at < c->n_eos && c->eos[at] < (int32_t)id) at++;
    if (at < c->n_eos && c->eos[at] == (int32_t)id) return ERR_OK;
    if (c->n_eos == MANIFEST_EOS_MAX)
        return fail(why, ERR_RANGE, "%s: more than %d end tokens", what, MANIFEST_EOS_MAX);
    memmove(&c->eos[at + 1], &c->eos[at], (c->n_eos - at) * sizeof *c->eos);
    c->eos[at] = (int32_t)id;
    c->n_eos++;
    return ERR_OK;
}

static enum err get_eos(const struct keys *k, struct hf_config *c)
{
    const struct json *v = find(k, "eos_token_id");
    bool list = v && v->type == JSON_ARRAY;

    for (const struct json *i = list ? v->child : v; i; i = list ? i->next : NULL) {
        uint64_t id;
        if (!json_u64(i, &id))
            return fail(k->why, ERR_MALFORMED, "%s: eos_token_id is not an id or a list of ids",
                        k->path);
        enum err e = hf_config_add_eos(c, id, k->path, k->why);
        if (e) return e;
    }
    return ERR_OK;
}

static enum err get_sampling(const struct keys *k, struct sampling_defaults *s)
{
    enum said sample;
    enum err e = get_said(k, "do_sample", &sample);

    if (!e) e = get_double_or(k, "temperature", 1, 0, 100, &s->temperature);
    if (!e) e = get_double_or(k, "top_p", 1, 0, 1, &s->top_p);
    if (!e) e = get_double_or(k, "min_p", 0, 0, 1, &s->min_p);
    if (!e) e = get_u32_or(k, "top_k", 0, &s->top_k);
    if (e) return e;
    if (s->top_k > ARCH_VOCAB_MAX) s->top_k = 0;
    s->sample = sample == SAID_YES && s->temperature > 0;
    if (s->temperature <= 0) s->temperature = 1; /* "0" means greedy */
    return ERR_OK;
}

/* --- files --- */

/* A text parsed, with *k set to its object. */
static enum err parse_object(struct json_doc **doc, struct keys *k, struct slice text,
                             const char *path, struct why *why)
{
    enum err e = json_parse(doc, text, path, why);

    if (e) return e;
    *k = (struct keys){ json_root(*doc), path, why };
    if (k->in->type == JSON_OBJECT) return ERR_OK;
    json_free(*doc);
    return fail(why, ERR_MALFORMED, "%s is not an object", path);
}

/* dir/name parsed, with *k set to its object.  ERR_NOTFOUND: no such file. */
static enum err open_json(struct json_doc **doc, struct keys *k, char path[FILE_PATH_MAX],
                          const char *dir, const char *name, struct why *why)
{
    uint8_t *p;
    size_t n;
    enum err e = file_path(path, dir, name, why);

    if (!e) e = file_read(path, CONFIG_MAX, &p, &n, why);
    if (e) return e;
    e = parse_object(doc, k, slice_of(p, n), path, why);
    free(p);
    return e;
}

static enum err read_generation(struct hf_config *c, const char *dir, struct why *why)
{
    char path[FILE_PATH_MAX];
    struct json_doc *doc;
    struct keys k;
    enum err e = open_json(&doc, &k, path, dir, "generation_config.json", why);

    if (e == ERR_NOTFOUND) return ERR_OK;
    if (e) return e;
    e = get_eos(&k, c);
    if (!e) e = get_sampling(&k, &c->sampling);
    json_free(doc);
    return e;
}

/* "eos_token" is text, or an object with its text as "content". */
static enum err read_eos_name(struct hf_config *c, const char *dir, struct why *why)
{
    char path[FILE_PATH_MAX];
    struct json_doc *doc;
    struct keys k;
    enum err e = open_json(&doc, &k, path, dir, "tokenizer_config.json", why);

    if (e == ERR_NOTFOUND) return ERR_OK;
    if (e) return e;
    const struct json *v = find(&k, "eos_token");
    if (v && v->type == JSON_OBJECT) v = json_get(v, "content");
    if (v && (v->type != JSON_STRING || v->text.n >= sizeof c->eos_name ||
              memchr(v->text.p, 0, v->text.n)))
        e = fail(why, ERR_MALFORMED, "%s: eos_token is not the text of a token", path);
    else if (v)
        memcpy(c->eos_name, v->text.p, v->text.n);
    json_free(doc);
    return e;
}

enum err hf_config_parse(struct hf_config *out, struct slice text, const char *path,
                         struct why *why)
{
    struct json_doc *doc;
    struct keys k;

    *out = (struct hf_config){ .sampling = { .temperature = 1, .top_p = 1 } };
    enum err e = parse_object(&doc, &k, text, path, why);
    if (e) return e;
    e = get_arch(&k, out);
    if (!e) e = get_eos(&k, out);
    json_free(doc);
    return e;
}

enum err hf_config_read_file(struct hf_config *out, const char *path, struct why *why)
{
    uint8_t *p;
    size_t n;
    enum err e = file_read(path, CONFIG_MAX, &p, &n, why);

    if (e) return e;
    e = hf_config_parse(out, slice_of(p, n), path, why);
    free(p);
    return e;
}

enum err hf_config_read(struct hf_config *out, const char *dir, struct why *why)
{
    char path[FILE_PATH_MAX];
    enum err e = file_path(path, dir, "config.json", why);

    if (!e) e = hf_config_read_file(out, path, why);
    if (!e) e = read_generation(out, dir, why);
    if (!e) e = read_eos_name(out, dir, why);
    return e;
}

/* --- the chat template --- */

/* Text, or a list of {name, template} of which the one called default counts. */
static const struct json *pick_template(const struct json *v)
{
    if (v && v->type == JSON_STRING) return v;
    for (const struct json *i = v && v->type == JSON_ARRAY ? v->child : NULL; i; i = i->next) {
        const struct json *t = json_get(i, "template");
        if (json_is_str(json_get(i, "name"), "default") && t && t->type == JSON_STRING) return t;
    }
    return NULL;
}

static enum err template_in_config(const char *dir, uint8_t **out, size_t *n, struct why *why)
{
    char path[FILE_PATH_MAX];
    struct json_doc *doc;
    struct keys k;
    enum err e = open_json(&doc, &k, path, dir, "tokenizer_config.json", why);

    if (e) return e;
    const struct json *v = find(&k, "chat_template"), *t = pick_template(v);
    if (!v) {
        e = fail(why, ERR_NOTFOUND, "%s: key chat_template is missing", path);
    } else if (!t || t->text.n > TEMPLATE_MAX) {
        e = fail(why, ERR_MALFORMED, "%s: chat_template is not a template", path);
    } else {
        *n = t->text.n;
        *out = malloc(t->text.n + 1);
        if (*out) memcpy(*out, t->text.p, t->text.n);
        if (!*out) e = fail(why, ERR_NOMEM, "%s: out of memory", path);
    }
    json_free(doc);
    return e;
}

enum err hf_chat_template(const char *dir, uint8_t **out, size_t *n, struct why *why)
{
    char path[FILE_PATH_MAX];
    enum err e = file_path(path, dir, "chat_template.jinja", why);

    if (!e) e = file_read(path, TEMPLATE_MAX, out, n, why);
    return e == ERR_NOTFOUND ? template_in_config(dir, out, n, why) : e;
}
