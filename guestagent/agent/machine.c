#include "guestagent/agent/machine.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/netlink.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define DISK "/dev/vda"
#define NEW_ROOT "/root"
#define MODULES "/modules"
#define DEVICE_WAIT_MS 10000
#define WARM_S 20
#define GROW_WAIT_MS 5000
#define RESIZE_FS _IOW('f', 16, uint64_t) /* ext4: to so many blocks */

struct mount_point {
    const char *source, *target, *type, *options;
    unsigned long flags;
};

static int mount_all(const struct mount_point *points, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct mount_point *point = &points[i];
        mkdir(point->target, 0755);
        if (mount(point->source, point->target, point->type, point->flags, point->options) < 0) {
            int error = -errno;
            log_error("mount_failed", "%s: %s", point->target, strerror(-error));
            return error;
        }
    }
    return 0;
}

/* The kernel's log is the one place that the host can read before anything else works. */
static void log_to_kernel(void)
{
    int null_fd = open("/dev/null", O_RDWR), log_fd = open("/dev/kmsg", O_WRONLY);
    if (null_fd >= 0)
        dup2(null_fd, 0);
    for (int fd = 1; fd <= 2; fd++)
        if (log_fd >= 0 || null_fd >= 0)
            dup2(log_fd >= 0 ? log_fd : null_fd, fd);
    if (null_fd > 2)
        close(null_fd);
    if (log_fd > 2)
        close(log_fd);
}

/* MODULES holds NN-NAME.ko in the order in which they are loaded; NN goes up from 00. */
static void load_modules(void)
{
    auto_closedir DIR *directory = opendir(MODULES);
    char names[32][64];
    unsigned count = 0;
    memset(names, 0, sizeof names);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        unsigned number;
        if (sscanf(entry->d_name, "%2u-", &number) != 1 || number >= 32)
            continue;
        snprintf(names[number], sizeof names[number], "%.63s", entry->d_name);
        count = number >= count ? number + 1 : count;
    }
    for (unsigned i = 0; i < count; i++) {
        auto_close int fd =
            *names[i] ? openat(dirfd(directory), names[i], O_RDONLY | O_CLOEXEC) : -1;
        if (fd >= 0 && syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)
            log_warning("module_not_loaded", "%s: %s", names[i], strerror(errno));
    }
}

/* What a disk has never been told reads as zeros: ext4 need not write them to its tables, nor read
 * all its bitmaps, in each machine anew. */
#define ROOT_OPTIONS "noinit_itable,no_prefetch_block_bitmaps"

/* Drivers find their devices as they are loaded, or a moment later. */
static int mount_root(void)
{
    mkdir(NEW_ROOT, 0755);
    auto_close int notify = inotify_init1(IN_CLOEXEC);
    if (notify >= 0)
        inotify_add_watch(notify, "/dev", IN_CREATE);
    for (;;) {
        if (mount(DISK, NEW_ROOT, "ext4", MS_NOATIME, ROOT_OPTIONS) == 0)
            return 0;
        int error = -errno;
        struct pollfd poll_fd = {.fd = notify, .events = POLLIN};
        char events[4096];
        if ((error != -ENOENT && error != -ENXIO) || poll(&poll_fd, 1, DEVICE_WAIT_MS) <= 0 ||
            read(notify, events, sizeof events) < 0) {
            log_error("root_not_mounted", DISK ": %s", strerror(-error));
            return error;
        }
    }
}

/* What is left of the initramfs would hold its memory for as long as the machine runs. */
static void clear_initramfs(void)
{
    auto_closedir DIR *directory = opendir(MODULES);
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        unlinkat(dirfd(directory), entry->d_name, 0);
    rmdir(MODULES);
    unlink("/init");
}

