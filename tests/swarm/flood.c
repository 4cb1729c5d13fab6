/* flood - strangers at a node's door, for the tests' scripts.
 *
 *   flood HOST:PORT SECONDS
 *
 * All at once, each as often as the node lets it: IDLE connections that say nothing, SLOW ones that
 * say one byte of a handshake every tenth of a second, and as many as can be made that throw junk
 * and go.  What the node closes is opened again.  Prints "N connections". */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { IDLE = 1000, SLOW = 200, JUNK = 8, ALL = IDLE + SLOW + JUNK, SLOW_MS = 100 };

/* How a handshake begins. */
static const char hello[] = "SWRM\001\001\000\000\000\060";

static struct sockaddr_in node;
static struct pollfd fd[ALL];
static unsigned said[ALL];
static long long next_ms[ALL];
static unsigned long opened;

static long long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void open_one(unsigned i)
{
    if (fd[i].fd >= 0) close(fd[i].fd);
    fd[i].fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    fd[i].events = i < IDLE ? POLLIN : POLLIN | POLLOUT;
    said[i] = 0;
    if (fd[i].fd < 0) return;
    if (connect(fd[i].fd, (struct sockaddr *)&node, sizeof node) && errno != EINPROGRESS) {
        close(fd[i].fd);
        fd[i].fd = -1;
        return;
    }
    opened++;
}

/* The next bytes of connection i; false: it is to be opened anew. */
static int speak(unsigned i)
{
    char bytes[4096];
    if (i < IDLE) return 1;
    if (i < IDLE + SLOW) {
        char b = said[i] < sizeof hello - 1 ? hello[said[i]] : (char)rand();
        said[i]++;
        return write(fd[i].fd, &b, 1) == 1;
    }
    for (size_t k = 0; k < sizeof bytes; k++) bytes[k] = (char)rand();
    /* every other one begins like a handshake */
    if (opened % 2) memcpy(bytes, hello, sizeof hello - 1);
    (void)!write(fd[i].fd, bytes, (size_t)(rand() % (int)sizeof bytes));
    return 0;
}

static void serve(unsigned i, long long now)
{
    char bytes[4096];
    if (fd[i].fd < 0 || fd[i].revents & (POLLERR | POLLHUP | POLLNVAL)) {
        if (now < next_ms[i]) return;
        next_ms[i] = now + SLOW_MS;
        open_one(i);
        return;
    }
    if (fd[i].revents & POLLIN && read(fd[i].fd, bytes, sizeof bytes) <= 0 && errno != EAGAIN) {
        open_one(i);
        return;
    }
    if (!(fd[i].revents & POLLOUT)) return;
    if (i < IDLE + SLOW && now < next_ms[i]) return;
    next_ms[i] = now + SLOW_MS;
    if (!speak(i)) open_one(i);
}

int main(int argc, char **argv)
{
    struct rlimit files = { 4096, 4096 };
    char *colon = argc == 3 ? strrchr(argv[1], ':') : NULL;
    if (!colon) return 2;
    *colon = 0;
    node.sin_family = AF_INET;
    node.sin_port = htons((uint16_t)atoi(colon + 1));
    if (inet_pton(AF_INET, argv[1], &node.sin_addr) != 1) return 2;
    (void)setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    for (unsigned i = 0; i < ALL; i++) fd[i].fd = -1;
    for (long long end = now_ms() + 1000LL * atoi(argv[2]); now_ms() < end;) {
        poll(fd, ALL, 1);
        long long now = now_ms();
        for (unsigned i = 0; i < ALL; i++) serve(i, now);
        usleep(1000);
    }
    printf("%lu connections\n", opened);
    return 0;
}
