/* What comes to a gateway from both sides, by the first byte: bodies of the three forms from
 * clients, log probabilities from a coordinator.  What is refused has a status and a sentence; what
 * is taken asks for a conversation that is JSON; what is written is JSON. */
#include "gateway/logprobs.h"
#include "gateway/responses.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must_be_json(struct slice s)
{
    struct json_doc *doc;
    struct why why;
    if (json_parse(&doc, s, "what was written", &why)) abort();
    json_free(doc);
}

static void read_body(enum endpoint endpoint, struct slice body)
{
    struct openai_ask a;
    struct openai_error e;
    enum err err = endpoint == ENDPOINT_RESPONSES ? responses_read(&a, body, &e)
                                                  : openai_read(&a, endpoint, body, &e);
    if (err) {
        struct text out = { 0 };
        if (e.status < 400 || !e.type || !e.why.text[0]) abort();
        openai_write_error(&out, &e);
        free(out.p);
    } else {
        must_be_json(a.ask.conversation);
        if (a.n < 1 || a.n > CHOICES_MAX || a.ask.likely > 21 || a.ask.max_tokens > CONTEXT_MAX)
            abort();
    }
    openai_ask_fini(&a);
}

/* Three pieces of one text, settled one behind. */
static void read_likely(struct slice wire, enum endpoint endpoint)
{
    struct logprobs l = { 0 };
    struct text out = { 0 };
    for (unsigned i = 0; i < 3; i++) {
        logprobs_feed(&l, wire);
        logprobs_text(&l, 10);
        if (i > 0) logprobs_settle(&l, 10);
        if (i == 1) logprobs_take(&l, endpoint);
    }
    logprobs_drop(&l);
    logprobs_take(&l, endpoint);
    if (logprobs_write(&l, endpoint, &out)) must_be_json(slice_of(out.p, out.n));
    free(out.p);
    logprobs_fini(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1) return 0;
    struct slice rest = slice_of(data + 1, n - 1);
    switch (data[0] & 7) {
    case 0: read_body(ENDPOINT_CHAT, rest); break;
    case 1: read_body(ENDPOINT_COMPLETIONS, rest); break;
    case 2: read_body(ENDPOINT_RESPONSES, rest); break;
    case 3: read_likely(rest, ENDPOINT_CHAT); break;
    case 4: read_likely(rest, ENDPOINT_COMPLETIONS); break;
    default: break;
    }
    return 0;
}
