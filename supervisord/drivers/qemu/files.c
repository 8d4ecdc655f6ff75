#include "supervisord/drivers/qemu/qemu.h"

#include "base/cleanup.h"
#include "base/id.h"
#include "base/path_at.h"
#include "supervisord/drivers/qemu/fork.h"
#include "supervisord/drivers/qemu/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define DISK "disk.qcow2"
#define BACKLOG 8

/* Written under another name first: a disk is whole or not there. */
static int make_disk(const struct qemu_guest *guest, int directory)
{
    auto_close int fd =
        openat(directory, DISK ".new", O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int error = guest->copy ? qemu_copy_disk(guest->copy, fd)
                            : overlay_write(fd, (uint64_t)guest->disk_mib << 20);
    if (error)
        return error;
    if (guest->driver->as_root && fchown(fd, guest->owner, guest->owner) < 0)
        return -errno;
    return renameat(directory, DISK ".new", directory, DISK) < 0 ? -errno : 0;
}

int qemu_files_prepare(struct qemu_guest *guest, struct hearth_failure *failure)
{
    int state_fd = guest->driver->state_fd, error = 0;
    if (mkdirat(state_fd, guest->guest_id, 0700) < 0 && errno != EEXIST)
        error = -errno;
    /* QEMU's user may use what is in there, not put anything beside it. */
    if (!error && guest->driver->as_root &&
        fchownat(state_fd, guest->guest_id, 0, guest->owner, AT_SYMLINK_NOFOLLOW) < 0)
        error = -errno;
    if (!error && fchmodat(state_fd, guest->guest_id, 0750, 0) < 0)
        error = -errno;
    if (!error) {
        auto_close int directory = path_open_directory(state_fd, guest->guest_id);
        error = directory < 0 ? directory : make_disk(guest, directory);
    }
    return error ? hearth_fail_errno(failure, -error, "prepare_failed",
                                     "cannot make the machine's disk")
                 : 0;
}

#define DISK_PATH_SIZE (sizeof((struct qemu_guest *)0)->guest_id + sizeof DISK + 1)

static void disk_path(const struct qemu_guest *guest, char out[DISK_PATH_SIZE])
{
    snprintf(out, DISK_PATH_SIZE, "%s/" DISK, guest->guest_id);
}

bool qemu_files_written_since(const struct qemu_guest *guest, int64_t wall_us)
{
    char path[DISK_PATH_SIZE];
    struct stat status;
    disk_path(guest, path);
    return fstatat(guest->driver->state_fd, path, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
           status.st_mtim.tv_sec * US_PER_S + status.st_mtim.tv_nsec / 1000 >= wall_us;
}

int qemu_files_open_disk(const struct qemu_guest *guest, bool empty)
{
    char path[DISK_PATH_SIZE];
    disk_path(guest, path);
    int fd = openat(guest->driver->state_fd, path,
                    (empty ? O_RDWR | O_TRUNC : O_RDONLY) | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* A path of any length fits: the directory is named by its descriptor. */
static int make_address(const struct qemu_guest *guest, const char *name,
                        struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s/%s",
             guest->driver->runtime_fd, guest->guest_id, name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd < 0 ? -errno : fd;
}

int qemu_files_listen(const struct qemu_guest *guest, const char *name)
{
    struct sockaddr_un address;
    auto_close int fd = make_address(guest, name, &address);
    if (fd < 0)
        return fd;
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, BACKLOG) < 0)
        return -errno;
    return steal_fd(&fd);
}

int qemu_files_connect(const struct qemu_guest *guest, const char *name)
{
    struct sockaddr_un address;
    auto_close int fd = make_address(guest, name, &address);
    if (fd < 0)
        return fd;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return -errno;
    return steal_fd(&fd);
}

int qemu_files_start(struct qemu_guest *guest, struct hearth_failure *failure)
{
    int runtime_fd = guest->driver->runtime_fd;
    int error = path_remove_tree(runtime_fd, guest->guest_id);
    if (!error && mkdirat(runtime_fd, guest->guest_id, 0700) < 0)
        error = -errno;
    if (!error && (guest->qmp_fd = qemu_files_listen(guest, "qmp")) < 0)
        error = guest->qmp_fd;
    if (!error && (guest->console_fd = qemu_files_listen(guest, "console")) < 0)
        error = guest->console_fd;
    if (error)
        return hearth_fail_errno(failure, -error, "start_failed",
                                 "cannot make the machine's sockets");
    return guest->transport->prepare(guest, failure);
}

int qemu_files_stop(struct qemu_guest *guest, struct hearth_failure *failure)
{
    if (guest->transport && guest->transport->clear)
        guest->transport->clear(guest);
    int error = path_remove_tree(guest->driver->runtime_fd, guest->guest_id);
    return error ? hearth_fail_errno(failure, -error, "stop_failed",
                                     "cannot remove the machine's runtime directory")
                 : 0;
}

int qemu_files_remove(struct qemu_guest *guest, struct hearth_failure *failure)
{
    int error = path_remove_tree(guest->driver->state_fd, guest->guest_id);
    return error ? hearth_fail_errno(failure, -error, "destroy_failed",
                                     "cannot remove the machine's directory")
                 : 0;
}

void qemu_files_each(const struct qemu_driver *driver,
                     void (*visit)(void *arg, const char *guest_id), void *arg)
{
    const int directories[] = {driver->state_fd, driver->runtime_fd};
    for (size_t i = 0; i < 2; i++) {
        int fd = openat(directories[i], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        auto_closedir DIR *directory = fd < 0 ? NULL : fdopendir(fd);
        for (struct dirent *entry; directory && (entry = readdir(directory));)
            if (id_valid(entry->d_name, "gu"))
                visit(arg, entry->d_name);
    }
}

int qemu_disk(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
              struct guest_disk *ret_disk, struct hearth_failure *failure)
{
    const struct qemu_guest *data = qemu_guest_data(driver, guest);
    struct guest_disk *disk = ret_disk;
    if (!spec->image_path)
        return hearth_fail(failure, HEARTH_EINVALID, "environment_missing",
                           "the environment is not there any more");
    *disk = (struct guest_disk){.owner = geteuid()};
    snprintf(disk->base, sizeof disk->base, "%s", spec->image_path);
    snprintf(disk->disk, sizeof disk->disk, "%s/machines/%s/" DISK, data->driver->config.state_dir,
             guest->guest_id);
    const char *const words[] = {"--base", disk->base, "--overlay", disk->disk};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        disk->words[disk->word_count++] = words[i];
    if (data->driver->as_root) {
        disk->owner = data->owner;
        snprintf(disk->number, sizeof disk->number, "%u", (unsigned)disk->owner);
        disk->words[disk->word_count++] = "--uid-base";
        disk->words[disk->word_count++] = disk->number;
    }
    return 0;
}
