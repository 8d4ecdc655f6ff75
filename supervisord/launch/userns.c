#include "supervisord/launch/userns.h"

#include "supervisord/launch/id_map.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int launch_errors_fd = 2;

void launch_die(int error, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    dprintf(launch_errors_fd, "%s: %s: %s\n", program_invocation_short_name, line, strerror(error));
    _exit(1);
}

/* The first range of this user in /etc/subuid or /etc/subgid: "name-or-number:first:count". */
static bool find_range(const char *file, unsigned long *ret_first, unsigned long *ret_count)
{
    struct passwd *user = getpwuid(getuid());
    char number[16], line[256];
    snprintf(number, sizeof number, "%u", (unsigned)getuid());
    FILE *ranges = fopen(file, "re");
    bool found = false;
    while (!found && ranges && fgets(line, sizeof line, ranges)) {
        char *first = strchr(line, ':');
        char *count = first ? strchr(first + 1, ':') : NULL;
        if (!count)
            continue;
        *first++ = '\0';
        *count++ = '\0';
        if (strcmp(line, number) != 0 && (!user || strcmp(line, user->pw_name) != 0))
            continue;
        *ret_first = strtoul(first, NULL, 10);
        *ret_count = strtoul(count, NULL, 10);
        found = *ret_count > 0;
    }
    if (ranges)
        fclose(ranges);
    return found;
}

/* newuidmap PID 0 OWN 1 1 FIRST COUNT: the set-user-ID helper that may map what /etc/subuid
 * grants. */
static bool map_with_helper(const char *helper, pid_t pid, unsigned own, unsigned long first,
                            unsigned long count)
{
    char numbers[4][24];
    if (count > USERNS_SIZE - 1)
        count = USERNS_SIZE - 1;
    snprintf(numbers[0], sizeof numbers[0], "%d", (int)pid);
    snprintf(numbers[1], sizeof numbers[1], "%u", own);
    snprintf(numbers[2], sizeof numbers[2], "%lu", first);
    snprintf(numbers[3], sizeof numbers[3], "%lu", count);
    char *const argv[] = {(char *)helper, numbers[0], (char *)"0", numbers[1], (char *)"1",
                          (char *)"1",    numbers[2], numbers[3],  NULL};
    char *const environment[] = {NULL};
    pid_t child;
    int status;
    if (posix_spawn(&child, helper, NULL, NULL, argv, environment) != 0)
        return false;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return false;
    return status == 0;
}

/* Gives NULL, or the name of the file that could not be written. */
static const char *map_plain_user(pid_t pid, const char *process)
{
    unsigned long first_uid, uid_count, first_gid, gid_count;
    /* Both or none: half a map is of no use to a package manager. The group map comes first: it
     * is the one that may fail without having written anything that matters. */
    if (find_range("/etc/subuid", &first_uid, &uid_count) &&
        find_range("/etc/subgid", &first_gid, &gid_count) &&
        access("/usr/bin/newuidmap", X_OK) == 0 && access("/usr/bin/newgidmap", X_OK) == 0) {
        if (!map_with_helper("/usr/bin/newgidmap", pid, getgid(), first_gid, gid_count) ||
            !map_with_helper("/usr/bin/newuidmap", pid, getuid(), first_uid, uid_count))
            launch_die(EPERM, "newuidmap or newgidmap refused the ranges of /etc/subuid");
        return NULL;
    }
    return id_map_alone(process, getuid(), getgid(), true);
}

/* The same. */
static const char *map_range(const char *process, uid_t uid_base)
{
    char text[64];
    snprintf(text, sizeof text, "0 %u %u\n", (unsigned)uid_base, (unsigned)USERNS_SIZE);
    if (!id_map_write(process, "gid_map", text))
        return "gid_map";
    return id_map_write(process, "uid_map", text) ? NULL : "uid_map";
}

int userns_make(bool as_root, uid_t uid_base)
{
    /* A process whose only work is to be in the new namespace until it has a descriptor. */
    pid_t holder = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
    if (holder < 0)
        launch_die(errno, "cannot make a user namespace");
    if (holder == 0) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() == 1)
            _exit(1);
        for (;;)
            pause();
    }
    char process[32], path[64];
    snprintf(process, sizeof process, "/proc/%d", (int)holder);
    const char *failed = as_root ? map_range(process, uid_base) : map_plain_user(holder, process);
    if (failed)
        launch_die(errno, "cannot write the guest's %s", failed);
    snprintf(path, sizeof path, "%s/ns/user", process);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        launch_die(errno, "cannot open the user namespace");
    kill(holder, SIGKILL);
    while (waitpid(holder, NULL, 0) < 0 && errno == EINTR)
        continue;
    return fd;
}

void userns_become_root(int user_namespace)
{
    if (setns(user_namespace, CLONE_NEWUSER) < 0)
        launch_die(errno, "cannot enter the user namespace");
    if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
        launch_die(errno, "cannot become the guest's root");
    /* EPERM: a plain user's own group list, where only one group is mapped. It cannot be dropped
     * there, and gives nothing that the user has not got. */
    if (setgroups(0, NULL) < 0 && errno != EPERM)
        launch_die(errno, "cannot drop the supplementary groups");
}
