/* A machine saved to its directory, memory and devices: STATE/machines/ID/suspended. QEMU, stopped,
 * writes into a pipe, and what comes out of that is sealed on its way into the file
 * (sealed_state.h). While that is there nothing has run on the disk since: a start that
 * resumes loads it and holds the machine, its process is noted, the file is removed durably, and
 * only then it runs. So no disk is ever gone on with by two memories, and what a crash cuts short
 * is done once more. */
#include "supervisord/drivers/qemu/qemu.h"
#include "supervisord/drivers/qemu/sealed_state.h"

#include "base/cleanup.h"
#include "base/crash_point.h"
#include "base/path_at.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SAVED "suspended"
#define SAVE_US (120 * US_PER_S)
#define CARRY_ON_US (10 * US_PER_S)

/* The save under way. A worker seals until the pipe's end; a guest that goes on meanwhile leaves
 * this to that worker's end. */
struct saving {
    struct qemu_guest *guest; /* NULL: it is not wanted any more */
    struct sealed_state *state;
    int pipe_fds[2], file_fd;
    bool submitted;
    uint64_t limit;
    int64_t deadline_us;
    atomic_bool abandoned;
    struct hearth_failure failure;
    struct qmp_command commands[5];
};

static void saving_free(struct saving *saving)
{
    cleanup_close(&saving->pipe_fds[0]);
    cleanup_close(&saving->pipe_fds[1]);
    cleanup_close(&saving->file_fd);
    sealed_state_free(saving->state);
    free(saving);
}

static struct saving *saving_new(struct qemu_guest *guest, const struct guest_spec *spec)
{
    struct saving *saving = calloc(1, sizeof *saving);
    struct sealed_state *state = saving ? sealed_state_new(spec->state_key, guest->guest_id) : NULL;
    if (!state) {
        free(saving);
        return NULL;
    }
    *saving = (struct saving){.guest = guest,
                              .state = state,
                              .pipe_fds = {-1, -1},
                              .file_fd = -1,
                              .limit = ((uint64_t)spec->mem_mib + QEMU_DEVICES_MIB) << 20};
    return saving;
}

static void drop(struct qemu_guest *guest)
{
    struct saving *saving = steal_pointer(guest->saving);
    if (!saving)
        return;
    saving->guest = NULL;
    atomic_store(&saving->abandoned, true);
    if (!saving->submitted)
        saving_free(saving);
}

/* --- the file --- */

static int open_directory(const struct qemu_guest *guest)
{
    return path_open_directory(guest->driver->state_fd, guest->guest_id);
}

