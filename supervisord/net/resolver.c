#include "supervisord/net/resolver.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "supervisord/net/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT 53
#define QUESTIONS_PER_SECOND 100.0
#define QUESTIONS_AT_ONCE 64
#define OWN_PORTS_FROM 20000
#define OWN_PORTS (32768 - OWN_PORTS_FROM)
#define OWN_PORT_TRIES 100

static bool host_name_server(struct sockaddr_in *ret_address)
{
    char line[512], text[INET_ADDRSTRLEN];
    bool found = false;
    FILE *file = fopen("/etc/resolv.conf", "re");
    *ret_address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(PORT)};
    while (!found && file && fgets(line, sizeof line, file))
        found = sscanf(line, "nameserver %15s", text) == 1 &&
                inet_pton(AF_INET, text, &ret_address->sin_addr) == 1;
    if (file)
        fclose(file);
    return found;
}

/* A port below those that Linux chooses from by itself: what a guest sends by UDP leaves the host
 * from the port that its program has there, and is dropped where that is somebody's (Debian 12's
 * passt). */
static void take_own_port(int fd)
{
    struct sockaddr_in own = {.sin_family = AF_INET};
    for (int i = 0; i < OWN_PORT_TRIES; i++) {
        own.sin_port = htons((uint16_t)(OWN_PORTS_FROM + arc4random_uniform(OWN_PORTS)));
        if (bind(fd, (const struct sockaddr *)&own, sizeof own) == 0)
            return;
    }
}

static int open_upstream(const struct sockaddr_in *server)
{
    auto_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    take_own_port(fd);
    /* Connected: it hears nobody else. */
    if (connect(fd, (const struct sockaddr *)server, sizeof *server) < 0)
        return -1;
    return steal_fd(&fd);
}

void resolver_open_upstream(struct resolver *resolver)
{
    struct sockaddr_in server;
    bool found = host_name_server(&server);
    for (size_t i = 0; i < RESOLVER_UNDERWAY_MAX; i++)
        resolver->asked[i].fd = found ? open_upstream(&server) : -1;
}

int resolver_listen(struct resolver *resolver, struct gate *gate)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    inet_pton(AF_INET, NET_NAME_SERVER, &address.sin_addr);
    resolver->gate = gate;
    resolver->allowance_us = clock_monotonic_us();
    resolver->listen_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (resolver->listen_fd < 0 ||
        bind(resolver->listen_fd, (const struct sockaddr *)&address, sizeof address) < 0)
        return -errno;
    return 0;
}

static void reply(const struct resolver *resolver, const struct resolver_asked *asked,
                  const struct dns_answer *answer)
{
    unsigned char message[DNS_MESSAGE_SIZE];
    struct sockaddr_in peer = {.sin_family = AF_INET,
                               .sin_port = asked->peer_port,
                               .sin_addr.s_addr = asked->peer_address};
    size_t length = dns_write_answer(message, &asked->question, answer);
    (void)sendto(resolver->listen_fd, message, length, 0, (const struct sockaddr *)&peer,
                 sizeof peer);
}

/* More than a program needs; a flood is not handed on to the host's name server. */
static bool take_allowance(struct resolver *resolver)
{
    int64_t now = clock_monotonic_us();
    resolver->allowance +=
        (double)(now - resolver->allowance_us) * QUESTIONS_PER_SECOND / (double)US_PER_S;
    resolver->allowance_us = now;
    if (resolver->allowance > QUESTIONS_PER_SECOND)
        resolver->allowance = QUESTIONS_PER_SECOND;
    if (resolver->allowance < 1)
        return false;
    resolver->allowance--;
    return true;
}

/* A free one, or the one that has waited longest: who asked has given up by then or asks again. */
static struct resolver_asked *take_place(struct resolver *resolver)
{
    struct resolver_asked *oldest = resolver->asked;
    for (size_t i = 0; i < RESOLVER_UNDERWAY_MAX; i++) {
        struct resolver_asked *asked = &resolver->asked[i];
        if (!asked->waiting)
            return asked;
        if (asked->asked_us < oldest->asked_us)
            oldest = asked;
    }
    return oldest;
}

static void ask(struct resolver *resolver, const struct resolver_asked *from)
{
    unsigned char message[DNS_MESSAGE_SIZE];
    struct resolver_asked *asked = take_place(resolver);
    int fd = asked->fd;
    *asked = *from;
    asked->fd = fd;
    asked->asked_us = clock_monotonic_us();
    if (getrandom(&asked->id, sizeof asked->id, 0) != sizeof asked->id)
        return;
    size_t length = dns_write_query(message, &asked->question, asked->id);
    asked->waiting = fd >= 0 && send(fd, message, length, 0) == (ssize_t)length;
    if (!asked->waiting)
        reply(resolver, asked, &(struct dns_answer){.code = DNS_SERVFAIL});
}

static void question(struct resolver *resolver, struct resolver_asked *from, int code)
{
    struct dns_answer answer = {.code = (unsigned)code};
    if (code == DNS_OK && !net_policy_names(&resolver->gate->policy, from->question.name)) {
        gate_deny_name(resolver->gate, from->question.name);
        answer.code = DNS_NXDOMAIN;
    } else if (code == DNS_OK && from->question.type == DNS_A) {
        if (take_allowance(resolver))
            ask(resolver, from);
        return;
    }
    reply(resolver, from, &answer);
}

void resolver_questions(struct resolver *resolver)
{
    unsigned char message[DNS_MESSAGE_SIZE];
    struct sockaddr_in peer;
    for (int i = 0; i < QUESTIONS_AT_ONCE; i++) {
        socklen_t size = sizeof peer;
        ssize_t got = recvfrom(resolver->listen_fd, message, sizeof message, 0,
                               (struct sockaddr *)&peer, &size);
        if (got < 0)
            return;
        struct resolver_asked from = {.peer_address = peer.sin_addr.s_addr,
                                      .peer_port = peer.sin_port};
        int code = dns_read_query(message, (size_t)got, &from.question);
        if (code >= 0)
            question(resolver, &from, code);
    }
}

void resolver_answer(struct resolver *resolver, struct resolver_asked *asked)
{
    unsigned char message[4096];
    struct dns_answer answer;
    ssize_t got = recv(asked->fd, message, sizeof message, 0);
    if (got < 0 || !asked->waiting ||
        !dns_read_answer(message, (size_t)got, &asked->question, asked->id, &answer))
        return;
    size_t found = answer.count;
    answer.count = 0;
    /* The list may have changed since it was asked. */
    bool wanted = net_policy_names(&resolver->gate->policy, asked->question.name);
    for (size_t i = 0; wanted && i < found; i++)
        if (gate_learn(resolver->gate, asked->question.name, answer.items[i].address,
                       &answer.items[i].ttl_seconds))
            answer.items[answer.count++] = answer.items[i];
    if (found && !answer.count)
        answer.code = DNS_NXDOMAIN;
    asked->waiting = false;
    reply(resolver, asked, &answer);
}
