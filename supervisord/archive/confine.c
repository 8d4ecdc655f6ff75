#include "supervisord/archive/confine.h"

#include "supervisord/launch/id_map.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MEMORY_MAX ((rlim_t)2 << 30) /* a million names, and a zstd window of 128 MiB */
#define CPU_SECONDS_MAX 900
#define NOBODY_ELSE 2147483645 /* above every range that users or containers are given */

/* What the second version of Landlock knows. */
#define LANDLOCK_ALL                                                                               \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_CHAR |   \
     LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_TREE)
#define LANDLOCK_TREE                                                                              \
    (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_WRITE_FILE |  \
     LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |                              \
     LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SYM |     \
     LANDLOCK_ACCESS_FS_REFER)

#ifdef __SANITIZE_ADDRESS__
#define SHADOW_MEMORY true
#else
#define SHADOW_MEMORY false
#endif

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "failed sandbox cannot %s: %s\n", what, strerror(errno));
    _exit(1);
}

static void limit(int resource, rlim_t most)
{
    struct rlimit value = {.rlim_cur = most, .rlim_max = most};
    if (setrlimit(resource, &value) < 0)
        die("set a resource limit");
}

void confine_user(uid_t uid)
{
    if (unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWNS) < 0 && errno != EPERM)
        die("leave the host's namespaces");
    if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
        die("drop the privileges of root");
}

/* What both do. */
static const int reading[] = {
    SCMP_SYS(read),         SCMP_SYS(write),
    SCMP_SYS(writev),       SCMP_SYS(lseek),
    SCMP_SYS(close),        SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),   SCMP_SYS(brk),
    SCMP_SYS(munmap),       SCMP_SYS(mremap),
    SCMP_SYS(madvise),      SCMP_SYS(futex),
    SCMP_SYS(exit),         SCMP_SYS(exit_group),
    SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(getpid),       SCMP_SYS(gettid),
    SCMP_SYS(getrandom),    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday), SCMP_SYS(restart_syscall),
    SCMP_SYS(pread64),
};

static const int making[] = {
    SCMP_SYS(openat),     SCMP_SYS(openat2),   SCMP_SYS(mkdir),    SCMP_SYS(mkdirat),
    SCMP_SYS(symlink),    SCMP_SYS(symlinkat), SCMP_SYS(linkat),   SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),   SCMP_SYS(rmdir),     SCMP_SYS(lchown),   SCMP_SYS(fchownat),
    SCMP_SYS(chmod),      SCMP_SYS(fchmod),    SCMP_SYS(fchmodat), SCMP_SYS(utimensat),
    SCMP_SYS(getdents64), SCMP_SYS(fcntl),     SCMP_SYS(lstat),    SCMP_SYS(stat),
    SCMP_SYS(fstatfs),    SCMP_SYS(dup),
};

static const int walking[] = {
    SCMP_SYS(openat),     SCMP_SYS(openat2), SCMP_SYS(getdents64), SCMP_SYS(fcntl),
    SCMP_SYS(readlinkat), SCMP_SYS(pread64), SCMP_SYS(fstatfs),    SCMP_SYS(statx),
};

static const int putting[] = {
    SCMP_SYS(openat), SCMP_SYS(openat2),    SCMP_SYS(mkdirat),   SCMP_SYS(symlinkat),
    SCMP_SYS(linkat), SCMP_SYS(unlinkat),   SCMP_SYS(renameat),  SCMP_SYS(renameat2),
    SCMP_SYS(fchmod), SCMP_SYS(getdents64), SCMP_SYS(utimensat), SCMP_SYS(ftruncate),
    SCMP_SYS(fcntl),  SCMP_SYS(fstatfs),    SCMP_SYS(dup),
};

static const int opening[] = {SCMP_SYS(openat2)};

/* What no program that makes an image has a use for. (Which calls another release of it makes is
 * not known: what is left is no more than a guest itself has.) */
