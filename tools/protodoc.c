/* protodoc - prints docs/protocol.md: a hand-written introduction, then the message table.
 *
 *     protodoc docs/protocol-intro.md > docs/protocol.md */
#include "proto/codec.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

static void print_number(uint64_t v)
{
    if (v == UINT64_MAX)
        printf("2^64 − 1");
    else if (v == UINT32_MAX)
        printf("2^32 − 1");
    else if (v >= 1000000)
        printf("%" PRIu64 ",%03" PRIu64 ",%03" PRIu64, v / 1000000, v / 1000 % 1000, v % 1000);
    else if (v >= 1000)
        printf("%" PRIu64 ",%03" PRIu64, v / 1000, v % 1000);
    else
        printf("%" PRIu64, v);
}

static const char *type_text(enum field_type type)
{
    switch (type) {
    case FIELD_U: return "unsigned";
    case FIELD_DBL: return "float 64";
    case FIELD_BIN: return "bin";
    case FIELD_STR: return "str";
    case FIELD_BINS: return "list of bin";
    case FIELD_UINTS: return "list of unsigned 32";
    }
    return "";
}

static void print_bounds(const struct field *f)
{
    bool list = f->type == FIELD_BINS || f->type == FIELD_UINTS;

    if (f->optional && f->min > 0) printf("none, or ");
    print_number(f->min);
    if (f->min != f->max) {
        printf("..");
        print_number(f->max);
    }
    if (list) printf(" items");
    if (f->type == FIELD_BIN || f->type == FIELD_STR) printf(" bytes");
}

static void print_fields(const struct message *t)
{
    printf("| key | field | type | bounds | meaning |\n|---|---|---|---|---|\n");
    for (uint32_t i = 0; i < t->n_fields; i++) {
        const struct field *f = &t->fields[i];
        printf("| `%s` | %s | %s%s | ", f->key, f->name, type_text(f->type),
               f->optional ? ", optional" : "");
        print_bounds(f);
        printf(" | %s |\n", f->meaning);
    }
    printf("\n");
}

static void print_messages(void)
{
    const struct message *t;

    printf(
        "## Table of messages\n\n| type | name | at most, bytes | meaning |\n|---|---|---|---|\n");
    for (unsigned i = 0; (t = message_nth(i)); i++) {
        printf("| %u | %s | ", (unsigned)t->type, t->name);
        print_number(t->limit);
        printf(" | %s |\n", t->meaning);
    }
    printf("\nBounds are values of numbers, lengths of strings and binaries, and counts of "
           "lists.\n\n");
    for (unsigned i = 0; (t = message_nth(i)); i++) {
        printf("### %u %s\n\n%c%s.\n\n", (unsigned)t->type, t->name, toupper(t->meaning[0]),
               t->meaning + 1);
        print_fields(t);
    }
}

static void print_errors(void)
{
    static const char *const names[] = {
#define E(NAME, code, text) [code] = #NAME,
        WIRE_ERROR_LIST(E)
#undef E
    };

    printf("## Error codes\n\n| code | name | meaning |\n|---|---|---|\n");
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i]) printf("| %u | %s | %s |\n", i, names[i], wire_error_text(i));
}

static int print_file(const char *path)
{
    char buf[4096];
    FILE *f = fopen(path, "r");

    if (!f) {
        perror(path);
        return 1;
    }
    for (size_t n; (n = fread(buf, 1, sizeof buf, f)) > 0;) fwrite(buf, 1, n, stdout);
    int bad = ferror(f);
    fclose(f);
    return bad;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: protodoc INTRODUCTION.md > protocol.md\n");
        return 1;
    }
    if (print_file(argv[1])) return 1;
    printf("\n<!-- From here on printed by tools/protodoc from proto/messages.h: edit that, then\n"
           "     build/bin/protodoc docs/protocol-intro.md > docs/protocol.md -->\n\n");
    print_messages();
    printf("## The body of a record\n\nAt most %u bytes.\n\n", (unsigned)record_message()->limit);
    print_fields(record_message());
    print_errors();
    return fflush(stdout) ? 1 : 0;
}
