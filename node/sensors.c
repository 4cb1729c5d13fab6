#include "node/sensors.h"

#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FILE_BYTES = 64 << 10, ENTRIES_MAX = 256 };

/* --- files --- */

/* The text of a file below root, cut at cap - 1 bytes; false: it cannot be read. */
static bool slurp(char *out, size_t cap, const char *root, const char *path)
{
    char full[PATH_MAX];
    if (snprintf(full, sizeof full, "%s/%s", root, path) >= (int)sizeof full) return false;
    FILE *f = fopen(full, "re");
    if (!f) return false;
    size_t n = fread(out, 1, cap - 1, f);
    bool ok = !ferror(f);
    fclose(f);
    out[n] = 0;
    return ok;
}

static bool slurp_in(char *out, size_t cap, const char *root, const char *dir, const char *name)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path) return false;
    if (!slurp(out, cap, root, path)) return false;
    out[strcspn(out, "\n")] = 0;
    return true;
}

static bool number_in(int64_t *out, const char *root, const char *dir, const char *name)
{
    char text[64], *end;
    if (!slurp_in(text, sizeof text, root, dir, name)) return false;
    *out = strtoll(text, &end, 10);
    return end != text;
}

/* Calls each with "DIR/NAME" for what lies in dir, at most ENTRIES_MAX. */
static void for_each(const char *root, const char *dir, void (*each)(void *arg, const char *path),
                     void *arg)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", root, dir) >= (int)sizeof path) return;
    DIR *d = opendir(path);
    if (!d) return;
    const struct dirent *e;
    for (int i = 0; i < ENTRIES_MAX && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        i++;
        if (snprintf(path, sizeof path, "%s/%s", dir, e->d_name) < (int)sizeof path)
            each(arg, path);
    }
    closedir(d);
}

/* The number after key in text, which is lines of "key number"; false: there is none. */
static bool find_number(uint64_t *out, const char *text, const char *key)
{
    size_t n = strlen(key);
    for (const char *p = text; p; p = strchr(p, '\n')) {
        p += *p == '\n';
        if (strncmp(p, key, n) != 0) continue;
        char *end;
        uint64_t v = strtoull(p + n, &end, 10);
        if (end == p + n) return false;
        *out = v;
        return true;
    }
    return false;
}

/* --- power --- */

struct power {
    const char *root;
    bool mains, discharging;
    int percent;
};

static void look_at_supply(void *arg, const char *dir)
{
    struct power *p = arg;
    char type[32], text[32];
    int64_t v;
    if (!slurp_in(type, sizeof type, p->root, dir, "type")) return;
    if (strcmp(type, "Battery") != 0) {
        p->mains |= number_in(&v, p->root, dir, "online") && v == 1;
        return;
    }
    if (slurp_in(text, sizeof text, p->root, dir, "scope") && strcmp(text, "Device") == 0) return;
    if (!slurp_in(text, sizeof text, p->root, dir, "status")) return;
    p->discharging |= strcmp(text, "Discharging") == 0;
    if (number_in(&v, p->root, dir, "capacity") && v >= 0 && v <= 100 &&
        (p->percent == SENSED_UNKNOWN || v < p->percent))
        p->percent = (int)v;
}

static void read_power(const struct sensors *s, struct sensed *out)
{
    struct power p = { .root = s->root, .percent = SENSED_UNKNOWN };
    for_each(s->root, "sys/class/power_supply", look_at_supply, &p);
    out->on_battery = p.discharging && !p.mains;
    out->battery_percent = p.percent;
}

/* --- heat --- */

struct heat {
    const char *root;
    int celsius;
};

/* Some sensors say nonsense when they are asleep. */
static void note_heat(struct heat *h, int64_t milli)
{
    int c = (int)(milli / 1000);
    if (milli > 0 && milli < 150000 && c > h->celsius) h->celsius = c;
}

