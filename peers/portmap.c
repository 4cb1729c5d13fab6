#include "peers/portmap.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <miniupnpc/miniupnpc.h>
#include <miniupnpc/upnpcommands.h>
#include <natpmp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    NATPMP_MS = 1600,   /* its first three tries: after 250, 500 and 1,000 ms */
    DISCOVER_MS = 1500, /* for routers to answer a search */
    PORTS_MAX = 8,      /* outside ports that are tried when one is taken */
    UPNP_TAKEN = 718,   /* codes of AddPortMapping */
    UPNP_ETERNAL = 725,
};

/* Of the thread. */
struct mapper {
    int control; /* our end of the pair: bytes in, states out; its end is our end */
    uint16_t port, outside;
    bool stop, has_router; /* the machine has a default route */
    struct portmap_state state;
    /* UPnP */
    bool has_igd;
    struct UPNPUrls urls;
    struct IGDdatas igd;
    char lan[64];
};

/* --- the thread: waiting --- */

/* Sleep, but for a word from the loop.  false: it says stop, or has gone. */
static bool wait_ms(struct mapper *m, int also, int ms)
{
    struct pollfd p[2] = { { .fd = m->control, .events = POLLIN },
                           { .fd = also, .events = POLLIN } };
    char word;

    int n = poll(p, also < 0 ? 1 : 2, ms);
    if (n > 0 && p[0].revents && recv(m->control, &word, 1, 0) <= 0) m->stop = true;
    return !m->stop;
}

/* --- the thread: NAT-PMP --- */

static bool natpmp_answer(struct mapper *m, natpmp_t *n, natpmpresp_t *answer)
{
    struct timeval left;
    int rc = NATPMP_TRYAGAIN, spent = 0;

    while (rc == NATPMP_TRYAGAIN && spent < NATPMP_MS) {
        if (getnatpmprequesttimeout(n, &left)) return false;
        int ms = (int)(left.tv_sec * 1000 + left.tv_usec / 1000) + 1;
        if (ms > NATPMP_MS) ms = NATPMP_MS;
        if (!wait_ms(m, n->s, ms)) return false;
        spent += ms;
        rc = readnatpmpresponseorretry(n, answer);
    }
    return rc == 0;
}

/* Map (or, with a lease of 0, unmap) the port. */
static bool natpmp_map(struct mapper *m, uint32_t lease)
{
    natpmp_t n;
    natpmpresp_t answer;
    struct in_addr outside = { 0 };

    int rc = initnatpmp(&n, 0, 0);
    m->has_router = rc != NATPMP_ERR_CANNOTGETGATEWAY;
    if (rc) return false;
    bool good = sendpublicaddressrequest(&n) >= 0 && natpmp_answer(m, &n, &answer);
    if (good) outside = answer.pnu.publicaddress.addr;
    uint16_t want = lease ? (m->outside ? m->outside : m->port) : 0;
    good = good && sendnewportmappingrequest(&n, NATPMP_PROTOCOL_TCP, m->port, want, lease) >= 0 &&
           natpmp_answer(m, &n, &answer);
    closenatpmp(&n);
    if (!good || !lease) return good;
    m->outside = answer.pnu.newportmapping.mappedpublicport;
    if (!m->outside) return false;
    m->state.how = PORTMAP_NATPMP;
    memcpy(m->state.addr, &outside, 4);
    return true;
}

/* --- the thread: UPnP --- */

static void upnp_forget(struct mapper *m)
{
    if (m->has_igd) FreeUPNPUrls(&m->urls);
    m->has_igd = false;
}

/* Find the router's description.  A router without a connection, or with a private address
 * outside, is one too: the caller looks at the address. */
