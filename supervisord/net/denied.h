/* What a guest with outbound network never reaches unless it is allowed: the host's own addresses
 * and networks, and all that is not the public internet. One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An IPv4 network, host byte order. */
struct net_prefix {
    uint32_t address;
    unsigned length;
};
#define NET_PREFIX_TEXT 20

/* "192.0.2.0/24", or an address alone. Bits behind the length must be zero. Pure. */
bool net_prefix_parse(const char *text, struct net_prefix *ret_prefix);
bool net_prefix_holds(const struct net_prefix *prefix, uint32_t address);
void net_address_print(uint32_t address, char out[NET_PREFIX_TEXT]);
void net_prefix_print(const struct net_prefix *prefix, char out[NET_PREFIX_TEXT]);

/* Private, loopback, link-local (with the metadata services), shared, multicast, reserved. */
extern const struct net_prefix net_special[];
extern const size_t net_special_count;

/* The addresses of this network namespace's interfaces, and the networks that they are in. Gives
 * their number (at most size), or a negative errno. */
int net_own(struct net_prefix *out, size_t size);
