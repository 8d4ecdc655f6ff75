/* What a guest with outbound network may reach, as text and as a list. The daemon writes the text,
 * hearth-net reads it; a person's entries are checked by the same code. Pure, any thread. */
#pragma once

#include "supervisord/net/denied.h"

#define NET_NAME_MAX 253
#define NET_ENTRY_SIZE (NET_NAME_MAX + 3)
#define NET_ENTRIES_MAX 192 /* of either kind: a tenant's 128, and the daemon's 64 networks */

struct net_policy {
    bool listed; /* only what is here; else all of the public internet, and what is here */
    size_t network_count, name_count;
    struct net_prefix networks[NET_ENTRIES_MAX];
    char names[NET_ENTRIES_MAX][NET_ENTRY_SIZE]; /* "a.example", "*.example" (not example), "*" */
};

/* Adds "10.0.0.0/8", "a.example" or "*.example"; what is no such entry is refused. */
bool net_policy_add(struct net_policy *policy, const char *entry);
/* "open" or "listed", entries, ".", a line each. False, and an unusable policy, for anything else:
 * a text that is being written is none yet. */
bool net_policy_parse(struct net_policy *policy, const char *text);

/* Whether the policy lets a name (lower case, no final dot) be looked up. */
bool net_policy_names(const struct net_policy *policy, const char *name);

enum net_verdict {
    NET_ALLOWED,
    NET_UNLISTED, /* public, and not in the list */
    NET_SPECIAL,  /* the host's, private, link-local or such, and not allowed */
};
/* The most exact network decides, as it does among routes. own: the host's. */
enum net_verdict net_policy_reaches(const struct net_policy *policy, const struct net_prefix *own,
                                    size_t own_count, uint32_t address);
