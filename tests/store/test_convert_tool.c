/* swarm-convert as a person meets it: a signed name, a private key, one sentence for each refusal.
 */
#include "base/json.h"
#include "proto/identity.h"
#include "store/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "tests/store/checkpoint.h"

static char dir[64], src[96], store[96], output[4096];

/* Run swarm-convert FROM --store store ARGS; its exit status; what it printed is in output. */
__attribute__((format(printf, 2, 3))) static int convert(const char *from, const char *args, ...)
{
    char command[1024], rest[512];
    va_list ap;

    va_start(ap, args);
    vsnprintf(rest, sizeof rest, args, ap);
    va_end(ap);
    snprintf(command, sizeof command,
             "XDG_CONFIG_HOME=%s/config %s/swarm-convert %s --store %s %s 2>&1", dir, BIN_DIR, from,
             store, rest);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    size_t n = fread(output, 1, sizeof output - 1, p);
    output[n] = 0;
    int status = pclose(p);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void says(const char *text)
{
    if (!strstr(output, text)) fail_msg("'%s' does not say '%s'", output, text);
}

static int system_ok(const char *command, const char *to)
{
    char line[1024];
    snprintf(line, sizeof line, "%s %s/", command, to);
    return system(line);
}

/* One sentence on one line, and the exit status. */
static void refused(int rc, int expected, const char *text)
{
    says(text);
    assert_int_equal(rc, expected);
    assert_ptr_equal(strchr(output, '\n'), output + strlen(output) - 1);
    assert_int_equal(strncmp(output, "swarm-convert: ", 15), 0);
}

static void a_signed_name(void **state)
{
    (void)state;
    struct store *s;
    struct store_name n;
    struct manifest *m = calloc(1, sizeof *m);
    struct stat st;
    struct why why = { "" };
    char path[FILE_PATH_MAX];
    uint8_t signed_bytes[HASH_BYTES + 16], *tok;
    size_t tok_n;

    assert_int_equal(convert(SOURCE_DIR "/models/atlas", "--name atlas:q80 --type q80"), 0);
    says("made a publisher key");
    says("publisher  swm1");
    says("chat form glm-4.5");
    says("holds      9.8 MiB");
    snprintf(path, sizeof path, "%s/config/swarm/publisher.key", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);

    if (store_open(&s, store, STORE_READ, &why)) fail_msg("%s", why.text);
    if (store_find_model(s, NULL, &n, m, &why)) fail_msg("%s", why.text);
    assert_string_equal(n.name, "atlas:q80");
    assert_string_equal(m->chat, "glm-4.5");
    assert_int_equal(m->n_eos, 3);
    assert_true(m->sampling.sample && m->sampling.temperature == 0.6);
    assert_int_equal(store_tokenizer(s, m, &tok, &tok_n, &why), ERR_OK);
    free(tok);
    memcpy(signed_bytes, n.id.b, HASH_BYTES);
    memcpy(signed_bytes + HASH_BYTES, "atlas:q80", 9);
    struct node_id publisher;
    memcpy(publisher.b, n.publisher, sizeof publisher.b);
    assert_true(identity_verify(&publisher, "swarm-model-v1",
                                slice_of(signed_bytes, HASH_BYTES + 9), n.sig));
    signed_bytes[HASH_BYTES] = 'b';
    assert_false(identity_verify(&publisher, "swarm-model-v1",
                                 slice_of(signed_bytes, HASH_BYTES + 9), n.sig));
    store_close(s);

    /* again: nothing to do, nothing said, the same key */
    assert_int_equal(convert(SOURCE_DIR "/models/atlas", "--name atlas:q80 --type q80 --quiet"), 0);
    assert_string_equal(output, "");
    assert_int_equal(convert(SOURCE_DIR "/models/atlas", "--name again:q80 --type q80"), 0);
    says("going on where an earlier run stopped");
    assert_null(strstr(output, "made a publisher key"));
    assert_int_equal(store_open(&s, store, STORE_READ, &why), ERR_OK);
    struct store_name n2;
    assert_int_equal(store_name_entry(s, "again:q80", &n2), ERR_OK);
    assert_memory_equal(n.publisher, n2.publisher, 32);
    assert_memory_equal(n.id.b, n2.id.b, HASH_BYTES);
    store_close(s);
    free(m);
}

static void a_name_does_not_move_by_itself(void **state)
{
    (void)state;
    const char *from = TESTS_DIR "/fixtures/glm4-dense";
    struct store *s;
    struct store_name a, b;

    assert_int_equal(convert(from, "--name dense:x --type q80 --quiet"), 0);
    assert_int_equal(convert(from, "--name dense:x --type q80 --quiet"), 0);
    assert_int_equal(store_open(&s, store, STORE_READ, NULL), ERR_OK);
    assert_int_equal(store_name_entry(s, "dense:x", &a), ERR_OK);
    store_close(s);
    refused(convert(from, "--name dense:x --type q40 --quiet"), 1,
            "the name dense:x belongs to another model");
    assert_int_equal(store_open(&s, store, STORE_READ, NULL), ERR_OK);
    assert_int_equal(store_name_entry(s, "dense:x", &b), ERR_OK);
    assert_memory_equal(a.id.b, b.id.b, HASH_BYTES);
    store_close(s);
    assert_int_equal(convert(from, "--name dense:x --type q40 --quiet --replace"), 0);
    assert_int_equal(store_open(&s, store, STORE_READ, NULL), ERR_OK);
    assert_int_equal(store_name_entry(s, "dense:x", &b), ERR_OK);
    assert_memory_not_equal(a.id.b, b.id.b, HASH_BYTES);
    store_close(s);
}

static void refusals(void **state)
{
    (void)state;
    const char *from = TESTS_DIR "/fixtures/glm4-dense";
    struct checkpoint *ck = malloc(sizeof *ck);

    refused(convert(from, "--name a:b"), 2, "--type is missing");
    refused(convert(from, "--type q80"), 2, "--name is missing");
    refused(convert("", "--name a:b --type q80"), 2, "SRC is missing");
    refused(convert(from, "--name 'a b' --type q80"), 2, "--name a b");
    refused(convert(from, "--name a:b --type q41"), 2, "--type q41: that is not q40");
    refused(convert(from, "--name a:b --type q80 --type-of experts"), 2, "ROLE=TYPE is needed");
    refused(convert(from, "--name a:b --type q80 --type-of router=q40"), 2, "ROLE=TYPE is needed");
    refused(convert(from, "--name a:b --type q80 --type-of experts=q40"), 2, "no experts weights");
    refused(convert(from, "--name a:b --type q80 --exchange f16"), 2, "--exchange f16");
    refused(convert(from, "--name a:b --type q80 --kv bf16"), 2, "--kv bf16");
    refused(convert(from, "--name a:b --type q80 --layers 3-4"), 2, "has layers 0-3");
    refused(convert(from, "--name a:b --type q80 --layers 3-1"), 2, "--layers 3-1");
    refused(convert(from, "--name a:b --type q80 --mlp-parts 65"), 1, "65 dense parts");
    refused(convert(from, "--name a:b --type q80 --chat glm-5"), 2, "--chat glm-5");
    refused(convert(from, "--name a:b --type q80 --chat glm-4"), 2, "no tokenizer.json");
    refused(convert("/nonexistent", "--name a:b --type q80"), 1, "No such file");
    refused(convert(from, "--name a:b --type q80 --publisher /nonexistent/key"), 1,
            "/nonexistent/key");

    /* a folder with a tokenizer whose template nobody knows */
    ck_load(ck, SOURCE_DIR "/models/atlas");
    ck_write(ck, src);
    assert_int_equal(system_ok("cp " SOURCE_DIR "/models/atlas/tokenizer.json ", src), 0);
    put_text(src, "chat_template.jinja", "{{ 'a template of my own' }}");
    refused(convert(src, "--name a:b --type q80"), 1, "--chat FORM");
    assert_int_equal(convert(src, "--name own:none --type q80 --chat none"), 0);
    says("chat form none");
    /* a tokenizer for a larger vocabulary */
    ck_config(ck, "\"vocab_size\": 2048", "\"vocab_size\": 1024");
    ck_config(ck, "\"eos_token_id\"", "\"eos_token_is\"");
    put_text(src, "config.json", ck->config);
    refused(convert(src, "--name a:b --type q80"), 1, "the model has 1024");
    put_text(src, "tokenizer.json", "{");
    refused(convert(src, "--name a:b --type q80"), 1, "");
    ck_free(ck);
    free(ck);
}

static int setup(void **state)
{
    (void)state;
    return mkdir(dir, 0700) || proto_init();
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signed_name),
        cmocka_unit_test(a_name_does_not_move_by_itself),
        cmocka_unit_test(refusals),
    };
    snprintf(dir, sizeof dir, "/tmp/test_convert_tool-%ld", (long)getpid());
    snprintf(src, sizeof src, "%s/src", dir);
    snprintf(store, sizeof store, "%s/store", dir);
    return cmocka_run_group_tests(tests, setup, teardown);
}
