/* How fast bytes leave for a peer, measured while more wait than the socket takes.
 *
 * What the socket takes at once says nothing: that fills buffers.  From the moment when it is full,
 * what it takes is what the line carries; so each FLOW_BYTES of a busy time are a sample, but for
 * the first ones. */
#include "net/net_impl.h"

enum { FLOW_BYTES = 256 << 10, FLOW_SHARE = 16 };

void flow_full(struct sock *s)
{
    if (s->flow_ns) return;
    s->flow_ns = uv_hrtime();
    s->flow_bytes = 0;
    s->flow_is_first = true;
}

/* Bytes and times are summed, older ones with less weight: lines take what they are given in gulps.
 */
static void note_rate(struct peer *p, uint64_t bytes, uint64_t ns)
{
    p->flow_bytes += bytes - p->flow_bytes / FLOW_SHARE;
    p->flow_ns += ns - p->flow_ns / FLOW_SHARE;
    uint64_t kbit = p->flow_bytes * 8000000 / (p->flow_ns ? p->flow_ns : 1);
    p->uplink_kbit = kbit < 1 ? 1 : kbit < UINT32_MAX ? (uint32_t)kbit : UINT32_MAX;
}

void flow_took(struct sock *s, size_t n)
{
    if (!s->flow_ns) return;
    s->flow_bytes += n;
    if (s->flow_bytes < FLOW_BYTES) return;
    uint64_t now = uv_hrtime();
    bool is_slow = s->paced && !s->pace.is_steady; /* not by the line's fault */
    if (!s->flow_is_first && !is_slow && s->peer) note_rate(s->peer, s->flow_bytes, now - s->flow_ns);
    s->flow_is_first = false;
    s->flow_ns = now;
    s->flow_bytes = 0;
}

void flow_empty(struct sock *s)
{
    s->flow_ns = 0;
}

uint32_t net_line_kbit(const struct net *n, const struct node_id *id)
{
    const struct peer *p = peer_find(n, id);
    return p && p->use ? p->uplink_kbit : 0;
}

uint32_t net_uplink_kbit(const struct net *n)
{
    enum { FAST = 1000000 };
    uint32_t least = FAST;
    for (uint32_t i = 0; i < n->n_peers; i++) {
        const struct peer *p = n->peers[i];
        if (p->use && p->uplink_kbit && p->uplink_kbit < least) least = p->uplink_kbit;
    }
    return least < FAST ? least : 0;
}
