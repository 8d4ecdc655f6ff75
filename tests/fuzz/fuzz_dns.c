/* supervisord/net/dns.c and packet.c: what a guest asks and sends, and what a name server answers.
 * The first byte says which. */
#include "fuzz.h"

#include "supervisord/net/dns.h"
#include "supervisord/net/packet.h"

#include <string.h>

static void check_query(const uint8_t *data, size_t size)
{
    unsigned char out[DNS_MESSAGE_SIZE];
    struct dns_question question, again;
    int code = dns_read_query(data, size, &question);
    if (code < 0)
        return;
    struct dns_answer answer = {.code = (unsigned)code, .count = DNS_ADDRESSES_MAX}, back;
    if (code != DNS_OK)
        answer.count = 0;
    size_t length = dns_write_answer(out, &question, &answer);
    PROMISE(length <= sizeof out);
    if (code != DNS_OK)
        return;
    PROMISE(strlen(question.name) <= NET_NAME_MAX);
    PROMISE(dns_read_answer(out, length, &question, question.id, &back));
    PROMISE(back.count == DNS_ADDRESSES_MAX && back.code == 0);
    length = dns_write_query(out, &question, 7);
    PROMISE(dns_read_query(out, length, &again) == DNS_OK);
    PROMISE(strcmp(again.name, question.name) == 0 && again.id == 7);
}

static void check_answer(const uint8_t *data, size_t size)
{
    static const unsigned char query[] = "\1\2\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1";
    struct dns_question question;
    struct dns_answer answer;
    PROMISE(dns_read_query(query, sizeof query - 1, &question) == DNS_OK);
    if (dns_read_answer(data, size, &question, 0x0102, &answer))
        PROMISE(answer.count <= DNS_ADDRESSES_MAX && answer.code <= 15);
}

static void check_packet(const uint8_t *data, size_t size)
{
    unsigned char reply[PACKET_REPLY_SIZE], none[PACKET_REPLY_SIZE];
    struct packet packet, answer;
    size_t length, more;
    if (!packet_read(data, size, &packet, reply, &length) || !length)
        return;
    /* To a reset there is no reset. */
    PROMISE(packet_read(reply, length, &answer, none, &more) && more == 0);
    PROMISE(answer.source == packet.destination && answer.destination == packet.source);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] == 'q')
        check_query(data + 1, size - 1);
    else if (data[0] == 'a')
        check_answer(data + 1, size - 1);
    else
        check_packet(data + 1, size - 1);
    return 0;
}