static bool upnp_find(struct mapper *m)
{
    int e;

    upnp_forget(m);
    struct UPNPDev *list = upnpDiscover(DISCOVER_MS, NULL, NULL, UPNP_LOCAL_PORT_ANY, 0, 2, &e);
    if (!list) return false;
#if MINIUPNPC_API_VERSION >= 18
    char wan[64];
    int kind = UPNP_GetValidIGD(list, &m->urls, &m->igd, m->lan, sizeof m->lan, wan, sizeof wan);
    bool is_router = kind >= 1 && kind <= 3;
#else
    int kind = UPNP_GetValidIGD(list, &m->urls, &m->igd, m->lan, sizeof m->lan);
    bool is_router = kind == 1 || kind == 2;
#endif
    freeUPNPDevlist(list);
    m->has_igd = is_router;
    if (kind && !is_router) FreeUPNPUrls(&m->urls);
    return is_router;
}

static int upnp_add(struct mapper *m, uint16_t outside, const char *lease)
{
    char in[8], out[8];

    snprintf(in, sizeof in, "%u", m->port);
    snprintf(out, sizeof out, "%u", outside);
    return UPNP_AddPortMapping(m->urls.controlURL, m->igd.first.servicetype, out, in, m->lan,
                               "swarm-node", "TCP", NULL, lease);
}

static void upnp_remove(struct mapper *m)
{
    char out[8];

    if (!m->has_igd || !m->outside) return;
    snprintf(out, sizeof out, "%u", m->outside);
    (void)UPNP_DeletePortMapping(m->urls.controlURL, m->igd.first.servicetype, out, "TCP", NULL);
}

static bool upnp_map(struct mapper *m)
{
    char lease[12], outside[16] = "";
    int rc = UPNP_TAKEN;

    if (!m->has_router) { /* and the library would fill the terminal with complaints */
        snprintf(m->state.why, sizeof m->state.why, "this machine has no route to a router");
        return false;
    }
    if (!m->has_igd && !upnp_find(m)) {
        snprintf(
            m->state.why, sizeof m->state.why,
            "no router here answers to UPnP or NAT-PMP; both can usually be switched on there");
        return false;
    }
    uint16_t port = m->outside ? m->outside : m->port;
    snprintf(lease, sizeof lease, "%d", PORTMAP_LEASE_S);
    for (int i = 0; i < PORTS_MAX && rc == UPNP_TAKEN && port; i++) {
        rc = upnp_add(m, port, lease);
        if (rc == UPNP_ETERNAL) rc = upnp_add(m, port, "0");
        if (rc == UPNP_TAKEN) port++;
    }
    if (rc) {
        snprintf(m->state.why, sizeof m->state.why,
                 "the router refuses to open port %u by UPnP (%d)", m->port, rc);
        upnp_forget(m);
        return false;
    }
    m->outside = port;
    struct in_addr addr = { 0 };
    if (UPNP_GetExternalIPAddress(m->urls.controlURL, m->igd.first.servicetype, outside) ||
        inet_pton(AF_INET, outside, &addr) != 1)
        addr.s_addr = 0;
    m->state.how = PORTMAP_UPNP;
    memcpy(m->state.addr, &addr, 4);
    return true;
}

/* --- the thread: its life --- */

static void tell(struct mapper *m)
{
    m->state.addr[4] = (uint8_t)(m->outside >> 8);
    m->state.addr[5] = (uint8_t)m->outside;
    if (send(m->control, &m->state, sizeof m->state, MSG_NOSIGNAL) < 0) m->stop = true;
}

static void *mapper_run(void *arg)
{
    struct mapper *m = arg;
    bool mapped = false;

    while (!m->stop) {
        m->state = (struct portmap_state){ .how = PORTMAP_NONE };
        mapped = natpmp_map(m, PORTMAP_LEASE_S);
        if (!mapped && !m->stop) mapped = upnp_map(m);
        if (!m->stop) tell(m);
        if (!m->stop) (void)wait_ms(m, -1, 1000 * (mapped ? PORTMAP_LEASE_S / 2 : PORTMAP_RETRY_S));
    }
    m->stop = false; /* for the last requests to wait for their answers */
    if (mapped && m->state.how == PORTMAP_NATPMP) {
        int gone = m->control;
        m->control = -1; /* nothing interrupts it now */
        (void)natpmp_map(m, 0);
        m->control = gone;
    }
    if (mapped && m->state.how == PORTMAP_UPNP) upnp_remove(m);
    upnp_forget(m);
    close(m->control);
    free(m);
    return NULL;
}

