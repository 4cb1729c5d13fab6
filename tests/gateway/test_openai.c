/* What is taken is what was said; what cannot be honoured is refused by its name. */
#include "gateway/openai.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static struct openai_ask read_chat(const char *body)
{
    struct openai_ask a;
    struct openai_error e;
    if (openai_read(&a, ENDPOINT_CHAT, slice_str(body), &e)) fail_msg("%s: %s", body, e.why.text);
    return a;
}

static void test_taken(void **state)
{
    (void)state;
    struct openai_ask a = read_chat(
        "{\"model\":\"atlas\"," HI ",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
        "\"temperature\":0.5,\"top_p\":0.9,\"top_k\":40,\"min_p\":0.05,\"seed\":-1,\"n\":3,"
        "\"max_completion_tokens\":77,\"stop\":[\"END\",\"\\n\"],\"user\":\"anna\","
        "\"chat_template_kwargs\":{\"enable_thinking\":false},\"frequency_penalty\":0,"
        "\"logit_bias\":{},\"logprobs\":false,\"response_format\":{\"type\":\"text\"},"
        "\"parallel_tool_calls\":true,\"tool_choice\":\"auto\",\"metadata\":null}");
    assert_string_equal(a.model, "atlas");
    assert_true(a.stream && a.with_usage);
    assert_int_equal(a.ask.sampling, 31);
    assert_true(a.ask.temperature == 0.5 && a.ask.top_p == 0.9 && a.ask.min_p == 0.05);
    assert_int_equal(a.ask.top_k, 40);
    assert_true(a.ask.seed == UINT64_MAX);
    assert_int_equal(a.n, 3);
    assert_int_equal(a.ask.max_tokens, 77);
    assert_int_equal(a.stops.n, 2);
    assert_string_equal(a.user, "anna");
    assert_int_equal(a.ask.think, 2);
    assert_true(slice_is(a.ask.conversation,
                         "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}"));
    openai_ask_fini(&a);

    a = read_chat("{" HI "}");
    assert_int_equal(a.ask.sampling, 0);
    assert_int_equal(a.n, 1);
    assert_int_equal(a.ask.max_tokens, 0);
    openai_ask_fini(&a);

    a = read_chat("{" HI ",\"logprobs\":true,\"frequency_penalty\":-2,\"presence_penalty\":0.5}");
    assert_int_equal(a.ask.likely, 1);
    assert_true(a.ask.frequency == 1 && a.ask.presence == 3.5); /* on the wire: 3 + the penalty */
    openai_ask_fini(&a);
    a = read_chat("{" HI ",\"top_logprobs\":20,\"logprobs\":true}");
    assert_int_equal(a.ask.likely, 21);
    openai_ask_fini(&a);

    struct openai_error e;
    assert_int_equal(openai_read(&a, ENDPOINT_COMPLETIONS,
                                 slice_str("{\"prompt\":\"Once\",\"logprobs\":0}"), &e),
                     ERR_OK);
    assert_true(a.with_logprobs && a.ask.likely == 1);
    openai_ask_fini(&a);
    assert_int_equal(openai_read(&a, ENDPOINT_COMPLETIONS,
                                 slice_str("{\"prompt\":\"Once\",\"max_tokens\":1}"), &e),
                     ERR_OK);
    assert_true(slice_is(a.ask.conversation, "{\"prompt\": \"Once\"}"));
    openai_ask_fini(&a);
}

static void test_tools(void **state)
{
    (void)state;
    const char *tools = "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]";
    char body[400];
    snprintf(body, sizeof body, "{" HI ",%s}", tools);
    struct openai_ask a = read_chat(body);
    assert_non_null(a.tools);
    assert_non_null(memmem(a.conversation.p, a.conversation.n, "\"tools\": [{", 11));
    openai_ask_fini(&a);
    snprintf(body, sizeof body, "{" HI ",%s,\"tool_choice\":\"none\"}", tools);
    a = read_chat(body);
    assert_null(a.tools);
    assert_null(memmem(a.conversation.p, a.conversation.n, "tools", 5));
    openai_ask_fini(&a);
}

