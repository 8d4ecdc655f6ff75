#include "supervisord/launch/machine.h"

#include "supervisord/launch/enter.h"
#include "supervisord/launch/id_map.h"
#include "supervisord/launch/mounts.h"
#include "supervisord/launch/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define JAIL "/tmp" /* where the new root is put together: a directory that every host has */
#define ITEMS_MAX 16
#define FILES_MAX 128 /* QEMU's descriptors */
#define THREADS_MAX 128

struct shown {
    const char *name, *path;
    bool writable, executable;
    mode_t type;
    int fd;
};

struct machine {
    bool as_root;
    uid_t uid;
    rlim_t file_limit; /* 0: none */
    unsigned pass_count;
    const char *cgroup_files[ITEMS_MAX];
    const char *devices[ITEMS_MAX];
    struct shown shown[ITEMS_MAX];
    size_t cgroup_count, device_count, shown_count;
    gid_t groups[ITEMS_MAX]; /* what the devices want */
    size_t group_count;
    char **program;
};

static size_t next(size_t *count)
{
    if (*count == ITEMS_MAX)
        launch_die(E2BIG, "too many arguments");
    return (*count)++;
}

static void show(struct machine *machine, char *argument, bool writable)
{
    char *equals = strchr(argument, '=');
    if (!equals || strchr(argument, '/') < equals)
        launch_die(EINVAL, "an argument is not NAME=PATH");
    *equals = '\0';
    machine->shown[next(&machine->shown_count)] =
        (struct shown){.name = argument, .path = equals + 1, .writable = writable, .fd = -1};
}

