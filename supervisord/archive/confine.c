#include "supervisord/archive/confine.h"

#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define MEMORY_MAX ((rlim_t)2 << 30) /* a million names, and a zstd window of 128 MiB */
#define CPU_SECONDS_MAX 900
#define NOBODY_ELSE 2147483645 /* above every range that users or containers are given */

#ifdef __SANITIZE_ADDRESS__
#define SHADOW_MEMORY true
#else
#define SHADOW_MEMORY false
#endif

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "failed archive_sandbox cannot %s: %s\n", what, strerror(errno));
    _exit(1);
}

static void limit(int resource, rlim_t most)
{
    struct rlimit value = {.rlim_cur = most, .rlim_max = most};
    if (setrlimit(resource, &value) < 0)
        die("set a resource limit");
}

static void become_nobody(void)
{
    if (geteuid() != 0)
        return;
    if (unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWNS) < 0 && errno != EPERM)
        die("leave the host's namespaces");
    if (setgroups(0, NULL) < 0 || setresgid(NOBODY_ELSE, NOBODY_ELSE, NOBODY_ELSE) < 0 ||
        setresuid(NOBODY_ELSE, NOBODY_ELSE, NOBODY_ELSE) < 0)
        die("drop the privileges of root");
}

static void filter_system_calls(void)
{
    static const int allowed[] = {
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
    };
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int error = filter ? 0 : -ENOMEM;
    for (size_t i = 0; !error && i < sizeof allowed / sizeof allowed[0]; i++)
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
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

void confine_reader(void)
{
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_FSIZE, RLIM_INFINITY); /* pipes have no size; files cannot be opened */
    limit(RLIMIT_CPU, CPU_SECONDS_MAX);
    if (!SHADOW_MEMORY)
        limit(RLIMIT_AS, MEMORY_MAX);
    become_nobody();
    limit(RLIMIT_NPROC, 0);
    if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        die("give up privileges");
    filter_system_calls();
}
