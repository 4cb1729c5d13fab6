/* survive - ask a question, and do something to a node of its pipeline at a chosen moment.
 *
 *   survive LINK SEED TOKENS QUESTION [--node ID=PID[=ORDERS] ...] [--coordinator FILE]
 *           [--temperature T] [--do AT:US:LAYER:WHAT ...]
 *
 * When the text of AT tokens has come (0: when the plan is known, so during the prompt) and US more
 * microseconds have passed, the process that computes that layer by the first plan gets the signal
 * WHAT; if it is no number, it is an order to the proxy before that process (proxy.c), which reads
 * the file ORDERS.  The answer goes to stdout; to stderr go "stage ID LO HI" for each of the first
 * plan, the notes that came with it, "hit ID" for each deed, the longest time between two pieces of
 * text after it, as "pause MS", the usual ones, as "p50 US" and "p99 US", and the statistics.
 *
 * Layer -1 is the coordinator, whose process is named in FILE; only with it the answer is one that
 * survives it (client.h). */
#include "ask/client.h"
#include "base/json.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { NODES_MAX = 16, DEEDS_MAX = 8, STAGES_MAX = 16, GAPS_MAX = 1 << 14 };

struct survive {
    struct client *client;
    struct {
        const char *id;
        size_t n;
        pid_t pid;
        const char *orders; /* NULL: no proxy */
    } node[NODES_MAX];
    unsigned n_nodes;
    const char *coordinator;
    double temperature; /* usually so high that the answer has no end */
    struct deed {
        unsigned at, us;
        int layer, number;
        char order[64]; /* with number 0 */
        bool is_done;
    } deed[DEEDS_MAX];
    unsigned n_deeds;
    struct {
        char id[80];
        int lo, hi;
    } stage[STAGES_MAX]; /* of the first plan */
    unsigned n_stages;
    uint32_t tokens;
    uint64_t last_ns, longest_ns; /* since the first deed */
    uint32_t gap_us[GAPS_MAX];    /* between pieces of text, the first ones */
    unsigned n_gaps;
    bool has_begun;
    int status;
};

static void do_it(const struct deed *d, pid_t pid, const char *orders)
{
    if (d->number) {
        kill(pid, d->number);
        return;
    }
    FILE *f = orders ? fopen(orders, "w") : NULL;
    if (!f || fprintf(f, "%s\n", d->order) < 0 || fclose(f)) exit(2);
}

static void hit_coordinator(struct survive *s, const struct deed *d)
{
    int process = 0;
    FILE *f = s->coordinator ? fopen(s->coordinator, "r") : NULL;
    if (!f || fscanf(f, "%d", &process) != 1 || process <= 1) exit(2);
    fclose(f);
    kill((pid_t)process, d->number);
    fprintf(stderr, "hit the coordinator\n");
    s->has_begun = true;
}

static void hit(struct survive *s, struct deed *d)
{
    unsigned i = 0;
    uint64_t until = uv_hrtime() + d->us * UINT64_C(1000);
    if (d->layer < 0) {
        while (uv_hrtime() < until) continue;
        hit_coordinator(s, d);
        return;
    }
    while (i < s->n_stages && (d->layer < s->stage[i].lo || d->layer >= s->stage[i].hi)) i++;
    if (i == s->n_stages) exit(2);
    while (uv_hrtime() < until) continue;
    for (unsigned k = 0; k < s->n_nodes; k++) {
        if (strncmp(s->stage[i].id, s->node[k].id, s->node[k].n) != 0) continue;
        do_it(d, s->node[k].pid, s->node[k].orders);
        fprintf(stderr, "hit %.*s\n", (int)s->node[k].n, s->node[k].id);
        s->has_begun = true;
        return;
    }
    fprintf(stderr, "nobody to hit\n");
    exit(2);
}

static void act(struct survive *s)
{
    for (unsigned i = 0; i < s->n_deeds; i++) {
        struct deed *d = &s->deed[i];
        if (d->is_done || d->at > s->tokens) continue;
        d->is_done = true;
        hit(s, d);
    }
}

static void on_plan(void *arg, struct slice json)
{
    struct survive *s = arg;
    struct json_doc *doc = NULL;
    if (s->n_stages > 0) return; /* of a healed pipeline */
    if (json_parse(&doc, json, "the plan", NULL)) exit(2);
    const struct json *stages = json_get(json_root(doc), "stages");
    for (const struct json *st = stages ? stages->child : NULL; st; st = st->next) {
        const struct json *id = json_get(st, "id"), *lo = json_get(st, "lo"),
                          *hi = json_get(st, "hi");
        if (!id || !lo || !hi || s->n_stages == STAGES_MAX) exit(2);
        snprintf(s->stage[s->n_stages].id, sizeof s->stage->id, "%.*s", (int)id->text.n,
                 (const char *)id->text.p);
        s->stage[s->n_stages].lo = atoi((const char *)lo->text.p);
        s->stage[s->n_stages].hi = atoi((const char *)hi->text.p);
        fprintf(stderr, "stage %s %d %d\n", s->stage[s->n_stages].id, s->stage[s->n_stages].lo,
                s->stage[s->n_stages].hi);
        s->n_stages++;
    }
    json_free(doc);
    s->last_ns = uv_hrtime();
    act(s);
}

