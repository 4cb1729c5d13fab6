/* swarm-eval - checks a model and this program's parts against other implementations. */
#include "tools/commands.h"
#include "tools/eval.h"

static const struct command commands[] = {
    { "logits", eval_logits, "logits of a sequence of token ids" },
    { "perplexity", eval_perplexity, "how well a model predicts a text" },
    { "tokenize", eval_tokenize, "text to token ids and back, as JSON lines" },
    { "chat", eval_chat, "conversations as the text a model sees, as JSON lines" },
};

int main(int argc, char **argv)
{
    return commands_run("swarm-eval",
                        "Computes with a model without a swarm, for tests and comparisons.",
                        commands, sizeof commands / sizeof *commands, argc, argv);
}
