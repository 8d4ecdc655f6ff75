#include "supervisord/drivers/qemu/template.h"

#include "base/cleanup.h"
#include "base/id.h"
#include "base/log.h"
#include "base/text.h"
#include "supervisord/drivers/qemu/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#define TEMPLATES_MAX 8
#define SAVE_US (30 * US_PER_S)
#define RETRY_US (60 * US_PER_S)
#define FAILURES_MAX 3 /* clones in a row that do not come up; fewer may be the host's fault */
#define KEY_SIZE 512
#define DISK_MIB 4096 /* of templates; what is to have less has one of its own */

enum template_state { TEMPLATE_MAKING, TEMPLATE_READY, TEMPLATE_BROKEN };

struct template
{
    struct list link; // qemu_driver::templates, the oldest first
    struct qemu_driver *driver;
    char key[KEY_SIZE];
    enum template_state state;
    unsigned holders;
    unsigned failures;   /* of clones, in a row */
    int64_t retry_at_us; /* of a broken one */
    int64_t began_us;
    struct guest guest; /* while it is made */
    bool guest_used;
    struct qmp *qmp;
    struct qmp_command commands[3];
    int ram_fd, state_fd, disk_fd; /* memory files */
    int error;
    struct hearth_failure failure;
};

static bool is_making(const struct qemu_driver *driver)
{
    list_for_each(cursor, following, &driver->templates)
    {
        if (container_of(cursor, struct template, link)->state == TEMPLATE_MAKING)
            return true;
    }
    return false;
}

static uint32_t disk_mib_for(uint32_t disk_mib)
{
    return disk_mib < DISK_MIB ? disk_mib : DISK_MIB;
}

uint32_t template_disk_mib(const struct qemu_guest *guest)
{
    return disk_mib_for(guest->disk_mib);
}

/* What is asked for, then what it is made of. */
static int begin_key(char out[KEY_SIZE], const char *owner, const char *image, uint32_t vcpu_count,
                     uint32_t mem_mib, uint32_t disk_mib)
{
    return snprintf(out, KEY_SIZE, "%s %.200s %u %u %u ", owner, image, vcpu_count, mem_mib,
                    disk_mib_for(disk_mib));
}

static void make_key(const struct qemu_guest *guest, char out[KEY_SIZE])
{
    int length = begin_key(out, guest->template_owner, guest->image_path, guest->vcpu_count,
                           guest->mem_mib, guest->disk_mib);
    snprintf(out + length, KEY_SIZE - (size_t)length, "%.120s %s %s", guest->initrd, guest->version,
             guest->accelerator);
}

static struct template *find(const struct qemu_guest *guest)
{
    char key[KEY_SIZE];
    make_key(guest, key);
    list_for_each(cursor, following, &guest->driver->templates)
    {
        struct template *template = container_of(cursor, struct template, link);
        if (strcmp(template->key, key) == 0)
            return template;
    }
    return NULL;
}

static void free_now(struct template *template)
{
    list_remove(&template->link);
    cleanup_close(&template->ram_fd);
    cleanup_close(&template->state_fd);
    cleanup_close(&template->disk_fd);
    free(template->guest.driver_state);
    free(template);
}

void template_hold(struct template *template)
{
    template->holders++;
}

void template_release(struct template *template)
{
    if (--template->holders == 0 && list_empty(&template->link))
        free_now(template);
}

struct template *template_find(const struct qemu_guest *guest)
{
    struct template *template = guest->driver->config.template_on ? find(guest) : NULL;
    return template && template_usable(template) ? template : NULL;
}

bool template_usable(const struct template *template)
{
    return template->state == TEMPLATE_READY;
}

bool template_likely(const struct qemu_driver *driver, const struct guest_spec *spec)
{
    char key[KEY_SIZE];
    begin_key(key, spec->template_owner ? spec->template_owner : "",
              spec->image_path ? spec->image_path : "", spec->vcpu_count, spec->mem_mib,
              spec->disk_mib);
    list_for_each(cursor, following, &driver->templates)
    {
        const struct template *template = container_of(cursor, struct template, link);
        if (template_usable(template) && text_starts_with(template->key, key))
            return driver->config.template_on;
    }
    return false;
}

void template_worked(struct template *template)
{
    template->driver->config.counters->template_clones++;
    template->failures = 0;
}

static void template_failed(struct template *template, const char *why)
{
    log_warning("template_failed", "detail=\"%s\"", why);
    template->driver->config.counters->template_failures++;
    template->state = TEMPLATE_BROKEN;
    template->retry_at_us = clock_monotonic_us() + RETRY_US;
}

void template_did_not_work(struct template *template, const char *why)
{
    template->driver->config.counters->clone_failures++;
    log_warning("clone_failed", "in_a_row=%u detail=\"%s\"", ++template->failures, why);
    if (template->failures >= FAILURES_MAX && template_usable(template))
        template_failed(template, "several of its clones in a row did not come up");
}

/* --- using --- */

static int copy_all(int from, int to)
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

/* The descriptors of a memory file share a position; this one has its own. */
static int open_again(int fd)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = open(path, O_RDONLY | O_CLOEXEC);
    return again < 0 ? -errno : again;
}

