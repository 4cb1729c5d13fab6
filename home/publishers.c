#include "home/publishers.h"

#include "home/config_dir.h"
#include "home/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { FILE_MAX = 64 << 10 };
#define TRUSTED "trusted-publishers"
#define OWN "publisher.key"
#define DOMAIN "swarm-model-v1"
/* Who signed the names in models/atlas/published, and nothing else: the key was not kept. */
#define DEMO "swm10un9rhv2ds5t4jg28yqpsw49mqsxpjkwmuvrpxwe56g42d5tt2kqmwazjq"

/* --- signatures --- */

enum { SIGNED_MAX = HASH_BYTES + sizeof((struct store_name *)0)->name };

static struct slice signed_bytes(uint8_t out[SIGNED_MAX], const struct store_name *entry)
{
    size_t n = strlen(entry->name);

    memcpy(out, entry->id.b, HASH_BYTES);
    memcpy(out + HASH_BYTES, entry->name, n);
    return slice_of(out, HASH_BYTES + n);
}

void name_sign(struct store_name *entry, const struct identity *publisher)
{
    uint8_t text[SIGNED_MAX];

    memcpy(entry->publisher, publisher->id.b, sizeof entry->publisher);
    identity_sign(publisher, DOMAIN, signed_bytes(text, entry), entry->sig);
}

bool name_is_signed(const struct store_name *entry)
{
    uint8_t text[SIGNED_MAX];
    struct node_id id;

    memcpy(id.b, entry->publisher, sizeof id.b);
    return identity_verify(&id, DOMAIN, signed_bytes(text, entry), entry->sig);
}

/* --- who is believed --- */

bool publishers_has(const struct publishers *p, const uint8_t id[ID_BYTES])
{
    for (uint32_t i = 0; i < p->n; i++)
        if (memcmp(p->id[i].b, id, ID_BYTES) == 0) return true;
    return false;
}

static bool add(struct publishers *p, const struct node_id *id)
{
    if (publishers_has(p, id->b)) return true;
    if (p->n == PUBLISHERS_MAX) return false;
    p->id[p->n++] = *id;
    return true;
}

/* One line: nothing, a comment, or a key and whatever follows it. */
static enum err parse_line(struct publishers *p, char *line, const char *path, unsigned number,
                           struct why *why)
{
    struct node_id id;
    struct why inner = { "" };

    line += strspn(line, " \t\r");
    if (*line == 0 || *line == '#') return ERR_OK;
    line[strcspn(line, " \t\r#")] = 0;
    if (node_id_parse(&id, line, &inner))
        return fail(why, ERR_MALFORMED, "%s, line %u: %s", path, number, inner.text);
    return add(p, &id) ? ERR_OK
                       : fail(why, ERR_RANGE, "%s: more than %d keys", path, PUBLISHERS_MAX);
}

static enum err load_trusted(struct publishers *p, struct why *why)
{
    char path[FILE_PATH_MAX];
    uint8_t *text;
    size_t n;
    unsigned number = 1;
    enum err e = config_file(path, TRUSTED, false, why);

    if (!e) e = file_read(path, FILE_MAX, &text, &n, why);
    if (e) return e == ERR_NOTFOUND ? ERR_OK : e;
    for (char *line = (char *)text, *end; line && !e; line = end, number++) {
        if ((end = strchr(line, '\n'))) *end++ = 0;
        e = parse_line(p, line, path, number, why);
    }
    free(text);
    return e;
}

static enum err load_own(struct publishers *p, struct why *why)
{
    char path[FILE_PATH_MAX];
    struct identity me = { 0 };
    bool created;
    enum err e = config_file(path, OWN, false, why);

    if (!e && access(path, F_OK) != 0) return ERR_OK;
    if (!e) e = keys_identity(&me, path, false, &created, why);
    if (!e && !add(p, &me.id)) e = fail(why, ERR_RANGE, "more than %d keys", PUBLISHERS_MAX);
    identity_fini(&me);
    return e;
}

enum err publishers_load(struct publishers *p, struct why *why)
{
    p->n = 1;
    enum err e = node_id_parse(&p->id[0], DEMO, why);
    if (!e) e = load_trusted(p, why);
    return e ? e : load_own(p, why);
}

enum err publishers_trust(struct publishers *p, const struct node_id *id, const char *note,
                          struct why *why)
{
    char path[FILE_PATH_MAX], line[NODE_ID_TEXT + 128], text[NODE_ID_TEXT];

    if (publishers_has(p, id->b)) return ERR_OK;
    if (!add(p, id)) return fail(why, ERR_RANGE, "more than %d publishers", PUBLISHERS_MAX);
    enum err e = config_file(path, TRUSTED, true, why);
    if (e) return e;
    node_id_text(text, id);
    int n = snprintf(line, sizeof line, "\n%s  %.100s\n", text, note);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) return fail(why, ERR_IO, "%s: %s", path, strerror(errno));
    bool good = write(fd, line, (size_t)n) == n && fsync(fd) == 0;
    good = close(fd) == 0 && good;
    return good ? ERR_OK : fail(why, ERR_IO, "%s: cannot be written", path);
}

enum err publishers_check(const struct publishers *p, const struct store_name *entry,
                          struct why *why)
{
    char text[NODE_ID_TEXT];
    struct node_id id;

    memcpy(id.b, entry->publisher, sizeof id.b);
    node_id_text(text, &id);
    if (!name_is_signed(entry))
        return fail(why, ERR_AUTH, "the signature under %s is not that of %s", entry->name, text);
    if (publishers_has(p, entry->publisher)) return ERR_OK;
    return fail(why, ERR_AUTH,
                "%s is signed by %s, whom you do not trust yet; if you do: --trust-publisher %s",
                entry->name, text, text);
}
