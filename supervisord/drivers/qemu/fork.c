/* Copies of a running machine: its memory and devices of one moment, by a migration into a memory
 * file (never to a disk: what is secret in a memory is not left on one), and its disk of the same
 * moment. QEMU writes into a pipe, so that the file is charged to us and not to the machine's own
 * limit. One at a time: a machine is paused while it is copied, and is not to wait for others then.
 */
#include "supervisord/drivers/qemu/fork.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/path_at.h"
#include "supervisord/drivers/qemu/load.h"
#include "supervisord/drivers/qemu/template.h"
#include "supervisord/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define DISK_COPY "copied.qcow2" /* has this name for a moment */
#define SAVE_US (120 * US_PER_S)
#define PAUSE_US (20 * US_PER_S)
#define LOOK_BYTES ((uint64_t)64 << 20)
#define SINK_POLL_MS 100

struct guest_copy {
    const struct vm_transport *transport;
    int state_fd, disk_fd;
};

struct copying {
    struct list link; // qemu_driver::copies: the first is under way
    struct qemu_guest *guest;
    struct guest_copy **ret_copy;
    unsigned count;
    uint32_t mem_mib;
    struct guest_copy *copy;
    struct qmp *qmp;
    struct qmp_command commands[4];
    int pipe_fds[2];
    unsigned parts; /* under way: the migration, its reader, the disk */
    atomic_bool abandoned;
    struct hearth_failure save_failure, sink_failure, disk_failure;
    int64_t paused_us;
};

/* --- the copy --- */

void qemu_copy_free(struct guest_copy *copy)
{
    if (!copy)
        return;
    cleanup_close(&copy->state_fd);
    cleanup_close(&copy->disk_fd);
    free(copy);
}

const struct vm_transport *qemu_copy_transport(const struct guest_copy *copy)
{
    return copy->transport;
}

int qemu_copy_open_state(const struct guest_copy *copy, int *ret_fd, struct hearth_failure *failure)
{
    int fd = template_open_again(copy->state_fd);
    if (fd < 0)
        return hearth_fail_errno(failure, -fd, "guest_start_failed",
                                 "cannot open what the machine begins with");
    *ret_fd = fd;
    return 0;
}

static int copy_file(int from, int to)
{
    return ioctl(to, FICLONE, from) == 0 ? 0 : template_copy(from, to);
}

int qemu_copy_disk(const struct guest_copy *copy, int fd)
{
    return copy_file(copy->disk_fd, fd);
}

/* --- the end --- */

static void begin_next(struct qemu_driver *driver);

static void finish(struct copying *copying)
{
    struct qemu_guest *guest = copying->guest;
    struct qemu_driver *driver = guest->driver;
    const struct hearth_failure *const failures[] = {&copying->sink_failure, &copying->disk_failure,
                                                     &copying->save_failure};
    for (size_t i = 0; i < sizeof failures / sizeof *failures; i++)
        if (failures[i]->error && !guest->phase.failure.error)
            guest->phase.failure = *failures[i];
    for (int i = 0; i < 2; i++)
        cleanup_close(&copying->pipe_fds[i]);
    if (guest->phase.failure.error || phase_unwanted(&guest->phase)) {
        qemu_copy_free(copying->copy);
        if (!guest->phase.failure.error)
            hearth_fail(&guest->phase.failure, HEARTH_ECANCELLED, "guest_destroyed",
                        "the guest is being destroyed");
    } else {
        *copying->ret_copy = copying->copy;
        log_info("machine_copied", "guest=%s ms=%lld", guest->guest_id,
                 (long long)(clock_monotonic_us() - copying->paused_us) / 1000);
    }
    list_remove(&copying->link);
    free(copying);
    phase_finish(&guest->phase, (int)guest->phase.failure.error, &guest->phase.failure);
    begin_next(driver);
}

static void part_ended(void *arg)
{
    struct copying *copying = arg;
    if (--copying->parts == 0)
        finish(copying);
}

/* --- what is copied while it is paused --- */

static int check_room(const struct copying *copying, uint64_t wanted_mib,
                      struct hearth_failure *failure)
{
    if (memory_look().available_mib >= wanted_mib + copying->guest->driver->config.reserve_mib)
        return 0;
    int error = hearth_fail(failure, HEARTH_EUNAVAILABLE, "memory_short",
                            "the host has too little memory left for %u copies of the machine's",
                            copying->count);
    hearth_failure_field(failure, "/memory");
    hearth_failure_hint(failure, "Make fewer copies, or delete workspaces first.");
    return error;
}

