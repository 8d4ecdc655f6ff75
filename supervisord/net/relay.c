#include "supervisord/net/relay.h"

#include "supervisord/net/packet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/ethernet.h>
#include <string.h>
#include <unistd.h>

#define LENGTH_SIZE sizeof(uint32_t)

void relay_watch(const struct relay *relay, struct pollfd watched[RELAY_SIDES])
{
    const struct relay_way *from[] = {&relay->up, &relay->down}, *to[] = {&relay->down, &relay->up};
    for (int side = 0; side < RELAY_SIDES; side++)
        watched[side] = (struct pollfd){
            .fd = relay->fds[side],
            .events = (short)((from[side]->length < RELAY_SIZE ? POLLIN : 0) |
                              (to[side]->ready ? POLLOUT : 0)),
        };
}

/* To the machine, between two frames; where there is no room its sender tries again. */
static void answer(struct relay *relay, const struct ether_header *frame,
                   const unsigned char *packet, size_t length)
{
    struct relay_way *way = &relay->down;
    struct ether_header head = {.ether_type = frame->ether_type};
    uint32_t size = htonl((uint32_t)(sizeof head + length));
    unsigned char *at = way->data + way->ready;
    size_t total = LENGTH_SIZE + sizeof head + length;
    if (total > RELAY_SIZE - way->length)
        return;
    memcpy(head.ether_dhost, frame->ether_shost, ETH_ALEN);
    memcpy(head.ether_shost, frame->ether_dhost, ETH_ALEN);
    memmove(at + total, at, way->length - way->ready);
    memcpy(at, &size, sizeof size);
    memcpy(at + LENGTH_SIZE, &head, sizeof head);
    memcpy(at + LENGTH_SIZE + sizeof head, packet, length);
    way->ready += total;
    way->length += total;
}

/* A frame of the machine's: whether it goes no further. */
static bool refused(struct relay *relay, const unsigned char *data, size_t length)
{
    unsigned char reply[PACKET_REPLY_SIZE];
    size_t reply_length;
    struct ether_header head;
    if (length < sizeof head)
        return false;
    memcpy(&head, data, sizeof head);
    if (ntohs(head.ether_type) != ETHERTYPE_IP ||
        !gate_refuses(relay->gate, data + sizeof head, length - sizeof head, reply, &reply_length))
        return false;
    if (reply_length)
        answer(relay, &head, reply, reply_length);
    return true;
}

static bool take_frames(struct relay *relay, struct relay_way *way)
{
    uint32_t size;
    while (way->length - way->ready >= sizeof size) {
        unsigned char *at = way->data + way->ready;
        memcpy(&size, at, sizeof size);
        size_t total = sizeof size + ntohl(size);
        if (total > RELAY_FRAME_MAX)
            return false;
        if (way->length - way->ready < total)
            return true;
        if (way == &relay->up && refused(relay, at + sizeof size, total - sizeof size)) {
            way->length -= total;
            memmove(at, at + total, way->length - way->ready);
        } else {
            way->ready += total;
        }
    }
    return true;
}

static bool waits(ssize_t result)
{
    return result < 0 && (errno == EAGAIN || errno == EINTR);
}

static bool pass(struct relay *relay, struct relay_way *way, int from, int to)
{
    if (way->length < RELAY_SIZE) {
        ssize_t got = read(from, way->data + way->length, RELAY_SIZE - way->length);
        if (got <= 0 && !waits(got))
            return false;
        way->length += got > 0 ? (size_t)got : 0;
    }
    if (!take_frames(relay, way))
        return false;
    if (way->ready) {
        ssize_t put = write(to, way->data, way->ready);
        if (put < 0 && !waits(put))
            return false;
        size_t gone = put > 0 ? (size_t)put : 0;
        way->ready -= gone;
        way->length -= gone;
        memmove(way->data, way->data + gone, way->length);
    }
    return true;
}

bool relay_run(struct relay *relay)
{
    const int *fds = relay->fds;
    return pass(relay, &relay->up, fds[RELAY_MACHINE], fds[RELAY_PASST]) &&
           pass(relay, &relay->down, fds[RELAY_PASST], fds[RELAY_MACHINE]);
}