static void look_at_hwmon(void *arg, const char *dir)
{
    static const char *const known[] = { "coretemp", "k10temp", "zenpower", "cpu_thermal",
                                         "soc_thermal" };
    enum { INPUTS = 40 };
    struct heat *h = arg;
    char name[64];
    bool is_known = false;
    if (!slurp_in(name, sizeof name, h->root, dir, "name")) return;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        is_known |= strcmp(name, known[i]) == 0;
    if (!is_known) return;
    for (int i = 1; i <= INPUTS; i++) {
        int64_t milli;
        snprintf(name, sizeof name, "temp%d_input", i);
        if (number_in(&milli, h->root, dir, name)) note_heat(h, milli);
    }
}

static void look_at_zone(void *arg, const char *dir)
{
    struct heat *h = arg;
    char type[64];
    int64_t milli;
    if (!slurp_in(type, sizeof type, h->root, dir, "type")) return;
    if (!strstr(type, "cpu") && !strstr(type, "CPU") && !strstr(type, "x86_pkg") &&
        !strstr(type, "soc"))
        return;
    if (number_in(&milli, h->root, dir, "temp")) note_heat(h, milli);
}

static void read_heat(struct sensors *s, struct sensed *out)
{
    struct heat h = { s->root, SENSED_UNKNOWN };
    int64_t n;
    for_each(s->root, "sys/class/hwmon", look_at_hwmon, &h);
    if (h.celsius == SENSED_UNKNOWN) for_each(s->root, "sys/class/thermal", look_at_zone, &h);
    out->celsius = h.celsius;
    if (!number_in(&n, s->root, "sys/devices/system/cpu/cpu0/thermal_throttle",
                   "package_throttle_count"))
        n = 0;
    out->is_throttled = s->has_last && (uint64_t)n > s->throttles;
    s->throttles = (uint64_t)n;
}

/* --- memory --- */

/* Does the list "cpu,cpuacct:" name this controller?  That of version 2 is empty. */
static bool is_listed(const char *list, const char *controller)
{
    size_t n = strlen(controller);
    for (const char *p = list;; p++) {
        if (strncmp(p, controller, n) == 0 && (p[n] == ':' || p[n] == ',')) return true;
        p += strcspn(p, ",:\n");
        if (*p != ',') return false;
    }
}

/* The folder of this process's cgroup below that of the hierarchy; "" is the topmost. */
static void find_cgroup(char out[PATH_MAX], const char *root, const char *controller)
{
    char text[PATH_MAX];
    out[0] = 0;
    if (!slurp(text, sizeof text, root, "proc/self/cgroup")) return;
    for (char *save, *line = strtok_r(text, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        const char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
        if (!path || !is_listed(list + 1, controller)) continue;
        if (!strstr(path, "/.."))
            snprintf(out, PATH_MAX, "%s", path + 1); /* else not ours to see */
        return;
    }
}

static void for_hierarchy(const char *root, const char *controller,
                          void (*each)(void *arg, const char *dir), void *arg)
{
    char group[PATH_MAX], dir[PATH_MAX + 64];
    find_cgroup(group, root, controller);
    for (;;) {
        snprintf(dir, sizeof dir, "sys/fs/cgroup%s%s%s", *controller ? "/" : "", controller, group);
        each(arg, dir);
        char *slash = strrchr(group, '/');
        if (!slash) return;
        *slash = 0;
    }
}

/* Calls each with the folder of the cgroup and of those above it, of version 2 and 1. */
static void for_cgroups(const char *root, const char *controller,
                        void (*each)(void *arg, const char *dir), void *arg)
{
    for_hierarchy(root, "", each, arg);
    for_hierarchy(root, controller, each, arg);
}

/* The number in the first of two files that is there. */
static bool number_of(int64_t *out, const char *root, const char *dir, const char *v2,
                      const char *v1)
{
    return number_in(out, root, dir, v2) || number_in(out, root, dir, v1);
}

struct room {
    const char *root;
    uint64_t all, available;
};

/* Pages of files can be taken back, as everywhere. */
static void look_at_limit(void *arg, const char *dir)
{
    struct room *r = arg;
    char text[8192];
    int64_t most, now;
    uint64_t file = 0;
    if (!number_of(&most, r->root, dir, "memory.max", "memory.limit_in_bytes")) return;
    if (!number_of(&now, r->root, dir, "memory.current", "memory.usage_in_bytes")) return;
    if (most <= 0 || now < 0) return;
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/memory.stat", dir) < (int)sizeof path &&
        slurp(text, sizeof text, r->root, path))
        (void)(find_number(&file, text, "file ") || find_number(&file, text, "total_cache "));
    uint64_t used = (uint64_t)now > file ? (uint64_t)now - file : 0;
    uint64_t left = (uint64_t)most > used ? (uint64_t)most - used : 0;
    if ((uint64_t)most < r->all) r->all = (uint64_t)most;
    if (left < r->available) r->available = left;
}