static const int forbidden[] = {
    SCMP_SYS(socket),
    SCMP_SYS(socketpair),
    SCMP_SYS(connect),
    SCMP_SYS(bind),
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(move_mount),
    SCMP_SYS(open_tree),
    SCMP_SYS(fsopen),
    SCMP_SYS(mount_setattr),
    SCMP_SYS(unshare),
    SCMP_SYS(setns),
    SCMP_SYS(ptrace),
    SCMP_SYS(bpf),
    SCMP_SYS(keyctl),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(kexec_load),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(mknod),
    SCMP_SYS(mknodat),
    SCMP_SYS(setuid),
    SCMP_SYS(setresuid),
    SCMP_SYS(kill),
    SCMP_SYS(open_by_handle_at),
};

static int allow(scmp_filter_ctx filter, const int *calls, size_t count)
{
    int error = 0;
    for (size_t i = 0; !error && i < count; i++)
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
    return error;
}

static void filter_system_calls(const int *more, size_t count)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int error = filter ? 0 : -ENOMEM;
    if (!error)
        error = allow(filter, reading, sizeof reading / sizeof reading[0]);
    if (!error)
        error = allow(filter, more, count);
    if (!error)
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                                 SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (!error)
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                                 SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (!error && SHADOW_MEMORY) /* the sanitizer's, on the way to _exit */
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(sigaltstack), 0);
    if (!error)
        error = seccomp_load(filter);
    seccomp_release(filter);
    if (error) {
        errno = -error;
        die("filter system calls");
    }
}

static void limit_resources(void)
{
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_CPU, CPU_SECONDS_MAX);
    if (!SHADOW_MEMORY)
        limit(RLIMIT_AS, MEMORY_MAX);
}

/* With these system calls besides those of a reader. */
static void give_up(const int *more, size_t count)
{
    limit(RLIMIT_NPROC, 0);
    if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        die("give up privileges");
    filter_system_calls(more, count);
}

void confine_reader(void)
{
    limit_resources();
    if (geteuid() == 0)
        confine_user(NOBODY_ELSE);
    give_up(NULL, 0);
}

/* Of what is handled only what the rules allow is left, by whatever path or descriptor. */
static void restrict_files(uint64_t handled_access, const struct landlock_path_beneath_attr *rules,
                           size_t count)
{
    struct landlock_ruleset_attr handled = {.handled_access_fs = handled_access};
    /* The first version allows no hard link from one directory to another. */
    if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < 2)
        return; /* the other walls stand */
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &handled, sizeof handled, 0);
    if (ruleset < 0)
        die("make a ruleset for files");
    for (size_t i = 0; i < count; i++)
        if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rules[i], 0) < 0)
            die("say which files it needs");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        die("enclose itself in the directory");
    close(ruleset);
}

/* No path outside the directory is opened for anything, not even by way of its descriptor. */
static void enclose(int directory_fd, uint64_t access)
{
    const struct landlock_path_beneath_attr tree = {.allowed_access = access,
                                                    .parent_fd = directory_fd};
    restrict_files(LANDLOCK_ALL, &tree, 1);
}

/* Stays root, but with what its work needs alone. */
static void keep_capabilities(const int *kept, size_t count)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct had[2] = {0}, data[2] = {0};
    if (syscall(SYS_capget, &header, had) < 0)
        die("look at its capabilities");
    for (size_t i = 0; i < count; i++)
        data[CAP_TO_INDEX(kept[i])].permitted |=
            had[CAP_TO_INDEX(kept[i])].permitted & CAP_TO_MASK(kept[i]);
    for (int i = 0; i < 2; i++)
        data[i].effective = data[i].permitted;
    for (int capability = 0; capability <= CAP_LAST_CAP; capability++)
        if (!(data[CAP_TO_INDEX(capability)].permitted & CAP_TO_MASK(capability)))
            (void)prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
    if (syscall(SYS_capset, &header, data) < 0)
        die("drop capabilities");
}

/* A plain user unpacks as the root of a user namespace where nobody else is. */
static void become_own_root(void)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();
    if (unshare(CLONE_NEWUSER) < 0)
        die("have a user namespace");
    if (id_map_alone("/proc/self", uid, gid, true))
        die("say who it is in its user namespace");
}

