/* The newer form: what comes in is chat's, and what goes out is whole JSON, in order, with nothing
 * said twice. */
#include "gateway/responses.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct reply_head head = {
    .endpoint = ENDPOINT_RESPONSES, .id = "resp_1", .created = 7, .model = "atlas"
};

static struct delta text(enum delta_kind kind, const char *s)
{
    return (struct delta){ .kind = kind, .text = slice_str(s) };
}

static struct delta call(uint32_t i, const char *name, const char *id)
{
    return (struct delta){ .kind = DELTA_CALL, .call = i, .text = slice_str(name), .call_id = id };
}

static struct delta args(uint32_t i, const char *json)
{
    return (struct delta){ .kind = DELTA_ARGS, .call = i, .text = slice_str(json) };
}

static void feed(struct responses *s, struct text *out)
{
    const struct delta deltas[] = {
        text(DELTA_ROLE, ""),         text(DELTA_REASONING, "I \"think\""),
        text(DELTA_REASONING, "\n"),  text(DELTA_TEXT, "Let me"),
        text(DELTA_TEXT, " look."),   call(0, "weather", "call_0"),
        args(0, "{\"city\":"),        args(0, "\"Paris\"}"),
        call(1, "weather", "call_1"), args(1, "{}"),
        text(DELTA_END, ""),
    };
    responses_begin(s, &head, out);
    for (unsigned i = 0; i < sizeof deltas / sizeof *deltas; i++)
        responses_delta(s, &deltas[i], out);
}

static const struct usage usage = { .n_prompt = 5, .n_tokens = 9, .n_reasoning = 2 };

/* The next event's type and data; false: there is none. */
static bool next(char **at, struct json_doc **doc)
{
    char *data = strstr(*at, "data: "), *end = data ? strstr(data, "\n\n") : NULL;
    struct why why;
    if (!end) return false;
    if (json_parse(doc, slice_of(data + 6, (size_t)(end - data - 6)), "event", &why))
        fail_msg("%s in %s", why.text, data);
    *at = end + 2;
    return true;
}

