#include "home/runtime_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYSTEM_DIR "/run/swarm"

enum { PATH_BYTES = 512, FILE_BYTES = 1024, NODES_MAX = 256 };

static void dir_path(char out[PATH_BYTES])
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");

    if (xdg && xdg[0] == '/' && strlen(xdg) < PATH_BYTES - 64)
        snprintf(out, PATH_BYTES, "%s/swarm", xdg);
    else
        snprintf(out, PATH_BYTES, "/tmp/swarm-%u", (unsigned)getuid());
}

/* Open the folder, made if wanted, and check that it is ours alone.  *fd -1 and ERR_OK: there is
 * none.  Everything after works relative to fd, so nobody can exchange the folder behind us. */
static enum err dir_open(int *fd, bool make, struct why *why)
{
    char path[PATH_BYTES];
    struct stat st;

    dir_path(path);
    if (make && mkdir(path, 0700) && errno != EEXIST)
        return fail(why, ERR_IO, "%s: cannot be made (%s)", path, strerror(errno));
    *fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*fd < 0 && errno == ENOENT) return ERR_OK;
    if (*fd < 0) return fail(why, ERR_DENIED, "%s: cannot be opened (%s)", path, strerror(errno));
    if (fstat(*fd, &st) == 0 && st.st_uid == getuid() && (st.st_mode & 077) == 0) return ERR_OK;
    close(*fd);
    *fd = -1;
    return fail(why, ERR_DENIED, "%s: belongs to another user or is open to others (want 0700)",
                path);
}

static void file_name(char out[32], pid_t pid)
{
    snprintf(out, 32, "%ld.link", (long)pid);
}

/* Of the service of this machine, for root: /run is root's, so nobody else can have made it. */
static int system_open(uid_t *owner)
{
    char path[PATH_BYTES];
    struct stat st;

    dir_path(path);
    if (getuid() != 0 || strcmp(path, SYSTEM_DIR) == 0) return -1;
    int fd = open(SYSTEM_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 077) == 0) {
        *owner = st.st_uid;
        return fd;
    }
    if (fd >= 0) close(fd);
    return -1;
}

/* Written under another name and renamed, so that nobody reads half a file. */
static enum err write_file(int dir, const char *text, struct why *why)
{
    char name[32], part[40];
    size_t n = strlen(text);

    file_name(name, getpid());
    snprintf(part, sizeof part, "%s.part", name);
    (void)unlinkat(dir, part, 0);
    int fd = openat(dir, part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return fail(why, ERR_IO, "%s: cannot be written (%s)", name, strerror(errno));
    bool good = write(fd, text, n) == (ssize_t)n;
    good = close(fd) == 0 && good;
    if (good && renameat(dir, part, dir, name) == 0) return ERR_OK;
    (void)unlinkat(dir, part, 0);
    return fail(why, ERR_IO, "%s: cannot be written (%s)", name, strerror(errno));
}

enum err runtime_publish(const struct local_node *me, struct why *why)
{
    char text[FILE_BYTES], spelled[384], token[2 * TOKEN_BYTES + 1];
    int dir;

