#include "tools/settings.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

/* --- the table --- */

void setting_env(char out[SETTING_ENV_MAX], const struct settings *s, unsigned i)
{
    size_t n = (size_t)snprintf(out, SETTING_ENV_MAX, "%s", s->prefix);

    for (const char *c = s->table[i].name; *c && n + 1 < SETTING_ENV_MAX; c++)
        out[n++] = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    out[n] = 0;
}

static void make_help(struct settings *s, unsigned i)
{
    const struct setting *t = &s->table[i];

    text_str(&s->help[i], t->help);
    if (t->preset && t->type != ARG_FLAG) text_printf(&s->help[i], " (default: %s)", t->preset);
    if (t->unset) text_printf(&s->help[i], " (default: %s)", t->unset);
    if (s->help[i].failed) abort();
}

void settings_init(struct settings *s, const char *prefix, const struct setting *table)
{
    memset(s, 0, sizeof *s);
    s->prefix = prefix;
    s->table = table;
    for (; table[s->n].name; s->n++) {
        const struct setting *t = &table[s->n];
        if (s->n == SETTINGS_MAX) abort();
        make_help(s, s->n);
        s->option[s->n] = (struct arg){ t->name, t->type, t->to, t->value, s->help[s->n].p };
        if (t->preset && arg_set(&s->option[s->n], t->preset, NULL)) abort();
        if (t->type == ARG_LIST && t->preset) abort(); /* it could not be taken back */
    }
}

void settings_fini(struct settings *s)
{
    for (unsigned i = 0; i < s->n; i++) {
        free(s->help[i].p);
        free(s->env[i]);
    }
    free(s->file);
}

/* --- mistakes --- */

__attribute__((format(printf, 2, 3))) static void mistake(struct settings *s, const char *fmt, ...)
{
    char text[2048];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    s->mistakes++;
    s->say(s->arg, text);
}

/* Letters to change, add or leave out on the way from a to b; words of up to 31 letters. */
static unsigned distance(const char *a, const char *b)
{
    enum { MOST = 32 };
    unsigned row[MOST], n = (unsigned)strlen(b);

    if (n >= MOST || strlen(a) >= MOST) return MOST;
    for (unsigned j = 0; j <= n; j++) row[j] = j;
    for (unsigned i = 0; a[i]; i++) {
        unsigned corner = row[0];
        row[0] = i + 1;
        for (unsigned j = 0; j < n; j++) {
            unsigned change = corner + (a[i] != b[j]);
            corner = row[j + 1];
            unsigned least = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;
            row[j + 1] = change < least ? change : least;
        }
    }
    return row[n];
}

/* The setting whose name is nearest to a wrong one; NULL: none is near. */
static const char *nearest(const struct settings *s, const char *name)
{
    unsigned best = (unsigned)strlen(name) / 2 < 4 ? (unsigned)strlen(name) / 2 : 4;
    const char *found = NULL;

    for (unsigned i = 0; i < s->n; i++) {
        unsigned d = s->table[i].has_no_key ? best + 1 : distance(name, s->table[i].name);
        if (d < best || (d == best && !found)) {
            best = d;
            found = s->table[i].name;
        }
    }
    return found;
}

/* --- one value --- */

static int find(const struct settings *s, const char *name)
{
    for (unsigned i = 0; i < s->n; i++)
        if (strcmp(s->table[i].name, name) == 0) return (int)i;
    return -1;
}

static enum err check_range(const struct setting *t, struct why *why)
{
    uint64_t v;

    if (t->type == ARG_U32)
        v = *(const uint32_t *)t->to;
    else if (t->type == ARG_U64 || t->type == ARG_SIZE)
        v = *(const uint64_t *)t->to;
    else
        return ERR_OK;
    if (v < t->min) return fail(why, ERR_RANGE, "at least %llu", (unsigned long long)t->min);
    if (t->max && v > t->max)
        return fail(why, ERR_RANGE, "at most %llu", (unsigned long long)t->max);
    return ERR_OK;
}

static enum err check(const struct setting *t, struct why *why)
{
    enum err e = check_range(t, why);
    return !e && t->check ? t->check(t->to, why) : e;
}

