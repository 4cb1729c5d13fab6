#include "gateway/asker.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { V4_BITS = 96 }; /* before an IPv4 address that is mapped */
static const uint8_t mapped[V4_BITS / 8] = { [10] = 0xff, [11] = 0xff };

static bool is_v4(const uint8_t a[16])
{
    return memcmp(a, mapped, sizeof mapped) == 0;
}

/* text [n]: an address and nothing else. */
static bool read_address(uint8_t out[16], const char *text, size_t n)
{
    char one[INET6_ADDRSTRLEN];
    if (n == 0 || n >= sizeof one) return false;
    memcpy(one, text, n);
    one[n] = 0;
    if (inet_pton(AF_INET6, one, out) == 1) return true;
    memcpy(out, mapped, sizeof mapped);
    return inet_pton(AF_INET, one, out + sizeof mapped) == 1;
}

/* "1.2.3.4", "1.2.3.4:5678", "2001:db8::1", "[2001:db8::1]:5678", with blanks around. */
static bool read_entry(uint8_t out[16], const char *text, size_t n)
{
    while (n > 0 && (*text == ' ' || *text == '\t')) text++, n--;
    while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\t')) n--;
    if (n > 0 && *text == '[') {
        const char *end = memchr(text, ']', n);
        return end && read_address(out, text + 1, (size_t)(end - text - 1));
    }
    if (read_address(out, text, n)) return true;
    const char *colon = memchr(text, ':', n);
    return colon && read_address(out, text, (size_t)(colon - text)) && is_v4(out);
}

enum err proxy_parse(struct proxy_net *out, const char *text, struct why *why)
{
    size_t n = strcspn(text, "/");
    unsigned most = 128;
    char *end = NULL;
    if (!read_address(out->address, text, n))
        return fail(why, ERR_MALFORMED, "%s: a trusted proxy is an address, or a net as 10.0.0.0/8",
                    text);
    unsigned before = is_v4(out->address) ? V4_BITS : 0;
    unsigned long bits = text[n] ? strtoul(text + n + 1, &end, 10) : most - before;
    if (bits > most - before || (end && (*end || end == text + n + 1)))
        return fail(why, ERR_MALFORMED, "%s: after the / stands the number of bits that count",
                    text);
    out->bits = before + (unsigned)bits;
    return ERR_OK;
}

static bool is_in(const uint8_t a[16], const struct proxy_net *p)
{
    unsigned bytes = p->bits / 8, rest = p->bits % 8;
    if (memcmp(a, p->address, bytes) != 0) return false;
    return rest == 0 || (a[bytes] ^ p->address[bytes]) >> (8 - rest) == 0;
}

static bool is_trusted(const uint8_t a[16], const struct proxy_net *trusted, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (is_in(a, &trusted[i])) return true;
    return false;
}

static void write_name(char out[ASKER_BYTES], const uint8_t a[16])
{
    char text[INET6_ADDRSTRLEN];
    uint8_t net[16] = { 0 };
    if (is_v4(a)) {
        inet_ntop(AF_INET, a + sizeof mapped, out, ASKER_BYTES);
        return;
    }
    memcpy(net, a, 8);
    snprintf(out, ASKER_BYTES, "%s/64", inet_ntop(AF_INET6, net, text, sizeof text));
}

void asker_find(char out[ASKER_BYTES], const char *peer, const char *forwarded,
                const struct proxy_net *trusted, unsigned n)
{
    uint8_t at[16], next[16];
    size_t len = strlen(forwarded), zone = strcspn(peer, "%");
    if (!read_address(at, peer, zone)) {
        snprintf(out, ASKER_BYTES, "?");
        return;
    }
    while (len > 0 && is_trusted(at, trusted, n)) {
        size_t begin = len;
        while (begin > 0 && forwarded[begin - 1] != ',') begin--;
        if (!read_entry(next, forwarded + begin, len - begin)) break;
        memcpy(at, next, sizeof at);
        len = begin > 0 ? begin - 1 : 0;
    }
    write_name(out, at);
}
