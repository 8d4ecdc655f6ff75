/* What a machine that goes on from a saved state is shown in the place of its kernel and initramfs:
 * it has them in its memory, and never looks at the files again, but QEMU wants some, and reads
 * them into each process. The beginning of the kernel is enough for it (Documentation/x86/boot.rst
 * of Linux). */
#include "supervisord/drivers/qemu/qemu.h"

#include "base/path_at.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SECTOR 512
#define AT_SECTORS 0x1f1 /* of the setup, without the first; 0 stands for SECTORS_USUAL */
#define AT_MAGIC 0x202
#define MAGIC "HdrS"
#define SECTORS_USUAL 4
#define PAYLOAD 4096 /* of what would follow the setup: there has to be something */
#define SETUP_MAX ((size_t)(UINT8_MAX + 1) * SECTOR)

/* How much of the kernel it takes, or 0 where it is not what we know how to cut. */
static size_t stub_length(const unsigned char *data, size_t length)
{
    if (length < AT_MAGIC + strlen(MAGIC) || memcmp(data + AT_MAGIC, MAGIC, strlen(MAGIC)) != 0)
        return 0;
    size_t sectors = data[AT_SECTORS] ? data[AT_SECTORS] : SECTORS_USUAL;
    size_t whole = (sectors + 1) * SECTOR + PAYLOAD;
    return whole <= length ? whole : 0;
}

static void make_name(char out[64], const unsigned char *data, size_t length)
{
    unsigned char digest[16];
    crypto_generichash(digest, sizeof digest, data, length, NULL, 0);
    int at = snprintf(out, 64, "stub-");
    sodium_bin2hex(out + at, 64 - (size_t)at, digest, sizeof digest);
}

int qemu_stub(const struct qemu_driver *driver, const struct qemu_kernel *kernel,
              char ret_path[PATH_MAX], struct hearth_failure *failure)
{
    unsigned char data[SETUP_MAX + PAYLOAD];
    char name[64];
    *ret_path = '\0';
    auto_close int file = open(kernel->path, O_RDONLY | O_CLOEXEC);
    ssize_t got = file < 0 ? -1 : read(file, data, sizeof data);
    size_t length = got < 0 ? 0 : stub_length(data, (size_t)got);
    if (!length)
        return 0;
    make_name(name, data, length);
    auto_close int directory = qemu_boot_directory(driver);
    int error = directory < 0 ? directory : 0;
    if (!error && faccessat(directory, name, R_OK, 0) < 0)
        error = qemu_boot_write(directory, name, data, length);
    if (error)
        return hearth_fail_errno(failure, -error, "initramfs_failed",
                                 "cannot make what restored machines have for a kernel");
    snprintf(ret_path, PATH_MAX, "%s/machines/boot/%s", driver->config.state_dir, name);
    return 0;
}
