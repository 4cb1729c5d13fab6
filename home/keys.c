#include "home/keys.h"

#include "base/log.h"
#include "store/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KEY_FILE_MAX = 4096 };

/* A new file, 0600, whole or not at all. */
static enum err write_new(const char *path, const void *p, size_t n, struct why *why)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(why, errno == EEXIST ? ERR_EXISTS : ERR_IO, "%s: cannot be made: %s", path,
                    strerror(errno));
    bool good = write(fd, p, n) == (ssize_t)n && fsync(fd) == 0;
    int code = errno;
    good = close(fd) == 0 && good;
    if (good) return ERR_OK;
    unlink(path);
    return fail(why, ERR_IO, "%s: cannot be written: %s", path, strerror(code));
}

static enum err make_identity(struct identity *me, const char *path, struct why *why)
{
    uint8_t bytes[IDENTITY_FILE_BYTES];
    identity_make(me);
    identity_to_file(me, bytes);
    enum err e = write_new(path, bytes, sizeof bytes, why);
    explicit_bzero(bytes, sizeof bytes);
    if (e) identity_fini(me);
    return e;
}

enum err keys_identity(struct identity *me, const char *path, bool create, bool *created,
                       struct why *why)
{
    uint8_t *bytes;
    size_t n;
    struct stat st;
    *created = false;
    if (stat(path, &st) != 0 && errno == ENOENT && create) {
        *created = true;
        return make_identity(me, path, why);
    }
    enum err e = file_read(path, KEY_FILE_MAX, &bytes, &n, why);
    if (e == ERR_NOTFOUND) return fail(why, e, "%s: there is no such identity file", path);
    if (e) return e;
    struct why inner = { "" };
    e = identity_from_file(me, slice_of(bytes, n), &inner);
    explicit_bzero(bytes, n);
    free(bytes);
    if (e) return fail(why, e, "%s: %s", path, inner.text);
    if (stat(path, &st) == 0 && (st.st_mode & 077))
        log_warn("%s can be read by others; chmod 600 keeps it yours", path);
    return ERR_OK;
}

enum err keys_hold_identity(int *fd, const char *path, struct why *why)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0 || flock(*fd, LOCK_EX | LOCK_NB) == 0) return ERR_OK;
    bool is_held = errno == EWOULDBLOCK;
    close(*fd);
    *fd = -1;
    return is_held ? fail(why, ERR_BUSY,
                          "%s: another node with this identity runs; stop it, or give this one an "
                          "--identity FILE of its own",
                          path)
                   : ERR_OK;
}

enum err keys_swarm(struct swarm_key *out, const char *option, struct why *why)
{
    uint8_t *bytes;
    size_t n;
    if (!option) {
        *out = *swarm_key_public();
        return ERR_OK;
    }
    if (strncmp(option, "swk1", 4) == 0 && !strchr(option, '/'))
        return swarm_key_parse(out, option, why);
    enum err e = file_read(option, KEY_FILE_MAX, &bytes, &n, why);
    if (e == ERR_NOTFOUND)
        return fail(why, e, "%s: no such swarm key file (and no key: those begin with swk1)",
                    option);
    if (e) return e;
    while (n > 0 && (bytes[n - 1] == '\n' || bytes[n - 1] == '\r' || bytes[n - 1] == ' ')) n--;
    bytes[n] = 0;
    struct why inner = { "" };
    e = swarm_key_parse(out, (const char *)bytes, &inner);
    explicit_bzero(bytes, n);
    free(bytes);
    return e ? fail(why, e, "%s: %s", option, inner.text) : ERR_OK;
}

enum err keys_new_swarm(const char *path, struct why *why)
{
    struct swarm_key key;
    char text[SWARM_KEY_TEXT + 1];
    swarm_key_make(&key);
    swarm_key_text(text, &key);
    size_t n = strlen(text);
    text[n] = '\n';
    enum err e = write_new(path, text, n + 1, why);
    explicit_bzero(text, sizeof text);
    explicit_bzero(&key, sizeof key);
    return e;
}
