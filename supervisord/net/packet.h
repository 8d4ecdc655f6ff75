/* Packets that were denied: what they were for, and how their sender is told. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PACKET_REPLY_SIZE 40

struct packet {
    uint32_t source, destination; /* host byte order */
    uint16_t port;                /* of the destination; 0: it has none */
    uint8_t protocol;
};

/* An IPv4 packet. False where it is none that could be told of. Fills reply (a TCP reset) and its
 * length, 0 where none is due. */
bool packet_read(const unsigned char *data, size_t length, struct packet *ret_packet,
                 unsigned char reply[PACKET_REPLY_SIZE], size_t *ret_reply_length);
