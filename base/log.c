#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TEXT = 1024, JSON_LINE = 6 * TEXT + 256 };

static enum log_level max_level = LOG_INFO;
static const char *json_program; /* NULL: as text */
static char node_name[64];
static const char *const level_names[] = { "error", "warn", "info", "debug" };

void log_set_level(enum log_level level)
{
    max_level = level;
}

void log_set_json(const char *program)
{
    json_program = program;
}

bool log_is_json(void)
{
    return json_program != NULL;
}

void log_set_node(const char *node)
{
    snprintf(node_name, sizeof node_name, "%s", node);
}

/* Bytes of the UTF-8 character at p; 0: it is none that a log may hold. */
static size_t character(const unsigned char *p)
{
    static const unsigned least[] = { 0, 0xa0, 0xa0, 0x800, 0x10000 }; /* no C1 controls */
    size_t n = p[0] < 0x80   ? 1
               : p[0] < 0xc2 ? 0
               : p[0] < 0xe0 ? 2
               : p[0] < 0xf0 ? 3
               : p[0] < 0xf5 ? 4
                             : 0;
    unsigned c = n > 1 ? p[0] & (0x7fu >> n) : p[0];
    if (n == 1) return c >= 0x20 && c != 0x7f;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0; /* also the end of the text */
        c = c << 6 | (p[i] & 0x3f);
    }
    if ((c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069)) return 0; /* turn it around */
    return n && c >= least[n] && c < 0x110000 && (c < 0xd800 || c > 0xdfff) ? n : 0;
}

void log_clean(char *text)
{
    for (size_t n; *text; text += n) {
        n = character((const unsigned char *)text);
        if (n) continue;
        *text = '?';
        n = 1;
    }
}

static void text_line(enum log_level level, char *text)
{
    char stamp[16], line[TEXT + 64];
    struct tm tm;
    time_t now = time(NULL);

    log_clean(text);
    localtime_r(&now, &tm);
    strftime(stamp, sizeof stamp, "%H:%M:%S", &tm);
    int n = snprintf(line, sizeof line, "%s %s %s\n", stamp, level_names[level], text);
    if (write(STDERR_FILENO, line, (size_t)n) < 0) return; /* there is nowhere to say it */
}

/* text inside a JSON string: at most 6 bytes for one. */
static size_t escape(char *out, const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t n = 0, len;
    for (; *p; p += len ? len : 1) {
        len = character(p);
        if (!len && *p < 0x80) {
            n += (size_t)snprintf(out + n, 7, "\\u%04x", *p);
        } else if (!len) {
            memcpy(out + n, "\xef\xbf\xbd", 3);
            n += 3;
        } else {
            if (*p == '"' || *p == '\\') out[n++] = '\\';
            memcpy(out + n, p, len);
            n += len;
        }
    }
    return n;
}

static void json_line(enum log_level level, const char *text)
{
    char stamp[32], line[JSON_LINE];
    struct timespec now;
    struct tm tm;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
    size_t n = (size_t)snprintf(line, sizeof line,
                                "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"program\":\"%s\",",
                                stamp, now.tv_nsec / 1000000, level_names[level], json_program);
    if (node_name[0])
        n += (size_t)snprintf(line + n, sizeof line - n, "\"node\":\"%s\",", node_name);
    n += (size_t)snprintf(line + n, sizeof line - n, "\"message\":\"");
    n += escape(line + n, text);
    n += (size_t)snprintf(line + n, sizeof line - n, "\"}\n");
    if (write(STDERR_FILENO, line, n) < 0) return; /* there is nowhere to say it */
}

void log_line(enum log_level level, const char *fmt, ...)
{
    char text[TEXT];
    va_list ap;

    if (level > max_level) return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (json_program)
        json_line(level, text);
    else
        text_line(level, text);
}
