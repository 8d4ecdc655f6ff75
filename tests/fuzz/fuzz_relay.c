/* supervisord/net/relay.c: what a hostile machine sends, over real sockets. The first byte says how
 * much of it comes at a time. */
#include "fuzz.h"

#include "supervisord/net/relay.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void drain(int fd)
{
    char data[4096];
    while (read(fd, data, sizeof data) > 0)
        continue;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct net_log records;
    static struct gate gate = {.log = &records};
    static struct relay relay = {.gate = &gate};
    int machine[2], passt[2];
    if (size < 2)
        return 0;
    PROMISE(net_policy_parse(&gate.policy, data[0] & 1 ? "listed\n.\n" : "open\n.\n"));
    PROMISE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, machine) == 0);
    PROMISE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, passt) == 0);
    relay.fds[RELAY_MACHINE] = machine[0];
    relay.fds[RELAY_PASST] = passt[0];
    relay.up.ready = relay.up.length = relay.down.ready = relay.down.length = 0;
    size_t piece = (size_t)data[0] * 7 + 1;
    for (size_t at = 1; at < size; at += piece) {
        size_t length = size - at < piece ? size - at : piece;
        PROMISE(write(machine[1], data + at, length) == (ssize_t)length);
        bool goes_on = relay_run(&relay);
        PROMISE(relay.up.ready <= relay.up.length && relay.up.length <= RELAY_SIZE);
        PROMISE(relay.down.ready == relay.down.length && relay.down.length <= RELAY_SIZE);
        if (!goes_on)
            break;
        drain(machine[1]);
        drain(passt[1]);
    }
    for (int i = 0; i < 2; i++) {
        close(machine[i]);
        close(passt[i]);
    }
    return 0;
}
