/* The system calls that a guest may make. Known harm is refused with EPERM, as a kernel without
 * the privilege would; what is not listed does not exist (ENOSYS), so that a C library that tries
 * a newer call falls back to an older one. */
#include "supervisord/drivers/oci/bundle.h"

#include "base/cleanup.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <sodium.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* clang-format off */
static const char *const allowed[] = {
    "accept", "accept4", "access", "alarm", "arch_prctl", "bind", "brk", "cachestat", "capget",
    "capset", "chdir", "chmod", "chown", "chroot", "clock_getres", "clock_gettime",
    "clock_nanosleep", "close", "close_range", "connect", "copy_file_range", "creat", "dup",
    "dup2", "dup3", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2",
    "epoll_wait", "eventfd", "eventfd2", "execve", "execveat", "exit", "exit_group",
    "faccessat", "faccessat2", "fadvise64", "fallocate", "fchdir", "fchmod", "fchmodat",
    "fchmodat2", "fchown", "fchownat", "fcntl", "fdatasync", "fgetxattr", "flistxattr", "flock",
    "fork", "fremovexattr", "fsetxattr", "fstat", "fstatfs", "fsync", "ftruncate", "futex",
    "futex_requeue", "futex_wait", "futex_waitv", "futex_wake", "futimesat", "get_robust_list",
    "get_thread_area", "getcpu", "getcwd", "getdents", "getdents64", "getegid", "geteuid",
    "getgid", "getgroups", "getitimer", "getpeername", "getpgid", "getpgrp", "getpid",
    "getppid", "getpriority", "getrandom", "getresgid", "getresuid", "getrlimit", "getrusage",
    "getsid", "getsockname", "getsockopt", "gettid", "gettimeofday", "getuid", "getxattr",
    "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel",
    "io_destroy", "io_getevents", "io_pgetevents", "io_setup", "io_submit", "ioctl",
    "ioprio_get", "ioprio_set", "kcmp", "kill", "landlock_add_rule", "landlock_create_ruleset",
    "landlock_restrict_self", "lchown", "lgetxattr", "link", "linkat", "listen", "listxattr",
    "llistxattr", "lremovexattr", "lseek", "lsetxattr", "lstat", "madvise", "map_shadow_stack",
    "membarrier", "memfd_create", "mincore", "mkdir", "mkdirat", "mknod", "mknodat", "mlock",
    "mlock2", "mlockall", "mmap", "mprotect", "mq_getsetattr", "mq_notify", "mq_open",
    "mq_timedreceive", "mq_timedsend", "mq_unlink", "mremap", "msgctl", "msgget", "msgrcv",
    "msgsnd", "msync", "munlock", "munlockall", "munmap", "nanosleep", "newfstatat", "open",
    "openat", "openat2", "pause", "pidfd_open", "pidfd_send_signal", "pipe", "pipe2",
    "pkey_alloc", "pkey_free", "pkey_mprotect", "poll", "ppoll", "prctl", "pread64", "preadv",
    "preadv2", "prlimit64", "process_mrelease", "process_vm_readv", "process_vm_writev",
    "pselect6", "ptrace", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink",
    "readlinkat", "readv", "recvfrom", "recvmmsg", "recvmsg", "remap_file_pages", "removexattr",
    "rename", "renameat", "renameat2", "restart_syscall", "rmdir", "rseq", "rt_sigaction",
    "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend",
    "rt_sigtimedwait", "rt_tgsigqueueinfo", "sched_get_priority_max", "sched_get_priority_min",
    "sched_getaffinity", "sched_getattr", "sched_getparam", "sched_getscheduler",
    "sched_rr_get_interval", "sched_setaffinity", "sched_setattr", "sched_setparam",
    "sched_setscheduler", "sched_yield", "seccomp", "select", "semctl", "semget", "semop",
    "semtimedop", "sendfile", "sendmmsg", "sendmsg", "sendto", "set_robust_list",
    "set_thread_area", "set_tid_address", "setfsgid", "setfsuid", "setgid", "setgroups",
    "setitimer", "setpgid", "setpriority", "setregid", "setresgid", "setresuid", "setreuid",
    "setrlimit", "setsid", "setsockopt", "setuid", "setxattr", "shmat", "shmctl", "shmdt",
    "shmget", "shutdown", "sigaltstack", "signalfd", "signalfd4", "socketpair", "splice",
    "stat", "statfs", "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs",
    "sysinfo", "tee", "tgkill", "time", "timer_create", "timer_delete", "timer_getoverrun",
    "timer_gettime", "timer_settime", "timerfd_create", "timerfd_gettime", "timerfd_settime",
    "times", "tkill", "truncate", "umask", "uname", "unlink", "unlinkat", "utime", "utimensat",
    "utimes", "vfork", "vmsplice", "wait4", "waitid", "write", "writev"};

static const char *const refused[] = {
    "acct", "add_key", "bpf", "clock_settime", "delete_module", "finit_module", "fsconfig",
    "fsmount", "fsopen", "fspick", "init_module", "ioperm", "iopl", "kexec_file_load",
    "kexec_load", "keyctl", "lookup_dcookie", "mbind", "migrate_pages", "mount",
    "mount_setattr", "move_mount", "move_pages", "name_to_handle_at", "open_by_handle_at",
    "open_tree", "perf_event_open", "pivot_root", "quotactl", "quotactl_fd", "reboot",
    "request_key", "set_mempolicy", "setdomainname", "sethostname", "setns", "settimeofday",
    "swapoff", "swapon", "syslog", "umount2", "unshare", "userfaultfd", "vhangup"};