/* Set it from text; a list's values are parts of it, which is cut up. */
static enum err set_value(struct settings *s, unsigned i, char *text, struct why *why)
{
    static const char between[] = ", \t";
    char *rest = NULL;

    if (s->table[i].type != ARG_LIST) return arg_set(&s->option[i], text, why);
    for (char *v = strtok_r(text, between, &rest); v; v = strtok_r(NULL, between, &rest)) {
        enum err e = arg_set(&s->option[i], v, why);
        if (e) return e;
    }
    return ERR_OK;
}

static const char *shown(const struct settings *s, unsigned i, const char *value)
{
    return s->table[i].is_secret ? "(hidden)" : value;
}

/* --- flags: args_parse has set them; are they in range? --- */

static void check_flags(struct settings *s)
{
    for (unsigned i = 0; i < s->n; i++) {
        const struct setting *t = &s->table[i];
        struct text v = { 0 };
        struct why why;
        if (!s->given[i]) continue;
        s->source[i] = SETTING_FLAG;
        if (!check(t, &why)) continue;
        if (t->type != ARG_LIST && !t->is_secret) (void)setting_text(s, i, 0, &v);
        mistake(s, "--%s%s%s: %s", t->name, v.p ? " " : "", v.p ? v.p : "", why.text);
        free(v.p);
    }
}

/* --- the environment --- */

static void read_variable(struct settings *s, unsigned i, const char *name)
{
    const char *value = getenv(name);
    struct why why;

    if (!value || s->source[i] == SETTING_FLAG) return;
    char *copy = s->env[i] = strdup(value), *said = strdup(value);
    if (!copy || !said) abort();
    s->source[i] = SETTING_ENV;
    if (set_value(s, i, copy, &why) || check(&s->table[i], &why))
        mistake(s, "%s=%s: %s", name, shown(s, i, said), why.text);
    free(said);
}

/* A variable with our prefix that is no setting is a slip of somebody's fingers. */
static void check_names(struct settings *s)
{
    char known[SETTING_ENV_MAX], name[SETTING_ENV_MAX];
    size_t prefix = strlen(s->prefix);

    for (char **e = environ; *e; e++) {
        bool found = false;
        size_t n = strcspn(*e, "=");
        if (strncmp(*e, s->prefix, prefix) != 0 || n >= sizeof name) continue;
        snprintf(name, sizeof name, "%.*s", (int)n, *e);
        for (unsigned i = 0; i < s->n && !found; i++) {
            setting_env(known, s, i);
            found = strcmp(known, name) == 0;
        }
        if (found) continue;
        char key[SETTING_ENV_MAX];
        size_t k = 0;
        for (const char *c = name + prefix; *c; c++)
            key[k++] = *c == '_' ? '-' : (char)tolower((unsigned char)*c);
        key[k] = 0;
        const char *near = nearest(s, key);
        if (near) setting_env(known, s, (unsigned)find(s, near));
        mistake(s, "the environment variable %s is no setting%s%s%s", name,
                near ? "; did you mean " : "", near ? known : "", near ? "?" : "");
    }
}

static void read_environment(struct settings *s)
{
    char name[SETTING_ENV_MAX];

    for (unsigned i = 0; i < s->n; i++) {
        setting_env(name, s, i);
        read_variable(s, i, name);
    }
    check_names(s);
}

/* --- the file --- */

static char *trim(char *text)
{
    text += strspn(text, " \t");
    size_t n = strlen(text);
    while (n > 0 && strchr(" \t\r", text[n - 1])) n--;
    text[n] = 0;
    return text;
}

/* Take the quotes off in place; false: they do not close, or something follows. */
static bool unquote(char *text)
{
    char *to = text, *c = text + 1;

    for (; *c && *c != '"'; c++) {
        if (*c == '\\' && (c[1] == '"' || c[1] == '\\')) c++;
        *to++ = *c;
    }
    if (*c != '"') return false;
    const char *after = trim(c + 1);
    *to = 0;
    return *after == 0 || *after == '#';
}

