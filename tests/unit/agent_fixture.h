/* An agent in the test's own process, on a workspace of the test's own, and its caller: both in one
 * event loop, a link between them. */
#pragma once

#include "agent.pb-c.h"
#include "base/buf.h"
#include "guestagent/link.h"

#include <stdbool.h>

/* A call and what came of it. Zero-initialise it. */
struct asked {
    struct link_call *call; /* NULL after the end */
    struct buf last;        /* the latest message, packed */
    struct buf data;        /* of all FileReadReply together */
    bool ended;
    enum link_status status;
    char text[256];
};

extern char workspace[64];

/* Before and after each test. */
void agent_setup(void);
void agent_teardown(void);

/* Opens a call; further messages go out by link_call_send. */
void ask_begin(struct asked *asked, const char *method);
/* Turns the loop until the call has ended; frees nothing. Gives its status. */
enum link_status ask_end(struct asked *asked);
/* One request to its end, of which last is the reply. */
enum link_status ask(struct asked *asked, const char *method, const ProtobufCMessage *request);
void asked_free(struct asked *asked);
