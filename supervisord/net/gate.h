/* What stands between a guest and the network: the gate's routes, which say what is reached, and
 * the names that made some of them. What is denied is routed to a tun interface whose other end is
 * held here: it is counted, and TCP is answered with a reset. The guest's own namespace, where it
 * has one that we may change, has the same routes and such an interface too: a refusal there is
 * seen at once, while pasta tells a guest of none. Nothing depends on them. Belongs to hearth-net.
 * Blocks only for the kernel's answers. */
#pragma once

#include "supervisord/net/log.h"
#include "supervisord/net/packet.h"
#include "supervisord/net/policy.h"

#define GATE_OUT "out"   /* to the internet */
#define GATE_DENY "deny" /* to us */
#define GATE_OWN_MAX 256
#define GATE_KNOWN_MAX 512

struct gate_known { /* an address that a name had */
    uint32_t address;
    bool routed;                 /* reached because of it */
    int64_t expires_us;          /* CLOCK_MONOTONIC */
    char name[NET_NAME_MAX + 1]; /* "": the place is free */
};

/* A network namespace with the routes. */
struct gate_side {
    int tun_fd, route_fd;
    unsigned out, deny; /* interfaces */
};
enum { GATE_SIDES_MAX = 2 };

struct gate {
    int policy_fd, change_fd; /* the text, and an inotify descriptor that tells of writes to it */
    struct gate_side sides[GATE_SIDES_MAX]; /* the gate's first */
    size_t side_count;
    struct net_policy policy;
    struct net_prefix own[GATE_OWN_MAX]; /* the host's */
    size_t own_count;
    struct net_log *log;
    struct gate_known known[GATE_KNOWN_MAX];
};

/* Outside, with the daemon's privileges: opens both files and reads the policy. A negative errno.
 */
int gate_open_files(struct gate *gate, const char *policy_path, const char *log_path);
/* In the gate, then in the guest's namespace, where the way out is the interface `out`, and is up:
 * makes the tun interface and every route. A negative errno. */
int gate_open_side(struct gate *gate, const char *out);

/* change_fd is readable; a side's tun_fd is. */
void gate_policy_changed(struct gate *gate);
void gate_packets(struct gate *gate, const struct gate_side *side);

/* A machine's packet, before the routes have it: whether it is for where they do not lead. Then it
 * is counted, and answered as packet_read says. */
bool gate_refuses(struct gate *gate, const unsigned char *data, size_t length,
                  unsigned char reply[PACKET_REPLY_SIZE], size_t *ret_reply_length);

/* A name that may be looked up has this address: whether the guest may have it. */
bool gate_learn(struct gate *gate, const char *name, uint32_t address, uint32_t *ttl_seconds);
void gate_deny_name(struct gate *gate, const char *name);
/* Takes back what has expired. Gives the milliseconds until something does, -1 for nothing. */
int gate_expire(struct gate *gate);
