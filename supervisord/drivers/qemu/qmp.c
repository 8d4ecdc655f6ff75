#include "supervisord/drivers/qemu/qmp.h"

#include "base/buf.h"
#include "base/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define LINE_MAX_BYTES ((size_t)256 << 10)

static const struct qmp_command negotiate = {"{\"execute\": \"qmp_capabilities\"}", -1};

struct qmp {
    struct loop *loop;
    int fd;
    const struct qmp_command *commands;
    size_t count, next;
    bool greeted, negotiated, migration;
    struct watch watch;
    struct timer timer;
    struct buf in;
    qmp_done done;
    void *arg;
};

static void qmp_free(void *arg)
{
    struct qmp *qmp = arg;
    watch_free(&qmp->watch);
    timer_free(&qmp->timer);
    cleanup_close(&qmp->fd);
    buf_free(&qmp->in);
    free(qmp);
}

void qmp_cancel(struct qmp *qmp)
{
    watch_free(&qmp->watch);
    timer_unset(&qmp->timer);
    loop_defer(qmp->loop, qmp_free, qmp);
}

static void fail(struct qmp *qmp, const char *why)
{
    struct hearth_failure failure;
    hearth_fail(&failure, HEARTH_EUNAVAILABLE, "monitor_failed", "QEMU's monitor: %.300s", why);
    qmp_cancel(qmp);
    qmp->done(qmp->arg, failure.error, &failure);
}

static void on_deadline(void *arg)
{
    fail(arg, "no answer in time");
}

/* A command is far smaller than what a socket takes at once. */
static bool say(struct qmp *qmp, const struct qmp_command *command)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {.iov_base = (char *)(uintptr_t)command->text,
                         .iov_len = strlen(command->text)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (command->fd >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &command->fd, sizeof(int));
    }
    return sendmsg(qmp->fd, &message, MSG_NOSIGNAL) == (ssize_t)part.iov_len;
}

/* True: go on. */
static bool take_return(struct qmp *qmp)
{
    if (!qmp->negotiated)
        qmp->negotiated = true;
    else
        qmp->next++;
    if (qmp->next < qmp->count) {
        if (say(qmp, &qmp->commands[qmp->next]))
            return true;
        fail(qmp, strerror(errno));
        return false;
    }
    if (qmp->migration)
        return true;
    qmp_cancel(qmp);
    qmp->done(qmp->arg, 0, NULL);
    return false;
}

static bool take_line(struct qmp *qmp, const char *line)
{
    if (!qmp->greeted && text_starts_with(line, "{\"QMP\"")) {
        qmp->greeted = true;
        if (say(qmp, &negotiate))
            return true;
        fail(qmp, strerror(errno));
        return false;
    }
    if (text_starts_with(line, "{\"return\""))
        return take_return(qmp);
    if (text_starts_with(line, "{\"error\"")) {
        fail(qmp, line);
        return false;
    }
    if (!qmp->migration || !strstr(line, "\"event\": \"MIGRATION\""))
        return true;
    if (strstr(line, "\"status\": \"failed\"")) {
        fail(qmp, "the machine cannot be saved");
        return false;
    }
    if (!strstr(line, "\"status\": \"completed\""))
        return true;
    qmp_cancel(qmp);
    qmp->done(qmp->arg, 0, NULL);
    return false;
}

static void on_readable(void *arg)
{
    struct qmp *qmp = arg;
    char data[4096];
    ssize_t length = recv(qmp->fd, data, sizeof data, MSG_DONTWAIT);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (length <= 0 || buf_append(&qmp->in, data, (size_t)length)) {
        fail(qmp, length == 0 ? "it was closed" : "it cannot be read");
        return;
    }
    for (char *end; (end = memchr(qmp->in.data, '\n', qmp->in.length));) {
        *end = '\0';
        size_t line_length = (size_t)(end - qmp->in.data) + 1;
        if (!take_line(qmp, qmp->in.data))
            return;
        buf_consume(&qmp->in, line_length);
    }
}

struct qmp *qmp_run(struct loop *loop, int fd, const struct qmp_command *commands, size_t count,
                    bool migration, int64_t deadline_us, qmp_done done, void *arg)
{
    struct qmp *qmp = calloc(1, sizeof *qmp);
    if (!qmp) {
        close(fd);
        return NULL;
    }
    *qmp = (struct qmp){.loop = loop,
                        .fd = fd,
                        .commands = commands,
                        .count = count,
                        .migration = migration,
                        .in.limit = LINE_MAX_BYTES,
                        .done = done,
                        .arg = arg};
    timer_init(&qmp->timer, loop, on_deadline, qmp);
    if (watch_init(&qmp->watch, loop, fd, on_readable, qmp)) {
        qmp_free(qmp);
        return NULL;
    }
    timer_set(&qmp->timer, deadline_us);
    return qmp;
}
