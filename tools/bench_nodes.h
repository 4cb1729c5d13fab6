/* bench_nodes.h - real swarm-node and swarm-ask processes on loopback, started by a benchmark from
 * the folder that holds this program.
 *
 * Keys and logs lie in one temporary folder, which is also their home, so that they meet no other
 * node of this machine.  SIGINT and SIGTERM stop the processes too, and leave the folder. */
#ifndef TOOLS_BENCH_NODES_H
#define TOOLS_BENCH_NODES_H

#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The folder; and the way to remove one in it, with the files and folders that it holds. */
const char *bench_home(void);
void bench_remove_folder(const char *path);
/* Run a program of ours to its end.  words: its name first, NULL last.  ERR_IO with why, which
 * holds its last words, when it fails; else the seconds it took and the most memory it held, in
 * bytes. */
MUST_CHECK enum err bench_program(const char *const *words, double *seconds, uint64_t *memory,
                                  struct why *why);

enum { BENCH_NODES_MAX = 16, BENCH_ASKS_MAX = 16, BENCH_STAGES_MAX = 16 };

/* Make the folder.  Once in a process. */
MUST_CHECK enum err bench_nodes_init(struct why *why);
/* Stop everything, remove the folder. */
void bench_nodes_fini(void);

struct bench_node {
    const char *store, *model; /* model NULL: the only one */
    uint32_t lo, hi;           /* layers [lo, hi) */
    uint32_t threads;
    uint32_t context;              /* 0: the model's */
    bool drafts;                   /* it guesses tokens ahead: as swarm-node does by itself */
    const char *line;              /* others reach it through this proxy; NULL: directly */
    bool keeps;                    /* beginnings of conversations; else it forgets them */
    const struct bench_node *join; /* NULL: none */
    bool share;                    /* layers with others, */
    uint32_t share_rtt;            /* who may be so many ms away; 0: as usual */
    /* set by bench_node_start */
    pid_t pid;
    unsigned serial;
    char link[512];
};
/* Start it and wait for its link.  ERR_IO with why, which holds its last words. */
MUST_CHECK enum err bench_node_start(struct bench_node *n, struct why *why);
void bench_node_stop(struct bench_node *n);
/* Start a proxy (tests/proxy.c, which must lie beside this program) that delays what passes by so
 * many milliseconds either way: line gets its HOST:PORT.  A node behind it listens at the same port
 * of 127.0.0.2. */
enum { BENCH_LINE = 64 };
MUST_CHECK enum err bench_proxy_start(char line[BENCH_LINE], uint32_t delay_ms, struct why *why);
/* Wait for these words in its log, at most so long; the line with them to line, unless it is NULL.
 */
enum { BENCH_LOG_LINE = 512 };
bool bench_node_says(const struct bench_node *n, const char *words, uint32_t ms,
                     char line[BENCH_LOG_LINE]);
/* Wait until it rests: a node touches its weights after its start, with a thread of low priority.
 */
void bench_node_settle(const struct bench_node *n);

/* Its memory in bytes: private pages, and pages of files. */
MUST_CHECK enum err bench_node_memory(const struct bench_node *n, uint64_t *anonymous,
                                      uint64_t *file, struct why *why);

/* What it says of its work: sessions on its layers, questions that it answers or that wait, bytes
 * of K and V of its sessions. */
struct bench_work_of {
    uint32_t sessions, requests;
    uint64_t kv;
};
MUST_CHECK enum err bench_node_work(const struct bench_node *n, struct bench_work_of *out,
                                    struct why *why);

/* What swarm-ask --json says. */
struct bench_answer {
    uint32_t n_prompt, n_known, n_tokens, n_stages;
    double first_ms;          /* from the question to the first token */
    double tokens_per_s;      /* from the first token to the last; 0 for one token */
    double pick_us;           /* all tokens */
    double drafted, accepted; /* tokens guessed ahead, those that were right */
    struct {
        double steps, compute_us, wait_us; /* all steps, the prompt's too */
    } stage[BENCH_STAGES_MAX];
};
/* Ask n the same question k times at once, greedily, for at most `tokens` tokens each. */
MUST_CHECK enum err bench_ask(const struct bench_node *n, const char *question, uint32_t tokens,
                              struct bench_answer *out, unsigned k, struct why *why);

/* Ask n once, with these words for swarm-ask besides: [..] NULL at the end, at most 16. */
MUST_CHECK enum err bench_ask_so(const struct bench_node *n, const char *question, uint32_t tokens,
                                 const char *const *words, struct bench_answer *out,
                                 struct why *why);

/* Begin k such questions, which are not waited for; interrupt them all, as Ctrl-C does, and wait
 * for the end of swarm-ask. */
MUST_CHECK enum err bench_asks_begin(const struct bench_node *n, const char *question,
                                     uint32_t tokens, unsigned k, struct why *why);
void bench_asks_interrupt(void);
void bench_asks_end(void);

/* A text of so many words after what t holds, of which every round has its own. */
void bench_words(struct text *t, uint32_t n, uint32_t round);
/* How many positions such a word is, by asking n. */
MUST_CHECK enum err bench_positions_of_word(const struct bench_node *n, double *positions,
                                            struct why *why);

#endif
