/* shapes.h - the published numbers of models whose weights are not at hand, less what has no speed:
 * the prediction layer. */
#ifndef TOOLS_SHAPES_H
#define TOOLS_SHAPES_H

#include "store/hf_config.h"

/* shape is glm-4.5-air, intellect-3 (the same numbers), glm-4-9b, or the path of a config.json.
 * ERR_USAGE with why: none of these. */
MUST_CHECK enum err shape_read(struct hf_config *cfg, const char *shape, struct why *why);

#endif
