/* swarm-store verify: every tile hashed again. */
#include "tools/store_tool.h"

#include <stdio.h>

static const char *store_dir;
static bool repair, quiet;

static const struct arg options[] = {
    { "store", ARG_STR, &store_dir, "DIR", "the store" },
    { "repair", ARG_FLAG, &repair, NULL,
      "take bad tiles out, so that they are fetched or converted again" },
    { "quiet", ARG_FLAG, &quiet, NULL, "print only what is wrong" },
    { 0 },
};
static const struct args args = {
    .program = "swarm-store verify",
    .usage = "--store DIR [--repair]",
    .about = "Hashes every tile of a store again and names each that is bad or missing. Disks "
             "sometimes return other bytes than they were given, and do not tell.",
    .options = options,
    .more = "Only layers that are held are looked at: those whose tile table is in the store.\n"
            "Of a layer that is pinned in parts only these parts can be missing.\n"
            "Exit status: 0 all is well, 1 something is bad or missing (also after --repair).",
};

static void on_fault(void *arg, const char *model, const char *what, const char *how)
{
    (void)arg;
    printf("%s: %s: %s\n", model, what, how);
}

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    progress_set(arg, done, total);
}

/* A name is a fault too when its signature is not its publisher's. */
static bool check_name(void *arg, const struct store_name *n)
{
    struct store_check *c = arg;

    if (name_is_signed(n)) return true;
    c->bad++;
    on_fault(NULL, n->name, "name", "the signature is wrong");
    return true;
}

static void print_result(const struct store_check *c, double seconds)
{
    char bytes[SIZE_TEXT], time[SIZE_TEXT];

    size_text(bytes, c->bytes);
    time_text(time, seconds);
    printf("%llu tiles, %s, in %s: %llu bad, %llu missing\n", (unsigned long long)c->tiles, bytes,
           time, (unsigned long long)c->bad, (unsigned long long)c->missing);
    if (c->spare)
        printf("%llu tiles belong to no model; swarm-store remove --spare takes them out\n",
               (unsigned long long)c->spare);
    if (c->removed)
        printf("%llu bad tiles were taken out\n", (unsigned long long)c->removed);
    else if (c->bad)
        printf("--repair takes bad tiles out, so that they are fetched again\n");
}

int store_verify_main(int argc, char **argv)
{
    struct store *s = NULL;
    struct why why = { "" };
    struct progress progress;
    struct store_check c = { .fault = on_fault, .progress = on_progress, .arg = &progress };

    args_parse(&args, argc, argv, NULL, 0);
    c.repair = repair;
    enum err e = store_tool_open(&s, store_dir, repair ? STORE_WRITE : STORE_READ, false, &why);
    progress_start(&progress, "verifying", quiet);
    if (!e) e = store_check(s, &c, &why);
    if (!e) e = store_each_name(s, check_name, &c, &why);
    double seconds = progress_end(&progress);
    if (!e && !quiet) print_result(&c, seconds);
    int status = store_tool_end(&args, s, e, &why);
    return status ? status : c.bad || c.missing ? 1 : 0;
}
