/* swarm-eval - checks a model and this program's parts against other implementations. */
#include "tools/args.h"
#include "tools/eval.h"

#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    { "logits", eval_logits },
    { "perplexity", eval_perplexity },
    { "tokenize", eval_tokenize },
    { "chat", eval_chat },
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static const struct arg no_options[] = { { 0 } };
static const struct args args = {
    .program = "swarm-eval",
    .usage = "COMMAND [options]",
    .about = "Computes with a model without a swarm, for tests and comparisons. "
             "swarm-eval COMMAND --help lists a command's options.",
    .options = no_options,
    .more = "Commands:\n"
            "  logits       logits of a sequence of token ids\n"
            "  perplexity   how well a model predicts a text\n"
            "  tokenize     text to token ids and back, as JSON lines\n"
            "  chat         conversations as the text a model sees, as JSON lines",
};

int main(int argc, char **argv)
{
    for (int i = 0; argc > 1 && i < COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);

    const char *word;
    if (args_parse(&args, argc, argv, &word, 1) > 0)
        return die(&args, 2, "unknown command '%s'; --help lists them", word);
    return die(&args, 2, "a command is needed: logits, perplexity, tokenize or chat");
}
