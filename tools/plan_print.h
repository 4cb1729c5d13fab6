/* plan_print.h - a plan, as the coordinator's JSON (ask/report.h) tells it, in words and a
 * picture.
 *
 *     layers 0-20   swm1q4xyz...k7vd  |....########################      |  10.3 + 84.0 ms
 *
 * One line for every stage, drawn to scale: the way to it, then computing, shifted by all that
 * comes before.  Lines fit the terminal; block characters where the locale is UTF-8, else ASCII. */
#ifndef TOOLS_PLAN_PRINT_H
#define TOOLS_PLAN_PRINT_H

#include "base/json.h"
#include "proto/identity.h"

#include <stdio.h>

struct plan_look {
    unsigned width; /* columns */
    bool utf8;
    /* How a node is called; NULL: by the start and the end of its id.  Good until the next call. */
    const char *(*name)(void *arg, const struct node_id *id);
    void *arg;
};

/* What f can show: its terminal's width (80 where it is none), and the locale's encoding. */
struct plan_look plan_look_of(FILE *f);

/* plan is the other side's JSON: anything that is not as it should be is shown as 0 or "?". */
void plan_print(FILE *f, struct slice plan, struct plan_look look);

#endif