int qemu_saved_open(const struct qemu_guest *guest)
{
    auto_close int directory = open_directory(guest);
    if (directory < 0)
        return directory;
    int fd = openat(directory, SAVED, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int qemu_saved_remove(const struct qemu_guest *guest)
{
    auto_close int directory = open_directory(guest);
    if (directory < 0)
        return directory;
    (void)unlinkat(directory, SAVED ".new", 0); /* nobody ever goes on from it */
    if (unlinkat(directory, SAVED, 0) < 0)
        return errno == ENOENT ? 0 : -errno;
    return fsync(directory) < 0 ? -errno : 0;
}

bool qemu_saved(struct driver *driver, struct guest *guest)
{
    auto_close int directory = open_directory(qemu_guest_data(driver, guest));
    return directory >= 0 && faccessat(directory, SAVED, F_OK, 0) == 0;
}

bool qemu_may_suspend(struct driver *driver, struct guest *guest)
{
    const struct qemu_guest *data = qemu_guest_data(driver, guest);
    return data->transport && data->transport->restorable && pidref_alive(&guest->process);
}

/* --- it runs on --- */

/* Its end is told to who watches those that run. */
static void on_ended(void *arg)
{
    struct qemu_guest *guest = arg;
    if (guest->qmp)
        qmp_cancel(steal_pointer(guest->qmp));
    drop(guest);
    hearth_fail(&guest->phase.failure, HEARTH_EUNAVAILABLE, "suspend_failed",
                "the machine ended while it was saved");
    qemu_runs_on(guest);
}

static void on_carried_on(void *arg, int error, const struct hearth_failure *failure)
{
    struct qemu_guest *guest = arg;
    guest->qmp = NULL;
    if (error && !guest->phase.failure.error)
        guest->phase.failure = *failure;
    qemu_runs_on(guest);
}

static void unsave_work(void *arg)
{
    struct qemu_guest *guest = arg;
    guest->phase.error = qemu_saved_remove(guest);
}

static void on_unsaved(void *arg)
{
    static const struct qmp_command commands[] = {
        {"{\"execute\": \"migrate_cancel\"}", -1},
        QMP_CONTINUE,
    };
    struct qemu_guest *guest = arg;
    struct hearth_failure failure;
    if (!guest->phase.error)
        crash_point("resume:unsaved");
    qemu_unwatch(guest);
    if (guest->phase.error)
        hearth_fail_errno(&failure, -guest->phase.error, "suspend_failed",
                          "what the machine was saved to cannot be removed");
    else if (pidref_alive(&guest->guest->process) && !qemu_watch_end(guest, on_ended))
        guest->qmp = qemu_monitor_run(guest, commands, 2, false, CARRY_ON_US, on_carried_on, guest,
                                      &failure);
    else
        hearth_fail(&failure, HEARTH_ENOTFOUND, "guest_gone", "the machine's QEMU has ended");
    if (guest->qmp)
        return;
    if (!guest->phase.failure.error)
        guest->phase.failure = failure;
    qemu_runs_on(guest);
}

/* What is saved is removed first: it is of the past once the machine goes on. */
static void go_on(struct qemu_guest *guest)
{
    if (guest->qmp)
        qmp_cancel(steal_pointer(guest->qmp));
    drop(guest);
    worker_submit(guest->driver->starters, unsave_work, on_unsaved, guest);
}

void qemu_carry_on(struct driver *driver, struct guest *guest, guest_done done, void *arg)
{
    struct qemu_guest *data = qemu_guest_data(driver, guest);
    if (!phase_begin(&data->phase, PHASE_CHANGING, done, arg))
        return;
    if (pidref_alive(&guest->process))
        go_on(data);
    else
        phase_finish_later(&data->phase, hearth_fail(&data->phase.failure, HEARTH_ENOTFOUND,
                                                     "guest_gone", "the machine's QEMU has ended"));
}

/* --- it is saved --- */

static int sync_disk(const struct qemu_guest *guest)
{
    auto_close int disk = qemu_files_open_disk(guest, false);
    return disk < 0 ? disk : fsync(disk) < 0 ? -errno : 0;
}

static void keep_work(void *arg)
{
    struct qemu_guest *guest = arg;
    auto_close int directory = open_directory(guest);
    int error = directory < 0 ? directory : sync_disk(guest);
    if (!error && (fsync(guest->saving->file_fd) < 0 ||
                   renameat(directory, SAVED ".new", directory, SAVED) < 0 || fsync(directory) < 0))
        error = -errno;
    if (error)
        hearth_fail_errno(&guest->phase.failure, -error, "suspend_failed",
                          "the machine cannot be kept");
}

static void on_kept(void *arg)
{
    struct qemu_guest *guest = arg;
    if (guest->phase.failure.error) {
        go_on(guest);
        return;
    }
    drop(guest);
    qemu_end_for_good(guest);
}

static void seal_work(void *arg)
{
    struct saving *saving = arg;
    const struct sealed_move move = {
        .from_fd = saving->pipe_fds[0],
        .to_fd = saving->file_fd,
        .limit = saving->limit,
        .deadline_us = saving->deadline_us,
        .abandoned = &saving->abandoned,
    };
    (void)sealed_state_seal(saving->state, &move, &saving->failure);
    /* Who still writes is told so. */
    cleanup_close(&saving->pipe_fds[0]);
    saving->pipe_fds[0] = -1;
}

/* The pipe has an end when QEMU has said that all is in it. */
static void on_sealed(void *arg)
{
    struct saving *saving = arg;
    struct qemu_guest *guest = saving->guest;
    saving->submitted = false;
    if (!guest) {
        saving_free(saving);
    } else if (saving->failure.error) {
        guest->phase.failure = saving->failure;
        go_on(guest);
    } else {
        qemu_unwatch(guest);
        worker_submit(guest->driver->starters, keep_work, on_kept, guest);
    }
}

static void on_saved(void *arg, int error, const struct hearth_failure *failure)
{
    struct qemu_guest *guest = arg;
    guest->qmp = NULL;
    if (error) {
        hearth_fail(&guest->phase.failure, HEARTH_EUNAVAILABLE, "suspend_failed",
                    "the machine cannot be saved: %s", failure->detail);
        go_on(guest);
        return;
    }
    cleanup_close(&guest->saving->pipe_fds[1]);
    guest->saving->pipe_fds[1] = -1;
}

static void open_work(void *arg)
{
    struct qemu_guest *guest = arg;
    struct saving *saving = guest->saving;
    auto_close int directory = open_directory(guest);
    saving->file_fd = directory < 0
                          ? -1
                          : openat(directory, SAVED ".new",
                                   O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (saving->file_fd < 0 || pipe2(saving->pipe_fds, O_CLOEXEC) < 0)
        hearth_fail_errno(&guest->phase.failure, errno, "suspend_failed",
                          "cannot make a file for the machine");
    else
        (void)fcntl(saving->pipe_fds[0], F_SETPIPE_SZ, QEMU_PIPE_BYTES); /* else it is slower */
}

static void begin_saving(struct qemu_guest *guest)
{
    struct saving *saving = guest->saving;
    const struct qmp_command commands[] = {
        QMP_CAPABILITIES(true, false),
        QMP_FULL_SPEED,
        QMP_GIVE_STATE(saving->pipe_fds[1]),
        QMP_STOP,
        QMP_MIGRATE,
    };
    _Static_assert(sizeof commands == sizeof saving->commands, "room for them");
    memcpy(saving->commands, commands, sizeof commands);
    guest->qmp = qemu_monitor_run(guest, saving->commands, sizeof commands / sizeof *commands, true,
                                  SAVE_US, on_saved, guest, &guest->phase.failure);
    if (!guest->qmp)
        return;
    saving->deadline_us = clock_monotonic_us() + SAVE_US;
    saving->submitted = true;
    worker_submit(guest->driver->sealers, seal_work, on_sealed, saving);
}

static void on_opened(void *arg)
{
    struct qemu_guest *guest = arg;
    qemu_unwatch(guest);
    if (!guest->phase.failure.error && qemu_watch_end(guest, on_ended))
        hearth_fail(&guest->phase.failure, HEARTH_ENOMEMORY, "suspend_failed",
                    "the machine cannot be watched");
    if (!guest->phase.failure.error)
        begin_saving(guest);
    if (guest->phase.failure.error)
        go_on(guest);
}

void qemu_suspend(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
                  guest_done done, void *arg)
{
    struct qemu_guest *data = qemu_guest_data(driver, guest);
    if (!phase_begin(&data->phase, PHASE_CHANGING, done, arg))
        return;
    qemu_disconnect(data);
    data->saving = saving_new(data, spec);
    if (data->saving)
        worker_submit(data->driver->starters, open_work, on_opened, data);
    else
        phase_finish_later(&data->phase, hearth_fail(&data->phase.failure, HEARTH_ENOMEMORY, NULL,
                                                     "out of memory"));
}
