#include "supervisord/drivers/places.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

int guests_directory(const char *directory, const char *name, struct hearth_failure *failure)
{
    auto_close int parent = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0 || (mkdirat(parent, name, 0700) < 0 && errno != EEXIST))
        return hearth_fail_errno(failure, errno, "directory_failed", "cannot use %s", directory);
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return hearth_fail_errno(failure, errno, "directory_failed", "cannot use %s/%s", directory,
                                 name);
    return fd;
}

void guests_find_cgroups(struct cgroups *ret_cgroups, int state_fd)
{
    struct stat status;
    char name[64];
    *ret_cgroups = (struct cgroups){.kind = CGROUP_NONE};
    if (fstat(state_fd, &status) < 0)
        return;
    snprintf(name, sizeof name, "hearth-%llx-%llx", (unsigned long long)status.st_dev,
             (unsigned long long)status.st_ino);
    cgroups_find(ret_cgroups, name);
}