static void on_text(void *arg, uint32_t index, struct slice text, bool is_thinking)
{
    struct survive *s = arg;
    (void)is_thinking;
    uint64_t now = uv_hrtime();
    if (s->has_begun && now - s->last_ns > s->longest_ns) s->longest_ns = now - s->last_ns;
    if (s->tokens > 0 && s->n_gaps < GAPS_MAX)
        s->gap_us[s->n_gaps++] = (uint32_t)((now - s->last_ns) / 1000);
    s->last_ns = now;
    s->tokens = index;
    fwrite(text.p, 1, text.n, stdout);
    act(s);
}

static void on_note(void *arg, struct slice text)
{
    (void)arg;
    fprintf(stderr, "note %.*s\n", (int)text.n, (const char *)text.p);
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void on_done(void *arg, const struct msg_ASK_DONE *done)
{
    struct survive *s = arg;
    fprintf(stderr, "stats %.*s\n", (int)done->stats.n, (const char *)done->stats.p);
    fprintf(stderr, "pause %llu\n", (unsigned long long)(s->longest_ns / 1000000));
    qsort(s->gap_us, s->n_gaps, sizeof *s->gap_us, by_size);
    if (s->n_gaps > 0)
        fprintf(stderr, "p50 %u\np99 %u\n", s->gap_us[s->n_gaps / 2],
                s->gap_us[s->n_gaps * 99 / 100]);
    printf("\n%u tokens, reason %u\n", (unsigned)done->n_tokens, (unsigned)done->reason);
    client_stop(s->client);
}

static void on_fail(void *arg, const char *text)
{
    struct survive *s = arg;
    fprintf(stderr, "failed: %s\n", text);
    s->status = 1;
    client_stop(s->client);
}

static void on_line(void *arg, const char *line)
{
    (void)arg, (void)line;
}

static void on_interrupt(void *arg)
{
    client_cancel(((struct survive *)arg)->client);
}

static void read_options(struct survive *s, int argc, char **argv)
{
    for (int i = 5; i + 1 < argc; i += 2) {
        char *value = argv[i + 1];
        if (strcmp(argv[i], "--node") == 0 && s->n_nodes < NODES_MAX) {
            char *pid = strchr(value, '=');
            if (!pid) exit(2);
            s->node[s->n_nodes].id = value;
            s->node[s->n_nodes].n = (size_t)(pid - value);
            char *orders = strchr(pid + 1, '=');
            s->node[s->n_nodes].orders = orders ? orders + 1 : NULL;
            s->node[s->n_nodes++].pid = (pid_t)atoi(pid + 1);
        } else if (strcmp(argv[i], "--coordinator") == 0) {
            s->coordinator = value;
        } else if (strcmp(argv[i], "--temperature") == 0) {
            s->temperature = strtod(value, NULL);
        } else if (strcmp(argv[i], "--do") == 0 && s->n_deeds < DEEDS_MAX) {
            struct deed *d = &s->deed[s->n_deeds++];
            if (sscanf(value, "%u:%u:%d:%63[^\n]", &d->at, &d->us, &d->layer, d->order) != 4)
                exit(2);
            d->number = atoi(d->order);
        } else {
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    static struct survive s = { .temperature = 100 };
    struct identity me;
    struct why why;
    struct text asked = { 0 };
    if (argc < 5 || proto_init()) return 2;
    identity_make(&me);
    struct client_config c = { .me = &me,
                               .swarm = swarm_key_public(),
                               .arg = &s,
                               .on_plan = on_plan,
                               .on_text = on_text,
                               .on_note = on_note,
                               .on_done = on_done,
                               .on_fail = on_fail,
                               .on_line = on_line,
                               .on_interrupt = on_interrupt };
    if (link_parse(&c.link, argv[1], &why)) return 2;
    read_options(&s, argc, argv);
    if (s.coordinator)
        c.patience_ms = 30000; /* else nothing is written down, and tokens come at once */
    text_str(&asked, "{\"messages\":[{\"role\":\"user\",\"content\":");
    json_write_str(&asked, slice_str(argv[4]));
    text_str(&asked, "}]}");
    struct msg_ASK q = { .conversation = slice_of(asked.p, asked.n),
                         .sampling = 31,
                         .temperature = s.temperature,
                         .top_p = 1,
                         .seed = strtoull(argv[2], NULL, 10),
                         .max_tokens = strtoull(argv[3], NULL, 10) };
    if (asked.failed || client_open(&s.client, &c, &why)) return 2;
    client_ask(s.client, &q);
    client_run(s.client);
    client_close(s.client);
    free(asked.p);
    return s.status;
}
