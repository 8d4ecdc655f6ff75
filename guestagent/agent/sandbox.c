/* What neither the agent nor any command in the guest has a use for is closed once, before the
 * first child: filters are inherited and cost nothing then. A root shell with apt, pip, git,
 * compilers and debuggers works under it. */
#include "guestagent/agent/agent.h"

#include <errno.h>
#include <seccomp.h>
#include <sys/prctl.h>

/* Ways into the kernel that escapes have been built of, and nothing an agent's commands need. */
static const char *const denied[] = {
    "bpf",
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "perf_event_open",
    "userfaultfd",
    "keyctl",
    "add_key",
    "request_key",
    "open_by_handle_at",
    "iopl",
    "ioperm",
    "swapon",
    "swapoff",
    "acct",
    "quotactl",
    "lookup_dcookie",
    "nfsservctl",
    "vm86",
    "vm86old",
    "uselib",
    "_sysctl",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
};

static int filter(void)
{
    scmp_filter_ctx context = seccomp_init(SCMP_ACT_ALLOW);
    if (!context)
        return -ENOMEM;
    int error = 0;
    for (size_t i = 0; i < sizeof denied / sizeof *denied && !error; i++) {
        int number = seccomp_syscall_resolve_name(denied[i]);
        if (number != __NR_SCMP_ERROR)
            error = seccomp_rule_add(context, SCMP_ACT_ERRNO(EPERM), number, 0);
        if (error == -EDOM || error == -EFAULT) /* not on this architecture */
            error = 0;
    }
    /* TIOCSTI types into a terminal that is not one's own. The kernel looks at the request's lower
     * half alone, and so must the filter. */
    const struct scmp_arg_cmp types = {
        .arg = 1, .op = SCMP_CMP_MASKED_EQ, .datum_a = UINT32_MAX, .datum_b = 0x5412};
    if (!error)
        error = seccomp_rule_add_array(context, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1, &types);
    if (!error)
        error = seccomp_load(context);
    seccomp_release(context);
    return error;
}

int sandbox_enter(const struct agent_options *options)
{
    if (options->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    return options->seccomp ? filter() : 0;
}
