/* status_view.h - the JSON of a node's status as lines for a terminal.
 *
 * Names, addresses and warnings come from strangers: nothing of them but printable characters gets
 * through, and no cell is wider than its column, so that no peer can draw, move the cursor or push
 * another line off the screen. */
#ifndef TOOLS_STATUS_VIEW_H
#define TOOLS_STATUS_VIEW_H

#include "base/json.h"

struct view {
    unsigned width, height; /* columns and lines; height 0: as many as needed */
    bool utf8;              /* the terminal shows UTF-8; else what is not ASCII becomes '?' */
};

/* Append the view of json to out, lines ended by newlines.  ERR_MALFORMED: it is no status. */
MUST_CHECK enum err status_view(struct text *out, struct slice json, const struct view *v);

/* Append s, printable characters only, in exactly `columns` columns: cut (with ~ at the end) or
 * padded.  Malformed UTF-8 shows as '?'. */
void view_cell(struct text *out, struct slice s, unsigned columns, bool utf8);

#endif
