#include "supervisord/drivers/qemu/qemu.h"

struct qmp *qemu_monitor_run(const struct qemu_guest *guest, const struct qmp_command *commands,
                             size_t count, bool migration, int64_t within_us, qmp_done done,
                             void *arg, struct hearth_failure *failure)
{
    int fd = qemu_files_connect(guest, "qmp");
    struct qmp *qmp = fd < 0 ? NULL
                             : qmp_run(qemu_loop(guest), fd, commands, count, migration,
                                       clock_monotonic_us() + within_us, done, arg);
    if (!qmp)
        hearth_fail(failure, HEARTH_EUNAVAILABLE, "monitor_failed",
                    "QEMU's monitor cannot be reached");
    return qmp;
}