void confine_unpacker(const char *directory, int input_fd)
{
    static const int kept[] = {CAP_CHOWN, CAP_FOWNER, CAP_DAC_OVERRIDE, CAP_FSETID};
    int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool plain_user = geteuid() != 0;
    limit_resources();
    umask(0022);
    if (plain_user)
        become_own_root();
    if (fd < 0 || unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWNS) < 0 ||
        (!plain_user && setgroups(0, NULL) < 0))
        die("leave the host's namespaces");
    const struct landlock_path_beneath_attr rules[] = {
        {.allowed_access = LANDLOCK_TREE, .parent_fd = fd},
        {.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE, .parent_fd = input_fd}};
    restrict_files(LANDLOCK_ALL, rules, sizeof rules / sizeof rules[0]);
    if (fchdir(fd) < 0 || chroot(".") < 0 || close(fd) < 0)
        die("make the directory its root");
    keep_capabilities(kept, sizeof kept / sizeof kept[0]);
    give_up(making, sizeof making / sizeof making[0]);
}

static const int searching[] = {CAP_DAC_READ_SEARCH};
static const int becoming[] = {CAP_SETGID, CAP_SETUID};

void confine_walker(const char *directory)
{
    limit_resources();
    if (chdir(directory) < 0 || chroot(".") < 0)
        die("make the directory its root");
    keep_capabilities(searching, 1);
    give_up(walking, sizeof walking / sizeof walking[0]);
}

/* As root the directory is all that is left of the host; false: it is not, and has the other walls.
 */
static bool leave_host(int directory_fd)
{
    if (geteuid() != 0)
        return false;
    if (unshare(CLONE_NEWNET | CLONE_NEWIPC) < 0 && errno != EPERM)
        die("leave the host's namespaces");
    if (fchdir(directory_fd) < 0 || chroot(".") < 0)
        die("make the directory its root");
    return true;
}

void confine_packer(int directory_fd)
{
    limit_resources();
    enclose(directory_fd, LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR);
    if (leave_host(directory_fd))
        keep_capabilities(searching, 1);
    give_up(walking, sizeof walking / sizeof walking[0]);
}

static void become_owner(int directory_fd)
{
    struct stat status;
    keep_capabilities(becoming, sizeof becoming / sizeof becoming[0]);
    if (fstat(directory_fd, &status) < 0)
        die("look at the directory");
    if (setgroups(0, NULL) < 0 || setresgid(status.st_gid, status.st_gid, status.st_gid) < 0 ||
        setresuid(status.st_uid, status.st_uid, status.st_uid) < 0)
        die("become the owner of the directory");
    keep_capabilities(NULL, 0);
}

void confine_writer(int directory_fd)
{
    limit_resources();
    enclose(directory_fd, LANDLOCK_TREE);
    if (leave_host(directory_fd))
        become_owner(directory_fd);
    give_up(putting, sizeof putting / sizeof putting[0]);
}

void confine_opener(int root_fd, int directory_fd)
{
    limit_resources();
    enclose(root_fd, LANDLOCK_ACCESS_FS_READ_FILE);
    if (leave_host(root_fd))
        become_owner(directory_fd);
    give_up(opening, sizeof opening / sizeof opening[0]);
}

void confine_image_maker(int image_fd)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    int error = filter ? 0 : -ENOMEM;
    for (size_t i = 0; !error && i < sizeof forbidden / sizeof forbidden[0]; i++)
        error = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), forbidden[i], 0);
    limit_resources();
    keep_capabilities(searching, 1);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        die("give up privileges");
    /* No file but the image is opened for writing, and none is made or taken away. */
    const struct landlock_path_beneath_attr image = {
        .allowed_access = LANDLOCK_ACCESS_FS_WRITE_FILE, .parent_fd = image_fd};
    restrict_files(LANDLOCK_ALL &
                       ~(uint64_t)(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE |
                                   LANDLOCK_ACCESS_FS_READ_DIR),
                   &image, 1);
    if (!error)
        error = seccomp_load(filter);
    seccomp_release(filter);
    if (error) {
        errno = -error;
        die("filter system calls");
    }
}
