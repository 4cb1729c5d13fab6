/* swarm-bench - how fast this machine computes, and how fast it could at best. */
#include "tools/bench.h"
#include "tools/commands.h"

static const struct command commands[] = {
    { "kernels", bench_kernels, "products of one token and of a batch; attention" },
    { "model", bench_model, "a whole model: decoding" },
    { "prefill", bench_prefill, "a whole model: a prompt" },
    { "kv", bench_kv, "a whole model: decoding behind long contexts" },
    { "memory", bench_memory, "a whole model: decoding when memory is short" },
    { "share", bench_share, "layers shared by two processes of one core each" },
    { "draft", bench_draft, "tokens guessed ahead: what it brings over slow lines" },
    { "swarm", bench_swarm, "nodes on loopback: tokens, hops, start, memory" },
    { "prefix", bench_prefix, "how much sooner a conversation goes on than it began" },
    { "users", bench_users, "many who ask at once: rates, shares, a long prompt, the end" },
    { "convert", bench_convert, "a checkpoint into a store" },
    { "make", bench_make, "a store of random weights at a model's real dimensions" },
    { "race", bench_race, "the same weights here and in llama.cpp, in turns" },
    { "gguf", bench_gguf, "a model of a store as a GGUF file, for llama.cpp" },
};

int main(int argc, char **argv)
{
    return commands_run("swarm-bench",
                        "Measures how fast this machine computes, against how fast it could at "
                        "best: what a plain read of the same bytes by the same threads takes.",
                        commands, sizeof commands / sizeof *commands, argc, argv);
}