/* True: there is something to take, or its end. */
static bool await_bytes(struct copying *copying, int64_t deadline_us)
{
    struct pollfd poll_fd = {.fd = copying->pipe_fds[0], .events = POLLIN};
    while (!atomic_load(&copying->abandoned) && clock_monotonic_us() < deadline_us) {
        int ready = poll(&poll_fd, 1, SINK_POLL_MS);
        if (ready > 0)
            return true;
        if (ready < 0 && errno != EINTR)
            break;
    }
    if (!atomic_load(&copying->abandoned)) /* else there is a reason already */
        hearth_fail(&copying->sink_failure, HEARTH_EUNAVAILABLE, "fork_failed",
                    "the machine was not saved in time");
    return false;
}

static void sink_work(void *arg)
{
    struct copying *copying = arg;
    struct hearth_failure *failure = &copying->sink_failure;
    uint64_t limit = ((uint64_t)copying->mem_mib + QEMU_DEVICES_MIB) << 20, total = 0, looked = 0;
    int64_t deadline_us = clock_monotonic_us() + SAVE_US;
    while (!failure->error && await_bytes(copying, deadline_us)) {
        ssize_t taken = splice(copying->pipe_fds[0], NULL, copying->copy->state_fd, NULL,
                               QEMU_PIPE_BYTES, SPLICE_F_MOVE);
        if (taken < 0 && errno == EINTR)
            continue;
        if (taken < 0)
            hearth_fail_errno(failure, errno, "fork_failed", "cannot keep the machine's memory");
        if (taken <= 0)
            break;
        total += (uint64_t)taken;
        if (total > limit)
            hearth_fail(failure, HEARTH_EUNAVAILABLE, "fork_failed",
                        "QEMU saves more than there is");
        if (total - looked >= LOOK_BYTES) {
            looked = total;
            (void)check_room(copying, 0, failure);
        }
    }
    /* Who still writes is told so. */
    cleanup_close(&copying->pipe_fds[0]);
    copying->pipe_fds[0] = -1;
}

/* What QEMU has flushed at its pause; it writes no more until it goes on. */
static void disk_work(void *arg)
{
    struct copying *copying = arg;
    auto_close int disk = qemu_files_open_disk(copying->guest, false);
    int error = disk < 0 ? disk : copy_file(disk, copying->copy->disk_fd);
    if (error)
        hearth_fail_errno(&copying->disk_failure, -error, "fork_failed",
                          "cannot copy the machine's disk");
}

static void on_saved(void *arg, int error, const struct hearth_failure *failure)
{
    struct copying *copying = arg;
    copying->qmp = NULL;
    if (error) {
        copying->save_failure = *failure;
        atomic_store(&copying->abandoned, true);
    }
    part_ended(copying);
}

static void on_paused(void *arg, int error, const struct hearth_failure *failure)
{
    static const struct qmp_command migrate[] = {QMP_MIGRATE};
    struct copying *copying = arg;
    struct qemu_guest *guest = copying->guest;
    copying->qmp = NULL;
    cleanup_close(&copying->pipe_fds[1]); /* QEMU has it */
    copying->pipe_fds[1] = -1;
    if (error)
        copying->save_failure = *failure;
    else
        copying->qmp = qemu_monitor_run(guest, migrate, 1, true, SAVE_US, on_saved, copying,
                                        &copying->save_failure);
    if (!copying->qmp) {
        finish(copying);
        return;
    }
    copying->parts = 3;
    worker_submit(guest->driver->starters, sink_work, part_ended, copying);
    worker_submit(guest->driver->starters, disk_work, part_ended, copying);
}

/* --- the beginning --- */

/* MiB that the machine's QEMU has of the host's memory; a copy of it will have no more. */
static uint64_t resident_mib(const struct copying *copying)
{
    char path[48], text[128];
    unsigned long long pages;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)copying->guest->guest->process.pid);
    if (path_read_small(AT_FDCWD, path, text, sizeof text) <= 0 ||
        sscanf(text, "%*u %llu", &pages) != 1)
        return 0;
    uint64_t mib = pages * (uint64_t)sysconf(_SC_PAGESIZE) >> 20;
    return mib < copying->mem_mib ? mib : copying->mem_mib;
}

