#include "supervisord/net/policy.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Labels of letters, digits, - and _; not an address: the last is not all digits. */
static bool read_name(const char *text, char out[NET_ENTRY_SIZE])
{
    const char *rest = text;
    size_t length = strlen(text), label = 0;
    bool digits = true;
    if (strcmp(text, "*") == 0) {
        strcpy(out, text);
        return true;
    }
    if (strncmp(text, "*.", 2) == 0)
        rest += 2;
    if (!*rest || length - (size_t)(rest - text) > NET_NAME_MAX)
        return false;
    for (; *rest; rest++) {
        if (*rest == '.') {
            if (label == 0)
                return false;
            label = 0;
            digits = true;
            continue;
        }
        if ((!isalnum((unsigned char)*rest) && *rest != '-' && *rest != '_') || ++label > 63)
            return false;
        digits = digits && isdigit((unsigned char)*rest);
    }
    if (label == 0 || digits)
        return false;
    for (size_t i = 0; i <= length; i++)
        out[i] = (char)tolower((unsigned char)text[i]);
    return true;
}

bool net_policy_add(struct net_policy *policy, const char *entry)
{
    struct net_prefix prefix;
    if (net_prefix_parse(entry, &prefix)) {
        if (policy->network_count == NET_ENTRIES_MAX)
            return false;
        policy->networks[policy->network_count++] = prefix;
        return true;
    }
    if (policy->name_count == NET_ENTRIES_MAX ||
        !read_name(entry, policy->names[policy->name_count]))
        return false;
    policy->name_count++;
    return true;
}

bool net_policy_parse(struct net_policy *policy, const char *text)
{
    char line[NET_ENTRY_SIZE];
    bool first = true;
    policy->network_count = policy->name_count = 0;
    for (const char *end; (end = strchr(text, '\n')); text = end + 1) {
        size_t length = (size_t)(end - text);
        if (length >= sizeof line)
            return false;
        memcpy(line, text, length);
        line[length] = '\0';
        if (strcmp(line, ".") == 0)
            return !first && !end[1];
        if (first && strcmp(line, "open") != 0 && strcmp(line, "listed") != 0)
            return false;
        if (first)
            policy->listed = *line == 'l';
        else if (!net_policy_add(policy, line))
            return false;
        first = false;
    }
    return false;
}

bool net_policy_names(const struct net_policy *policy, const char *name)
{
    size_t length = strlen(name);
    if (!policy->listed)
        return true;
    for (size_t i = 0; i < policy->name_count; i++) {
        const char *entry = policy->names[i];
        size_t tail = strlen(entry) - 1; /* of "*.example" */
        if (strcmp(entry, name) == 0 || strcmp(entry, "*") == 0)
            return true;
        if (*entry == '*' && length > tail && strcmp(name + length - tail, entry + 1) == 0)
            return true;
    }
    return false;
}

/* The length of the most exact of them that holds the address; -1: none does. */
static int most_exact(const struct net_prefix *prefixes, size_t count, uint32_t address)
{
    int best = -1;
    for (size_t i = 0; i < count; i++)
        if ((int)prefixes[i].length > best && net_prefix_holds(&prefixes[i], address))
            best = (int)prefixes[i].length;
    return best;
}

enum net_verdict net_policy_reaches(const struct net_policy *policy, const struct net_prefix *own,
                                    size_t own_count, uint32_t address)
{
    int allowed = most_exact(policy->networks, policy->network_count, address);
    int hosts = most_exact(own, own_count, address);
    int denied = most_exact(net_special, net_special_count, address);
    if (hosts > denied)
        denied = hosts;
    if (denied > allowed)
        return NET_SPECIAL;
    return allowed >= 0 || !policy->listed ? NET_ALLOWED : NET_UNLISTED;
}