static void read_memory(const struct sensors *s, struct sensed *out)
{
    char text[8192];
    struct room r = { .root = s->root };
    out->memory_wait_percent = SENSED_UNKNOWN;
    if (slurp(text, sizeof text, s->root, "proc/meminfo") &&
        find_number(&r.all, text, "MemTotal:") &&
        find_number(&r.available, text, "MemAvailable:")) {
        r.all *= 1024;
        r.available *= 1024;
        for_cgroups(s->root, "memory", look_at_limit, &r);
        out->all = r.all;
        out->available = r.available;
    }
    const char *some = slurp(text, sizeof text, s->root, "proc/pressure/memory")
                           ? strstr(text, "some avg10=")
                           : NULL;
    if (some) out->memory_wait_percent = atoi(some + strlen("some avg10="));
}

struct quota {
    const char *root;
    unsigned cores;
};

static void look_at_quota(void *arg, const char *dir)
{
    struct quota *q = arg;
    char text[64];
    int64_t quota = 0, period = 0;
    if (slurp_in(text, sizeof text, q->root, dir, "cpu.max")) {
        if (sscanf(text, "%" SCNd64 " %" SCNd64, &quota, &period) != 2) return; /* "max": none */
    } else if (!number_in(&quota, q->root, dir, "cpu.cfs_quota_us") ||
               !number_in(&period, q->root, dir, "cpu.cfs_period_us")) {
        return;
    }
    if (quota <= 0 || period <= 0 || quota / period > UINT16_MAX) return;
    int64_t n = quota / period + (quota % period > 0);
    if (q->cores == 0 || n < (int64_t)q->cores) q->cores = (unsigned)n;
}

unsigned sensors_cgroup_cores(const char *root)
{
    struct quota q = { root ? root : "", 0 };
    for_cgroups(q.root, "cpu", look_at_quota, &q);
    return q.cores;
}

/* --- what others compute --- */

/* cpu user nice system idle iowait irq softirq steal */
static void read_load(struct sensors *s, uint64_t own_us, struct sensed *out)
{
    char text[512];
    uint64_t v[8] = { 0 }, all = 0;
    out->others_percent = SENSED_UNKNOWN;
    if (!slurp(text, sizeof text, s->root, "proc/stat") ||
        sscanf(text,
               "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
               " %" SCNu64 " %" SCNu64,
               &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) < 7)
        return;
    for (int i = 0; i < 8; i++) all += v[i];
    uint64_t taken = v[0] + v[2] + v[5] + v[6], nice = v[1];
    uint64_t own = own_us * s->own_hertz / 1000000;
    if (s->has_last && all > s->all_ticks) {
        uint64_t mine = own - s->own_ticks, niced = nice - s->nice_ticks;
        uint64_t plain = mine > niced ? mine - niced : 0; /* of ours, beside what is nice */
        uint64_t busy = taken - s->taken_ticks, others = busy > plain ? busy - plain : 0;
        uint64_t percent = others * 100 / (all - s->all_ticks);
        out->others_percent = percent < 100 ? (int)percent : 100;
    }
    s->all_ticks = all;
    s->taken_ticks = taken;
    s->nice_ticks = nice;
    s->own_ticks = own;
}