static int open_disk_copy(const struct qemu_guest *guest)
{
    auto_close int directory = path_open_directory(guest->driver->state_fd, guest->guest_id);
    if (directory < 0)
        return directory;
    auto_close int fd =
        openat(directory, DISK_COPY, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || unlinkat(directory, DISK_COPY, 0) < 0)
        return -errno;
    return steal_fd(&fd);
}

static void open_work(void *arg)
{
    struct copying *copying = arg;
    struct guest_copy *copy = copying->copy;
    struct hearth_failure *failure = &copying->save_failure;
    if (check_room(copying, resident_mib(copying) * (copying->count + 1), failure))
        return;
    if ((copy->disk_fd = open_disk_copy(copying->guest)) < 0)
        hearth_fail_errno(failure, -copy->disk_fd, "fork_failed",
                          "cannot make a file for the machine's disk");
    else if ((copy->state_fd = memfd_create("hearth-copy", MFD_CLOEXEC)) < 0 ||
             pipe2(copying->pipe_fds, O_CLOEXEC) < 0)
        hearth_fail_errno(failure, errno, "fork_failed", "cannot have the copy's memory");
    else
        (void)fcntl(copying->pipe_fds[0], F_SETPIPE_SZ, QEMU_PIPE_BYTES); /* else it is slower */
}

static void on_opened(void *arg)
{
    struct copying *copying = arg;
    const struct qmp_command commands[] = {
        QMP_CAPABILITIES(true, false),
        QMP_FULL_SPEED,
        QMP_GIVE_STATE(copying->pipe_fds[1]),
        QMP_STOP,
    };
    _Static_assert(sizeof commands == sizeof copying->commands, "room for them");
    memcpy(copying->commands, commands, sizeof commands);
    copying->paused_us = clock_monotonic_us();
    if (!copying->save_failure.error)
        copying->qmp =
            qemu_monitor_run(copying->guest, copying->commands, sizeof commands / sizeof *commands,
                             false, PAUSE_US, on_paused, copying, &copying->save_failure);
    if (!copying->qmp)
        finish(copying);
}

static void begin_next(struct qemu_driver *driver)
{
    if (!list_empty(&driver->copies))
        worker_submit(driver->starters, open_work, on_opened,
                      container_of(driver->copies.next, struct copying, link));
}

void qemu_copy(struct driver *base, struct guest *guest, const struct guest_spec *spec,
               unsigned count, struct guest_copy **ret_copy, guest_done done, void *arg)
{
    struct qemu_guest *data = qemu_guest_data(base, guest);
    if (!phase_begin(&data->phase, PHASE_CHANGING, done, arg))
        return;
    struct copying *copying = calloc(1, sizeof *copying);
    struct guest_copy *copy = calloc(1, sizeof *copy);
    if (!copying || !copy)
        abort();
    *copy = (struct guest_copy){.transport = data->transport, .state_fd = -1, .disk_fd = -1};
    *copying = (struct copying){.guest = data,
                                .ret_copy = ret_copy,
                                .count = count,
                                .mem_mib = spec->mem_mib,
                                .copy = copy,
                                .pipe_fds = {-1, -1}};
    list_init(&copying->link);
    bool first = list_empty(&data->driver->copies);
    list_append(&data->driver->copies, &copying->link);
    if (first)
        begin_next(data->driver);
}

/* --- what begins with it --- */

static void on_running(void *arg, int error, const struct hearth_failure *failure)
{
    struct qemu_guest *guest = arg;
    guest->qmp = NULL;
    if (error) /* QEMU's end, or the deadline, is what is told */
        log_debug("copy_not_running", "guest=%s detail=\"%s\"", guest->guest_id, failure->detail);
    else
        guest->copy_loaded(guest);
}

/* It was saved paused, and is still. */
static void let_run(struct qemu_guest *guest)
{
    static const struct qmp_command command = QMP_CONTINUE;
    struct hearth_failure failure;
    guest->qmp = qemu_monitor_run(guest, &command, 1, false, PAUSE_US, on_running, guest, &failure);
    if (!guest->qmp)
        on_running(guest, (int)failure.error, &failure);
}

void qemu_copy_load(struct qemu_guest *guest, void (*done)(struct qemu_guest *guest))
{
    guest->copy_loaded = done;
    qemu_load_whole(guest, let_run);
}
