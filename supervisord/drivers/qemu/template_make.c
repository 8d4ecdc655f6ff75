/* How a template comes to be: boot, save, keep, clear away. */
#include "supervisord/drivers/qemu/template_internal.h"

#include "base/cleanup.h"
#include "base/id.h"
#include "base/log.h"
#include "supervisord/drivers/qemu/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#define SAVE_US (30 * US_PER_S)

int template_copy(int from, int to)
{
    struct stat status;
    off_t offset = 0;
    if (fstat(from, &status) < 0)
        return -errno;
    while (offset < status.st_size) {
        ssize_t copied = sendfile(to, from, &offset, (size_t)(status.st_size - offset));
        if (copied <= 0)
            return copied < 0 ? -errno : -EIO;
    }
    return 0;
}

static void on_cleared(void *arg, int error, const struct hearth_failure *failure)
{
    struct template *template = arg;
    struct qemu_driver *driver = template->driver;
    if (error)
        log_warning("template_guest_not_removed", "detail=\"%s\"", failure->detail);
    driver->driver.operations->forget(&driver->driver, &template->guest);
    template->guest_used = false;
    if (template->error) {
        template_give_up(template, template->failure.detail);
        return;
    }
    template->state = TEMPLATE_READY;
    template_store(template, true);
    log_info("template_made", "ms=%lld",
             (long long)(clock_monotonic_us() - template->began_us) / 1000);
}

static void clear_away(struct template *template)
{
    struct driver *driver = &template->driver->driver;
    template->guest.on_died = NULL;
    driver->operations->destroy(driver, &template->guest, on_cleared, template);
}

static void give_up(struct template *template, const struct hearth_failure *failure)
{
    template->error = (int)failure->error;
    template->failure = *failure;
    clear_away(template);
}

/* What the machine's memory refers to is its disk as it is now; neither may change after. */
static void keep_work(void *arg)
{
    struct template *template = arg;
    auto_close int disk = qemu_files_open_disk(template->guest.driver_data, false);
    int error = disk < 0 ? disk : template_copy(disk, template->fds[TEMPLATE_DISK]);
    if (!error)
        error = template_seal(template->fds);
    template->error = error ? hearth_fail_errno(&template->failure, -error, "template_failed",
                                                "cannot keep the template")
                            : 0;
}

static void on_kept(void *arg)
{
    clear_away(arg);
}

static void on_saved(void *arg, int error, const struct hearth_failure *failure)
{
    struct template *template = arg;
    template->qmp = NULL;
    if (error)
        give_up(template, failure);
    else
        worker_submit(template->driver->starters, keep_work, on_kept, template);
}

/* The memory is a shared mapping, which is left out: what is saved is the devices alone. */
static void save(struct template *template)
{
    struct hearth_failure failure;
    template->commands[0] = (struct qmp_command)QMP_CAPABILITIES(true, true);
    template->commands[1] = (struct qmp_command)QMP_GIVE_STATE(template->fds[TEMPLATE_STATE]);
    template->commands[2] = (struct qmp_command)QMP_MIGRATE;
    template->qmp = qemu_monitor_run(template->guest.driver_data, template->commands, 3, true,
                                     SAVE_US, on_saved, template, &failure);
    if (!template->qmp)
        give_up(template, &failure);
}

static void on_booted(void *arg, int error, const struct hearth_failure *failure)
{
    if (error)
        give_up(arg, failure);
    else
        save(arg);
}

static void on_died(struct guest *guest, const char *detail)
{
    struct template *template = container_of(guest, struct template, guest);
    struct hearth_failure failure;
    if (template->qmp)
        qmp_cancel(steal_pointer(template->qmp));
    hearth_fail(&failure, HEARTH_EUNAVAILABLE, "template_failed", "%s", detail);
    give_up(template, &failure);
}

void template_make(struct template *template, const struct qemu_guest *like)
{
    struct hearth_failure failure;
    struct qemu_driver *driver = template->driver;
    template->state = TEMPLATE_MAKING;
    template->error = 0;
    template->failures = 0;
    template->began_us = clock_monotonic_us();
    template_close_files(template->fds);
    for (int file = 0; file < TEMPLATE_FILES; file++)
        template->fds[file] =
            template_memory_file(file, file == TEMPLATE_MEMORY ? (uint64_t)like->mem_mib << 20 : 0);
    free(template->guest.driver_state);
    template->guest = (struct guest){
        .driver = &driver->driver,
        .process = PIDREF_NONE,
        .index = (UINT32_MAX - driver->config.uid_base) / QEMU_ID_RANGE - 1, /* the last */
        .on_died = on_died,
    };
    id_make(template->guest.guest_id, "gu", driver->config.node_tag);
    template->guest_used = true;
    if (template->fds[TEMPLATE_MEMORY] < 0 || template->fds[TEMPLATE_STATE] < 0 ||
        template->fds[TEMPLATE_DISK] < 0) {
        hearth_fail(&failure, HEARTH_ENOMEMORY, "template_failed",
                    "cannot have the template's memory");
        give_up(template, &failure);
        return;
    }
    qemu_boot_template(&driver->driver, &template->guest, like, template->fds[TEMPLATE_MEMORY],
                       on_booted, template);
}
