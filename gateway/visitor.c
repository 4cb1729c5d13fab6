#include "gateway/visitor.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 64 }; /* no name of this machine's own is longer */

/* The name in NAME, NAME:PORT, [IPv6] or [IPv6]:PORT.  false: it is no such thing. */
static bool name_of(char out[NAME_BYTES], const char *authority)
{
    bool is_v6 = *authority == '[';
    const char *from = authority + is_v6;
    size_t n = strcspn(from, is_v6 ? "]" : ":");
    const char *rest = from + n + (is_v6 && from[n]);
    if (n == 0 || n >= NAME_BYTES || (is_v6 && !from[n])) return false;
    if (*rest && (*rest != ':' || strspn(rest + 1, "0123456789") != strlen(rest + 1))) return false;
    memcpy(out, from, n);
    out[n] = 0;
    return true;
}

static bool is_loopback(const char *name)
{
    struct in_addr v4;
    struct in6_addr v6;
    size_t n = strlen(name), tail = strlen(".localhost");
    if (strcasecmp(name, "localhost") == 0) return true;
    if (n > tail && strcasecmp(name + n - tail, ".localhost") == 0) return true;
    if (inet_pton(AF_INET, name, &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, name, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* An address cannot be turned into another one. */
static bool is_own_name(const char *host)
{
    char name[NAME_BYTES];
    unsigned char address[16];
    if (!name_of(name, host)) return false;
    return is_loopback(name) || inet_pton(AF_INET, name, address) == 1 ||
           inet_pton(AF_INET6, name, address) == 1;
}

/* What stands behind the scheme of a page's origin; NULL: it is no page of the web. */
static const char *page_of(const char *origin)
{
    if (strncasecmp(origin, "http://", 7) == 0) return origin + 7;
    if (strncasecmp(origin, "https://", 8) == 0) return origin + 8;
    return strcasecmp(origin, "null") == 0 ? "" : NULL;
}

bool visitor_is_local(const char *host, const char *origin, const char *cors)
{
    char name[NAME_BYTES];
    if (host && *host && !is_own_name(host)) return false;
    if (!origin || (cors && (strcmp(cors, "*") == 0 || strcasecmp(cors, origin) == 0))) return true;
    const char *page = page_of(origin);
    if (!page) return true; /* an extension, which its user has installed */
    if (host && strcasecmp(page, host) == 0) return true;
    return name_of(name, page) && is_loopback(name);
}
