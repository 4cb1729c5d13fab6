#include "weights/memory.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { GROUPS_TEXT = 16384, PATH = 1024 };

static const char GROUPS[] = "/sys/fs/cgroup";

static uint64_t number_in(const char *path)
{
    char text[32] = "";
    FILE *f = fopen(path, "re");

    if (!f) return UINT64_MAX;
    if (!fgets(text, sizeof text, f)) text[0] = 0;
    fclose(f);
    /* "max", and what version 1 has for it, are far above any memory */
    return text[0] >= '0' && text[0] <= '9' ? strtoull(text, NULL, 10) : UINT64_MAX;
}

/* The least limit of a group and of those around it.  In a container the path may be the host's,
 * which is not there; the last round looks at the mounted root, which then is the container's. */
static uint64_t least(const char *mount, const char *group, const char *file)
{
    char at[PATH], path[PATH + 64];
    uint64_t limit = UINT64_MAX;

    if (snprintf(at, sizeof at, "%s", group) >= PATH) return limit;
    for (;;) {
        snprintf(path, sizeof path, "%s%s/%s", mount, strcmp(at, "/") == 0 ? "" : at, file);
        uint64_t one = number_in(path);
        if (one < limit) limit = one;
        char *cut = strrchr(at, '/');
        if (!cut || at[0] == 0) return limit;
        *cut = 0;
    }
}

static bool names_memory(const char *controllers)
{
    const char *at = strstr(controllers, "memory");
    return at && (at == controllers || at[-1] == ',') && (at[6] == 0 || at[6] == ',');
}

/* A line: number:controllers:path; version 2 has no controllers. */
static uint64_t limit_of_line(const char *root, char *line)
{
    char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : 0;
    char mount[PATH];

    if (!group || group[1] != '/') return UINT64_MAX;
    *group++ = 0;
    controllers++;
    if (names_memory(controllers)) {
        snprintf(mount, sizeof mount, "%s/%s", root, "memory");
        return least(mount, group, "memory.limit_in_bytes");
    }
    return *controllers ? UINT64_MAX : least(root, group, "memory.max");
}

uint64_t memory_limit_of(const char *root, const char *text)
{
    uint64_t limit = UINT64_MAX;

    while (*text) {
        size_t n = strcspn(text, "\n");
        char line[PATH];
        if (n < sizeof line) {
            memcpy(line, text, n);
            line[n] = 0;
            uint64_t one = limit_of_line(root, line);
            if (one < limit) limit = one;
        }
        text += n + (text[n] == '\n');
    }
    return limit;
}

uint64_t memory_limit(void)
{
    char text[GROUPS_TEXT];
    uint64_t all = uv_get_total_memory(), limit = UINT64_MAX;
    FILE *f = fopen("/proc/self/cgroup", "re");

    if (f) {
        text[fread(text, 1, sizeof text - 1, f)] = 0;
        fclose(f);
        limit = memory_limit_of(GROUPS, text);
    }
    return limit < all ? limit : all;
}
