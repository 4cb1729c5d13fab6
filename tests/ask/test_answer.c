/* What a person reads of the ids that a model says, and what never reaches his terminal. */
#include "ask/answer.h"
#include "store/file.h"
#include "tools/terminal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct said {
    struct tokenizer *t;
    struct text answer, reasoning;
    unsigned pieces;
};

static int setup(void **state)
{
    struct said *s = calloc(1, sizeof *s);
    uint8_t *json;
    size_t n;
    assert_int_equal(file_read(SOURCE_DIR "/models/atlas/tokenizer.json", 1 << 24, &json, &n, NULL),
                     ERR_OK);
    assert_int_equal(tokenizer_open(&s->t, slice_of(json, n), NULL), ERR_OK);
    free(json);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct said *s = *state;
    tokenizer_close(s->t);
    free(s->answer.p);
    free(s->reasoning.p);
    free(s);
    return 0;
}

/* Every piece is valid UTF-8 by itself and has no NUL. */
static void check_whole(struct slice text)
{
    for (size_t i = 0; i < text.n;) {
        uint8_t c = text.p[i++];
        unsigned more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
        assert_true(c != 0 && (c & 0xc0) != 0x80);
        for (; more > 0; more--, i++) assert_true(i < text.n && (text.p[i] & 0xc0) == 0x80);
    }
}

static void on_piece(void *arg, struct slice text, bool is_thinking)
{
    struct said *s = arg;
    check_whole(text);
    assert_true(text.n > 0);
    text_add(is_thinking ? &s->reasoning : &s->answer, text.p, text.n);
    s->pieces++;
}

/* Say the ids of text (markers recognised) after a prompt. */
static void say(struct said *s, const char *prompt, const char *text, size_t n)
{
    struct ids before = { 0 }, ids = { 0 };
    struct answer a;
    s->answer.n = s->reasoning.n = s->pieces = 0;
    assert_int_equal(tokenizer_encode(s->t, slice_str(prompt), true, &before), ERR_OK);
    assert_int_equal(tokenizer_encode(s->t, slice_of(text, n), true, &ids), ERR_OK);
    answer_init(&a, s->t, before.p, before.n);
    for (uint32_t i = 0; i < ids.n; i++) {
        unsigned pieces = s->pieces;
        answer_feed(&a, ids.p[i], on_piece, s);
        assert_true(s->pieces <= pieces + 1);
    }
    answer_flush(&a, on_piece, s);
    answer_fini(&a);
    free(before.p);
    free(ids.p);
}

static void check(const struct said *s, const char *reasoning, const char *answer)
{
    assert_int_equal(s->reasoning.n, strlen(reasoning));
    assert_memory_equal(s->reasoning.p, reasoning, s->reasoning.n);
    assert_int_equal(s->answer.n, strlen(answer));
    assert_memory_equal(s->answer.p, answer, s->answer.n);
}

static void test_reasoning_apart(void **state)
{
    struct said *s = *state;
    static const char text[] = "\n<think>It is in\nEurope.</think>\n\nParis.\nReally.<|user|>";
    say(s, "[gMASK]<sop><|user|>\nWhere?<|assistant|>", text, sizeof text - 1);
    check(s, "It is in\nEurope.", "Paris.\nReally.");
    /* The prompt ends inside the reasoning; or its reasoning is empty. */
    say(s, "<|assistant|>\n<think>", "so</think>yes", 13);
    check(s, "so", "yes");
    say(s, "<|assistant|>\n<think></think>", "\nyes", 4);
    check(s, "", "yes");
}

static void test_whole_characters(void **state)
{
    struct said *s = *state;
    static const char text[] = "Zürich, 東京, \xf0\x9f\x97\xbc and Ελλάδα";
    say(s, "", text, sizeof text - 1);
    check(s, "", text);

    /* Half a character at the end is not lost without a sign. */
    struct ids ids = { 0 };
    struct answer a;
    s->answer.n = 0;
    assert_int_equal(tokenizer_encode(s->t, slice_str("\xf0\x9f\x97\xbc"), true, &ids), ERR_OK);
    assert_true(ids.n > 1);
    answer_init(&a, s->t, NULL, 0);
    answer_feed(&a, ids.p[0], on_piece, s);
    assert_int_equal(s->answer.n, 0);
    answer_flush(&a, on_piece, s);
    assert_memory_equal(s->answer.p, "\xef\xbf\xbd", 3);
    answer_fini(&a);
    free(ids.p);
}

static void test_no_nul_on_the_wire(void **state)
{
    struct said *s = *state;
    say(s, "", "a\0b", 3);
    check(s, "", "ab");
}

static void clean(const char *in, size_t n, const char *out)
{
    struct text t = { 0 };
    terminal_clean(&t, slice_of(in, n));
    assert_int_equal(t.n, strlen(out));
    if (t.n) assert_memory_equal(t.p, out, t.n);
    free(t.p);
}

static void test_terminal(void **state)
{
    (void)state;
#define CLEAN(in, out) clean(in, sizeof(in) - 1, out)
    CLEAN("plain\ttext\nZürich 東京 \xf0\x9f\x97\xbc", "plain\ttext\nZürich 東京 \xf0\x9f\x97\xbc");
    CLEAN("\033[2J\033]0;title\007x", "[2J]0;titlex");
    CLEAN("a\0b\rc\x7f"
          "d\b",
          "abcd");
    CLEAN("\xc2\x9b"
          "2J\xc2\x85",
          "2J"); /* C1: CSI and NEL as characters */
    CLEAN("\xe2\x80\xae"
          "abc\xe2\x81\xa6",
          "abc"); /* overrides of direction */
    CLEAN("\x9b"
          "2J\xff\xc3",
          "2J"); /* not UTF-8 at all */
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_reasoning_apart),
        TEST(test_whole_characters),
        TEST(test_no_nul_on_the_wire),
        cmocka_unit_test(test_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