/* clang-format on */

/* Allowed with this first argument alone. */
struct argument_rule {
    const char *name;
    enum scmp_compare compare;
    const char *operation; /* compare's name */
    unsigned long value, second;
};

#define NAMESPACE_FLAGS                                                                            \
    (CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET |     \
     CLONE_NEWCGROUP)
#define EQUAL SCMP_CMP_EQ, "SCMP_CMP_EQ"

static const struct argument_rule argument_rules[] = {
    /* No vsock (it is not bound to a network namespace: a guest could call the host), no packet,
     * no AF_ALG (a large surface for little use). */
    {"socket", EQUAL, AF_UNIX, 0},
    {"socket", EQUAL, AF_INET, 0},
    {"socket", EQUAL, AF_INET6, 0},
    {"socket", EQUAL, AF_NETLINK, 0},
    /* Execution domains that only change what uname tells or how addresses are laid out, and
     * "which one is it?". */
    {"personality", EQUAL, 0, 0},
    {"personality", EQUAL, 0x8, 0},
    {"personality", EQUAL, 0x20000, 0},
    {"personality", EQUAL, 0x20008, 0},
    {"personality", EQUAL, 0xffffffff, 0},
    {"clone", SCMP_CMP_MASKED_EQ, "SCMP_CMP_MASKED_EQ", NAMESPACE_FLAGS, 0},
};

/* The system calls of one architecture: a 32-bit program is none of ours. */
#if defined(__x86_64__)
#define ARCHITECTURE "SCMP_ARCH_X86_64"
#elif defined(__aarch64__)
#define ARCHITECTURE "SCMP_ARCH_AARCH64"
#else
#error "name this architecture as libseccomp does"
#endif

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* --- as the OCI specification has it --- */

static int append_names(struct buf *out, const char *const *names, size_t count, const char *action)
{
    int error = buf_text(out, "{\"names\":[");
    for (size_t i = 0; i < count && !error; i++)
        error = buf_printf(out, "%s\"%s\"", i ? "," : "", names[i]);
    return error ? error : buf_printf(out, "],%s}", action);
}

int bundle_seccomp(struct buf *out)
{
    char refuse[64];
    snprintf(refuse, sizeof refuse, "\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":%d", EPERM);
    int error = buf_printf(out,
                           "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":%d,"
                           "\"architectures\":[\"%s\"],\"syscalls\":[",
                           ENOSYS, ARCHITECTURE);
    if (!error)
        error = append_names(out, allowed, COUNT(allowed), "\"action\":\"SCMP_ACT_ALLOW\"");
    if (!error)
        error = buf_char(out, ',');
    if (!error)
        error = append_names(out, refused, COUNT(refused), refuse);
    for (size_t i = 0; i < COUNT(argument_rules) && !error; i++) {
        const struct argument_rule *rule = &argument_rules[i];
        error = buf_printf(out,
                           ",{\"names\":[\"%s\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{"
                           "\"index\":0,\"value\":%lu,\"valueTwo\":%lu,\"op\":\"%s\"}]}",
                           rule->name, rule->value, rule->second, rule->operation);
    }
    return error ? error : buf_text(out, "]}");
}

/* --- as the kernel has it --- */

/* A call that this libseccomp does not know is left to the default. */
static int add_names(scmp_filter_ctx filter, const char *const *names, size_t count,
                     uint32_t action)
{
    int error = 0;
    for (size_t i = 0; i < count && !error; i++) {
        int call = seccomp_syscall_resolve_name(names[i]);
        if (call >= 0)
            error = seccomp_rule_add(filter, action, call, 0);
    }
    return error;
}

static int add_rules(scmp_filter_ctx filter)
{
    /* A tree instead of a list of some hundred comparisons for each call. */
    int error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (!error)
        error = add_names(filter, allowed, COUNT(allowed), SCMP_ACT_ALLOW);
    if (!error)
        error = add_names(filter, refused, COUNT(refused), SCMP_ACT_ERRNO(EPERM));
    for (size_t i = 0; i < COUNT(argument_rules) && !error; i++) {
        const struct argument_rule *rule = &argument_rules[i];
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, seccomp_syscall_resolve_name(rule->name),
                                 1, SCMP_CMP(0, rule->compare, rule->value, rule->second));
    }
    return error;
}

char *bundle_seccomp_program(void)
{
    unsigned char program[32768];
    auto_close int fd = memfd_create("seccomp", MFD_CLOEXEC);
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    int error = fd < 0 || !filter || add_rules(filter) || seccomp_export_bpf(filter, fd);
    if (filter)
        seccomp_release(filter);
    ssize_t length = error ? -1 : pread(fd, program, sizeof program, 0);
    if (length <= 0 || (size_t)length == sizeof program)
        return NULL;
    size_t size = sodium_base64_ENCODED_LEN((size_t)length, sodium_base64_VARIANT_ORIGINAL);
    char *text = malloc(size);
    return text ? sodium_bin2base64(text, size, program, (size_t)length,
                                    sodium_base64_VARIANT_ORIGINAL)
                : NULL;
}