/* --- the loop's side --- */

struct portmap {
    struct hub *hub;
    void (*on_change)(void *arg);
    void *arg;
    int control;
    uv_poll_t poll;
    uv_work_t end;
    struct portmap_state state;
};

static void on_state(uv_poll_t *poll_handle, int status, int events)
{
    struct portmap *p = poll_handle->data;
    struct portmap_state s;
    (void)events;

    ssize_t n = status ? -1 : recv(p->control, &s, sizeof s, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR) && !status) return;
    if (n != sizeof s) { /* the thread has ended by itself: it could not tell us */
        (void)uv_poll_stop(poll_handle);
        return;
    }
    s.why[sizeof s.why - 1] = 0;
    if (memcmp(&s, &p->state, sizeof s) == 0) return;
    p->state = s;
    p->on_change(p->arg);
}

static bool start_thread(struct mapper *m)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, mapper_run, m)) return false;
    (void)pthread_detach(thread);
    return true;
}

enum err portmap_open(struct portmap **out, struct hub *hub, uint16_t port,
                      void (*on_change)(void *arg), void *arg)
{
    struct portmap *p = calloc(1, sizeof *p);
    struct mapper *m = calloc(1, sizeof *m);
    int pair[2] = { -1, -1 };

    if (!p || !m || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) goto failed;
    *p = (struct portmap){ .hub = hub, .on_change = on_change, .arg = arg, .control = pair[0] };
    *m = (struct mapper){ .control = pair[1], .port = port };
    if (!start_thread(m)) goto failed;
    if (uv_poll_init(&hub->loop, &p->poll, p->control)) abort(); /* a socket: it cannot fail */
    p->poll.data = p->end.data = p;
    (void)uv_poll_start(&p->poll, UV_READABLE, on_state);
    *out = p;
    return ERR_OK;

failed:
    if (pair[0] >= 0) close(pair[0]);
    if (pair[1] >= 0) close(pair[1]);
    free(p);
    free(m);
    return ERR_NOMEM;
}

/* On a worker thread: until the mapper has closed its end, or for long enough. */
static void await_end(uv_work_t *work)
{
    struct portmap *p = work->data;
    struct pollfd fd = { .fd = p->control, .events = POLLIN };
    struct portmap_state s;

    shutdown(p->control, SHUT_WR);
    /* A search for routers cannot be interrupted, but leaves nothing behind. */
    int ms = p->state.how >= PORTMAP_NATPMP ? PORTMAP_END_MS : 50;
    while (poll(&fd, 1, ms) > 0 && recv(p->control, &s, sizeof s, 0) > 0) {
    }
    close(p->control);
}

static void on_ended(uv_work_t *work, int status)
{
    (void)status;
    free(work->data);
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct portmap *p = handle->data;
    if (uv_queue_work(&p->hub->loop, &p->end, await_end, on_ended)) abort(); /* it cannot fail */
}

void portmap_close(struct portmap *p)
{
    if (!p) return;
    (void)uv_poll_stop(&p->poll);
    uv_close((uv_handle_t *)&p->poll, on_poll_closed);
}

void portmap_retry(struct portmap *p)
{
    char word = 'r';
    if (send(p->control, &word, 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("portmap: busy already");
}

const struct portmap_state *portmap_state(const struct portmap *p)
{
    return &p->state;
}

const char *portmap_name(enum portmap_how how)
{
    return how == PORTMAP_NATPMP ? "NAT-PMP" : how == PORTMAP_UPNP ? "UPnP" : "";
}
