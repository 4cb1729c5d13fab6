/* crowd - many askers at once, and what each of them got.
 *
 *   crowd LINK PREFIX [LIMIT_S] <askers
 *
 * A line of the input is an asker:   who tokens seed temperature begin_ms cancel_ms later text...
 * (crowd.h).  When all are answered, or after LIMIT_S (60), there is a line for each:
 *
 *   N how n_prompt n_tokens begin_us end_us first_place n_places fell_back usual_us longest_us
 *
 * how is done, cancelled, failed (then PREFIX.N.failed says why) or nothing.  PREFIX.N is the
 * answer, PREFIX.N.marks the moments of its pieces: microseconds and tokens. */
#include "ask/crowd.h"
#include "home/keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 1 << 17 };

static struct crowd_asker asker[CROWD_MAX];

static bool read_asker(struct crowd_asker *a, char *line)
{
    unsigned later = 0, n = 0;
    unsigned long long seed;
    line[strcspn(line, "\n")] = 0;
    if (sscanf(line, "%u %u %llu %lf %u %u %u %n", &a->who, &a->tokens, &seed, &a->temperature,
               &a->begin_ms, &a->cancel_ms, &later, &n) != 7 ||
        n == 0)
        return false;
    a->seed = seed;
    a->later = later != 0;
    a->conversation = crowd_question(line + n);
    return true;
}

static FILE *file(const char *prefix, uint32_t i, const char *end)
{
    char path[600];
    snprintf(path, sizeof path, "%s.%u%s", prefix, i, end);
    FILE *f = fopen(path, "w");
    if (!f) exit(2);
    return f;
}

static void write_one(const char *prefix, uint32_t i, const struct crowd_asker *a)
{
    FILE *f = file(prefix, i, "");
    if (a->answer.n > 0) fwrite(a->answer.p, 1, a->answer.n, f);
    fclose(f);
    f = file(prefix, i, ".marks");
    for (uint32_t k = 0; k < a->n_marks; k++)
        fprintf(f, "%llu %u\n", (unsigned long long)a->mark[k].us, a->mark[k].index);
    fclose(f);
    if (a->failed[0]) {
        f = file(prefix, i, ".failed");
        fprintf(f, "%s\n", a->failed);
        fclose(f);
    }
    double usual, longest;
    (void)crowd_pace(a, 0, UINT64_MAX, &usual, &longest);
    printf("%u %s %u %u %llu %llu %u %u %d %.0f %.0f\n", i,
           a->is_done        ? "done"
           : a->is_cancelled ? "cancelled"
           : a->failed[0]    ? "failed"
                             : "nothing",
           a->n_prompt, a->n_tokens, (unsigned long long)a->begin_us, (unsigned long long)a->end_us,
           a->first_place, a->n_places, a->has_fallen_back, usual, longest);
}

int main(int argc, char **argv)
{
    static char line[LINE];
    struct link link;
    struct swarm_key swarm;
    struct why why = { "" };
    uint32_t n = 0;
    if (argc < 3 || proto_init() || link_parse(&link, argv[1], &why) ||
        keys_swarm(&swarm, NULL, &why)) {
        fprintf(stderr, "crowd LINK PREFIX [LIMIT_S] <askers %s\n", why.text);
        return 2;
    }
    while (n < CROWD_MAX && fgets(line, sizeof line, stdin))
        if (!read_asker(&asker[n++], line)) {
            fprintf(stderr, "crowd: '%.80s' is no asker\n", line);
            return 2;
        }
    uint32_t limit_s = argc > 3 ? (uint32_t)atoi(argv[3]) : 60;
    struct crowd_config c = { .link = &link, .swarm = &swarm, .limit_ms = limit_s * 1000 };
    enum err e = crowd_run(&c, asker, n, &why);
    for (uint32_t i = 0; i < n && !e; i++) write_one(argv[2], i, &asker[i]);
    for (uint32_t i = 0; i < n; i++) free((void *)(uintptr_t)asker[i].conversation);
    crowd_free(asker, n);
    if (e) fprintf(stderr, "crowd: %s\n", why.text);
    return e ? 1 : 0;
}
