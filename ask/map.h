/* map.h - what a coordinator knows of the nodes of its model, as JSON for a picture.
 *
 * Ids and what the nodes announce of their work; no address, no name, and nothing of who asks. */
#ifndef ASK_MAP_H
#define ASK_MAP_H

#include "base/json.h"
#include "net/net.h"
#include "proto/plan.h"

struct map_source {
    const struct directory *directory; /* all borrowed for the call */
    const struct measured *measured;   /* [directory_n] in its order */
    const struct net *net;
    struct node_id me;
    const uint8_t *model; /* [ID_BYTES] */
    const char *name;     /* of the model */
    uint32_t n_layers;
};

/* {"model", "layers", "nodes": [{"id", "here", "state", "linked", "rtt_us", "layers": [lo, hi,
 * ...], "coming": [lo, hi], "ends", "parts": [[kind, lo, hi, item_lo, item_hi], ...], "together",
 * "layer_us", "sessions"}], "more"}: connected nodes first; what is not known or nothing is left
 * away, and `more` nodes are where max bytes would not do.  state: joining, active, draining,
 * silent (it did not answer lately) or banned; kind: trunk, heads, experts or dense. */
void map_json(struct text *out, const struct map_source *s, size_t max);

#endif
