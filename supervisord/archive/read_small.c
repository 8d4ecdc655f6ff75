#include "supervisord/archive/read_small.h"

#include "base/cleanup.h"
#include "base/path_at.h"
#include "supervisord/archive/confine.h"
#include "supervisord/archive/status.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int copy_beginning(int fd)
{
    static char content[READ_SMALL_MAX];
    ssize_t length = path_read_all(fd, content, sizeof content);
    if (length < 0)
        return archive_fail(strerror((int)-length));
    return path_write_all(STDOUT_FILENO, content, (size_t)length) ? 1 : 0;
}

int read_small_run(const char *root, const char *path)
{
    const char *name;
    struct stat status;
    auto_close int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    auto_close int above = root_fd < 0 ? -errno : path_open_parent(root_fd, path, &name);
    if (above == -EINVAL)
        return archive_fail("it is no file");
    if (above < 0)
        return archive_fail_errno(above);
    confine_opener(root_fd, above);
    auto_close int fd =
        path_open_beneath(root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
    if (fd < 0)
        return archive_fail_errno(fd);
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        return archive_fail("it is no file");
    return copy_beginning(fd);
}
