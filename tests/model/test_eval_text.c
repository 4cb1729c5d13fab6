/* swarm-eval tokenize and chat, as other programs call them: lines in, lines out. */
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ATLAS SOURCE_DIR "/models/atlas/tokenizer.json"

/* What `swarm-eval WORDS` writes to stdout and stderr for the lines in; returns its status. */
static int run(const char *words, struct slice in, struct text *out)
{
    char path[] = "/tmp/eval-text-XXXXXX", command[1024], piece[4096];
    int fd = mkstemp(path), status;
    size_t n;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, in.p, in.n), (ssize_t)in.n);
    close(fd);
    snprintf(command, sizeof command, BIN_DIR "/swarm-eval %s < %s 2>&1", words, path);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    out->n = 0;
    text_str(out, "");
    while ((n = fread(piece, 1, sizeof piece, f)) > 0) text_add(out, piece, n);
    status = pclose(f);
    unlink(path);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void check(const char *words, const char *in, int status, const char *expected)
{
    struct text out = { 0 };
    assert_int_equal(run(words, slice_str(in), &out), status);
    assert_string_equal(out.p, expected);
    free(out.p);
}

static void lines_become_lines(void **state)
{
    (void)state;
    check("tokenize --tokenizer " ATLAS, "{\"text\": \"<|user|>\"}\n\n{\"text\": \"\"}\n", 0,
          "{\"ids\": [2034]}\n{\"ids\": []}\n");
    check("tokenize --decode --tokenizer " ATLAS, "{\"ids\": [2034, 0]}\n{\"ids\":[]}", 0,
          "{\"text\": \"<|user|>!\"}\n{\"text\": \"\"}\n");
    check("chat --form glm-4.5",
          "{\"messages\": [{\"role\": \"user\", \"content\": \"a\\nb\"}], \"enable_thinking\": "
          "false, "
          "\"add_generation_prompt\": true}\n",
          0,
          "{\"rendered\": "
          "\"[gMASK]<sop><|user|>\\na\\nb/nothink<|assistant|>\\n<think></think>\"}\n");
}

static void bad_lines_are_named(void **state)
{
    (void)state;
    check("tokenize --tokenizer " ATLAS, "{\"text\": \"a\"}\n{\"text\": 1}\n{\"text\": \"b\"}\n", 1,
          "{\"ids\": [64]}\nswarm-eval tokenize: line 2: no {\"text\": \"...\"}\n");
    check("tokenize --decode --tokenizer " ATLAS, "{\"ids\": [1.5]}\n", 1,
          "swarm-eval tokenize: line 1: an id is no number from 0 to 2147483647\n");
    check("chat --form glm-4", "{\"messages\": [{\"role\": \"robot\"}]}\n", 1,
          "swarm-eval chat: line 1: messages[0]: role \"robot\" is unknown to this chat form\n");
    check("chat --form glm-4", "{\"messages\": [], \"enable_thinking\": 1}", 1,
          "swarm-eval chat: line 1: enable_thinking is neither true nor false\n");
    check("chat --form llama", "", 2,
          "swarm-eval chat: unknown form 'llama': it is glm-4.5, glm-4 or intellect-3\n");
    check("tokenize", "", 2, "swarm-eval tokenize: --tokenizer FILE is needed\n");
    check("tokenize --tokenizer /nowhere", "", 1,
          "swarm-eval tokenize: /nowhere: No such file or directory\n");

    struct text out = { 0 };
    assert_int_equal(run("chat --form glm-4.5", slice_str("{\"messages\": }\n"), &out), 1);
    assert_non_null(strstr(out.p, "swarm-eval chat: line 1: JSON: "));
    free(out.p);
}

/* The published cases, through the program. */
static void atlas_cases(void **state)
{
    (void)state;
    char piece[4096];
    size_t n;
    struct text file = { 0 }, in = { 0 }, expected = { 0 }, out = { 0 };
    FILE *f = fopen(TESTS_DIR "/fixtures/atlas-tokenizer-cases.json", "rb");
    assert_non_null(f);
    while ((n = fread(piece, 1, sizeof piece, f)) > 0) text_add(&file, piece, n);
    fclose(f);
    struct json_doc *doc;
    assert_int_equal(json_parse(&doc, slice_of(file.p, file.n), "cases", NULL), ERR_OK);
    for (const struct json *v = json_root(doc)->child; v; v = v->next) {
        json_write(&in, v, 0);
        text_str(&in, "\n");
        text_str(&expected, "{\"ids\": ");
        json_write(&expected, json_get(v, "ids"), 0);
        text_str(&expected, "}\n");
    }
    assert_int_equal(run("tokenize --tokenizer " ATLAS, slice_of(in.p, in.n), &out), 0);
    assert_string_equal(out.p, expected.p);
    json_free(doc);
    free(file.p);
    free(in.p);
    free(expected.p);
    free(out.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_become_lines),
        cmocka_unit_test(bad_lines_are_named),
        cmocka_unit_test(atlas_cases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
