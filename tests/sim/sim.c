/* sim.c - runs simulated swarms by their seeds; docs/simulator.md. */
#include "tests/sim/scenario.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

time_t __real_time(time_t *out); /* not the world's (world.c) */

static volatile uint64_t running;

static void on_abort(int number)
{
    char text[120];
    int n =
        snprintf(text, sizeof text, "seed %llu failed (signal %d); replay: sim --seed %llu -v\n",
                 (unsigned long long)running, number, (unsigned long long)running);
    if (write(STDOUT_FILENO, text, (size_t)n) < 0) _exit(2);
    _exit(1);
}

static int usage(void)
{
    fprintf(stderr,
            "usage: sim --seed N [-v]        one swarm; -v prints all that happens in it\n"
            "       sim --seeds A-B [--step K]  many, every K-th; stops at the first that fails\n"
            "       sim --minutes M [--from A]  as many as fit, from seed A on\n");
    return 2;
}

static struct total {
    uint64_t seeds, steps, done, failed, faults;
    double seconds;
} total;

static bool run(uint64_t seed, bool is_verbose)
{
    running = seed;
    struct scenario_result r = scenario_run(seed, is_verbose);
    total.seeds++;
    total.steps += r.steps;
    total.done += r.n_done;
    total.failed += r.n_failed;
    total.faults += r.n_faults;
    total.seconds += r.seconds;
    if (is_verbose || !r.is_good)
        printf("seed %llu: %s, %llu events, trace %016llx\n", (unsigned long long)seed,
               r.is_good ? "good" : "FAILED", (unsigned long long)r.steps,
               (unsigned long long)r.hash);
    if (!r.is_good) printf("replay: sim --seed %llu -v\n", (unsigned long long)seed);
    return r.is_good;
}

static void say_total(void)
{
    printf("%llu seeds, %.1f simulated hours, %llu events, %llu faults; %llu answers complete, "
           "%llu questions refused or given up\n",
           (unsigned long long)total.seeds, total.seconds / 3600, (unsigned long long)total.steps,
           (unsigned long long)total.faults, (unsigned long long)total.done,
           (unsigned long long)total.failed);
}

/* The same seed twice is the same world. */
static bool replays(uint64_t seed)
{
    struct scenario_result a = scenario_run(seed, false), b = scenario_run(seed, false);
    if (a.hash == b.hash && a.steps == b.steps) return true;
    printf("seed %llu does not replay: traces %016llx and %016llx\n", (unsigned long long)seed,
           (unsigned long long)a.hash, (unsigned long long)b.hash);
    return false;
}

struct options {
    unsigned long long first, last, step, minutes;
    bool is_verbose, is_seed, is_range, is_replay;
};

static bool parse(struct options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *v = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "-v") == 0) {
            o->is_verbose = true;
            continue;
        }
        if (strcmp(argv[i], "--seed") == 0)
            o->is_seed = sscanf(v, "%llu", &o->first) == 1;
        else if (strcmp(argv[i], "--replays") == 0)
            o->is_replay = sscanf(v, "%llu", &o->first) == 1;
        else if (strcmp(argv[i], "--seeds") == 0)
            o->is_range = sscanf(v, "%llu-%llu", &o->first, &o->last) == 2;
        else if (strcmp(argv[i], "--step") != 0 || sscanf(v, "%llu", &o->step) != 1)
            if (strcmp(argv[i], "--minutes") != 0 || sscanf(v, "%llu", &o->minutes) != 1)
                if (strcmp(argv[i], "--from") != 0 || sscanf(v, "%llu", &o->first) != 1)
                    return false;
        i++;
    }
    return (o->is_seed || o->is_range || o->is_replay || o->minutes > 0) && o->step > 0;
}

int main(int argc, char **argv)
{
    struct options o = { .step = 1, .first = 1 };
    if (!parse(&o, argc, argv)) return usage();
    signal(SIGABRT, on_abort);
    signal(SIGSEGV, on_abort);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (o.is_replay) return !replays(o.first);
    bool is_good = true;
    if (o.is_seed) {
        is_good = run(o.first, o.is_verbose);
    } else {
        time_t end = o.minutes ? __real_time(NULL) + (time_t)o.minutes * 60 : 0;
        for (uint64_t n = o.first; is_good; n += o.step) {
            if (o.is_range && n > o.last) break;
            if (o.minutes && __real_time(NULL) >= end) break;
            is_good = run(n, false);
        }
    }
    say_total();
    fflush(stdout);
    if (!is_good) _exit(1); /* the world is as it was when it failed */
    return 0;
}
