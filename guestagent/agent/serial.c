/* The agent's end of a virtio-serial port: one pipe for the machine's whole life, on which one link
 * after the other begins with a preamble (guestagent/preamble.h). */
#include "base/cleanup.h"
#include "base/log.h"
#include "guestagent/agent/agent.h"
#include "guestagent/preamble.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct serial {
    struct agent *agent;
    int fd;
    /* Edge-triggered: a port that nobody has open on the host reports a hang-up for as long. */
    struct event *event;
    struct preamble_scanner scanner;
    bool accepted;
    uint8_t nonce[PREAMBLE_NONCE_SIZE];
};

/* The kernel's generator takes what its processor and its clock give. */
static void reseed(void)
{
    auto_close int fd = open("/dev/random", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, RNDRESEEDCRNG) < 0)
        log_debug("not_reseeded", "%s", strerror(errno));
}

/* Where a link has ended the machine may be a copy of the one that had it: its processes run
 * already, and what they draw is to be theirs before the host has said who this is. */
static void listen_again(void *arg)
{
    struct serial *serial = arg;
    reseed();
    serial->accepted = false;
    memset(&serial->scanner, 0, sizeof serial->scanner);
    event_add(serial->event, NULL);
    event_active(serial->event, EV_READ, 0); /* what is there already makes no edge */
}

static void answer(struct serial *serial, enum preamble_kind kind)
{
    struct preamble preamble = {.kind = kind};
    uint8_t bytes[PREAMBLE_SIZE];
    memcpy(preamble.nonce, serial->nonce, sizeof preamble.nonce);
    preamble_encode(&preamble, bytes);
    /* One that is not taken is answered again: the host offers until it has its answer. */
    if (write(serial->fd, bytes, sizeof bytes) != (ssize_t)sizeof bytes)
        log_debug("preamble_not_sent", "%s", strerror(errno));
}

/* True where a link has taken over. */
static bool take(struct serial *serial, const struct preamble *preamble)
{
    if (preamble->kind == PREAMBLE_OFFER) {
        memcpy(serial->nonce, preamble->nonce, sizeof serial->nonce);
        serial->accepted = true;
        answer(serial, PREAMBLE_ACCEPT);
        return false;
    }
    if (preamble->kind != PREAMBLE_BEGIN || !serial->accepted ||
        memcmp(serial->nonce, preamble->nonce, sizeof serial->nonce) != 0)
        return false;
    int fd = fcntl(serial->fd, F_DUPFD_CLOEXEC, 3); /* the link's own: the port stays open */
    if (fd < 0)
        return false;
    answer(serial, PREAMBLE_BEGUN);
    event_del(serial->event);
    agent_adopt_stream(serial->agent, fd, listen_again, serial);
    return true;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct serial *serial = arg;
    (void)what;
    for (;;) {
        uint8_t bytes[PREAMBLE_SIZE];
        struct preamble preamble;
        ssize_t length = read(fd, bytes, preamble_scanner_wants(&serial->scanner));
        if (length <= 0) /* nothing, or nobody: there will be an edge */
            return;
        if (preamble_scanner_feed(&serial->scanner, bytes, (size_t)length, &preamble) &&
            take(serial, &preamble))
            return;
    }
}

int serial_serve(struct agent *agent, int fd)
{
    struct serial *serial = calloc(1, sizeof *serial);
    if (!serial)
        return -ENOMEM;
    serial->agent = agent;
    serial->fd = fd;
    serial->event = event_new(agent->base, fd, EV_READ | EV_ET | EV_PERSIST, on_readable, serial);
    if (!serial->event) {
        free(serial);
        return -ENOMEM;
    }
    listen_again(serial);
    agent->serial = serial;
    return 0;
}

void serial_free(struct agent *agent)
{
    struct serial *serial = agent->serial;
    if (!serial)
        return;
    event_free(serial->event);
    close(serial->fd);
    free(serial);
    agent->serial = NULL;
}