static void test_refused(void **state)
{
    static const struct {
        const char *body, *param;
        bool is_unsupported;
    } cases[] = {
        { "{" HI ",\"frequency_penalty\":2.5}", "frequency_penalty", false },
        { "{" HI ",\"presence_penalty\":\"1\"}", "presence_penalty", false },
        { "{" HI ",\"logprobs\":3}", "logprobs", false },
        { "{" HI ",\"logprobs\":true,\"top_logprobs\":21}", "top_logprobs", false },
        { "{" HI ",\"top_logprobs\":2}", "top_logprobs", false },
        { "{" HI ",\"logit_bias\":{\"1\":2}}", "logit_bias", true },
        { "{" HI ",\"response_format\":{\"type\":\"json_object\"}}", "response_format", true },
        { "{" HI ",\"tool_choice\":\"required\"}", "tool_choice", true },
        { "{" HI ",\"functions\":[]}", "functions", true },
        { "{" HI ",\"nonsense\":1}", "nonsense", true },
        { "{" HI ",\"prompt\":\"x\"}", "prompt", true },
        { "{" HI ",\"reasoning_effort\":\"high\"}", "reasoning_effort", true },
        { "{" HI ",\"stream_options\":{\"x\":1}}", "stream_options", true },
        { "{" HI ",\"temperature\":2.5}", "temperature", false },
        { "{" HI ",\"temperature\":\"hot\"}", "temperature", false },
        { "{" HI ",\"top_p\":-0.1}", "top_p", false },
        { "{" HI ",\"min_p\":1}", "min_p", false },
        { "{" HI ",\"n\":0}", "n", false },
        { "{" HI ",\"n\":9}", "n", false },
        { "{" HI ",\"max_tokens\":0}", "max_tokens", false },
        { "{" HI ",\"max_tokens\":1.5}", "max_tokens", false },
        { "{" HI ",\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}", "stop", false },
        { "{" HI ",\"stop\":\"\"}", "stop", false },
        { "{" HI ",\"seed\":0.5}", "seed", false },
        { "{" HI ",\"tools\":[{\"type\":\"web\"}]}", "tools", false },
        { "{" HI ",\"stream_options\":{\"include_usage\":true}}", "stream_options", false },
        { "{\"messages\":[]}", "messages", false },
        { "{\"messages\":null}", "messages", false },
        { "{}", "messages", false },
        { "[]", "", false },
        { "{", "", false },
        { "", "", false },
    };
    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct openai_ask a;
        struct openai_error e;
        enum err err = openai_read(&a, ENDPOINT_CHAT, slice_str(cases[i].body), &e);
        if (err != (cases[i].is_unsupported ? ERR_UNSUPPORTED : ERR_MALFORMED))
            fail_msg("%s: %d %s", cases[i].body, (int)err, e.why.text);
        assert_string_equal(e.param, cases[i].param);
        assert_int_equal(e.status, 400);
        assert_true(e.why.text[0] != 0);

        struct text out = { 0 };
        struct json_doc *doc;
        openai_write_error(&out, &e);
        assert_int_equal(json_parse(&doc, slice_of(out.p, out.n), "error", NULL), ERR_OK);
        assert_true(
            json_is_str(json_get(json_get(json_root(doc), "error"), "message"), e.why.text));
        json_free(doc);
        free(out.p);
        openai_ask_fini(&a);
    }
}

/* Everything written is JSON, whatever the model says. */
static void test_written(void **state)
{
    (void)state;
    struct reply_head h = { ENDPOINT_CHAT, "chatcmpl-1", 1700000000, "a\"b" };
    struct usage u = { 10, 5, 2, 3 };
    struct whole_call call = { .id = "call_1" };
    text_str(&call.name, "f");
    text_str(&call.args, "{\"x\": \"\\n\"}");
    struct whole_choice c[2] = { { .finish = "tool_calls", .call = &call, .n_calls = 1 },
                                 { .finish = "stop" } };
    text_str(&c[1].content, "line\n\"quoted\" \x01");
    text_str(&c[1].reasoning, "hm");
    struct text out = { 0 };
    struct json_doc *doc;
    openai_write_whole(&out, &h, c, 2, &u);
    assert_int_equal(json_parse(&doc, slice_of(out.p, out.n), "answer", NULL), ERR_OK);
    const struct json *choice = json_get(json_root(doc), "choices")->child;
    const struct json *m = json_get(choice, "message");
    assert_int_equal(json_get(m, "content")->type, JSON_NULL);
    const struct json *f = json_get(json_get(m, "tool_calls")->child, "function");
    assert_true(json_is_str(json_get(f, "arguments"), "{\"x\": \"\\n\"}"));
    assert_true(json_is_str(json_get(json_get(choice->next, "message"), "content"),
                            "line\n\"quoted\" \x01"));
    assert_int_equal(json_number_of(json_get(json_root(doc), "usage"), "total_tokens"), 15);
    json_free(doc);

    for (int kind = DELTA_ROLE; kind <= DELTA_END; kind++) {
        struct delta d = { .kind = (enum delta_kind)kind,
                           .choice = 1,
                           .text = slice_str("\"\n"),
                           .call_id = "call_1",
                           .finish = kind == DELTA_END ? "stop" : NULL };
        out.n = 0;
        openai_write_delta(&out, &h, &d);
        assert_memory_equal(out.p, "data: ", 6);
        assert_memory_equal(out.p + out.n - 2, "\n\n", 2);
        assert_null(memchr(out.p, '\n', out.n - 2)); /* one line, or the event would end */
        assert_int_equal(json_parse(&doc, slice_of(out.p + 6, out.n - 8), "event", NULL), ERR_OK);
        json_free(doc);
    }
    free(out.p);
    free(c[1].content.p);
    free(c[1].reasoning.p);
    free(call.name.p);
    free(call.args.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken),
        cmocka_unit_test(test_tools),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
