/* KVM or TCG: found out by booting a small machine without a disk under KVM, for a /dev/kvm that
 * opens may still hang every guest. What was found is kept beside the images (else in the state
 * directory) until the host's kernel, QEMU, the guest's kernel or the device is another. */
#include "supervisord/drivers/qemu/qemu.h"

#include "base/cleanup.h"
#include "base/id.h"
#include "base/log.h"
#include "base/path_at.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define KVM "/dev/kvm"
#define RESULT "accelerator"
#define PROBE_MEM_MIB 128

struct waiter {
    struct list link; /* qemu_driver::accelerator_waiters */
    void (*done)(void *arg);
    void *arg;
};

/* The guest whose only work is to come up. */
struct trial {
    struct qemu_driver *driver;
    struct guest guest;
    int64_t began_us, took_us;
    bool works;
    char why[200];
};

static void make_key(const struct qemu_driver *driver, char *out, size_t size)
{
    struct utsname host;
    struct qemu_kernel kernel;
    struct stat device = {0};
    (void)stat(KVM, &device);
    if (uname(&host) < 0 || qemu_kernel_find(driver, &kernel, NULL))
        snprintf(out, size, "none");
    else
        snprintf(out, size, "host=%.64s qemu=%.32s kernel=%s device=%o:%u", host.release,
                 driver->version + strlen("QEMU "), kernel.version, (unsigned)device.st_mode,
                 (unsigned)device.st_gid);
}

static bool is_own(const char *configured)
{
    return configured && *configured && strcmp(configured, "auto") != 0;
}

/* Where a daemon has a kernel or QEMU of its own, what it finds concerns no other. */
static void result_paths(const struct qemu_driver *driver, char first[PATH_MAX],
                         char second[PATH_MAX])
{
    bool own = is_own(driver->config.kernel) || is_own(driver->config.qemu);
    snprintf(second, PATH_MAX, "%s/machines/" RESULT, driver->config.state_dir);
    if (own)
        snprintf(first, PATH_MAX, "%s", second);
    else
        snprintf(first, PATH_MAX, "%s/" RESULT "-%u", driver->config.image_dir,
                 (unsigned)geteuid());
}

static void describe(struct qemu_driver *driver, int64_t took_us, const char *why)
{
    struct driver_probe *probe = &driver->probe;
    bool kvm = strcmp(driver->accelerator, "kvm") == 0;
    snprintf(probe->version, sizeof probe->version, "%s (%s, %s)", driver->version,
             driver->accelerator, driver->as_root ? "root" : "rootless");
    snprintf(probe->reason, sizeof probe->reason, "%s%.200s",
             kvm ? "" : "machines run by TCG, many times slower than by KVM: ", kvm ? "" : why);
    if (took_us)
        probe->took_us = took_us;
}

/* "KEY\nkvm|tcg TOOK_US WHY\n" */
static bool load_result(struct qemu_driver *driver)
{
    char paths[2][PATH_MAX], text[1024], key[256];
    make_key(driver, key, sizeof key);
    result_paths(driver, paths[0], paths[1]);
    for (int i = 0; i < 2; i++) {
        if (path_read_small(AT_FDCWD, paths[i], text, sizeof text) <= 0)
            continue;
        char *line = strchr(text, '\n'), accelerator[8], why[200] = "";
        int64_t took_us;
        if (line)
            *line++ = '\0';
        if (!line || strcmp(text, key) != 0 ||
            sscanf(line, "%7s %" SCNd64 " %199[^\n]", accelerator, &took_us, why) < 2)
            continue;
        driver->accelerator = strcmp(accelerator, "kvm") == 0 ? "kvm" : "tcg";
        describe(driver, took_us, why);
        return true;
    }
    return false;
}

static void store_result(const struct trial *trial)
{
    char paths[2][PATH_MAX], text[1024], key[256];
    make_key(trial->driver, key, sizeof key);
    result_paths(trial->driver, paths[0], paths[1]);
    int length = snprintf(text, sizeof text, "%s\n%s %" PRId64 " %s\n", key,
                          trial->works ? "kvm" : "tcg", trial->took_us, trial->why);
    if (path_write_durable(AT_FDCWD, paths[0], text, (size_t)length, 0644) &&
        path_write_durable(AT_FDCWD, paths[1], text, (size_t)length, 0600))
        log_warning("accelerator_not_written", "%s", "it is tried again after the next start");
}

