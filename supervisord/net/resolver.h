/* The guest's name server, in the gate: finds IPv4 addresses of the names that the policy lets the
 * guest look up, by asking the host's first name server, and gives on only those that it may
 * reach. There are no other records. Bounded: questions under way, and how many a second. */
#pragma once

#include "supervisord/net/dns.h"
#include "supervisord/net/gate.h"

#include <poll.h>

#define RESOLVER_UNDERWAY_MAX 32

struct resolver_asked {
    int fd; /* to the host's name server, in the host's network; -1: there is none */
    bool waiting;
    uint16_t id;
    int64_t asked_us;
    uint32_t peer_address; /* network byte order */
    uint16_t peer_port;
    struct dns_question question;
};

struct resolver {
    struct gate *gate;
    int listen_fd;
    double allowance; /* of questions */
    int64_t allowance_us;
    struct resolver_asked asked[RESOLVER_UNDERWAY_MAX];
};

/* In the host's network namespace. A host without a name server is no error. */
void resolver_open_upstream(struct resolver *resolver);
/* In the gate, which has NET_NAME_SERVER for an address of its own. A negative errno. */
int resolver_listen(struct resolver *resolver, struct gate *gate);

/* listen_fd is readable; the fd of one that was asked is. */
void resolver_questions(struct resolver *resolver);
void resolver_answer(struct resolver *resolver, struct resolver_asked *asked);
