/* A machine saved to its directory, memory and devices, by a migration to a file:
 * STATE/machines/ID/ suspended. Its next start takes that away before it uses it, so that no disk
 * is ever gone on with by two memories; a start that fails then leaves the disk, as a power cut
 * would. */
#include "supervisord/drivers/qemu/qemu.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SAVED "suspended"
#define SAVE_US (120 * US_PER_S)
#define CARRY_ON_US (10 * US_PER_S)

static int open_directory(const struct qemu_guest *guest)
{
    int fd = openat(guest->driver->state_fd, guest->guest_id,
                    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int qemu_saved_take(const struct qemu_guest *guest)
{
    auto_close int directory = open_directory(guest);
    if (directory < 0)
        return -1;
    auto_close int fd = openat(directory, SAVED, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || unlinkat(directory, SAVED, 0) < 0 || fsync(directory) < 0)
        return -1;
    return steal_fd(&fd);
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

static struct qmp *run(struct qemu_guest *guest, const struct qmp_command *commands, size_t count,
                       bool migration, int64_t within_us, qmp_done done)
{
    int fd = qemu_files_connect(guest, "qmp");
    return fd < 0 ? NULL
                  : qmp_run(qemu_loop(guest), fd, commands, count, migration,
                            clock_monotonic_us() + within_us, done, guest);
}

static void close_saved(struct qemu_guest *guest)
{
    cleanup_close(&guest->template_state_fd);
    guest->template_state_fd = -1;
}

/* --- it runs on --- */

/* phase.failure says why, if anything was wrong. */
static void goes_on(struct qemu_guest *guest)
{
    struct hearth_failure failure;
    qemu_unwatch(guest);
    if (qemu_watch_process(guest, &failure))
        guest->phase.failure = failure;
    phase_finish(&guest->phase, (int)guest->phase.failure.error, &guest->phase.failure);
}

static void on_carried_on(void *arg, int error, const struct hearth_failure *failure)
{
    struct qemu_guest *guest = arg;
    guest->qmp = NULL;
    if (error && !guest->phase.failure.error)
        guest->phase.failure = *failure;
    goes_on(guest);
}

static void unsave_work(void *arg)
{
    struct qemu_guest *guest = arg;
    auto_close int directory = open_directory(guest);
    if (directory >= 0) {
        (void)unlinkat(directory, SAVED, 0);
        (void)unlinkat(directory, SAVED ".new", 0);
    }
}

static void on_unsaved(void *arg)
{
    static const struct qmp_command commands[] = {
        {"{\"execute\": \"migrate_cancel\"}", -1},
        {"{\"execute\": \"cont\"}", -1},
    };
    struct qemu_guest *guest = arg;
    guest->qmp = run(guest, commands, 2, false, CARRY_ON_US, on_carried_on);
    if (guest->qmp)
        return;
    if (!guest->phase.failure.error)
        hearth_fail(&guest->phase.failure, HEARTH_EUNAVAILABLE, "monitor_failed",
                    "QEMU's monitor cannot be reached");
    goes_on(guest);
}

/* What is saved is removed first: it is of the past once the machine goes on. */
static void go_on(struct qemu_guest *guest)
{
    close_saved(guest);
    worker_submit(guest->driver->config.workers, unsave_work, on_unsaved, guest);
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
    if (!error && (fsync(guest->template_state_fd) < 0 ||
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
    close_saved(guest);
    qemu_end_for_good(guest);
}

static void on_saved(void *arg, int error, const struct hearth_failure *failure)
{
    struct qemu_guest *guest = arg;
    guest->qmp = NULL;
    if (error) {
        guest->phase.failure = *failure;
        go_on(guest);
        return;
    }
    qemu_unwatch(guest);
    worker_submit(guest->driver->starters, keep_work, on_kept, guest);
}

/* Its end is told to who watches those that run. */
static void on_ended(void *arg)
{
    struct qemu_guest *guest = arg;
    if (guest->qmp)
        qmp_cancel(steal_pointer(guest->qmp));
    close_saved(guest);
    hearth_fail(&guest->phase.failure, HEARTH_EUNAVAILABLE, "suspend_failed",
                "the machine ended while it was saved");
    goes_on(guest);
}

static void open_work(void *arg)
{
    struct qemu_guest *guest = arg;
    auto_close int directory = open_directory(guest);
    guest->template_state_fd =
        directory < 0 ? -1
                      : openat(directory, SAVED ".new",
                               O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (guest->template_state_fd < 0)
        hearth_fail_errno(&guest->phase.failure, errno, "suspend_failed",
                          "cannot make a file for the machine");
}

static void on_opened(void *arg)
{
    struct qemu_guest *guest = arg;
    const struct qmp_command commands[] = {
        {"{\"execute\": \"migrate-set-capabilities\", \"arguments\": {\"capabilities\": ["
         "{\"capability\": \"events\", \"state\": true}, "
         "{\"capability\": \"x-ignore-shared\", \"state\": false}]}}",
         -1},
        {"{\"execute\": \"migrate-set-parameters\", \"arguments\": {\"max-bandwidth\": "
         "17179869184}}",
         -1},
        {"{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"state\"}}",
         guest->template_state_fd},
        {"{\"execute\": \"migrate\", \"arguments\": {\"uri\": \"fd:state\"}}", -1},
    };
    _Static_assert(sizeof commands == sizeof guest->saving, "room for them");
    memcpy(guest->saving, commands, sizeof commands);
    qemu_unwatch(guest);
    if (!guest->phase.failure.error && !watch_init(&guest->exit_watch, qemu_loop(guest),
                                                   guest->guest->process.fd, on_ended, guest))
        guest->qmp =
            run(guest, guest->saving, sizeof commands / sizeof *commands, true, SAVE_US, on_saved);
    if (guest->qmp)
        return;
    if (!guest->phase.failure.error)
        hearth_fail(&guest->phase.failure, HEARTH_EUNAVAILABLE, "monitor_failed",
                    "QEMU's monitor cannot be reached");
    go_on(guest);
}

void qemu_suspend(struct driver *driver, struct guest *guest, guest_done done, void *arg)
{
    struct qemu_guest *data = qemu_guest_data(driver, guest);
    if (!phase_begin(&data->phase, PHASE_CHANGING, done, arg))
        return;
    if (qemu_may_suspend(driver, guest)) {
        qemu_disconnect(data);
        worker_submit(data->driver->starters, open_work, on_opened, data);
        return;
    }
    hearth_fail(&data->phase.failure, HEARTH_EUNSUPPORTED, "suspend_unsupported",
                "a machine that is reached by %s cannot be saved",
                data->transport ? data->transport->exact : "nothing");
    phase_finish_later(&data->phase, HEARTH_EUNSUPPORTED);
}
