#include "model/tokenizer_impl.h"

#include <stdlib.h>

enum { NEST_MAX = 8 };

/* GPT-2's pattern, which a ByteLevel pre-tokenizer with use_regex stands for. */
static const char byte_level_regex[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static bool absent(const struct json *v)
{
    return !v || v->type == JSON_NULL;
}

/* "<part> <type> is not supported". */
static enum err refuse(const char *part, const struct json *v, struct why *why)
{
    const struct json *type = json_get(v, "type");
    if (!type || type->type != JSON_STRING)
        return fail(why, ERR_MALFORMED, "tokenizer.json: %s without a type", part);
    return fail(why, ERR_UNSUPPORTED, "tokenizer.json: %s %.*s is not supported", part,
                (int)(type->text.n < 80 ? type->text.n : 80), (const char *)type->text.p);
}

static bool is_type(const struct json *v, const char *type)
{
    return json_is_str(json_get(v, "type"), type);
}

static enum err read_bool(const struct json *v, const char *part, const char *name, bool *out,
                          struct why *why)
{
    const struct json *f = json_get(v, name);
    if (!f || (f->type != JSON_TRUE && f->type != JSON_FALSE))
        return fail(why, ERR_MALFORMED, "tokenizer.json: %s without \"%s\"", part, name);
    *out = f->type == JSON_TRUE;
    return ERR_OK;
}

/* The children of a Sequence, which is called differently in each part. */
static const struct json *sequence(const struct json *v, const char *name)
{
    const struct json *list = json_get(v, name);
    return list && list->type == JSON_ARRAY ? list : NULL;
}

/* ---- normalizer ------------------------------------------------------------------------ */

static enum err load_normalizer(struct tokenizer *t, const struct json *v, int depth,
                                struct why *why)
{
    if (absent(v)) return ERR_OK;
    if (is_type(v, "NFC")) {
        t->nfc = true;
        return ERR_OK;
    }
    const struct json *list = is_type(v, "Sequence") ? sequence(v, "normalizers") : NULL;
    if (!list || depth == NEST_MAX) return refuse("normalizer", v, why);
    for (const struct json *c = list->child; c; c = c->next) {
        enum err e = load_normalizer(t, c, depth + 1, why);
        if (e) return e;
    }
    return ERR_OK;
}

/* ---- pre-tokenizers -------------------------------------------------------------------- */

static enum err add_step(struct tokenizer *t, struct step s, struct why *why)
{
    if (t->n_steps == STEPS_MAX) {
        pattern_close(s.pattern);
        return fail(why, ERR_UNSUPPORTED, "tokenizer.json: more than %d pre-tokenizers", STEPS_MAX);
    }
    t->step[t->n_steps++] = s;
    return ERR_OK;
}

static enum err load_split(struct tokenizer *t, const struct json *v, struct why *why)
{
    const struct json *pattern = json_get(v, "pattern"), *regex = json_get(pattern, "Regex"),
                      *literal = json_get(pattern, "String"), *behavior = json_get(v, "behavior");
    const struct json *source = regex ? regex : literal;
    bool invert = false;
    enum err e = read_bool(v, "pre_tokenizer Split", "invert", &invert, why);
    if (e) return e;
    if (!source || source->type != JSON_STRING)
        return fail(why, ERR_MALFORMED, "tokenizer.json: pre_tokenizer Split without a pattern");
    if (!json_is_str(behavior, "Isolated"))
        return fail(why, ERR_UNSUPPORTED,
                    "tokenizer.json: pre_tokenizer Split with behavior %.*s is not supported",
                    behavior ? (int)(behavior->text.n < 80 ? behavior->text.n : 80) : 4,
                    behavior ? (const char *)behavior->text.p : "none");
    if (invert)
        return fail(why, ERR_UNSUPPORTED,
                    "tokenizer.json: pre_tokenizer Split with invert is not supported");
    struct step s = { .kind = STEP_PATTERN };
    e = regex ? pattern_open(&s.pattern, source->text, why)
              : pattern_open_literal(&s.pattern, source->text, why);
    return e ? e : add_step(t, s, why);
}

static enum err load_byte_level(struct tokenizer *t, const struct json *v, struct why *why)
{
    bool prefix_space = false, regex = true;
    enum err e = read_bool(v, "pre_tokenizer ByteLevel", "add_prefix_space", &prefix_space, why);
    if (!e && json_get(v, "use_regex"))
        e = read_bool(v, "pre_tokenizer ByteLevel", "use_regex", &regex, why);
    if (!e && prefix_space) e = add_step(t, (struct step){ .kind = STEP_PREFIX_SPACE }, why);
    if (e || !regex) return e;
    struct step s = { .kind = STEP_PATTERN };
    e = pattern_open(&s.pattern, slice_str(byte_level_regex), why);
    return e ? e : add_step(t, s, why);
}

static enum err load_pre(struct tokenizer *t, const struct json *v, int depth, bool *byte_level,
                         struct why *why)
{
    /* Behind ByteLevel a text is spelled, and other pre-tokenizers would see other characters. */
    if (*byte_level && !is_type(v, "Sequence"))
        return fail(why, ERR_UNSUPPORTED,
                    "tokenizer.json: a pre_tokenizer after ByteLevel is not supported");
    if (is_type(v, "Split")) return load_split(t, v, why);
    if (is_type(v, "ByteLevel")) {
        *byte_level = true;
        return load_byte_level(t, v, why);
    }
    if (is_type(v, "Digits")) {
        struct step s = { .kind = STEP_DIGITS };
        enum err e = read_bool(v, "pre_tokenizer Digits", "individual_digits", &s.alone, why);
        return e ? e : add_step(t, s, why);
    }
    const struct json *list = is_type(v, "Sequence") ? sequence(v, "pretokenizers") : NULL;
    if (!list || depth == NEST_MAX) return refuse("pre_tokenizer", v, why);
    for (const struct json *c = list->child; c; c = c->next) {
        enum err e = load_pre(t, c, depth + 1, byte_level, why);
        if (e) return e;
    }
    return ERR_OK;
}

enum err steps_load(struct tokenizer *t, const struct json *pre, struct why *why)
{
    bool byte_level = false;
    enum err e = absent(pre) ? ERR_OK : load_pre(t, pre, 0, &byte_level, why);
    if (e || byte_level) return e;
    return fail(why, ERR_UNSUPPORTED,
                "tokenizer.json: a pre_tokenizer without ByteLevel is not supported");
}

/* ---- post-processor -------------------------------------------------------------------- */

/* The ids of special token `name` of a template. */
static enum err template_ids(const struct json *post, struct slice name, int32_t *to, uint32_t *n,
                             struct why *why)
{
    const struct json *all = json_get(post, "special_tokens"), *found = NULL;
    if (all && all->type == JSON_OBJECT)
        for (const struct json *c = all->child; c && !found; c = c->next)
            if (c->key.n == name.n && (name.n == 0 || memcmp(c->key.p, name.p, name.n) == 0))
                found = c;
    const struct json *ids = json_get(found, "ids");
    if (!ids || ids->type != JSON_ARRAY)
        return fail(why, ERR_MALFORMED,
                    "tokenizer.json: post_processor TemplateProcessing without ids of \"%.*s\"",
                    (int)(name.n < 80 ? name.n : 80), (const char *)name.p);
    for (const struct json *v = ids->child; v; v = v->next) {
        uint64_t id;
        if (!json_u64(v, &id) || id > INT32_MAX || *n == TEMPLATE_MAX)
            return fail(why, ERR_RANGE,
                        "tokenizer.json: post_processor TemplateProcessing has unusable ids");
        to[(*n)++] = (int32_t)id;
    }
    return ERR_OK;
}

/* Put ids around those of the processors before: what stands left of the text goes in front. */
static enum err wrap(struct tokenizer *t, const int32_t *left, uint32_t n_left,
                     const int32_t *right, uint32_t n_right, struct why *why)
{
    if (t->n_before + n_left > TEMPLATE_MAX || t->n_after + n_right > TEMPLATE_MAX)
        return fail(why, ERR_RANGE, "tokenizer.json: post_processor adds more than %d ids",
                    TEMPLATE_MAX);
    memmove(t->before + n_left, t->before, t->n_before * sizeof *left);
    memcpy(t->before, left, n_left * sizeof *left);
    memcpy(t->after + t->n_after, right, n_right * sizeof *right);
    t->n_before += n_left;
    t->n_after += n_right;
    return ERR_OK;
}

static enum err load_template(struct tokenizer *t, const struct json *post, struct why *why)
{
    const struct json *single = sequence(post, "single");
    int32_t side[2][TEMPLATE_MAX];
    uint32_t n[2] = { 0, 0 }, texts = 0;
    for (const struct json *v = single ? single->child : NULL; v; v = v->next) {
        const struct json *special = json_get(json_get(v, "SpecialToken"), "id"),
                          *text = json_get(json_get(v, "Sequence"), "id");
        uint32_t at = texts ? 1 : 0;
        if (special && special->type == JSON_STRING) {
            enum err e = template_ids(post, special->text, side[at], &n[at], why);
            if (e) return e;
        } else if (json_is_str(text, "A")) {
            texts++;
        } else {
            texts = 2;
        }
    }
    if (texts != 1)
        return fail(why, ERR_UNSUPPORTED,
                    "tokenizer.json: post_processor TemplateProcessing whose "
                    "single form is not one text A is not supported");
    return wrap(t, side[0], n[0], side[1], n[1], why);
}

static enum err load_post(struct tokenizer *t, const struct json *v, int depth, struct why *why)
{
    if (is_type(v, "ByteLevel")) return ERR_OK; /* trims offsets, changes no id */
    if (is_type(v, "TemplateProcessing")) return load_template(t, v, why);
    const struct json *list = is_type(v, "Sequence") ? sequence(v, "processors") : NULL;
    if (!list || depth == NEST_MAX) return refuse("post_processor", v, why);
    for (const struct json *c = list->child; c; c = c->next) {
        enum err e = load_post(t, c, depth + 1, why);
        if (e) return e;
    }
    return ERR_OK;
}

enum err template_load(struct tokenizer *t, const struct json *post, struct why *why)
{
    return absent(post) ? ERR_OK : load_post(t, post, 0, why);
}

/* ---- the whole file -------------------------------------------------------------------- */

static enum err check_decoder(const struct json *v, int depth, struct why *why)
{
    if (is_type(v, "ByteLevel")) return ERR_OK;
    const struct json *list = is_type(v, "Sequence") ? sequence(v, "decoders") : NULL;
    if (absent(v) || (list && list->n == 0))
        return fail(why, ERR_UNSUPPORTED,
                    "tokenizer.json: a decoder without ByteLevel is not supported");
    if (!list || list->n != 1 || depth == NEST_MAX) return refuse("decoder", v, why);
    return check_decoder(list->child, depth + 1, why);
}

static enum err load(struct tokenizer *t, const struct json *root, struct why *why)
{
    const struct json *padding = json_get(root, "padding");
    if (!absent(json_get(root, "truncation")))
        return fail(why, ERR_UNSUPPORTED, "tokenizer.json: truncation is not supported");
    /* Padding to the longest of a batch does nothing to a single text. */
    if (!absent(padding) && !json_is_str(json_get(padding, "strategy"), "BatchLongest"))
        return fail(why, ERR_UNSUPPORTED, "tokenizer.json: padding is not supported");

    enum err e = load_normalizer(t, json_get(root, "normalizer"), 0, why);
    if (!e) e = steps_load(t, json_get(root, "pre_tokenizer"), why);
    if (!e) e = check_decoder(json_get(root, "decoder"), 0, why);
    if (!e) e = template_load(t, json_get(root, "post_processor"), why);
    if (!e) e = bpe_init(&t->bpe, json_get(root, "model"), why);
    if (!e) e = added_init(&t->added, json_get(root, "added_tokens"), &t->bpe, t->nfc, why);
    return e;
}

enum err tokenizer_open(struct tokenizer **out, struct slice json, struct why *why)
{
    *out = NULL;
    struct json_doc *doc;
    enum err e = json_parse(&doc, json, "tokenizer.json", why);
    if (e) return e;
    struct tokenizer *t = calloc(1, sizeof *t);
    e = t ? load(t, json_root(doc), why) : ERR_NOMEM;
    if (e == ERR_NOMEM) fail(why, e, "tokenizer.json: out of memory");
    json_free(doc);
    if (e)
        tokenizer_close(t);
    else
        *out = t;
    return e;
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t) return;
    for (uint32_t i = 0; i < t->n_steps; i++) pattern_close(t->step[i].pattern);
    bpe_fini(&t->bpe);
    added_fini(&t->added);
    free(t);
}
