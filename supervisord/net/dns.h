/* DNS messages (RFC 1035), as far as a resolver needs them that finds addresses of names and knows
 * nothing else. Whatever is read may be hostile: nothing is believed about lengths, and what is
 * compressed is skipped, not followed. Pure, any thread. */
#pragma once

#include "supervisord/net/policy.h"

#define DNS_MESSAGE_SIZE 512
#define DNS_ADDRESSES_MAX 12 /* with the longest name they fit into a message */
#define DNS_QUESTION_SIZE (255 + 4)

enum { DNS_A = 1 };
enum { DNS_OK = 0, DNS_FORMERR = 1, DNS_SERVFAIL = 2, DNS_NXDOMAIN = 3, DNS_NOTIMP = 4 };

struct dns_question {
    uint16_t id, type;
    bool recursion;
    char name[NET_NAME_MAX + 1];            /* lower case; letters, digits, - and _ */
    unsigned char bytes[DNS_QUESTION_SIZE]; /* as it was asked, to be repeated */
    size_t size;                            /* 0: it could not be read */
};

struct dns_answer {
    unsigned code;
    size_t count;
    struct {
        uint32_t address, ttl_seconds;
    } items[DNS_ADDRESSES_MAX];
};

/* Gives DNS_OK, the code to answer with, or -1 where there is nothing to answer. */
int dns_read_query(const unsigned char *message, size_t length, struct dns_question *ret_question);
/* Asks for the addresses of a name that dns_read_query gave. Gives the length. */
size_t dns_write_query(unsigned char out[DNS_MESSAGE_SIZE], const struct dns_question *question,
                       uint16_t id);
/* False where it is no answer to that. What does not fit is dropped. */
bool dns_read_answer(const unsigned char *message, size_t length,
                     const struct dns_question *question, uint16_t id,
                     struct dns_answer *ret_answer);
size_t dns_write_answer(unsigned char out[DNS_MESSAGE_SIZE], const struct dns_question *question,
                        const struct dns_answer *answer);
