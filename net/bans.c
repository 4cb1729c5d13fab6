#include "net/bans.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { FILE_MAX = BANS_MAX * 512 };

static void remember(struct bans *b, const struct node_id *id, uint64_t until, const char *text)
{
    uint32_t i = 0;

    while (i < b->n && !node_id_equal(&b->ban[i].id, id)) i++;
    if (i == b->n && b->n == BANS_MAX) i = 0;
    if (i < b->n) {
        memmove(&b->ban[i], &b->ban[i + 1], (b->n - i - 1) * sizeof *b->ban);
        b->n--;
    }
    struct ban *x = &b->ban[b->n++];
    *x = (struct ban){ .id = *id, .until = until };
    snprintf(x->why, sizeof x->why, "%s", text);
    for (char *p = x->why; *p; p++)
        if ((unsigned char)*p < ' ') *p = ' '; /* a line each */
}

static bool take_line(struct bans *b, char *line, uint64_t unix_s)
{
    struct node_id id;
    char *id_end = strchr(line, ' ');

    if (!id_end) return false;
    *id_end = 0;
    char *number = id_end + 1, *end;
    uint64_t until = strtoull(number, &end, 10);
    if (end == number || (*end && *end != ' ') || node_id_parse(&id, line, NULL)) return false;
    if (until > unix_s) remember(b, &id, until, *end ? end + 1 : "");
    return true;
}

enum err bans_load(struct bans *b, const char *dir, uint64_t unix_s, struct why *why)
{
    uint8_t *text;
    size_t n;

    b->n = 0;
    enum err e = file_path(b->path, dir, "banned.txt", why);
    if (!e) e = file_read(b->path, FILE_MAX, &text, &n, why);
    if (e) return e == ERR_NOTFOUND ? ERR_OK : e;
    for (char *line = (char *)text, *end; line && *line; line = end) {
        if ((end = strchr(line, '\n'))) *end++ = 0;
        if (!take_line(b, line, unix_s)) log_warn("%s: a line that is no ban is skipped", b->path);
    }
    free(text);
    return ERR_OK;
}

void bans_apply(const struct bans *b, struct net *net, uint64_t unix_s)
{
    for (uint32_t i = 0; i < b->n; i++)
        if (b->ban[i].until > unix_s)
            net_ban(net, &b->ban[i].id, (b->ban[i].until - unix_s) * 1000, b->ban[i].why);
}

void bans_add(struct bans *b, const struct node_id *id, uint64_t unix_s, const char *text)
{
    remember(b, id, unix_s + BAN_S, text);
}

enum err bans_save(const struct bans *b, struct why *why)
{
    struct file_out f;
    enum err e = file_create(&f, b->path, why);

    if (e) return e;
    for (uint32_t i = 0; i < b->n; i++) {
        char name[NODE_ID_TEXT], line[NODE_ID_TEXT + BAN_WHY + 32];
        node_id_text(name, &b->ban[i].id);
        int n = snprintf(line, sizeof line, "%s %" PRIu64 " %s\n", name, b->ban[i].until,
                         b->ban[i].why);
        file_put(&f, line, (size_t)n);
    }
    return file_finish(&f, ERR_OK, why);
}
