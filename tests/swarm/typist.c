/* typist - a person at a terminal, for the tests' scripts.
 *
 *   typist PROGRAM ARGS... < SCRIPT
 *
 * Runs the program on a terminal of its own and does what the script's lines say:
 *   expect TEXT   wait until the terminal shows TEXT after what was expected before
 *   type TEXT     type TEXT and enter
 *   press c       ctrl-C (or another letter)
 *   shell CMD     run a command meanwhile
 *   end STATUS    wait until the program ends so
 * Waits at most 20 s for anything; prints what was shown when something is wrong. */
#include <poll.h>
#include <pty.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_S = 20, SHOWN_MAX = 1 << 20 };

static char shown[SHOWN_MAX + 1];
static size_t n_shown, seen;
static int fd;
static pid_t child;

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("typist: ", stderr);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n--- the terminal showed\n%s\n---\n",
            shown + (n_shown > 4000 ? n_shown - 4000 : 0));
    va_end(ap);
    kill(child, SIGKILL);
    exit(1);
}

/* Read what there is; false: nothing for a while, or the terminal is gone. */
static void look(void)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    if (poll(&p, 1, 20) <= 0) return;
    ssize_t n = read(fd, shown + n_shown, SHOWN_MAX - n_shown);
    if (n > 0) n_shown += (size_t)n;
    shown[n_shown] = 0;
    if (n_shown == SHOWN_MAX) die("the program talks too much");
}

static void expect(const char *text)
{
    time_t until = time(NULL) + WAIT_S;
    char *at;
    while (!(at = strstr(shown + seen, text))) {
        if (time(NULL) > until) die("'%s' was expected", text);
        look();
    }
    seen = (size_t)(at - shown) + strlen(text);
}

static void put(const char *p, size_t n)
{
    if (write(fd, p, n) != (ssize_t)n) die("nobody reads what is typed");
}

static void end(int wanted)
{
    time_t until = time(NULL) + WAIT_S;
    int status;
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (time(NULL) > until) die("the program does not end");
        look();
    }
    look();
    if (!WIFEXITED(status) || WEXITSTATUS(status) != wanted)
        die("the program ended with %d, not %d", WIFEXITED(status) ? WEXITSTATUS(status) : -1,
            wanted);
}

int main(int argc, char **argv)
{
    char line[4096];
    if (argc < 2) return 2;
    child = forkpty(&fd, NULL, NULL, NULL);
    if (child < 0) return 2;
    if (child == 0) {
        execv(argv[1], argv + 1);
        _exit(127);
    }
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        char *space = strchr(line, ' ');
        char *rest = space ? space + 1 : line + strlen(line);
        if (space) *space = 0;
        if (strcmp(line, "expect") == 0) {
            expect(rest);
        } else if (strcmp(line, "type") == 0) {
            put(rest, strlen(rest));
            put("\n", 1);
        } else if (strcmp(line, "press") == 0) {
            char key = (char)(*rest & 0x1f);
            put(&key, 1);
        } else if (strcmp(line, "shell") == 0) {
            if (system(rest)) die("'%s' failed", rest);
        } else if (strcmp(line, "end") == 0) {
            end(atoi(rest));
        } else {
            die("'%s' is no line of a script", line);
        }
    }
    return 0;
}
