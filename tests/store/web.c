/* web - a small web server for tests, which behaves as badly as it is told to.
 *
 *     web FOLDER [no-ranges] [cut=N] [rate=N] [flip=N] [busy=N] [endless] [redirect=URL] [short=N]
 *
 *     no-ranges     sends the whole file whatever is asked for
 *     cut=N         closes the connection after N bytes of a body
 *     rate=N        sends about N bytes a second
 *     flip=N        changes a bit of byte N of every .tiles file
 *     busy=N        answers the first N requests with 503
 *     endless       sends bytes without end, whatever is asked for
 *     redirect=URL  sends everybody to URL/FILE
 *     short=N       answers a range with N bytes less than it has
 *
 * Listens on loopback, prints its port, and on stderr a line for every request: "PATH FROM-TO". */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *folder, *redirect;
static bool no_ranges, endless;
static uint64_t cut = UINT64_MAX, rate, flip = UINT64_MAX, busy, shorter;

static bool number(const char *arg, const char *name, uint64_t *out)
{
    size_t n = strlen(name);
    if (strncmp(arg, name, n) != 0) return false;
    *out = strtoull(arg + n, NULL, 10);
    return true;
}

static bool parse(int argc, char **argv)
{
    if (argc < 2) return false;
    folder = argv[1];
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "no-ranges") == 0)
            no_ranges = true;
        else if (strcmp(argv[i], "endless") == 0)
            endless = true;
        else if (strncmp(argv[i], "redirect=", 9) == 0)
            redirect = argv[i] + 9;
        else if (!number(argv[i], "cut=", &cut) && !number(argv[i], "rate=", &rate) &&
                 !number(argv[i], "flip=", &flip) && !number(argv[i], "busy=", &busy) &&
                 !number(argv[i], "short=", &shorter))
            return false;
    }
    return true;
}

static bool send_all(int fd, const void *p, size_t n)
{
    const char *at = p;
    while (n > 0) {
        ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        at += sent;
        n -= (size_t)sent;
    }
    return true;
}

static void answer(int fd, const char *status, uint64_t n, const char *more)
{
    char head[1024];
    int len = snprintf(head, sizeof head,
                       "HTTP/1.1 %s\r\nContent-Length: %" PRIu64 "\r\nConnection: close\r\n%s\r\n",
                       status, n, more);
    (void)send_all(fd, head, (size_t)len);
}

/* Bytes [at, end) of a file, in the manner asked for. */
static void body(int fd, int file, const char *path, uint64_t at, uint64_t end)
{
    enum { PIECE = 8192 };
    char p[PIECE];
    uint64_t sent = 0;
    bool tiles = strstr(path, ".tiles") != NULL;

    while (at < end && sent < cut) {
        uint64_t want = end - at < PIECE ? end - at : PIECE;
        if (want > cut - sent) want = cut - sent;
        ssize_t n = pread(file, p, (size_t)want, (off_t)at);
        if (n <= 0) return;
        if (tiles && flip >= at && flip < at + (uint64_t)n) p[flip - at] ^= 1;
        if (!send_all(fd, p, (size_t)n)) return;
        at += (uint64_t)n;
        sent += (uint64_t)n;
        if (rate) usleep((useconds_t)((uint64_t)n * 1000000 / rate));
    }
}

static void send_file(int fd, const char *path, uint64_t from, uint64_t to, bool ranged)
{
    char full[4096], range[128] = "";
    struct stat st;

    snprintf(full, sizeof full, "%s%s", folder, path);
    int file = open(full, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &st) != 0 || !S_ISREG(st.st_mode)) {
        answer(fd, "404 Not Found", 0, "");
        if (file >= 0) close(file);
        return;
    }
    uint64_t size = (uint64_t)st.st_size, end = size;
    if (no_ranges || !ranged) {
        answer(fd, "200 OK", size, "");
        from = 0;
    } else if (from >= size) {
        answer(fd, "416 Range Not Satisfiable", 0, "");
        from = end;
    } else {
        end = to < size ? to + 1 : size;
        if (shorter && end - from > shorter) end -= shorter;
        snprintf(range, sizeof range,
                 "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64 "\r\n", from, end - 1,
                 size);
        answer(fd, "206 Partial Content", end - from, range);
    }
    body(fd, file, path, from, end);
    close(file);
}

static void send_endless(int fd)
{
    static const char zeros[65536];
    static const char head[] = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";

    if (!send_all(fd, head, sizeof head - 1)) return;
    while (send_all(fd, zeros, sizeof zeros)) {
    }
}

static void serve(int fd)
{
    char request[8192], path[2048], where[4096];
    size_t n = 0;
    uint64_t from = 0, to = UINT64_MAX;

    while (n < sizeof request - 1) {
        ssize_t got = recv(fd, request + n, sizeof request - 1 - n, 0);
        if (got <= 0) return;
        n += (size_t)got;
        request[n] = 0;
        if (n >= 4 && memcmp(request, "GET ", 4) != 0) return; /* TLS, for one */
        if (strstr(request, "\r\n\r\n")) break;
    }
    if (sscanf(request, "GET %2047s HTTP/", path) != 1 || strstr(path, "..")) return;
    const char *range = strstr(request, "Range: bytes=");
    if (range) sscanf(range, "Range: bytes=%" SCNu64 "-%" SCNu64, &from, &to);
    fprintf(stderr, "%s %" PRIu64 "-%" PRId64 "\n", path, from, (int64_t)to);

    if (busy > 0) {
        busy--;
        answer(fd, "503 Service Unavailable", 0, "");
    } else if (redirect) {
        snprintf(where, sizeof where, "Location: %s%s\r\n", redirect, path);
        answer(fd, "302 Found", 0, where);
    } else if (endless) {
        send_endless(fd);
    } else {
        send_file(fd, path, from, to, range != NULL);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t n = sizeof a;
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (!parse(argc, argv)) {
        fputs("usage: web FOLDER [how]\n", stderr);
        return 2;
    }
    if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) || listen(s, 64) ||
        getsockname(s, (struct sockaddr *)&a, &n)) {
        perror("web");
        return 1;
    }
    printf("%u\n", ntohs(a.sin_port));
    fflush(stdout);
    for (;;) {
        int fd = accept4(s, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 && errno != EINTR) return 1;
        if (fd < 0) continue;
        serve(fd);
        shutdown(fd, SHUT_WR);
        close(fd);
    }
}
