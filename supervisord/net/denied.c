#include "supervisord/net/denied.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NETWORK(a, b, c, d, length)                                                                \
    {                                                                                              \
        (uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d), length     \
    }

/* The IANA registry of special-purpose addresses, as far as it is not globally reachable. */
const struct net_prefix net_special[] = {
    NETWORK(0, 0, 0, 0, 8),      NETWORK(10, 0, 0, 0, 8),     NETWORK(100, 64, 0, 0, 10),
    NETWORK(127, 0, 0, 0, 8),    NETWORK(169, 254, 0, 0, 16), NETWORK(172, 16, 0, 0, 12),
    NETWORK(192, 0, 0, 0, 24),   NETWORK(192, 0, 2, 0, 24),   NETWORK(192, 88, 99, 0, 24),
    NETWORK(192, 168, 0, 0, 16), NETWORK(198, 18, 0, 0, 15),  NETWORK(198, 51, 100, 0, 24),
    NETWORK(203, 0, 113, 0, 24), NETWORK(224, 0, 0, 0, 4),    NETWORK(240, 0, 0, 0, 4),
};
const size_t net_special_count = sizeof net_special / sizeof *net_special;

static uint32_t mask(unsigned length)
{
    return length ? UINT32_MAX << (32 - length) : 0;
}

bool net_prefix_parse(const char *text, struct net_prefix *ret_prefix)
{
    char address[16];
    struct in_addr parsed;
    const char *slash = strchr(text, '/');
    size_t size = slash ? (size_t)(slash - text) : strlen(text);
    unsigned long length = 32;
    if (size >= sizeof address)
        return false;
    memcpy(address, text, size);
    address[size] = '\0';
    if (slash) {
        char *end;
        length = strtoul(slash + 1, &end, 10);
        if (slash[1] < '0' || slash[1] > '9' || *end || length > 32)
            return false;
    }
    if (inet_pton(AF_INET, address, &parsed) != 1)
        return false;
    *ret_prefix = (struct net_prefix){ntohl(parsed.s_addr), (unsigned)length};
    return (ret_prefix->address & ~mask(ret_prefix->length)) == 0;
}

bool net_prefix_holds(const struct net_prefix *prefix, uint32_t address)
{
    return ((prefix->address ^ address) & mask(prefix->length)) == 0;
}

void net_address_print(uint32_t address, char out[NET_PREFIX_TEXT])
{
    snprintf(out, NET_PREFIX_TEXT, "%u.%u.%u.%u", address >> 24, address >> 16 & 255,
             address >> 8 & 255, address & 255);
}

void net_prefix_print(const struct net_prefix *prefix, char out[NET_PREFIX_TEXT])
{
    net_address_print(prefix->address, out);
    size_t length = strlen(out);
    snprintf(out + length, NET_PREFIX_TEXT - length, "/%u", prefix->length);
}

int net_own(struct net_prefix *out, size_t size)
{
    struct ifaddrs *all;
    size_t count = 0;
    if (getifaddrs(&all) < 0)
        return -errno;
    for (const struct ifaddrs *at = all; at; at = at->ifa_next) {
        if (!at->ifa_addr || at->ifa_addr->sa_family != AF_INET || !at->ifa_netmask)
            continue;
        uint32_t address =
            ntohl(((const struct sockaddr_in *)(const void *)at->ifa_addr)->sin_addr.s_addr);
        uint32_t bits =
            ntohl(((const struct sockaddr_in *)(const void *)at->ifa_netmask)->sin_addr.s_addr);
        if (count + 2 > size) {
            freeifaddrs(all);
            return -E2BIG;
        }
        out[count++] = (struct net_prefix){address, 32};
        out[count++] = (struct net_prefix){address & bits, (unsigned)__builtin_popcount(bits)};
    }
    freeifaddrs(all);
    return (int)count;
}