/* Cut a comment off; text starts after a key's "=" or at the start of a line. */
static void cut_comment(char *text)
{
    for (char *c = text; *c; c++)
        if (*c == '#' && (c == text || c[-1] == ' ' || c[-1] == '\t')) {
            *c = 0;
            return;
        }
}

static bool has_controls(const char *text)
{
    for (; *text; text++)
        if (((unsigned char)*text < 0x20 && *text != '\t' && *text != '\r') || *text == 0x7f)
            return true;
    return false;
}

static void unknown_key(struct settings *s, unsigned line, const char *key)
{
    const char *near = nearest(s, key);

    mistake(s, "%s:%u: unknown key %.60s%s%s%s", s->path, line, key, near ? "; did you mean " : "",
            near ? near : "", near ? "?" : "");
}

/* "key = value" with the key found. */
static void take_value(struct settings *s, unsigned i, unsigned line, char *value)
{
    const struct setting *t = &s->table[i];
    struct why why;

    if (*value == '"') {
        if (!unquote(value)) {
            mistake(s, "%s:%u: %s: the quotes do not close at the end of the value", s->path, line,
                    t->name);
            return;
        }
    } else {
        cut_comment(value);
        value = trim(value);
        if (!*value) {
            mistake(s, "%s:%u: %s has no value; to leave it at its default, put a # before it",
                    s->path, line, t->name);
            return;
        }
    }
    if (s->line[i] && t->type != ARG_LIST) {
        mistake(s, "%s:%u: %s is already given in line %u", s->path, line, t->name, s->line[i]);
        return;
    }
    if (!s->line[i]) s->line[i] = line;
    if (s->source[i] > SETTING_FILE) return; /* something higher has spoken */
    s->source[i] = SETTING_FILE;
    char *said = strdup(value);
    if (!said) abort();
    if (set_value(s, i, value, &why) || check(t, &why))
        mistake(s, "%s:%u: %s = %s: %s", s->path, line, t->name, shown(s, i, said), why.text);
    free(said);
}

static void take_line(struct settings *s, unsigned line, char *text)
{
    char *key = text + strspn(text, " \t\r"), *value = strchr(key, '=');

    if (*key == 0 || *key == '#') return;
    if (strlen(text) > SETTINGS_LINE_MAX) {
        mistake(s, "%s:%u: a line of more than %d bytes", s->path, line, SETTINGS_LINE_MAX);
        return;
    }
    if (has_controls(text)) {
        mistake(s, "%s:%u: a control character; this should be a text file", s->path, line);
        return;
    }
    if (!value) {
        mistake(s, "%s:%u: the line that starts with '%.*s' is not of the form key = value",
                s->path, line, (int)strcspn(key, " \t\r:"), key);
        return;
    }
    *value++ = 0;
    key = trim(key);
    int i = find(s, key);
    if (i < 0 || s->table[i].has_no_key)
        unknown_key(s, line, key);
    else
        take_value(s, (unsigned)i, line, value + strspn(value, " \t"));
}

static void read_file(struct settings *s, const char *path)
{
    struct why why;
    uint8_t *bytes;
    size_t n;
    unsigned line = 0;

    snprintf(s->path, sizeof s->path, "%s", path);
    enum err e = file_read(path, SETTINGS_FILE_MAX, &bytes, &n, &why);
    if (e) {
        if (e == ERR_NOTFOUND)
            mistake(s, "%s: there is no such config file", path);
        else
            mistake(s, "%s", why.text);
        return;
    }
    s->file = (char *)bytes;
    if (memchr(s->file, 0, n)) {
        mistake(s, "%s: a zero byte; this should be a text file", path);
        return;
    }
    for (char *at = s->file, *end; at; at = end) {
        end = strchr(at, '\n');
        if (end) *end++ = 0;
        take_line(s, ++line, at);
    }
}

unsigned settings_read(struct settings *s, const char *path,
                       void (*say)(void *arg, const char *sentence), void *arg)
{
    s->say = say;
    s->arg = arg;
    check_flags(s);
    read_environment(s);
    if (path) read_file(s, path);
    return s->mistakes;
}
