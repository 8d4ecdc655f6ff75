#include "supervisord/net/gate.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "supervisord/net/net.h"
#include "supervisord/net/route.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define POLICY_TEXT_SIZE ((size_t)64 << 10)
/* How long an address is reached because of its name, whatever the name server says. */
#define TTL_MIN_S 60
#define TTL_MAX_S 3600
#define PACKETS_AT_ONCE 64

static int read_policy(const struct gate *gate, struct net_policy *policy)
{
    static char text[POLICY_TEXT_SIZE];
    ssize_t got = pread(gate->policy_fd, text, sizeof text - 1, 0);
    if (got < 0)
        return -errno;
    text[got] = '\0';
    return net_policy_parse(policy, text) ? 0 : -EBADMSG;
}

int gate_open_files(struct gate *gate, const char *policy_path, const char *log_path)
{
    gate->policy_fd = open(policy_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    gate->change_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (gate->policy_fd < 0 || gate->change_fd < 0 ||
        inotify_add_watch(gate->change_fd, policy_path, IN_MODIFY | IN_CLOSE_WRITE) < 0)
        return -errno;
    int log_fd = open(log_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log_fd < 0)
        return -errno;
    gate->log = net_log_map(log_fd);
    int error = gate->log ? 0 : -errno;
    close(log_fd);
    return error ? error : read_policy(gate, &gate->policy);
}

/* Gives its descriptor. */
static int open_tun(void)
{
    struct ifreq request = {.ifr_name = GATE_DENY, .ifr_flags = IFF_TUN | IFF_NO_PI};
    auto_close int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    auto_close int any_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || any_fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0 ||
        ioctl(any_fd, SIOCGIFFLAGS, &request) < 0)
        return -errno;
    request.ifr_flags |= IFF_UP;
    return ioctl(any_fd, SIOCSIFFLAGS, &request) < 0 ? -errno : steal_fd(&fd);
}

/* --- routes --- */

static const struct net_prefix everything = {0, 0};

static bool has(const struct net_prefix *prefixes, size_t count, const struct net_prefix *one)
{
    for (size_t i = 0; i < count; i++)
        if (prefixes[i].address == one->address && prefixes[i].length == one->length)
            return true;
    return false;
}

static bool allowed(const struct net_policy *policy, const struct net_prefix *prefix)
{
    return has(policy->networks, policy->network_count, prefix);
}

static int set_all(const struct gate *gate, const struct gate_side *side,
                   const struct net_prefix *prefixes, size_t count, unsigned interface)
{
    int error = 0;
    for (size_t i = 0; !error && i < count; i++)
        if (interface == side->out || !allowed(&gate->policy, &prefixes[i]))
            error = route_set(side->route_fd, &prefixes[i], interface);
    return error;
}

static int set_routes(const struct gate *gate, const struct gate_side *side)
{
    const struct net_policy *policy = &gate->policy;
    int error = set_all(gate, side, net_special, net_special_count, side->deny);
    if (!error)
        error = set_all(gate, side, gate->own, gate->own_count, side->deny);
    if (!error)
        error = set_all(gate, side, policy->networks, policy->network_count, side->out);
    if (!error && !allowed(policy, &everything))
        error = route_set(side->route_fd, &everything, policy->listed ? side->deny : side->out);
    return error;
}

int gate_open_side(struct gate *gate, const char *out)
{
    struct gate_side *side = &gate->sides[gate->side_count];
    side->tun_fd = open_tun();
    side->route_fd = route_open();
    side->out = if_nametoindex(out);
    side->deny = if_nametoindex(GATE_DENY);
    if (side->tun_fd < 0 || side->route_fd < 0)
        return side->tun_fd < 0 ? side->tun_fd : side->route_fd;
    if (!side->out || !side->deny)
        return -ENODEV;
    gate->side_count++;
    return set_routes(gate, side);
}

static void remove_routes(const struct gate *gate, const struct net_prefix *prefix)
{
    for (size_t i = 0; i < gate->side_count; i++)
        (void)route_remove(gate->sides[i].route_fd, prefix);
}

/* What names of the list have made is a route for one address, which may have more names. */
static void forget_route(const struct gate *gate, struct gate_known *known)
{
    struct net_prefix prefix = {known->address, 32};
    known->routed = false;
    for (size_t i = 0; i < GATE_KNOWN_MAX; i++)
        if (gate->known[i].routed && gate->known[i].address == known->address)
            return;
    if (!allowed(&gate->policy, &prefix))
        remove_routes(gate, &prefix);
}

void gate_policy_changed(struct gate *gate)
{
    static struct net_policy before;
    static struct net_policy next;
    char events[4096];
    while (read(gate->change_fd, events, sizeof events) > 0)
        continue;
    if (read_policy(gate, &next)) /* it is being written: another event follows */
        return;
    before = gate->policy;
    gate->policy = next;
    for (size_t i = 0; i < before.network_count; i++)
        if (!allowed(&gate->policy, &before.networks[i]))
            remove_routes(gate, &before.networks[i]);
    for (size_t i = 0; i < gate->side_count; i++)
        (void)set_routes(gate, &gate->sides[i]);
    for (size_t i = 0; i < GATE_KNOWN_MAX; i++) {
        struct gate_known *known = &gate->known[i];
        if (known->routed &&
            (!gate->policy.listed || !net_policy_names(&gate->policy, known->name)))
            forget_route(gate, known);
    }
}

/* --- names --- */

