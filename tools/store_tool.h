/* store_tool.h - what the commands of swarm-store share. */
#ifndef TOOLS_STORE_TOOL_H
#define TOOLS_STORE_TOOL_H

#include "home/publishers.h"
#include "store/care.h"
#include "store/folder.h"
#include "tools/args.h"
#include "tools/progress.h"

/* Each: its options, its manual page, its exit status. */
int store_list_main(int argc, char **argv);
int store_verify_main(int argc, char **argv);
int store_export_main(int argc, char **argv);
int store_import_main(int argc, char **argv);
int store_remove_main(int argc, char **argv);
int store_pin_main(int argc, char **argv);
int store_unpin_main(int argc, char **argv);

/* The store named by --store, which must be there unless it is made. */
MUST_CHECK enum err store_tool_open(struct store **s, const char *dir, enum store_mode mode,
                                    bool make, struct why *why);
/* The end of a command: what went wrong as a sentence, and the exit status. */
int store_tool_end(const struct args *a, struct store *s, enum err e, const struct why *why);

/* Layers as ranges, "layers 0-22, 45 and the ends"; layer [n].  "nothing" when there are none. */
void layers_text(struct text *out, const bool *layer, uint32_t n, bool ends);
/* What is pinned of a model of n layers: whole layers, the ends, parts of other layers. */
void pin_text(struct text *out, const struct store_pin *pin, uint32_t n);
void publisher_text(char out[NODE_ID_TEXT], const struct store_name *n);

/* README.md of an exported folder: the model's facts, its layers [lo, hi) and perhaps the ends. */
void store_readme(struct text *out, const struct manifest *m, const struct store_name *n,
                  uint32_t lo, uint32_t hi, bool ends);

#endif
