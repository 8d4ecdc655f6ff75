#include "supervisord/drivers/qemu/template_internal.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"
#include "supervisord/drivers/qemu/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEMPLATES_MAX 8
#define RETRY_US (60 * US_PER_S)
#define FAILURES_MAX 3 /* clones in a row that do not come up; fewer may be the host's fault */
#define DISK_MIB 4096  /* of templates; what is to have less has one of its own */

struct waiter {
    struct list link; // template::waiters
    void (*done)(void *arg);
    void *arg;
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
                     uint32_t mem_mib, uint32_t disk_mib, bool network)
{
    return snprintf(out, KEY_SIZE, "%s %.600s %u %u %u %d ", owner, image, vcpu_count, mem_mib,
                    disk_mib_for(disk_mib), network);
}

static void make_key(const struct qemu_guest *guest, char out[KEY_SIZE])
{
    int length = begin_key(out, guest->template_owner, guest->image_path, guest->vcpu_count,
                           guest->mem_mib, guest->disk_mib, guest->network);
    char digest[QEMU_DIGEST_SIZE];
    qemu_command_digest(guest, digest);
    snprintf(out + length, KEY_SIZE - (size_t)length, "%.600s %s %s %s %s", guest->initrd,
             guest->kernel.version, guest->version, guest->accelerator, digest);
}

static void free_now(struct template *template)
{
    list_remove(&template->link);
    template_close_files(template->fds);
    free(template->guest.driver_state);
    free(template);
}

static struct template *new (struct qemu_driver *driver, const char *key)
{
    struct template *template = calloc(1, sizeof *template);
    if (!template)
        return NULL;
    *template = (struct template){.driver = driver, .fds = {-1, -1, -1}};
    snprintf(template->key, sizeof template->key, "%s", key);
    list_init(&template->waiters);
    list_append(&driver->templates, &template->link);
    return template;
}

/* --- on the disk --- */

/* A copy of the files, for a worker that may outlive the template. */
struct storing {
    struct qemu_driver *driver;
    char key[KEY_SIZE];
    int fds[TEMPLATE_FILES]; /* -1: it is to be removed */
    int error;
};

static void store_work(void *arg)
{
    struct storing *storing = arg;
    const struct qemu_driver *driver = storing->driver;
    if (storing->fds[0] < 0)
        template_store_remove(driver->state_fd, storing->key);
    else
        storing->error =
            template_store_put(driver->state_fd, driver->boot_id, storing->key, storing->fds);
}

static void on_stored(void *arg)
{
    struct storing *storing = arg;
    if (storing->error)
        log_warning("template_not_kept", "error=\"%s\"", strerror(-storing->error));
    else if (storing->fds[0] >= 0)
        log_info("template_kept", "%s", "the next daemon has it too");
    template_close_files(storing->fds);
    free(storing);
}

void template_store(const struct template *template, bool put)
{
    struct storing *storing = malloc(sizeof *storing);
    if (!storing)
        return;
    *storing = (struct storing){.driver = template->driver, .fds = {-1, -1, -1}};
    memcpy(storing->key, template->key, sizeof storing->key);
    for (int file = 0; put && file < TEMPLATE_FILES; file++)
        storing->fds[file] = fcntl(template->fds[file], F_DUPFD_CLOEXEC, 3);
    worker_submit(template->driver->config.workers, store_work, on_stored, storing);
}

/* Nobody begins with it any more. */
static void drop(struct template *template)
{
    template_store(template, false);
    list_remove(&template->link);
    if (!template->holders)
        free_now(template);
}

/* What is for the same but was made of another kernel, agent or QEMU will not be wanted again. */
static struct template *find(const struct qemu_guest *guest)
{
    char key[KEY_SIZE];
    struct template *found = NULL;
    make_key(guest, key);
    size_t begins =
        (size_t)begin_key((char[KEY_SIZE]){0}, guest->template_owner, guest->image_path,
                          guest->vcpu_count, guest->mem_mib, guest->disk_mib, guest->network);
    list_for_each(cursor, following, &guest->driver->templates)
    {
        struct template *template = container_of(cursor, struct template, link);
        if (strcmp(template->key, key) == 0)
            found = template;
        else if (strncmp(template->key, key, begins) == 0 && template->state != TEMPLATE_MAKING &&
                 template->state != TEMPLATE_LOADING)
            drop(template);
    }
    return found;
}

static bool promising(const struct template *template)
{
    return template->state == TEMPLATE_READY || template->state == TEMPLATE_KEPT ||
           template->state == TEMPLATE_LOADING;
}

static void visit_kept(void *arg, const char *key)
{
    struct template *template = new (arg, key);
    if (template)
        template->state = TEMPLATE_KEPT;
}

void templates_begin(struct qemu_driver *driver)
{
    list_init(&driver->templates);
    template_store_each(driver->state_fd, driver->boot_id, visit_kept, driver);
}