static void test_events(void **state)
{
    static const char *const types[] = {
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_text.delta",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    };
    struct responses s = { 0 };
    struct text out = { 0 };
    struct json_doc *doc = NULL;
    unsigned n = 0;
    (void)state;
    feed(&s, &out);
    responses_end(&s, &head, "tool_calls", &usage, &out);
    assert_false(out.failed);
    for (char *at = out.p; next(&at, &doc); n++) {
        assert_true(n < sizeof types / sizeof *types);
        assert_true(json_is_str(json_get(json_root(doc), "type"), types[n]));
        assert_int_equal(json_number_of(json_root(doc), "sequence_number"), n);
        const struct json *r = json_get(json_root(doc), "response");
        if (n + 1 == sizeof types / sizeof *types)
            assert_int_equal(json_get(r, "output")->n, 4);
        else if (r)
            assert_int_equal(json_get(r, "output")->n, 0);
        json_free(doc);
    }
    assert_int_equal(n, sizeof types / sizeof *types);
    free(out.p);
    responses_fini(&s);
}

static void test_whole(void **state)
{
    struct responses s = { 0 };
    struct text out = { 0 };
    struct json_doc *doc = NULL;
    (void)state;
    feed(&s, NULL);
    responses_end(&s, &head, "length", &usage, NULL);
    responses_write(&s, &head, "length", &usage, &out);
    assert_int_equal(json_parse(&doc, slice_of(out.p, out.n), "it", NULL), ERR_OK);
    const struct json *r = json_root(doc), *o = json_get(r, "output")->child;
    assert_true(json_is_str(json_get(r, "status"), "incomplete"));
    assert_int_equal(json_number_of(json_get(r, "usage"), "total_tokens"), 14);
    assert_true(json_is_str(json_get(o, "type"), "reasoning"));
    assert_true(json_is_str(json_get(json_get(o, "content")->child, "text"), "I \"think\"\n"));
    o = o->next;
    assert_true(json_is_str(json_get(json_get(o, "content")->child, "text"), "Let me look."));
    o = o->next;
    assert_true(json_is_str(json_get(o, "arguments"), "{\"city\":\"Paris\"}"));
    assert_true(json_is_str(json_get(o, "call_id"), "call_0"));
    assert_true(json_is_str(json_get(o->next, "call_id"), "call_1"));
    assert_null(o->next->next);
    json_free(doc);
    free(out.p);
    responses_fini(&s);
}

/* More items than there may be: what comes after them is left out, and the rest stays whole. */
static void test_too_many(void **state)
{
    struct responses s = { 0 };
    struct text out = { 0 };
    struct json_doc *doc = NULL;
    (void)state;
    for (unsigned i = 0; i < 2 * ITEMS_MAX; i++) {
        struct delta d = text(i % 2 ? DELTA_TEXT : DELTA_REASONING, "x");
        responses_delta(&s, &d, &out);
    }
    out.n = 0;
    responses_end(&s, &head, "stop", &usage, NULL);
    responses_write(&s, &head, "stop", &usage, &out);
    assert_int_equal(json_parse(&doc, slice_of(out.p, out.n), "it", NULL), ERR_OK);
    assert_int_equal(json_get(json_root(doc), "output")->n, ITEMS_MAX);
    json_free(doc);
    free(out.p);
    responses_fini(&s);
}

static void test_read(void **state)
{
    struct openai_ask a;
    struct openai_error e;
    (void)state;
    assert_int_equal(
        responses_read(&a,
                       slice_str("{\"input\":[{\"role\":\"developer\",\"content\":\"Be brief.\"},"
                                 "{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\","
                                 "\"arguments\":\"{}\"},{\"type\":\"function_call_output\","
                                 "\"call_id\":\"c\",\"output\":\"42\"}],\"tools\":[{\"type\":"
                                 "\"function\",\"name\":\"f\",\"strict\":true}],"
                                 "\"max_output_tokens\":9,\"seed\":4,\"user\":\"u\"}"),
                       &e),
        ERR_OK);
    static const char want[] =
        "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": "
        "\"assistant\", \"content\": \"\", \"tool_calls\": [{\"type\": \"function\", \"id\": "
        "\"c\", \"function\": {\"name\": \"f\", \"arguments\": \"{}\"}}]}, {\"role\": \"tool\", "
        "\"tool_call_id\": \"c\", \"content\": \"42\"}], \"tools\": [{\"type\": \"function\", "
        "\"function\": {\"name\": \"f\"}}]}";
    if (!slice_is(a.ask.conversation, want))
        fail_msg("%.*s", (int)a.ask.conversation.n, (const char *)a.ask.conversation.p);
    assert_int_equal(a.ask.max_tokens, 9);
    assert_true(a.ask.seed == 4 && a.endpoint == ENDPOINT_RESPONSES && a.tools);
    assert_string_equal(a.user, "u");
    openai_ask_fini(&a);

    static const char *const bad[] = { "",
                                       "[]",
                                       "{}",
                                       "{\"input\":7}",
                                       "{\"input\":[]}",
                                       "{\"input\":[7]}",
                                       "{\"input\":[{}]}",
                                       "{\"input\":[{\"role\":1,\"content\":\"x\"}]}",
                                       "{\"input\":[{\"role\":\"user\"}]}",
                                       "{\"input\":[{\"type\":\"reasoning\"}]}",
                                       "{\"input\":[{\"type\":\"function_call\"}]}",
                                       "{\"input\":\"x\",\"tools\":[7]}",
                                       "{\"input\":\"x\",\"tools\":7}",
                                       "{\"input\":\"x\",\"reasoning\":7}",
                                       "{\"input\":\"x\",\"text\":7}",
                                       "{\"input\":\"x\",\"n\":2}",
                                       "{\"input\":\"x\",\"logprobs\":true}" };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_not_equal(responses_read(&a, slice_str(bad[i]), &e), ERR_OK);
        assert_int_equal(e.status, 400);
        assert_true(e.why.text[0] != 0);
        openai_ask_fini(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
