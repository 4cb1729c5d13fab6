/* A program's settings as text: what would be used, an example, a page of the documentation. */
#include "tools/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAD = 32 }; /* the column of a line's remark */

/* As the file spells it: in quotes where it must be. */
static void add_string(struct text *out, const char *v)
{
    size_t n = strlen(v);
    bool plain = n > 0 && v[0] != '"' && !strchr(" \t", v[0]) && !strchr(" \t", v[n - 1]);

    for (size_t i = 0; i < n && plain; i++)
        plain = !(v[i] == '#' && (i == 0 || strchr(" \t", v[i - 1])));
    if (plain) {
        text_add(out, v, n);
        return;
    }
    text_str(out, "\"");
    for (; *v; v++) text_printf(out, *v == '"' || *v == '\\' ? "\\%c" : "%c", *v);
    text_str(out, "\"");
}

static void add_size(struct text *out, uint64_t v)
{
    static const char units[] = " KMGT";
    unsigned u = 0;

    for (; v && v % 1024 == 0 && u < 4; u++) v /= 1024;
    text_printf(out, u ? "%llu%c" : "%llu", (unsigned long long)v, units[u]);
}

bool setting_text(const struct settings *s, unsigned i, unsigned item, struct text *out)
{
    const struct setting *t = &s->table[i];
    bool is_empty = s->source[i] == SETTING_DEFAULT && !t->preset && t->type != ARG_FLAG;

    if (is_empty || (item > 0 && t->type != ARG_LIST)) return false;
    switch (t->type) {
    case ARG_FLAG: text_str(out, *(const bool *)t->to ? "yes" : "no"); break;
    case ARG_STR: add_string(out, *(const char *const *)t->to); break;
    case ARG_LIST: {
        const struct arg_list *l = t->to;
        if (item >= l->n) return false;
        add_string(out, l->v[item]);
        break;
    }
    case ARG_U64: text_printf(out, "%llu", (unsigned long long)*(const uint64_t *)t->to); break;
    case ARG_U32: text_printf(out, "%u", *(const uint32_t *)t->to); break;
    case ARG_DOUBLE: text_printf(out, "%.17g", *(const double *)t->to); break;
    case ARG_SIZE: add_size(out, *(const uint64_t *)t->to); break;
    case ARG_RANGE: {
        const struct arg_range *r = t->to;
        text_printf(out, "%u-%u", r->lo, r->hi);
        break;
    }
    }
    return true;
}

/* --- what would be used --- */

static void add_source(struct text *out, const struct settings *s, unsigned i)
{
    char name[SETTING_ENV_MAX];

    switch (s->source[i]) {
    case SETTING_FLAG: text_printf(out, "--%s", s->table[i].name); break;
    case SETTING_ENV:
        setting_env(name, s, i);
        text_printf(out, "environment, %s", name);
        break;
    case SETTING_FILE: text_printf(out, "%s:%u", s->path, s->line[i]); break;
    case SETTING_DEFAULT: text_str(out, "default"); break;
    }
}

static void pad(struct text *out, size_t start)
{
    text_printf(out, "%*s", out->n - start < PAD ? (int)(PAD - (out->n - start)) : 1, "");
}

static void print_row(const struct settings *s, unsigned i, struct text *out)
{
    const struct setting *t = &s->table[i];
    struct text value = { 0 };
    unsigned item = 0;

    for (; setting_text(s, i, item, &value); item++, value.n = 0) {
        size_t start = out->n;
        if (t->is_secret || t->has_no_key)
            text_printf(out, "# %s = %s", t->name, t->is_secret ? "(hidden)" : value.p);
        else
            text_printf(out, "%s = %s", t->name, value.p);
        pad(out, start);
        text_str(out, "# ");
        add_source(out, s, i);
        text_str(out, "\n");
    }
    free(value.p);
    if (item > 0) return;
    size_t start = out->n;
    text_printf(out, "# %s", t->name);
    pad(out, start);
    text_printf(out, "# not set%s%s\n", t->unset ? ": " : "", t->unset ? t->unset : "");
}

void settings_print(const struct settings *s, struct text *out)
{
    for (unsigned i = 0; i < s->n; i++) print_row(s, i, out);
}

/* --- for the documentation --- */

/* What a commented-out line of the example shows. */
static const char *sample(const struct setting *t)
{
    return t->preset ? t->preset : t->type == ARG_FLAG ? "no" : t->value;
}

static const char *about(const struct setting *t, const struct settings *s, unsigned i)
{
    return s->option[i].help + (arg_negatable(&s->option[i]) && t ? strlen("[no-]") : 0);
}

/* Whole words, in lines of at most 98 columns that start with "# ". */
static void add_comment(struct text *out, const char *words)
{
    size_t column = 0;

    while (*words) {
        size_t n = strcspn(words, " ");
        if (column == 0 || column + 1 + n > 98) {
            text_printf(out, "%s# ", column ? "\n" : "");
            column = 2;
        } else {
            text_str(out, " ");
            column++;
        }
        text_add(out, words, n);
        column += n;
        words += n + strspn(words + n, " ");
    }
    text_str(out, "\n");
}

void settings_example(const struct settings *s, struct text *out)
{
    for (unsigned i = 0; i < s->n; i++) {
        const struct setting *t = &s->table[i];
        if (t->has_no_key) continue;
        text_str(out, "\n");
        add_comment(out, about(t, s, i));
        text_printf(out, "#%s = %s\n", t->name, sample(t));
    }
}

/* A bar would end the cell. */
static void add_cell(struct text *out, const char *v)
{
    for (; *v; v++) text_printf(out, *v == '|' ? "\\%c" : "%c", *v);
}

static void add_kind(struct text *out, const struct setting *t)
{
    static const char *const kinds[] = {
        [ARG_FLAG] = "yes or no", [ARG_STR] = "text",    [ARG_LIST] = "list",
        [ARG_U64] = "number",     [ARG_U32] = "number",  [ARG_DOUBLE] = "number",
        [ARG_SIZE] = "size",      [ARG_RANGE] = "range",
    };

    text_str(out, kinds[t->type]);
    if (t->max)
        text_printf(out, ", %llu to %llu", (unsigned long long)t->min, (unsigned long long)t->max);
    else if (t->min)
        text_printf(out, ", at least %llu", (unsigned long long)t->min);
}

void settings_markdown(const struct settings *s, struct text *out)
{
    char name[SETTING_ENV_MAX];

    text_str(out, "| key | flag and variable | what it is | what it does |\n|---|---|---|---|\n");
    for (unsigned i = 0; i < s->n; i++) {
        const struct setting *t = &s->table[i];
        setting_env(name, s, i);
        text_printf(out, "| %s%s%s | `--%s%s%s", t->has_no_key ? "" : "`",
                    t->has_no_key ? "none" : t->name, t->has_no_key ? "" : "`",
                    arg_negatable(&s->option[i]) ? "[no-]" : "", t->name, t->value ? " " : "");
        add_cell(out, t->value ? t->value : "");
        text_printf(out, "`, `%s` | ", name);
        add_kind(out, t);
        text_str(out, " | ");
        add_cell(out, about(t, s, i));
        text_str(out, " |\n");
    }
}