static void parse(struct machine *machine, int argc, char **argv)
{
    static const struct option options[] = {
        {"uid", required_argument, NULL, 'u'},
        {"cgroup", required_argument, NULL, 'c'},
        {"file-limit", required_argument, NULL, 'f'},
        {"device", required_argument, NULL, 'd'},
        {"show", required_argument, NULL, 's'},
        {"own", required_argument, NULL, 'o'},
        {"run", required_argument, NULL, 'r'},
        {"pass", required_argument, NULL, 'p'},
        {0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        switch (option) {
        case 'u':
            machine->as_root = true;
            machine->uid = (uid_t)strtoul(optarg, NULL, 10);
            break;
        case 'c':
            machine->cgroup_files[next(&machine->cgroup_count)] = optarg;
            break;
        case 'f':
            machine->file_limit = strtoull(optarg, NULL, 10);
            break;
        case 'd':
            machine->devices[next(&machine->device_count)] = optarg;
            break;
        case 's':
            show(machine, optarg, false);
            break;
        case 'o':
            show(machine, optarg, true);
            break;
        case 'r':
            show(machine, optarg, false);
            machine->shown[machine->shown_count - 1].executable = true;
            break;
        case 'p':
            machine->pass_count = (unsigned)strtoul(optarg, NULL, 10);
            break;
        default:
            exit(2);
        }
    }
    machine->program = argv + optind;
    if (!machine->program[0] || (machine->as_root && !machine->uid))
        launch_die(EINVAL, "an argument is missing");
}

/* A plain user makes mounts and namespaces in a user namespace, where there is no other ID. */
static void enter_user_namespace(void)
{
    uid_t uid = getuid();
    gid_t gid = getgid();
    if (unshare(CLONE_NEWUSER) < 0)
        launch_die(errno, "cannot make a user namespace");
    const char *failed = id_map_alone("/proc/self", uid, gid, false);
    if (failed)
        launch_die(errno, "cannot write /proc/self/%s", failed);
}

static mode_t type_of(const char *path)
{
    struct stat status;
    if (lstat(path, &status) < 0)
        launch_die(errno, "cannot find %s", path);
    return status.st_mode & S_IFMT;
}

static void put(int fd, const char *target, mode_t type)
{
    if (type == S_IFDIR) {
        mkdir(target, 0755);
    } else {
        int file = open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        if (file < 0)
            launch_die(errno, "cannot make %s", target);
        close(file);
    }
    mount_attach(fd, target);
    close(fd);
}

/* PATH of the host as JAIL/PATH. */
static void show_system(const char *path)
{
    char target[64], link[64];
    struct stat status;
    snprintf(target, sizeof target, JAIL "%s", path);
    if (lstat(path, &status) < 0)
        return;
    if (S_ISLNK(status.st_mode)) { /* /lib, where it is usr/lib */
        ssize_t length = readlink(path, link, sizeof link - 1);
        link[length < 0 ? 0 : length] = '\0';
        if (symlink(link, target) < 0)
            launch_die(errno, "cannot make %s", target);
        return;
    }
    int fd = mount_open_detached(path, status.st_mode & S_IFMT);
    mount_set_attributes(fd, path, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, -1);
    put(fd, target, status.st_mode & S_IFMT);
}

static void show_device(struct machine *machine, const char *path)
{
    char target[128];
    struct stat status;
    snprintf(target, sizeof target, JAIL "%s", path);
    if (stat(path, &status) < 0)
        launch_die(errno, "cannot find %s", path);
    if ((status.st_mode & 060) == 060 && status.st_gid != 0)
        machine->groups[next(&machine->group_count)] = status.st_gid;
    put(mount_open_detached(path, S_IFCHR), target, S_IFCHR);
}

static void open_shown(struct machine *machine)
{
    for (size_t i = 0; i < machine->shown_count; i++) {
        struct shown *item = &machine->shown[i];
        item->type = type_of(item->path);
        item->fd = mount_open_detached(item->path, item->type);
        mount_set_attributes(item->fd, item->path,
                             (item->writable ? 0 : MOUNT_ATTR_RDONLY) | MOUNT_ATTR_NOSUID |
                                 MOUNT_ATTR_NODEV | (item->executable ? 0 : MOUNT_ATTR_NOEXEC),
                             -1);
    }
}

static void make_jail(struct machine *machine)
{
    static const char *const system[] = {"/usr", "/lib", "/lib64", "/bin"};
    static const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"};
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        launch_die(errno, "cannot make a private mount namespace");
    open_shown(machine); /* before anything lies over them */
    if (mount("jail", JAIL, "tmpfs", MS_NOSUID, "mode=0755,size=64k") < 0)
        launch_die(errno, "cannot mount the jail's root");
    for (size_t i = 0; i < sizeof system / sizeof *system; i++)
        show_system(system[i]);
    /* Of itself alone: QEMU opens descriptors that it was given by their names in there. */
    mkdir(JAIL "/proc", 0755);
    if (mount("proc", JAIL "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "subset=pid") < 0)
        launch_die(errno, "cannot mount /proc in the jail");
    mkdir(JAIL "/etc", 0755);
    show_system("/etc/ld.so.cache");
    mkdir(JAIL "/dev", 0755);
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        show_device(machine, devices[i]);
    machine->group_count = 0; /* everybody may use those */
    for (size_t i = 0; i < machine->device_count; i++)
        show_device(machine, machine->devices[i]);
    for (size_t i = 0; i < machine->shown_count; i++) {
        char target[128];
        snprintf(target, sizeof target, JAIL "/%s", machine->shown[i].name);
        put(machine->shown[i].fd, target, machine->shown[i].type);
    }
    if (chdir(JAIL) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 ||
        chdir("/") < 0 || mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0)
        launch_die(errno, "cannot enter the jail");
}

static void limit(__rlimit_resource_t resource, rlim_t value)
{
    struct rlimit now;
    if (getrlimit(resource, &now) < 0)
        return;
    if (now.rlim_max < value)
        value = now.rlim_max;
    now.rlim_cur = now.rlim_max = value;
    if (setrlimit(resource, &now) < 0)
        launch_die(errno, "cannot set a limit");
}

static void drop_privilege(const struct machine *machine)
{
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_NOFILE, FILES_MAX);
    if (machine->file_limit)
        limit(RLIMIT_FSIZE, machine->file_limit);
    if (machine->as_root) {
        limit(RLIMIT_NPROC, THREADS_MAX); /* a user of its own: nobody else's count */
        if (setgroups(machine->group_count, machine->groups) < 0 ||
            setresgid(machine->uid, machine->uid, machine->uid) < 0 ||
            setresuid(machine->uid, machine->uid, machine->uid) < 0)
            launch_die(errno, "cannot become the guest's user");
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        launch_die(errno, "cannot give up privilege");
}

__attribute__((noreturn)) static void become_qemu(const struct machine *machine)
{
    setsid();
    drop_privilege(machine);
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(2, 1) < 0)
        launch_die(errno, "cannot close the standard streams");
    /* Its stderr stays 2: what QEMU says of itself goes to who started us. */
    if (close_range(3 + machine->pass_count, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
        launch_die(errno, "cannot close descriptors");
    signal(SIGPIPE, SIG_IGN); /* nobody may be reading it any more */
    signal(SIGXFSZ, SIG_IGN); /* the file limit is an error that the guest is told of */
    execv(machine->program[0], machine->program);
    launch_die(errno, "cannot run %s", machine->program[0]);
}

void machine_launch(int argc, char **argv, pid_t parent)
{
    struct machine machine = {0};
    parse(&machine, argc, argv);
    if (close_range(3 + machine.pass_count, ~0U, 0) < 0)
        launch_die(errno, "cannot close descriptors");
    for (size_t i = 0; i < machine.cgroup_count; i++)
        launch_join_cgroup(machine.cgroup_files[i]);
    launch_raise_oom_score();
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        launch_die(ECANCELED, "the daemon has gone");
    if (!machine.as_root)
        enter_user_namespace();
    if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
        launch_die(errno, "cannot make namespaces");
    pid_t child = fork(); /* the first process of the new PID namespace, whose /proc it mounts */
    if (child < 0)
        launch_die(errno, "cannot start QEMU");
    if (child == 0) {
        make_jail(&machine);
        become_qemu(&machine);
    }
    dprintf(1, "%d\n", (int)child);
    _exit(0);
}