void template_give_up(struct template *template, const char *why)
{
    log_warning("template_failed", "detail=\"%s\"", why);
    template->driver->config.counters->template_failures++;
    template->state = TEMPLATE_BROKEN;
    template_store(template, false);
    template->retry_at_us = clock_monotonic_us() + RETRY_US;
}

static void load_work(void *arg)
{
    struct template *template = arg;
    template->error = template_store_get(template->driver->state_fd, template->key, template->fds);
}

static void on_loaded(void *arg)
{
    struct template *template = arg;
    template->state = TEMPLATE_READY;
    if (template->error)
        template_give_up(template, template->error == -EBADMSG
                                       ? "what was kept of it is not what it was"
                                       : strerror(-template->error));
    else
        log_info("template_loaded", "ms=%lld",
                 (long long)(clock_monotonic_us() - template->began_us) / 1000);
    list_for_each(cursor, following, &template->waiters)
    {
        struct waiter *waiter = container_of(cursor, struct waiter, link);
        list_remove(&waiter->link);
        waiter->done(waiter->arg);
        free(waiter);
    }
    template_release(template);
}

void template_when_loaded(struct template *template, void (*done)(void *arg), void *arg)
{
    struct waiter *waiter =
        promising(template) && template->state != TEMPLATE_READY ? malloc(sizeof *waiter) : NULL;
    if (!waiter) {
        done(arg);
        return;
    }
    *waiter = (struct waiter){.done = done, .arg = arg};
    list_append(&template->waiters, &waiter->link);
    if (template->state == TEMPLATE_LOADING)
        return;
    template->state = TEMPLATE_LOADING;
    template->began_us = clock_monotonic_us();
    template_hold(template);
    worker_submit(template->driver->starters, load_work, on_loaded, template);
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
    return template && promising(template) ? template : NULL;
}

bool template_usable(const struct template *template)
{
    return template->state == TEMPLATE_READY;
}

bool template_current(const struct template *template)
{
    return template_usable(template) && !list_empty(&template->link);
}

bool template_likely(const struct qemu_driver *driver, const struct guest_spec *spec)
{
    char key[KEY_SIZE];
    begin_key(key, spec->template_owner ? spec->template_owner : "",
              spec->image_path ? spec->image_path : "", spec->vcpu_count, spec->mem_mib,
              spec->disk_mib, network_has_device(spec->network));
    list_for_each(cursor, following, &driver->templates)
    {
        const struct template *template = container_of(cursor, struct template, link);
        if (promising(template) && text_starts_with(template->key, key))
            return driver->config.template_on;
    }
    return false;
}

void template_worked(struct template *template)
{
    template->driver->config.counters->template_clones++;
    template->failures = 0;
}

void template_did_not_work(struct template *template, const char *why)
{
    template->driver->config.counters->clone_failures++;
    log_warning("clone_failed", "in_a_row=%u detail=\"%s\"", ++template->failures, why);
    if (template->failures >= FAILURES_MAX && template_usable(template))
        template_give_up(template, "several of its clones in a row did not come up");
}

void qemu_clone_refused(struct driver *driver, struct guest *guest, const char *why)
{
    const struct qemu_guest *data = qemu_guest_data(driver, guest);
    if (!data->disk_used) /* a copy of a machine that runs */
        return;
    struct template *template = template_find(data);
    data->driver->config.counters->clone_failures++;
    log_warning("clone_refused", "guest=%s detail=\"%s\"", guest->guest_id, why);
    if (template && template_usable(template))
        template_give_up(template, why);
}

/* --- using --- */

/* The descriptors of a memory file share a position; this one has its own. */
int template_open_again(int fd)
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
    int error = disk < 0 ? disk : template_copy(template->fds[TEMPLATE_DISK], disk);
    if (!error &&
        (guest->template_state_fd = template_open_again(template->fds[TEMPLATE_STATE])) < 0)
        error = guest->template_state_fd;
    if (!error &&
        (guest->template_ram_fd = fcntl(template->fds[TEMPLATE_MEMORY], F_DUPFD_CLOEXEC, 3)) < 0)
        error = -errno;
    return error ? hearth_fail_errno(failure, -error, "template_failed",
                                     "cannot copy the template's disk")
                 : 0;
}

static void drop_oldest(struct qemu_driver *driver)
{
    unsigned count = 0;
    struct template *oldest = NULL;
    list_for_each(cursor, following, &driver->templates)
    {
        struct template *template = container_of(cursor, struct template, link);
        count++;
        if (!oldest && template->state != TEMPLATE_MAKING && template->state != TEMPLATE_LOADING)
            oldest = template;
    }
    if (count < TEMPLATES_MAX || !oldest)
        return;
    drop(oldest);
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
        char key[KEY_SIZE];
        make_key(guest, key);
        template = new (driver, key);
        if (!template)
            return;
    }
    template_make(template, guest);
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
