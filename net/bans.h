/* bans.h - nodes that sent false bytes, remembered over restarts.
 *
 * banned.txt in the store's folder, a line each: the node's id, the unix second until which it is
 * not talked to, and why.  A person may read it, and take a line out while the node is stopped. */
#ifndef NET_BANS_H
#define NET_BANS_H

#include "net/net.h"
#include "store/file.h"

enum { BANS_MAX = 256, BAN_S = 24 * 3600, BAN_WHY = 160 };

struct ban {
    struct node_id id;
    uint64_t until; /* unix seconds */
    char why[BAN_WHY];
};
struct bans {
    char path[FILE_PATH_MAX];
    struct ban ban[BANS_MAX]; /* [n] oldest first */
    uint32_t n;
};

/* Read the file in dir, if there is one; lines that have ended are left out.  A damaged line is
 * skipped with a warning: a ban is no reason not to start. */
MUST_CHECK enum err bans_load(struct bans *b, const char *dir, uint64_t unix_s, struct why *why);
/* Tell net of all of them. */
void bans_apply(const struct bans *b, struct net *net, uint64_t unix_s);
/* One more, for BAN_S; the oldest makes room. */
void bans_add(struct bans *b, const struct node_id *id, uint64_t unix_s, const char *text);
/* Write the file, durably; off the loop, with a copy. */
MUST_CHECK enum err bans_save(const struct bans *b, struct why *why);

#endif
