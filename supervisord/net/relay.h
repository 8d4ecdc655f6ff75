/* Between a machine's device and passt: both are streams of Ethernet frames, each after its length
 * in four bytes. What the machine sends to where the gate's routes would not let it is taken out,
 * counted and refused at once, for passt tells a machine of no refusal. Nothing depends on it: what
 * goes past is the routes' to deny. Each way holds what one side has sent and the other has not
 * taken yet, and reads no more while that is much. */
#pragma once

#include "supervisord/net/gate.h"

#include <poll.h>

#define RELAY_FRAME_MAX ((size_t)72 << 10)
#define RELAY_SIZE ((size_t)256 << 10)

struct relay_way {
    unsigned char data[RELAY_SIZE];
    size_t ready;  /* whole frames, to be passed on */
    size_t length; /* with the beginning of one */
};

enum { RELAY_MACHINE, RELAY_PASST, RELAY_SIDES };

struct relay {
    struct gate *gate;
    int fds[RELAY_SIDES]; /* non-blocking; -1 where there is no machine */
    struct relay_way up, down;
};

/* What to wait for. */
void relay_watch(const struct relay *relay, struct pollfd watched[RELAY_SIDES]);
/* Does what can be done now. False: a side has ended, or said what is no frame. */
bool relay_run(struct relay *relay);
