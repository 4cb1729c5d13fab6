/* swarm-store - what is in a store: see, check, share, take out, decide what to hold. */
#include "tools/store_tool.h"

#include "tools/commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const struct command commands[] = {
    { "list", store_list_main, "models, who published them, what of them is held" },
    { "verify", store_verify_main, "hash every tile again; name, and remove, the bad ones" },
    { "export", store_export_main, "a model as a plain folder, for a web server or a torrent" },
    { "import", store_import_main, "a model from such a folder or its URL" },
    { "remove", store_remove_main, "a model, or what no model uses" },
    { "pin", store_pin_main, "layers that this machine is to hold" },
    { "unpin", store_unpin_main, "layers that it need not hold" },
};

enum err store_tool_open(struct store **s, const char *dir, enum store_mode mode, bool make,
                         struct why *why)
{
    char path[FILE_PATH_MAX];
    struct stat st;

    if (!dir) return fail(why, ERR_USAGE, "--store is missing; --help lists the options");
    if (proto_init()) return fail(why, ERR_UNSUPPORTED, "libsodium does not start");
    enum err e = file_path(path, dir, "data.mdb", why);
    if (!e && !make && stat(path, &st) != 0)
        e = errno == ENOENT || errno == ENOTDIR
                ? fail(why, ERR_NOTFOUND, "there is no store in %s", dir)
                : fail(why, ERR_IO, "store %s: %s", dir, strerror(errno));
    return e ? e : store_open(s, dir, mode, why);
}

int store_tool_end(const struct args *a, struct store *s, enum err e, const struct why *why)
{
    store_close(s);
    if (!e && fflush(stdout) != 0) return die(a, 1, "standard output cannot be written");
    if (e) return die(a, e == ERR_USAGE ? 2 : 1, "%s", why->text[0] ? why->text : err_text(e));
    return 0;
}

void layers_text(struct text *out, const bool *layer, uint32_t n, bool ends)
{
    const char *before = "layers ";
    bool any = false;

    for (uint32_t l = 0; l < n; l++) {
        uint32_t first = l;
        if (!layer[l]) continue;
        while (l + 1 < n && layer[l + 1]) l++;
        text_printf(out, l > first ? "%s%u-%u" : "%s%u", before, first, l);
        before = ", ";
        any = true;
    }
    if (ends) text_str(out, any ? " and the ends" : "the ends");
    if (!any && !ends) text_str(out, "nothing");
}

void pin_text(struct text *out, const struct store_pin *pin, uint32_t n)
{
    char parts[PARTS_TEXT];
    bool whole = pin->ends || !pin->parts.n;

    for (uint32_t l = 0; l < n; l++) whole |= pin->layer[l];
    if (whole) layers_text(out, pin->layer, n, pin->ends);
    if (!pin->parts.n) return;
    parts_text(parts, &pin->parts);
    text_printf(out, "%s%s", whole ? "; " : "", parts);
}

void publisher_text(char out[NODE_ID_TEXT], const struct store_name *n)
{
    struct node_id id;

    memcpy(id.b, n->publisher, sizeof id.b);
    node_id_text(out, &id);
}

int main(int argc, char **argv)
{
    return commands_run("swarm-store", "Shows, checks, shares and tidies the models in a store.",
                        commands, sizeof commands / sizeof *commands, argc, argv);
}