static int switch_root(void)
{
    static const char *const moved[] = {"/dev", "/proc", "/sys"};
    for (size_t i = 0; i < sizeof moved / sizeof *moved; i++) {
        char target[32];
        snprintf(target, sizeof target, NEW_ROOT "%s", moved[i]);
        mkdir(target, 0755);
        if (mount(moved[i], target, NULL, MS_MOVE, NULL) < 0)
            return -errno;
    }
    clear_initramfs();
    if (chdir(NEW_ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
        chdir("/") < 0)
        return -errno;
    return 0;
}

static void make_links(void)
{
    static const struct {
        const char *target, *name;
    } links[] = {
        {"/proc/self/fd", "/dev/fd"},
        {"/proc/self/fd/0", "/dev/stdin"},
        {"/proc/self/fd/1", "/dev/stdout"},
        {"/proc/self/fd/2", "/dev/stderr"},
    };
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        if (symlink(links[i].target, links[i].name) < 0 && errno != EEXIST)
            log_warning("link_not_made", "%s: %s", links[i].name, strerror(errno));
}

static void raise_loopback(void)
{
    auto_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
        log_warning("loopback_down", "%s", strerror(errno));
}

int machine_boot(bool disk)
{
    static const struct mount_point early[] = {
        {"devtmpfs", "/dev", "devtmpfs", "mode=0755", MS_NOSUID},
        {"proc", "/proc", "proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
        {"sysfs", "/sys", "sysfs", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
    };
    static const struct mount_point late[] = {
        {"devpts", "/dev/pts", "devpts", "ptmxmode=0666,mode=0620,gid=5", MS_NOSUID | MS_NOEXEC},
        {"shm", "/dev/shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV},
        {"tmpfs", "/run", "tmpfs", "mode=0755,size=25%", MS_NOSUID | MS_NODEV},
    };
    int error = mount_all(early, sizeof early / sizeof *early);
    log_to_kernel();
    if (error)
        return error;
    load_modules();
    if (!disk)
        return 0;
    error = mount_root();
    if (!error && (error = switch_root()))
        log_error("root_not_switched", "%s", strerror(-error));
    if (!error)
        error = mount_all(late, sizeof late / sizeof *late);
    if (error)
        return error;
    make_links();
    raise_loopback();
    machine_grow_root(0);
    return 0;
}

/* What the kernel says of its devices as they change, or a negative errno. */
static int open_uevents(void)
{
    const struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
    auto_close int fd =
        socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) < 0)
        return -errno;
    return steal_fd(&fd);
}

/* The device's size as the kernel knows it, at the latest after GROW_WAIT_MS without news. */
static uint64_t wait_for_size(int disk, uint64_t wanted)
{
    auto_close int events = open_uevents(); /* before the first look: none is missed */
    for (;;) {
        struct pollfd poll_fd = {.fd = events, .events = POLLIN};
        uint64_t bytes;
        char event[2048];
        if (ioctl(disk, BLKGETSIZE64, &bytes) < 0)
            return 0;
        if (bytes >= wanted || events < 0 || poll(&poll_fd, 1, GROW_WAIT_MS) <= 0 ||
            recv(events, event, sizeof event, 0) < 0)
            return bytes;
    }
}

void machine_grow_root(uint64_t bytes)
{
    static uint64_t taken;
    if (bytes && bytes <= taken) /* the kernel would write out its journal to change nothing */
        return;
    auto_close int disk = open(DISK, O_RDONLY | O_CLOEXEC);
    auto_close int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct statfs status;
    if (disk < 0 || root < 0 || fstatfs(root, &status) < 0 || status.f_bsize <= 0)
        return;
    uint64_t size = wait_for_size(disk, bytes), blocks = size / (uint64_t)status.f_bsize;
    if (blocks && ioctl(root, RESIZE_FS, &blocks) < 0)
        log_warning("root_not_grown", "%s", strerror(errno));
    else
        taken = size;
}

void machine_warm(void)
{
    pid_t child = fork();
    if (child == 0) {
        alarm(WARM_S); /* kept over exec */
        execl("/bin/sh", "sh", "-lc",
              "exec >/dev/null 2>&1; cd /workspace; env true; ls -la; cat /etc/hostname; git "
              "--version; "
              "python3 -c 'import json, os, subprocess, sys, uuid'; sync",
              NULL);
        _exit(127);
    }
    while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
}

void machine_power_off(void)
{
    kill(-1, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        continue;
    sync();
    if (mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL) < 0)
        log_warning("root_not_unmounted", "%s", strerror(errno));
    sync();
    reboot(RB_POWER_OFF);
    _exit(1); /* and with it the kernel: it cannot go on without its first process */
}

int machine_open_port(const char *name)
{
    char path[300], found[64];
    auto_closedir DIR *ports = opendir("/sys/class/virtio-ports");
    for (struct dirent *entry; ports && (entry = readdir(ports));) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/name", entry->d_name);
        auto_close int fd = openat(dirfd(ports), path, O_RDONLY | O_CLOEXEC);
        ssize_t length = fd < 0 ? -1 : read(fd, found, sizeof found - 1);
        found[length < 0 ? 0 : length] = '\0';
        found[strcspn(found, "\n")] = '\0';
        if (strcmp(found, name) != 0)
            continue;
        snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        int port = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        return port < 0 ? -errno : port;
    }
    return -ENOENT;
}

void machine_greet(unsigned port)
{
    auto_close int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_vm address = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port};
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        log_warning("host_not_greeted", "%s", strerror(errno));
}

int machine_listen_vsock(unsigned port)
{
    auto_close int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_vm address = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port};
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 16) < 0)
        return -errno;
    return steal_fd(&fd);
}
