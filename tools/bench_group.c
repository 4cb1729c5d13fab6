#include "tools/bench_group.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char V1[] = "/sys/fs/cgroup/memory", V2[] = "/sys/fs/cgroup";

enum { FILE_PATH = 320 };

static enum err write_number(const struct group *g, const char *name, uint64_t v, struct why *why)
{
    char path[FILE_PATH], text[24];

    snprintf(path, sizeof path, "%s/%s", g->path, name);
    int n = snprintf(text, sizeof text, "%" PRIu64, v);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool good = fd >= 0 && write(fd, text, (size_t)n) == n;
    int was = errno;
    if (fd >= 0) close(fd);
    return good ? ERR_OK : fail(why, ERR_DENIED, "%s cannot be set: %s", path, strerror(was));
}

enum err group_open(struct group *g, uint64_t limit, struct why *why)
{
    *g =
        (struct group){ .is_v1 = access("/sys/fs/cgroup/memory/memory.limit_in_bytes", F_OK) == 0 };
    if (!g->is_v1 && access("/sys/fs/cgroup/cgroup.controllers", F_OK) != 0)
        return fail(why, ERR_UNSUPPORTED, "this machine has no control groups for memory");
    snprintf(g->path, sizeof g->path, "%s/swarm-bench-%d", g->is_v1 ? V1 : V2, (int)getpid());
    if (mkdir(g->path, 0755) != 0 && errno != EEXIST) {
        enum err e = fail(why, ERR_DENIED, "%s cannot be made: %s; limits need root", g->path,
                          strerror(errno));
        g->path[0] = 0;
        return e;
    }
    enum err e = write_number(g, g->is_v1 ? "memory.limit_in_bytes" : "memory.max", limit, why);
    if (e) group_close(g);
    return e;
}

enum err group_enter(const struct group *g, struct why *why)
{
    return g->path[0] ? write_number(g, "cgroup.procs", (uint64_t)getpid(), why) : ERR_OK;
}

uint64_t group_peak(const struct group *g)
{
    char path[FILE_PATH], text[32] = "";

    snprintf(path, sizeof path, "%s/%s", g->path,
             g->is_v1 ? "memory.max_usage_in_bytes" : "memory.peak");
    FILE *f = g->path[0] ? fopen(path, "re") : NULL;
    if (!f) return 0;
    if (!fgets(text, sizeof text, f)) text[0] = 0;
    fclose(f);
    return strtoull(text, NULL, 10);
}

void group_close(struct group *g)
{
    enum { TRIES = 50, REST_US = 20000 };

    if (!g->path[0]) return;
    if (g->is_v1) (void)write_number(g, "memory.force_empty", 0, NULL);
    for (int i = 0; i < TRIES && rmdir(g->path) != 0 && errno == EBUSY; i++) usleep(REST_US);
    g->path[0] = 0;
}
