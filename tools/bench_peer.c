#include "tools/bench_peer.h"

#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NUMBER_TEXT = 16 };

/* In the child: the pipes become its standard input and output. */
static void become(const struct peer_options *o, int in, int out)
{
    char threads[NUMBER_TEXT], context[NUMBER_TEXT];

    snprintf(threads, sizeof threads, "%u", o->threads);
    snprintf(context, sizeof context, "%u", o->context);
    if (o->group && group_enter(o->group, NULL)) _exit(126);
    if (dup2(in, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0)
        execlp(o->python, o->python, o->script, o->gguf, "--threads", threads, "--context", context,
               o->map_only ? "--map-only" : (char *)NULL, (char *)NULL);
    fprintf(stderr, "swarm-bench race: %s: %s\n", o->python, strerror(errno));
    _exit(127);
}

static enum err start(struct peer *p, const struct peer_options *o, struct why *why)
{
    int in[2], out[2];

    if (access(o->script, R_OK) != 0)
        return fail(why, ERR_NOTFOUND, "%s: %s; --script says where it is", o->script,
                    strerror(errno));
    if (pipe2(in, O_CLOEXEC) != 0) return fail(why, ERR_IO, "no pipe: %s", strerror(errno));
    if (pipe2(out, O_CLOEXEC) != 0) {
        close(in[0]), close(in[1]);
        return fail(why, ERR_IO, "no pipe: %s", strerror(errno));
    }
    signal(SIGPIPE, SIG_IGN); /* its death is an answer that does not come */
    fflush(stdout);
    p->pid = fork();
    if (p->pid == 0) become(o, in[0], out[1]);
    close(in[0]), close(out[1]);
    p->to = fdopen(in[1], "w");
    p->from = fdopen(out[0], "r");
    if (p->pid < 0) {
        p->pid = 0;
        return fail(why, ERR_IO, "no process: %s", strerror(errno));
    }
    return p->to && p->from ? ERR_OK : fail(why, ERR_NOMEM, "out of memory");
}

/* Its next line as JSON, owned by the caller (json_free). */
static enum err answer(struct peer *p, struct json_doc **out, struct why *why)
{
    char line[4096], words[256];

    *out = NULL;
    if (!fgets(line, sizeof line, p->from))
        return fail(why, ERR_CLOSED,
                    "llama.cpp ended; is llama-cpp-python installed in the Python "
                    "that --python names?");
    enum err e = json_parse(out, slice_str(line), "llama_race.py", why);
    if (e) return e;
    const struct json *error = json_get(json_root(*out), "error");
    if (!error) return ERR_OK;
    snprintf(words, sizeof words, "%.*s", (int)error->text.n, (const char *)error->text.p);
    json_free(*out);
    *out = NULL;
    return fail(why, ERR_UNSUPPORTED, "llama.cpp: %s", words);
}

enum err peer_open(struct peer *p, const struct peer_options *o, struct why *why)
{
    struct json_doc *doc;
    enum err e = start(p, o, why);

    if (!e) e = answer(p, &doc, why);
    if (e) return e;
    const struct json *ready = json_get(json_root(doc), "ready");
    if (!ready || ready->type != JSON_STRING ||
        !json_double(json_get(json_root(doc), "load_s"), &p->load_s))
        e = fail(why, ERR_MALFORMED, "%s says something else than expected", o->script);
    else
        snprintf(p->version, sizeof p->version, "%.*s", (int)ready->text.n,
                 (const char *)ready->text.p);
    json_free(doc);
    return e;
}

void peer_close(struct peer *p)
{
    if (p->to) fclose(p->to); /* the end of its input ends it */
    if (p->from) fclose(p->from);
    if (p->pid > 0) waitpid(p->pid, NULL, 0);
    *p = (struct peer){ 0 };
}

enum err peer_time(struct peer *p, const char *what, bool flash, uint32_t context, uint32_t n,
                   double *seconds, struct why *why)
{
    struct json_doc *doc;

    fprintf(p->to, "{\"do\": \"%s\", \"flash\": %s, \"context\": %u, \"tokens\": %u}\n", what,
            flash ? "true" : "false", context, n);
    if (fflush(p->to) != 0) return fail(why, ERR_CLOSED, "llama.cpp ended");
    enum err e = answer(p, &doc, why);
    if (e) return e;
    if (!json_double(json_get(json_root(doc), "s"), seconds) || *seconds <= 0)
        e = fail(why, ERR_MALFORMED, "llama.cpp took no time for %s", what);
    json_free(doc);
    return e;
}
