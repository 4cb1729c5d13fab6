/* checkpoint.h - a checkpoint folder that a test can change before it is written. */
#ifndef TESTS_STORE_CHECKPOINT_H
#define TESTS_STORE_CHECKPOINT_H

#include "kernels/kernels.h"
#include "store/file.h"
#include "store/source.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CK_TENSORS = 1200, CK_OWNED = 64 };

struct checkpoint {
    struct source *source;
    struct st_tensor t[CK_TENSORS];
    uint32_t n;
    char config[8192];
    void *owned[CK_OWNED]; /* data that was made */
    uint32_t n_owned;
};

static inline void ck_load(struct checkpoint *c, const char *dir)
{
    char path[FILE_PATH_MAX];
    uint8_t *p;
    size_t n;
    struct why why = { "" };

    memset(c, 0, sizeof *c);
    if (source_open(&c->source, dir, &why)) fail_msg("%s", why.text);
    assert_true(source_n(c->source) <= CK_TENSORS - CK_OWNED);
    for (uint32_t i = 0; i < source_n(c->source); i++) c->t[c->n++] = *source_nth(c->source, i)->t;
    snprintf(path, sizeof path, "%s/config.json", dir);
    assert_int_equal(file_read(path, sizeof c->config - 1, &p, &n, &why), ERR_OK);
    memcpy(c->config, p, n + 1);
    free(p);
}

static inline void ck_free(struct checkpoint *c)
{
    source_close(c->source);
    for (uint32_t i = 0; i < c->n_owned; i++) free(c->owned[i]);
}

static inline void *ck_keep(struct checkpoint *c, void *p)
{
    assert_non_null(p);
    assert_true(c->n_owned < CK_OWNED);
    return c->owned[c->n_owned++] = p;
}

static inline struct st_tensor *ck_find(struct checkpoint *c, const char *name)
{
    for (uint32_t i = 0; i < c->n; i++)
        if (strcmp(c->t[i].name, name) == 0) return &c->t[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static inline void ck_remove(struct checkpoint *c, const char *name)
{
    struct st_tensor *t = ck_find(c, name);
    *t = c->t[--c->n];
}

/* All tensors whose name contains text. */
static inline void ck_remove_all(struct checkpoint *c, const char *text)
{
    for (uint32_t i = 0; i < c->n;) {
        if (strstr(c->t[i].name, text))
            c->t[i] = c->t[--c->n];
        else
            i++;
    }
}

static inline struct st_tensor *ck_add(struct checkpoint *c, const char *name, enum st_dtype dtype,
                                       uint64_t d0, uint64_t d1)
{
    struct st_tensor *t = &c->t[c->n++];
    size_t n = (size_t)(d0 * (d1 ? d1 : 1)) * (dtype == ST_F32 ? 4 : dtype == ST_U8 ? 1 : 2);

    *t = (struct st_tensor){
        .name = ck_keep(c, strdup(name)), .dtype = dtype, .n_dims = d1 ? 2 : 1, .dim = { d0, d1 }
    };
    t->data = slice_of(ck_keep(c, calloc(1, n)), n);
    return t;
}

/* The data of a tensor as a copy that may be written. */
static inline uint8_t *ck_own_data(struct checkpoint *c, const char *name)
{
    struct st_tensor *t = ck_find(c, name);
    uint8_t *p = ck_keep(c, malloc(t->data.n));
    memcpy(p, t->data.p, t->data.n);
    t->data.p = p;
    return p;
}

static inline void ck_config(struct checkpoint *c, const char *from, const char *to)
{
    char old[sizeof c->config], *at;

    memcpy(old, c->config, sizeof old);
    if (!(at = strstr(old, from))) fail_msg("no '%s' in config.json", from);
    int n = snprintf(c->config, sizeof c->config, "%.*s%s%s", (int)(at - old), old, to,
                     at + strlen(from));
    assert_true(n > 0 && (size_t)n < sizeof c->config);
}

static inline void put_text(const char *dir, const char *name, const char *text)
{
    char path[FILE_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static inline void ck_write(const struct checkpoint *c, const char *dir)
{
    char path[FILE_PATH_MAX];
    struct why why = { "" };

    (void)mkdir(dir, 0700);
    put_text(dir, "config.json", c->config);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    if (safetensors_write(path, c->t, c->n, &why)) fail_msg("%s", why.text);
}

/* An element of a tensor as f32. */
static inline float ck_value(const struct st_tensor *t, uint64_t at)
{
    uint16_t h;
    float f;

    if (t->dtype == ST_F32) {
        memcpy(&f, t->data.p + 4 * at, 4);
        return f;
    }
    memcpy(&h, t->data.p + 2 * at, 2);
    return t->dtype == ST_F16 ? f32_from_f16(h) : f32_from_bf16(h);
}

static inline void remove_dir(const char *dir)
{
    char path[FILE_PATH_MAX];
    DIR *h = opendir(dir);

    if (!h) return;
    for (struct dirent *e; (e = readdir(h));) {
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        unlink(path);
    }
    closedir(h);
    rmdir(dir);
}

#endif
