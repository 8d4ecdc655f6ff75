/* A gRPC service for tests of the link, its messages plain bytes. "/hearth.test.Echo/" and:
 *   Unary    gives the message back
 *   Chat     gives each message back, until the caller ends
 *   Collect  gives the number of bytes of all the messages, as text
 *   Repeat   takes "COUNT SIZE", gives COUNT messages of SIZE bytes, as fast as the caller reads
 *   Never    says nothing
 *   Drop     cancels at the first message
 *   Fail     ends with INVALID_ARGUMENT and ECHO_FAILURE */
#pragma once

#include "guestagent/link.h"

#define ECHO_PATH "/hearth.test.Echo/"
#define ECHO_FAILURE "bad: 100% \xc3\xa9\n"

struct echo_service {
    unsigned started, accepted, ended, cancelled, half_closed;
    size_t received;    /* bytes of messages */
    size_t sent;        /* bytes of messages that Repeat queued */
    size_t queued_most; /* by one call of Repeat */
    enum link_status last_status;
};

/* link_events::on_call; arg is a struct echo_service. */
void echo_on_call(struct link *link, void *arg, struct link_call *call, const char *path);