/* --- is somebody there? --- */

struct seat {
    const char *root;
    bool screen_on, logged_in;
};

static void look_at_screen(void *arg, const char *dir)
{
    struct seat *s = arg;
    char status[32], dpms[32];
    if (slurp_in(status, sizeof status, s->root, dir, "status") &&
        slurp_in(dpms, sizeof dpms, s->root, dir, "dpms"))
        s->screen_on |= strcmp(status, "connected") == 0 && strcmp(dpms, "On") == 0;
}

static void look_at_session(void *arg, const char *file)
{
    struct seat *s = arg;
    char text[4096];
    size_t n = strlen(file);
    if (n >= 4 && strcmp(file + n - 4, ".ref") == 0) return; /* a pipe: opening it would wait */
    if (!slurp(text, sizeof text, s->root, file)) return;
    s->logged_in |= strstr(text, "ACTIVE=1") && strstr(text, "CLASS=user") &&
                    !strstr(text, "REMOTE=1") && !strstr(text, "TYPE=tty");
}

/* Interrupts of devices under somebody's hands. */
static uint64_t count_keys(const char *root)
{
    static const char *const hands[] = { "i8042", "i2c_hid", "ELAN", "SYNA" };
    char *text = malloc(FILE_BYTES);
    uint64_t sum = 0;
    if (text && slurp(text, FILE_BYTES, root, "proc/interrupts"))
        for (char *save, *line = strtok_r(text, "\n", &save); line;
             line = strtok_r(NULL, "\n", &save)) {
            bool is_ours = false;
            for (size_t i = 0; i < sizeof hands / sizeof *hands; i++)
                is_ours |= strstr(line, hands[i]) != NULL;
            char *p = strchr(line, ':'), *end;
            for (p = is_ours && p ? p + 1 : NULL; p; p = end) {
                uint64_t v = strtoull(p, &end, 10);
                if (end == p) break;
                sum += v;
            }
        }
    free(text);
    return sum;
}

static void read_presence(struct sensors *s, uint64_t unix_s, struct sensed *out)
{
    struct seat seat = { .root = s->root };
    for_each(s->root, "sys/class/drm", look_at_screen, &seat);
    for_each(s->root, "run/systemd/sessions", look_at_session, &seat);
    uint64_t keys = count_keys(s->root);
    if (s->has_last && keys > s->keys) s->key_s = unix_s;
    s->keys = keys;
    bool has_typed = s->key_s > 0 && unix_s >= s->key_s && unix_s - s->key_s < PRESENT_S;
    out->is_present = (seat.screen_on && seat.logged_in) || has_typed;
}

/* --- all --- */

unsigned sensors_minute(const struct sensors *s, uint64_t unix_s)
{
    char text[16];
    unsigned h, m;
    struct tm tm;
    time_t t = (time_t)unix_s;
    if (s->root[0] && slurp(text, sizeof text, s->root, "clock") &&
        sscanf(text, "%2u:%2u", &h, &m) == 2 && h < 24 && m < 60)
        return h * 60 + m;
    if (!localtime_r(&t, &tm)) return 0;
    return (unsigned)(tm.tm_hour * 60 + tm.tm_min);
}

enum err sensors_init(struct sensors *s, const char *root, struct why *why)
{
    long hertz = sysconf(_SC_CLK_TCK);
    *s = (struct sensors){ .own_hertz = hertz > 0 ? (unsigned)hertz : 100 };
    if (snprintf(s->root, sizeof s->root, "%s", root ? root : "") >= (int)sizeof s->root)
        return fail(why, ERR_RANGE, "the folder of the sensors has too long a name");
    return ERR_OK;
}

void sensors_read(struct sensors *s, uint64_t own_us, uint64_t unix_s, struct sensed *out)
{
    *out = (struct sensed){ .minute = sensors_minute(s, unix_s) };
    read_power(s, out);
    read_heat(s, out);
    read_memory(s, out);
    read_load(s, own_us, out);
    read_presence(s, unix_s, out);
    s->has_last = true;
}