/* name may be NULL: any. */
static struct gate_known *find(struct gate *gate, uint32_t address, const char *name)
{
    for (size_t i = 0; i < GATE_KNOWN_MAX; i++) {
        struct gate_known *known = &gate->known[i];
        if (*known->name && known->address == address && (!name || strcmp(known->name, name) == 0))
            return known;
    }
    return NULL;
}

/* Its own place, a free one, or that of the one which expires first. */
static struct gate_known *place_for(struct gate *gate, uint32_t address, const char *name)
{
    struct gate_known *place = find(gate, address, name);
    for (size_t i = 0; !place && i < GATE_KNOWN_MAX; i++)
        if (!*gate->known[i].name)
            place = &gate->known[i];
    if (place)
        return place;
    place = gate->known;
    for (size_t i = 0; i < GATE_KNOWN_MAX; i++)
        if (gate->known[i].expires_us < place->expires_us)
            place = &gate->known[i];
    if (place->routed)
        forget_route(gate, place);
    return place;
}

bool gate_learn(struct gate *gate, const char *name, uint32_t address, uint32_t *ttl_seconds)
{
    enum net_verdict verdict =
        net_policy_reaches(&gate->policy, gate->own, gate->own_count, address);
    struct net_prefix prefix = {address, 32};
    if (verdict == NET_SPECIAL) {
        struct net_log_entry entry = {.address = address, .decision = NET_DENIED_ANSWER};
        snprintf(entry.name, sizeof entry.name, "%s", name);
        net_log_add(gate->log, &entry);
        return false;
    }
    if (*ttl_seconds > TTL_MAX_S)
        *ttl_seconds = TTL_MAX_S;
    uint32_t kept = *ttl_seconds < TTL_MIN_S ? TTL_MIN_S : *ttl_seconds;
    struct gate_known *known = place_for(gate, address, name);
    for (size_t i = 0; verdict == NET_UNLISTED && i < gate->side_count; i++)
        if (route_set(gate->sides[i].route_fd, &prefix, gate->sides[i].out))
            return false;
    known->address = address;
    known->routed = verdict == NET_UNLISTED;
    known->expires_us = clock_monotonic_us() + kept * US_PER_S;
    snprintf(known->name, sizeof known->name, "%s", name);
    return true;
}

void gate_deny_name(struct gate *gate, const char *name)
{
    struct net_log_entry entry = {.decision = NET_DENIED_NAME};
    snprintf(entry.name, sizeof entry.name, "%s", name);
    net_log_add(gate->log, &entry);
}

/* Whether a TCP connection to it is open. What the kernel says of the gate's sockets is as long as
 * the guest's limits on open files let it be. */
static bool in_use(uint32_t address)
{
    char line[256];
    bool found = false;
    FILE *sockets = fopen("/proc/self/net/tcp", "re");
    while (!found && sockets && fgets(line, sizeof line, sockets)) {
        unsigned remote, state;
        if (sscanf(line, " %*d: %*x:%*x %x:%*x %x", &remote, &state) == 2)
            found = remote == htonl(address) && state == 1;
    }
    if (sockets)
        fclose(sockets);
    return found;
}

int gate_expire(struct gate *gate)
{
    int64_t now = clock_monotonic_us(), next = INT64_MAX;
    for (size_t i = 0; i < GATE_KNOWN_MAX; i++) {
        struct gate_known *known = &gate->known[i];
        if (!known->routed)
            continue;
        if (known->expires_us <= now && in_use(known->address))
            known->expires_us = now + TTL_MIN_S * US_PER_S;
        if (known->expires_us <= now)
            forget_route(gate, known);
        else if (known->expires_us < next)
            next = known->expires_us;
    }
    return next == INT64_MAX ? -1 : (int)((next - now) / US_PER_MS) + 1;
}

/* --- what is denied --- */

static void count(struct gate *gate, const struct packet *packet)
{
    struct net_log_entry entry = {.address = packet->destination,
                                  .port = packet->port,
                                  .protocol = packet->protocol,
                                  .decision = NET_DENIED_ADDRESS};
    const struct gate_known *known = find(gate, packet->destination, NULL);
    if (known)
        snprintf(entry.name, sizeof entry.name, "%s", known->name);
    net_log_add(gate->log, &entry);
}

bool gate_refuses(struct gate *gate, const unsigned char *data, size_t length,
                  unsigned char reply[PACKET_REPLY_SIZE], size_t *ret_reply_length)
{
    struct packet packet;
    if (!packet_read(data, length, &packet, reply, ret_reply_length) ||
        packet.destination == ntohl(inet_addr(NET_NAME_SERVER)))
        return false;
    enum net_verdict verdict =
        net_policy_reaches(&gate->policy, gate->own, gate->own_count, packet.destination);
    for (size_t i = 0; verdict == NET_UNLISTED && i < GATE_KNOWN_MAX; i++)
        if (gate->known[i].routed && gate->known[i].address == packet.destination)
            verdict = NET_ALLOWED;
    if (verdict == NET_ALLOWED)
        return false;
    count(gate, &packet);
    return true;
}

void gate_packets(struct gate *gate, const struct gate_side *side)
{
    unsigned char data[2048], reply[PACKET_REPLY_SIZE];
    size_t reply_length;
    struct packet packet;
    for (int i = 0; i < PACKETS_AT_ONCE; i++) {
        ssize_t got = read(side->tun_fd, data, sizeof data);
        if (got <= 0)
            return;
        if (!packet_read(data, (size_t)got, &packet, reply, &reply_length))
            continue;
        count(gate, &packet);
        if (reply_length && write(side->tun_fd, reply, reply_length) < 0)
            continue; /* its sender tries again */
    }
}