    link_text(spelled, sizeof spelled, &me->link);
    for (unsigned i = 0; i < TOKEN_BYTES; i++) snprintf(token + 2 * i, 3, "%02x", me->token[i]);
    snprintf(text, sizeof text, "link %s\nmodel %s\nanswers %s\ntoken %s\n", spelled, me->model,
             me->answers ? "yes" : "no", token);
    explicit_bzero(token, sizeof token);
    enum err e = dir_open(&dir, true, why);
    if (!e && dir < 0) e = fail(why, ERR_IO, "the runtime folder has gone");
    if (e) return e;
    e = write_file(dir, text, why);
    explicit_bzero(text, sizeof text);
    close(dir);
    return e;
}

void runtime_withdraw(void)
{
    char name[32];
    int dir;

    if (dir_open(&dir, false, NULL) || dir < 0) return;
    file_name(name, getpid());
    (void)unlinkat(dir, name, 0);
    close(dir);
}

/* --- finding --- */

/* The pid in "123.link"; 0: another name. */
static pid_t pid_of(const char *name)
{
    char *end;

    if (name[0] < '1' || name[0] > '9') return 0;
    long pid = strtol(name, &end, 10);
    return strcmp(end, ".link") == 0 && pid < 1L << 30 ? (pid_t)pid : 0;
}

/* The text after "key " in the line that starts so, cut at its end; NULL: no such line. */
static char *value_of(char *text, const char *key)
{
    size_t n = strlen(key);
    char *line = text;

    while (line && (strncmp(line, key, n) != 0 || line[n] != ' ')) {
        line = strchr(line, '\n');
        if (line) line++;
    }
    return line ? line + n + 1 : NULL;
}

static bool parse_token(uint8_t out[TOKEN_BYTES], const char *text)
{
    if (strspn(text, "0123456789abcdef") != 2 * TOKEN_BYTES || text[2 * TOKEN_BYTES]) return false;
    for (unsigned i = 0; i < TOKEN_BYTES; i++) {
        unsigned byte;
        if (sscanf(text + 2 * i, "%2x", &byte) != 1) return false;
        out[i] = (uint8_t)byte;
    }
    return true;
}

static bool parse(struct local_node *out, char *text)
{
    char *link = value_of(text, "link"), *model = value_of(text, "model");
    char *answers = value_of(text, "answers"), *token = value_of(text, "token");

    if (!link || !model || !answers || !token) return false;
    link[strcspn(link, "\n")] = 0;
    model[strcspn(model, "\n")] = 0;
    answers[strcspn(answers, "\n")] = 0;
    token[strcspn(token, "\n")] = 0;
    if (strlen(model) >= sizeof out->model || !parse_token(out->token, token)) return false;
    memcpy(out->model, model, strlen(model) + 1);
    out->answers = strcmp(answers, "yes") == 0;
    return link_parse(&out->link, link, NULL) == ERR_OK;
}

static bool read_node(int dir, uid_t owner, const char *name, struct local_node *out,
                      struct timespec *made)
{
    char text[FILE_BYTES];
    struct stat st;
    ssize_t n = -1;

    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == owner && (st.st_mode & 077) == 0)
        n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n < 0) return false;
    text[n] = 0;
    *made = st.st_mtim;
    return parse(out, text);
}

struct found {
    struct local_node node;
    struct timespec made;
};

static int newest_first(const void *a, const void *b)
{
    const struct timespec *x = &((const struct found *)a)->made;
    const struct timespec *y = &((const struct found *)b)->made;
    if (x->tv_sec != y->tv_sec) return x->tv_sec < y->tv_sec ? 1 : -1;
    return (x->tv_nsec < y->tv_nsec) - (x->tv_nsec > y->tv_nsec);
}

/* Add those of the folder fd, which is closed, to all. */
static enum err read_dir(int fd, uid_t owner, struct found *all, unsigned *count)
{
    DIR *dir = fdopendir(fd);
    struct dirent *d;

    if (!dir) {
        close(fd);
        return ERR_NOMEM;
    }
    while (*count < NODES_MAX && (d = readdir(dir))) {
        pid_t pid = pid_of(d->d_name);
        if (!pid) continue;
        if (kill(pid, 0) && errno == ESRCH)
            (void)unlinkat(fd, d->d_name, 0);
        else if (read_node(fd, owner, d->d_name, &all[*count].node, &all[*count].made))
            all[(*count)++].node.pid = pid;
    }
    closedir(dir);
    return ERR_OK;
}

enum err runtime_find(struct local_node *out, unsigned cap, unsigned *n, struct why *why)
{
    unsigned count = 0;
    uid_t owner;
    int fd;

    *n = 0;
    enum err e = dir_open(&fd, false, why);
    if (e) return e;
    struct found *all = calloc(NODES_MAX, sizeof *all);
    if (!all) {
        if (fd >= 0) close(fd);
        return ERR_NOMEM;
    }
    if (fd >= 0) e = read_dir(fd, getuid(), all, &count);
    if (!e && (fd = system_open(&owner)) >= 0) e = read_dir(fd, owner, all, &count);
    qsort(all, count, sizeof *all, newest_first);
    for (; *n < cap && *n < count; (*n)++) out[*n] = all[*n].node;
    free(all);
    return e;
}

enum err runtime_find_asked(struct local_node *out, const char *model, struct why *why)
{
    struct local_node node[16];
    unsigned n = 0;
    enum err e = runtime_find(node, 16, &n, why);
    if (e) return e;
    for (unsigned i = 0; i < n; i++) {
        if (!node[i].answers || (model && strcmp(node[i].model, model) != 0)) continue;
        *out = node[i];
        return ERR_OK;
    }
    return fail(why, ERR_NOTFOUND,
                "no node %s%s runs on this machine; start one with `swarm-node --store DIR "
                "--listen 127.0.0.1:0`, or give the link of one",
                model ? "with " : "that answers questions", model ? model : "");
}
