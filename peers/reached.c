#include "peers/reached.h"

#include <stdio.h>

/* Add the address of sa, once. */
static void add(struct reached *r, const struct sockaddr *sa)
{
    uint8_t b[ADDR_MAX];
    uint8_t n;
    if (r->n == ADDRS_MAX) return;
    if (sa->sa_family == AF_INET) {
        memcpy(b, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
        n = 6;
    } else if (sa->sa_family == AF_INET6) {
        memcpy(b, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
        n = 18;
    } else {
        return;
    }
    b[n - 2] = (uint8_t)(r->port >> 8);
    b[n - 1] = (uint8_t)r->port;
    for (uint32_t i = 0; i < r->n; i++)
        if (r->addr[i].n == n && memcmp(r->addr[i].b, b, n) == 0) return;
    memcpy(r->addr[r->n].b, b, n);
    r->addr[r->n++].n = n;
}

static bool is_any(const struct sockaddr *sa)
{
    static const uint8_t zero[16];
    if (sa->sa_family == AF_INET)
        return ((const struct sockaddr_in *)(const void *)sa)->sin_addr.s_addr == 0;
    return sa->sa_family == AF_INET6 &&
           !memcmp(&((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, zero, 16);
}

/* An address that only makes sense with an interface's number. */
static bool is_link_local(const struct sockaddr *sa)
{
    if (sa->sa_family != AF_INET6) return false;
    const uint8_t *b = ((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr.s6_addr;
    return b[0] == 0xfe && (b[1] & 0xc0) == 0x80;
}

/* Every interface: IPv4 first, this machine's own last and only when there is nothing else. */
static enum err add_interfaces(struct reached *r, bool also_v6, struct why *why)
{
    uv_interface_address_t *list;
    int n;
    if (uv_interface_addresses(&list, &n))
        return fail(why, ERR_IO, "the network interfaces cannot be listed; use --advertise");
    for (int pass = 0; pass < 3; pass++)
        for (int i = 0; i < n; i++) {
            const struct sockaddr *sa = (const struct sockaddr *)&list[i].address;
            bool v6 = sa->sa_family == AF_INET6;
            if (is_link_local(sa) || (v6 && !also_v6)) continue;
            bool wanted = pass == 0   ? !v6 && !list[i].is_internal
                          : pass == 1 ? v6 && !list[i].is_internal
                                      : r->n == 0;
            if (wanted) add(r, sa);
        }
    uv_free_interface_addresses(list, n);
    if (r->n == 0)
        return fail(why, ERR_NOTFOUND, "no network interface has an address; use --advertise");
    return ERR_OK;
}

/* The host of the link is the first address: strip ":port" off its text. */
static void host_from_first(struct reached *r)
{
    char text[80];
    uint16_t port;
    if (!addr_text(text, sizeof text, slice_of(r->addr[0].b, r->addr[0].n)) ||
        hostport_parse(r->host, &port, text, NULL))
        snprintf(r->host, sizeof r->host, "localhost");
}

enum err reached_interfaces(struct reached *out, uint16_t port, bool also_v6, struct why *why)
{
    *out = (struct reached){ .port = port };
    enum err e = add_interfaces(out, also_v6, why);
    if (!e) host_from_first(out);
    return e;
}

enum err reached_find(struct reached *out, struct hub *hub, const char *advertise_host,
                      uint16_t advertise_port, const char *listen_host, uint16_t listen_port,
                      struct why *why)
{
    const char *host = advertise_host ? advertise_host : listen_host;
    uint16_t port = advertise_host && advertise_port ? advertise_port : listen_port;
    *out = (struct reached){ .port = port };
    snprintf(out->host, sizeof out->host, "%s", host);

    struct addrinfo want = { .ai_socktype = SOCK_STREAM };
    uv_getaddrinfo_t lookup;
    int rc = uv_getaddrinfo(&hub->loop, &lookup, NULL, host, NULL, &want);
    if (rc)
        return fail(why, ERR_NOTFOUND, "%s: the name cannot be resolved (%s)", host,
                    uv_strerror(rc));
    enum err e = ERR_OK;
    if (is_any(lookup.addrinfo->ai_addr)) {
        e = reached_interfaces(out, port, lookup.addrinfo->ai_family == AF_INET6, why);
    } else {
        for (const struct addrinfo *a = lookup.addrinfo; a; a = a->ai_next) add(out, a->ai_addr);
    }
    uv_freeaddrinfo(lookup.addrinfo);
    return e;
}
