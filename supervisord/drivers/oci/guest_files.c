#include "supervisord/drivers/oci/oci.h"

#include "base/cleanup.h"
#include "base/id.h"
#include "base/path_at.h"
#include "supervisord/drivers/oci/bundle.h"
#include "supervisord/net/net.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define AGENT_BACKLOG 64

/* Gives the directory to the guest's root. A plain user is that already. */
static int make_owned(const struct oci_guest *guest, int parent, const char *name, mode_t mode)
{
    if (mkdirat(parent, name, mode) < 0 && errno != EEXIST)
        return -errno;
    if (guest->driver->as_root &&
        fchownat(parent, name, guest->owner, guest->owner, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    return 0;
}

static int write_owned(const struct oci_guest *guest, int parent, const char *name,
                       const char *text, size_t length)
{
    auto_close int fd =
        openat(parent, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    for (ssize_t put; length; text += put, length -= (size_t)put)
        if ((put = write(fd, text, length)) < 0)
            return -errno;
    if (guest->driver->as_root && fchown(fd, guest->owner, guest->owner) < 0)
        return -errno;
    return 0;
}

/* The guest's own names over those of the environment, which may be the building host's. */
static int write_names(const struct oci_guest *guest, int upper)
{
    char hosts[256], hostname[80];
    const char *resolver =
        network_has_device(guest->network) ? "nameserver " NET_NAME_SERVER "\n" : "";
    /* What listens on "localhost" is reached by ports and probes, which go to 127.0.0.1. */
    snprintf(hosts, sizeof hosts, "127.0.0.1 localhost %s\n::1 ip6-localhost ip6-loopback\n",
             guest->hostname);
    snprintf(hostname, sizeof hostname, "%s\n", guest->hostname);
    auto_close int etc = path_open_directory(upper, "etc");
    if (etc < 0)
        return etc;
    int error = write_owned(guest, etc, "hosts", hosts, strlen(hosts));
    if (!error)
        error = write_owned(guest, etc, "hostname", hostname, strlen(hostname));
    if (!error)
        error = write_owned(guest, etc, "resolv.conf", resolver, strlen(resolver));
    return error;
}

static int prepare_disk(struct oci_guest *guest)
{
    int error = make_owned(guest, guest->driver->state_fd, guest->guest_id, 0700);
    if (error)
        return error;
    auto_close int disk = path_open_directory(guest->driver->state_fd, guest->guest_id);
    if (disk < 0)
        return disk;
    error = make_owned(guest, disk, "work", 0700);
    if (!error)
        error = make_owned(guest, disk, "upper", 0755);
    if (error)
        return error;
    auto_close int upper = path_open_directory(disk, "upper");
    if (upper < 0)
        return upper;
    error = make_owned(guest, upper, "workspace", 0755);
    if (!error)
        error = make_owned(guest, upper, "etc", 0755);
    return error ? error : write_names(guest, upper);
}

int guest_files_prepare(struct oci_guest *guest, struct hearth_failure *failure)
{
    int error = prepare_disk(guest);
    return error ? hearth_fail_errno(failure, -error, "prepare_failed",
                                     "cannot make the guest's directories")
                 : 0;
}

/* A path of any length fits: the directory is named by its descriptor. */
static int listen_at(int directory)
{
    auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/agent.sock", directory);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(fd, AGENT_BACKLOG) < 0)
        return -errno;
    return steal_fd(&fd);
}

static int make_bundle(struct oci_guest *guest, int directory)
{
    auto_buf struct buf config = {0};
    const struct bundle bundle = {
        .guest_id = guest->guest_id,
        .hostname = guest->hostname,
        .mem_mib = guest->limits.mem_mib,
        .has_id_range = guest->driver->as_root,
        .seccomp_program =
            oci_runtime_is_crun(&guest->driver->runtime) ? guest->driver->seccomp_program : NULL,
    };
    if (bundle_config(&config, &bundle))
        return -ENOMEM;
    int error = make_owned(guest, directory, "bundle", 0700);
    if (error)
        return error;
    auto_close int fd = path_open_directory(directory, "bundle");
    if (fd < 0)
        return fd;
    static const char *const mount_points[] = {"tree", "disk", "rootfs", "state"};
    for (size_t i = 0; i < sizeof mount_points / sizeof mount_points[0] && !error; i++)
        error = make_owned(guest, fd, mount_points[i], 0755);
    if (!error)
        error = write_owned(guest, fd, "agent", "", 0);
    return error ? error : write_owned(guest, fd, "config.json", config.data, config.length);
}

int guest_files_start(struct oci_guest *guest, int *ret_listen_fd, struct hearth_failure *failure)
{
    int runtime_fd = guest->driver->runtime_fd, listen_fd = -1;
    int error = path_remove_tree(runtime_fd, guest->guest_id);
    if (!error && mkdirat(runtime_fd, guest->guest_id, 0700) < 0)
        error = -errno;
    if (!error) {
        auto_close int directory = path_open_directory(runtime_fd, guest->guest_id);
        error = directory < 0 ? directory : make_bundle(guest, directory);
        if (!error && (listen_fd = listen_at(directory)) < 0)
            error = listen_fd;
    }
    if (error)
        return hearth_fail_errno(failure, -error, "start_failed", "cannot make the guest's bundle");
    *ret_listen_fd = listen_fd;
    return 0;
}

int guest_files_stop(struct oci_guest *guest, struct hearth_failure *failure)
{
    int error = path_remove_tree(guest->driver->runtime_fd, guest->guest_id);
    return error ? hearth_fail_errno(failure, -error, "stop_failed",
                                     "cannot remove the guest's runtime directory")
                 : 0;
}

static ssize_t read_in_bundle(const struct oci_guest *guest, const char *name, char *out,
                              size_t size)
{
    char path[96];
    snprintf(path, sizeof path, "%s/bundle/%s", guest->guest_id, name);
    auto_close int fd =
        path_open_beneath(guest->driver->runtime_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        return -1;
    ssize_t length = read(fd, out, size - 1);
    if (length >= 0)
        out[length] = '\0';
    return length;
}

pid_t guest_files_pid(const struct oci_guest *guest)
{
    char text[24];
    if (read_in_bundle(guest, "pid", text, sizeof text) <= 0)
        return 0;
    long pid = strtol(text, NULL, 10);
    return pid > 1 && pid <= INT_MAX ? (pid_t)pid : 0;
}

void guest_files_log(const struct oci_guest *guest, char *out, size_t size)
{
    ssize_t length = read_in_bundle(guest, "log", out, size);
    if (length < 0)
        length = 0;
    while (length > 0 && out[length - 1] == '\n')
        length--;
    out[length] = '\0';
    for (char *at = out; *at; at++)
        if (*at < 0x20 || *at > 0x7e)
            *at = ' ';
}

void guest_files_each(const struct oci_driver *driver,
                      void (*visit)(void *arg, const char *guest_id), void *arg)
{
    const int directories[] = {driver->state_fd, driver->runtime_fd};
    for (size_t i = 0; i < 2; i++) {
        int fd = path_open_directory(directories[i], ".");
        auto_closedir DIR *directory = fd < 0 ? NULL : fdopendir(fd);
        for (struct dirent *entry; directory && (entry = readdir(directory));)
            if (id_valid(entry->d_name, "gu"))
                visit(arg, entry->d_name);
    }
}
