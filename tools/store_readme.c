/* README.md of an exported folder: facts that follow from the manifest, and what to do with it. */
#include "tools/store_tool.h"

static void sizes(struct text *t, const struct manifest *m, uint32_t lo, uint32_t hi, bool ends)
{
    uint64_t all = 0;
    char text[SIZE_TEXT], name[FOLDER_FILE_NAME];

    text_str(t, "\n## Files\n\n| file | bytes | |\n|---|---|---|\n");
    for (uint32_t i = lo; i < hi + ends; i++) {
        uint32_t layer = i == hi ? ARCH_ENDS : i;
        uint64_t n = folder_layer_bytes(m, layer);
        folder_layer_name(name, layer);
        size_text(text, n);
        text_printf(t, "| %s | %llu | %s |\n", name, (unsigned long long)n, text);
        all += n;
    }
    if (ends && m->n_tokenizer) {
        size_text(text, m->tokenizer_bytes);
        text_printf(t, "| " FOLDER_TOKENIZER " | %llu | %s |\n",
                    (unsigned long long)m->tokenizer_bytes, text);
        all += m->tokenizer_bytes;
    }
    size_text(text, all);
    text_printf(t, "| in all | %llu | %s |\n", (unsigned long long)all, text);
}

static void facts(struct text *t, const struct manifest *m, const struct store_name *n)
{
    const struct arch *a = &m->arch;
    char id[HASH_TEXT], who[NODE_ID_TEXT];

    hash_text(id, &n->id);
    publisher_text(who, n);
    text_str(t, "\n| | |\n|---|---|\n");
    text_printf(t, "| model id | `%s` |\n| publisher | `%s` |\n", id, who);
    text_printf(t, "| family | %s |\n",
                a->family == ARCH_GLM4 ? "GLM-4 (dense)" : "GLM-4 mixture of experts");
    text_printf(t, "| layers | %u%s |\n", a->n_layers,
                a->n_predict ? " and a prediction layer" : "");
    text_printf(t, "| hidden size | %u |\n| heads | %u, with %u of keys and values, of %u |\n",
                a->hidden, a->n_heads, a->n_kv, a->head_dim);
    if (a->n_experts)
        text_printf(t,
                    "| experts | %u of %u, %u active, %u shared; the first %u layers are dense |\n",
                    a->n_experts, a->moe_inter, a->top_k, a->n_shared, a->n_dense);
    if (a->n_dense || !a->n_experts) text_printf(t, "| dense MLP | %u |\n", a->inter);
    text_printf(t, "| vocabulary | %u |\n| context | %u tokens |\n| chat form | %s |\n", a->vocab,
                a->context, m->chat);
    text_str(t, "| weights |");
    for (int r = 0; r < WR_COUNT; r++)
        text_printf(t, "%s %s %s", r ? "," : "", wrole_name((enum wrole)r), wtype_name(a->type[r]));
    text_printf(t,
                "; norms, router and biases f32 |\n| arithmetic | version %d, %s between nodes |\n",
                ARITH_VERSION, a->exchange == FT_BF16 ? "bf16" : "f32");
}

void store_readme(struct text *t, const struct manifest *m, const struct store_name *n, uint32_t lo,
                  uint32_t hi, bool ends)
{
    bool whole = lo == 0 && hi == arch_all_layers(&m->arch) && ends;

    text_printf(t, "# %s\n\nA model for the swarm programs, as files of tiles.\n", n->name);
    if (!whole)
        text_printf(t, "\n**A part of it:** layers %u-%u%s.\n", lo, hi - 1,
                    ends ? " and the ends" : ", without the ends");
    facts(t, m, n);
    sizes(t, m, lo, hi, ends);
    text_str(
        t, "\n## Use\n\n"
           "```sh\n"
           "b2sum -l 256 -c " FOLDER_CHECKSUMS "                  # is every file as it was?\n"
           "swarm-store import . --store DIR                # or the folder's URL\n"
           "swarm-store import . --store DIR --layers 0-7   # only some of the layers\n"
           "```\n\n"
           "Importing checks the publisher's signature and the hash of every tile, so it does not\n"
           "matter who carries these files. Each `.tiles` file holds a layer's table of tile\n"
           "hashes (BLAKE2b-256, 32 bytes each), then the tiles in that order.\n");
}