static void tell(struct qemu_driver *driver)
{
    driver->accelerator_state = ACCELERATOR_KNOWN;
    log_info("accelerator_found", "accelerator=%s ms=%" PRId64 " why=\"%s\"", driver->accelerator,
             driver->probe.took_us / US_PER_MS, driver->probe.reason);
    if (driver->config.on_probed)
        driver->config.on_probed(driver->config.on_probed_arg, &driver->driver, &driver->probe);
    while (!list_empty(&driver->accelerator_waiters)) {
        struct waiter *waiter = container_of(driver->accelerator_waiters.next, struct waiter, link);
        list_remove(&waiter->link);
        waiter->done(waiter->arg);
        free(waiter);
    }
}

static void on_destroyed(void *arg, int error, const struct hearth_failure *failure)
{
    struct trial *trial = arg;
    struct qemu_driver *driver = trial->driver;
    if (error)
        log_warning("trial_not_removed", "detail=\"%s\"", failure->detail);
    driver->driver.operations->forget(&driver->driver, &trial->guest);
    driver->trial = NULL;
    free(trial->guest.driver_state);
    driver->accelerator = trial->works ? "kvm" : "tcg";
    describe(driver, trial->took_us, trial->why);
    store_result(trial);
    free(trial);
    tell(driver);
}

static void on_booted(void *arg, int error, const struct hearth_failure *failure)
{
    struct trial *trial = arg;
    trial->took_us = clock_monotonic_us() - trial->began_us;
    trial->works = !error;
    if (error)
        snprintf(trial->why, sizeof trial->why, "under KVM %.180s", failure->detail);
    trial->guest.on_died = NULL;
    trial->driver->driver.operations->destroy(&trial->driver->driver, &trial->guest, on_destroyed,
                                              trial);
}

static void try_kvm(struct qemu_driver *driver)
{
    struct trial *trial = calloc(1, sizeof *trial);
    if (!trial)
        abort();
    *trial = (struct trial){.driver = driver, .began_us = clock_monotonic_us()};
    trial->guest = (struct guest){
        .driver = &driver->driver,
        .process = PIDREF_NONE,
        .index = (UINT32_MAX - driver->config.uid_base) / QEMU_ID_RANGE - 1, /* the last */
    };
    id_make(trial->guest.guest_id, "gu", driver->config.node_tag);
    driver->accelerator_state = ACCELERATOR_TRYING;
    driver->trial = &trial->guest;
    qemu_boot_trial(&driver->driver, &trial->guest, PROBE_MEM_MIB, on_booted, trial);
}

void qemu_accelerator_begin(struct qemu_driver *driver)
{
    struct qemu_kernel kernel;
    int fd = open(KVM, O_RDWR | O_CLOEXEC);
    char why[128];
    snprintf(why, sizeof why, KVM " cannot be opened: %s", strerror(errno));
    driver->accelerator = "tcg";
    driver->accelerator_state = ACCELERATOR_KNOWN;
    describe(driver, 0, why);
    if (fd < 0)
        return;
    close(fd);
    if (load_result(driver))
        return;
    driver->accelerator_state = ACCELERATOR_UNKNOWN;
    describe(driver, 0, "it has not been tried yet");
    /* In the background, where a daemon may choose machines by what is found. */
    if (driver->config.try_early && qemu_kernel_find(driver, &kernel, NULL) == 0)
        try_kvm(driver);
}

void qemu_accelerator_when_known(struct qemu_driver *driver, void (*done)(void *arg), void *arg)
{
    if (driver->accelerator_state == ACCELERATOR_KNOWN) {
        loop_defer(driver->config.loop, done, arg);
        return;
    }
    struct waiter *waiter = malloc(sizeof *waiter);
    if (!waiter)
        abort();
    *waiter = (struct waiter){.done = done, .arg = arg};
    list_append(&driver->accelerator_waiters, &waiter->link);
    if (driver->accelerator_state == ACCELERATOR_UNKNOWN)
        try_kvm(driver);
}
