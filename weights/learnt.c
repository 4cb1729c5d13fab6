#include "weights/learnt.h"

#include "base/log.h"
#include "store/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LEARNT_BYTES_MAX = 4 << 20, HEAD_TEXT = 96, SCALE = 10000 };

static void head_text(char out[HEAD_TEXT], const struct units *u)
{
    const struct hash *id = &u->w->name.id;
    int n = snprintf(out, HEAD_TEXT, "swarm-experts 1 ");

    for (size_t i = 0; i < HASH_BYTES; i++)
        n += snprintf(out + n, (size_t)(HEAD_TEXT - n), "%02x", id->b[i]);
    snprintf(out + n, (size_t)(HEAD_TEXT - n), "\n");
}

/* A number of at most max and the character behind it. */
static bool take(const char **at, unsigned long max, char behind, unsigned long *out)
{
    char *end;

    if (**at < '0' || **at > '9') return false;
    *out = strtoul(*at, &end, 10);
    if (*out > max || *end != behind) return false;
    *at = end + 1;
    return true;
}

/* Units of a layer's experts ascend; where expert e of model layer l is, or UNIT_NONE. */
static uint32_t find(const struct units *u, unsigned long l, unsigned long e)
{
    const struct weights *w = u->w;

    if (l < w->all_lo || l >= w->all_hi || !w->all[l - w->all_lo].t ||
        !arch_is_moe(&w->manifest.arch, (uint32_t)l))
        return UNIT_NONE;
    int32_t i = arch_find(&w->manifest.arch, (uint32_t)l, T_EXPERT_GATE, (uint32_t)e);
    return i < 0 ? UNIT_NONE : units_of(u, &w->all[l - w->all_lo].t[i]);
}

bool learnt_parse(const char *text, const struct units *u, struct keep *k)
{
    char head[HEAD_TEXT];

    head_text(head, u);
    if (strncmp(text, head, strlen(head)) != 0) return false;
    for (text += strlen(head); *text;) {
        unsigned long layer, expert, worth;
        if (!take(&text, UINT32_MAX, ' ', &layer) ||
            !take(&text, ARCH_EXPERTS_MAX - 1, ' ', &expert) ||
            !take(&text, 2 * SCALE, '\n', &worth))
            return false;
        uint32_t unit = find(u, layer, expert);
        if (unit != UNIT_NONE) keep_set_worth(k, unit, (float)worth / SCALE);
    }
    return true;
}

void learnt_read(const char *path, const struct units *u, struct keep *k)
{
    struct why why;
    uint8_t *bytes;
    size_t n;
    enum err e = file_read(path, LEARNT_BYTES_MAX, &bytes, &n, &why);

    if (e == ERR_NOTFOUND) return;
    if (e) {
        log_warn("which experts are used most is learnt anew: %s", why.text);
        return;
    }
    if (!learnt_parse((char *)bytes, u, k))
        log_info("which experts are used most is learnt anew: %s is not of this model", path);
    free(bytes);
}

void learnt_write(const char *path, const struct units *u, const struct keep *k)
{
    char text[HEAD_TEXT];
    struct file_out f;
    struct why why;
    enum err e = file_create(&f, path, &why);

    if (!e) {
        (void)fchmod(f.fd, 0600);
        head_text(text, u);
        file_put(&f, text, strlen(text));
        for (uint32_t i = 0; i < u->n; i++) {
            unsigned worth = (unsigned)(keep_worth(k, i) * SCALE + 0.5f);
            if (u->unit[i].expert == UNIT_NONE || worth == 0) continue;
            int n = snprintf(text, sizeof text, "%u %u %u\n", u->w->all_lo + u->unit[i].layer,
                             u->unit[i].expert, worth);
            file_put(&f, text, (size_t)n);
        }
        e = file_finish(&f, ERR_OK, &why);
    }
    if (e) log_warn("which experts are used most is not kept: %s", why.text);
}
