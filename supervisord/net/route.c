#include "supervisord/net/route.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct message {
    struct nlmsghdr head;
    struct rtmsg route;
    char attributes[64];
};

int route_open(void)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    return fd < 0 ? -errno : fd;
}

static void add(struct message *message, unsigned short type, uint32_t value)
{
    struct rtattr head = {.rta_len = RTA_LENGTH(sizeof value), .rta_type = type};
    char *at = (char *)message + NLMSG_ALIGN(message->head.nlmsg_len);
    memcpy(at, &head, sizeof head);
    memcpy(at + RTA_LENGTH(0), &value, sizeof value);
    message->head.nlmsg_len = NLMSG_ALIGN(message->head.nlmsg_len) + RTA_LENGTH(sizeof value);
}

/* The kernel has answered when send returns. */
static int ask(int fd, struct message *message)
{
    struct {
        struct nlmsghdr head;
        struct nlmsgerr error;
        char rest[512];
    } answer;
    if (send(fd, message, message->head.nlmsg_len, 0) < 0)
        return -errno;
    ssize_t got = recv(fd, &answer, sizeof answer, 0);
    if (got < 0)
        return -errno;
    if ((size_t)got < sizeof answer.head + sizeof answer.error.error ||
        answer.head.nlmsg_type != NLMSG_ERROR)
        return -EPROTO;
    return answer.error.error;
}

static struct message begin(unsigned short type, unsigned short flags,
                            const struct net_prefix *prefix)
{
    struct message message = {.head = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)),
                                       .nlmsg_type = type,
                                       .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags},
                              .route = {.rtm_family = AF_INET,
                                        .rtm_dst_len = (unsigned char)prefix->length,
                                        .rtm_table = RT_TABLE_MAIN,
                                        .rtm_protocol = RTPROT_STATIC,
                                        .rtm_scope = RT_SCOPE_UNIVERSE,
                                        .rtm_type = RTN_UNICAST}};
    add(&message, RTA_DST, htonl(prefix->address));
    return message;
}

int route_set(int fd, const struct net_prefix *prefix, unsigned interface)
{
    struct message message = begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, prefix);
    message.route.rtm_scope = RT_SCOPE_LINK;
    add(&message, RTA_OIF, interface);
    return ask(fd, &message);
}

int route_remove(int fd, const struct net_prefix *prefix)
{
    struct message message = begin(RTM_DELROUTE, 0, prefix);
    message.route.rtm_scope = RT_SCOPE_NOWHERE;
    message.route.rtm_protocol = RTPROT_UNSPEC;
    int error = ask(fd, &message);
    return error == -ESRCH ? 0 : error;
}
