#include "supervisord/drivers/qemu/qemu.h"

#include "base/path_at.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIGEST_LENGTH 64

static int missing(struct hearth_failure *failure, const char *what)
{
    int error = hearth_fail(failure, HEARTH_ENOTFOUND, "kernel_missing", "%s", what);
    hearth_failure_hint(failure, "`hearth env pull debian:12` fetches one; or set `kernel` to the "
                                 "path of a bzImage.");
    return error;
}

static int find_configured(const struct qemu_driver *driver, struct qemu_kernel *ret_kernel,
                           struct hearth_failure *failure)
{
    const char *modules = driver->config.kernel_modules;
    snprintf(ret_kernel->path, PATH_MAX, "%s", driver->config.kernel);
    snprintf(ret_kernel->modules, PATH_MAX, "%s", modules ? modules : "");
    struct stat status;
    if (access(ret_kernel->path, R_OK) < 0 || stat(ret_kernel->path, &status) < 0)
        return missing(failure, "the kernel that was configured is not there");
    snprintf(ret_kernel->version, sizeof ret_kernel->version, "configured-%lld-%lld",
             (long long)status.st_size, (long long)status.st_mtime);
    return 0;
}

/* IMAGE_DIR/kernels/current: "DIGEST VERSION". */
int qemu_kernel_find(const struct qemu_driver *driver, struct qemu_kernel *ret_kernel,
                     struct hearth_failure *failure)
{
    char path[PATH_MAX], text[256], digest[DIGEST_LENGTH + 1];
    *ret_kernel = (struct qemu_kernel){0};
    if (driver->config.kernel && strcmp(driver->config.kernel, "auto") != 0)
        return find_configured(driver, ret_kernel, failure);
    const char *image_dir = driver->config.image_dir;
    snprintf(path, sizeof path, "%s/kernels/current", image_dir);
    if (path_read_small(AT_FDCWD, path, text, sizeof text) <= 0 ||
        sscanf(text, "%64[0-9a-f] %79s", digest, ret_kernel->version) != 2 ||
        strlen(digest) != DIGEST_LENGTH)
        return missing(failure, "there is no kernel for virtual machines yet");
    snprintf(ret_kernel->path, PATH_MAX, "%s/kernels/%s/tree/vmlinuz", image_dir, digest);
    snprintf(ret_kernel->modules, PATH_MAX, "%s/kernels/%s/tree/modules", image_dir, digest);
    if (access(ret_kernel->path, R_OK) < 0)
        return missing(failure, "the kernel for virtual machines has been taken away");
    return 0;
}
