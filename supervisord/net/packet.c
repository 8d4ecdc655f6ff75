#include "supervisord/net/packet.h"

#include <arpa/inet.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>

static uint32_t sum(uint32_t total, const void *data, size_t length)
{
    const unsigned char *at = data;
    for (size_t i = 0; i < length; i++)
        total += i % 2 ? at[i] : (uint32_t)at[i] << 8;
    return total;
}

static uint16_t checksum(uint32_t total)
{
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return htons((uint16_t)~total);
}

/* RFC 9293, 3.5.2: to what carries an acknowledgement a reset with that number, else one that
 * acknowledges what came. */
static size_t write_reset(unsigned char reply[PACKET_REPLY_SIZE], const struct iphdr *ip,
                          const struct tcphdr *tcp)
{
    struct iphdr head = {.version = 4,
                         .ihl = 5,
                         .tot_len = htons(PACKET_REPLY_SIZE),
                         .ttl = 64,
                         .protocol = IPPROTO_TCP,
                         .saddr = ip->daddr,
                         .daddr = ip->saddr};
    struct tcphdr reset = {.source = tcp->dest, .dest = tcp->source, .doff = 5, .rst = 1};
    if (tcp->ack) {
        reset.seq = tcp->ack_seq;
    } else {
        uint32_t data = ntohs(ip->tot_len) - (uint32_t)ip->ihl * 4 - (uint32_t)tcp->doff * 4;
        reset.ack = 1;
        reset.ack_seq = htonl(ntohl(tcp->seq) + tcp->syn + data);
    }
    head.check = checksum(sum(0, &head, sizeof head));
    uint32_t total = sum(IPPROTO_TCP + sizeof reset, &head.saddr, 8);
    reset.check = checksum(sum(total, &reset, sizeof reset));
    memcpy(reply, &head, sizeof head);
    memcpy(reply + sizeof head, &reset, sizeof reset);
    return PACKET_REPLY_SIZE;
}

bool packet_read(const unsigned char *data, size_t length, struct packet *ret_packet,
                 unsigned char reply[PACKET_REPLY_SIZE], size_t *ret_reply_length)
{
    struct iphdr ip;
    struct tcphdr tcp;
    struct udphdr udp;
    *ret_reply_length = 0;
    if (length < sizeof ip)
        return false;
    memcpy(&ip, data, sizeof ip);
    size_t head = (size_t)ip.ihl * 4;
    if (ip.version != 4 || head < sizeof ip || head > length)
        return false;
    *ret_packet = (struct packet){
        .source = ntohl(ip.saddr), .destination = ntohl(ip.daddr), .protocol = ip.protocol};
    if (ip.protocol == IPPROTO_UDP && length >= head + sizeof udp) {
        memcpy(&udp, data + head, sizeof udp);
        ret_packet->port = ntohs(udp.dest);
    } else if (ip.protocol == IPPROTO_TCP && length >= head + sizeof tcp) {
        memcpy(&tcp, data + head, sizeof tcp);
        ret_packet->port = ntohs(tcp.dest);
        if (!tcp.rst)
            *ret_reply_length = write_reset(reply, &ip, &tcp);
    }
    return true;
}