int template_use(struct qemu_guest *guest, struct hearth_failure *failure)
{
    const struct template *template = guest->template;
    auto_close int disk = qemu_files_open_disk(guest, true);
    int error = disk < 0 ? disk : copy_all(template->disk_fd, disk);
    if (!error && (guest->template_state_fd = open_again(template->state_fd)) < 0)
        error = guest->template_state_fd;
    if (!error && (guest->template_ram_fd = fcntl(template->ram_fd, F_DUPFD_CLOEXEC, 3)) < 0)
        error = -errno;
    return error ? hearth_fail_errno(failure, -error, "template_failed",
                                     "cannot copy the template's disk")
                 : 0;
}

/* --- making: boot, save, keep, clear away --- */

static void on_cleared(void *arg, int error, const struct hearth_failure *failure)
{
    struct template *template = arg;
    struct qemu_driver *driver = template->driver;
    if (error)
        log_warning("template_guest_not_removed", "detail=\"%s\"", failure->detail);
    driver->driver.operations->forget(&driver->driver, &template->guest);
    template->guest_used = false;
    if (template->error) {
        template_failed(template, template->failure.detail);
        return;
    }
    template->state = TEMPLATE_READY;
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
    int error = disk < 0 ? disk : copy_all(disk, template->disk_fd);
    if (!error && fcntl(template->ram_fd, F_ADD_SEALS,
                        F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        error = -errno;
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
    int fd = qemu_files_connect(template->guest.driver_data, "qmp");
    template->commands[0] = (struct qmp_command){
        "{\"execute\": \"migrate-set-capabilities\", \"arguments\": {\"capabilities\": ["
        "{\"capability\": \"events\", \"state\": true}, "
        "{\"capability\": \"x-ignore-shared\", \"state\": true}]}}",
        -1};
    template->commands[1] = (struct qmp_command){
        "{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"state\"}}", template->state_fd};
    template->commands[2] = (struct qmp_command){
        "{\"execute\": \"migrate\", \"arguments\": {\"uri\": \"fd:state\"}}", -1};
    if (fd >= 0)
        template->qmp = qmp_run(template->driver->config.loop, fd, template->commands, 3, true,
                                clock_monotonic_us() + SAVE_US, on_saved, template);
    if (!template->qmp) {
        hearth_fail(&failure, HEARTH_EUNAVAILABLE, "monitor_failed",
                    "QEMU's monitor cannot be reached");
        give_up(template, &failure);
    }
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

static int memory_file(const char *name, off_t size)
{
    auto_close int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    /* QEMU is another user. */
    if (fd < 0 || ftruncate(fd, size) < 0 || fchmod(fd, 0666) < 0)
        return -1;
    return steal_fd(&fd);
}

static void make(struct template *template, const struct qemu_guest *like)
{
    struct hearth_failure failure;
    struct qemu_driver *driver = template->driver;
    template->state = TEMPLATE_MAKING;
    template->error = 0;
    template->failures = 0;
    template->began_us = clock_monotonic_us();
    cleanup_close(&template->ram_fd);
    cleanup_close(&template->state_fd);
    cleanup_close(&template->disk_fd);
    template->ram_fd = memory_file("hearth-template-ram", (off_t)like->mem_mib << 20);
    template->state_fd = memory_file("hearth-template-state", 0);
    template->disk_fd = memory_file("hearth-template-disk", 0);
    free(template->guest.driver_state);
    template->guest = (struct guest){
        .driver = &driver->driver,
        .process = PIDREF_NONE,
        .index = (UINT32_MAX - driver->config.uid_base) / QEMU_ID_RANGE - 1, /* the last */
        .on_died = on_died,
    };
    id_make(template->guest.guest_id, "gu", driver->config.node_tag);
    template->guest_used = true;
    if (template->ram_fd < 0 || template->state_fd < 0 || template->disk_fd < 0) {
        hearth_fail_errno(&failure, errno, "template_failed", "cannot have the template's memory");
        give_up(template, &failure);
        return;
    }
    qemu_boot_template(&driver->driver, &template->guest, like, template->ram_fd, on_booted,
                       template);
}

static void drop_oldest(struct qemu_driver *driver)
{
    unsigned count = 0;
    struct template *oldest = NULL;
    list_for_each(cursor, following, &driver->templates)
    {
        struct template *template = container_of(cursor, struct template, link);
        count++;
        if (!oldest && template->state != TEMPLATE_MAKING)
            oldest = template;
    }
    if (count < TEMPLATES_MAX || !oldest)
        return;
    list_remove(&oldest->link);
    if (!oldest->holders)
        free_now(oldest);
}

void template_want(const struct qemu_guest *guest)
{
    struct qemu_driver *driver = guest->driver;
    struct template *template = find(guest);
    if (!driver->config.template_on || !guest->transport->restorable || is_making(driver))
        return;
    if (template && (template->state != TEMPLATE_BROKEN || template->holders ||
                     clock_monotonic_us() < template->retry_at_us))
        return;
    if (!template) {
        drop_oldest(driver);
        template = calloc(1, sizeof *template);
        if (!template)
            return;
        *template =
            (struct template){.driver = driver, .ram_fd = -1, .state_fd = -1, .disk_fd = -1};
        make_key(guest, template->key);
        list_append(&driver->templates, &template->link);
    }
    make(template, guest);
}

void templates_free(struct qemu_driver *driver)
{
    list_for_each(cursor, following, &driver->templates)
    {
        struct template *template = container_of(cursor, struct template, link);
        struct qemu_guest *guest = template->guest_used ? template->guest.driver_data : NULL;
        if (template->qmp)
            qmp_cancel(template->qmp);
        if (guest)
            qemu_end_now(guest);
        free_now(template);
    }
}
