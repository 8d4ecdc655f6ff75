#include "supervisord/archive/pack.h"

#include "base/cleanup.h"
#include "base/path_at.h"
#include "base/tar_pack.h"
#include "supervisord/archive/confine.h"
#include "supervisord/archive/status.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE ((size_t)256 << 10)

static int copy_file(int fd, char *piece)
{
    ssize_t got;
    while ((got = read(fd, piece, PIECE)) > 0 || (got < 0 && errno == EINTR))
        if (got > 0 && path_write_all(STDOUT_FILENO, piece, (size_t)got))
            return 1;
    return got < 0 ? archive_fail(strerror(errno)) : 0;
}

static int pack_directory(int fd, char *piece)
{
    const struct tar_pack_choice everything = {0};
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    struct tar_pack *pack;
    if (tar_pack_open_fd(&pack, fd, &everything, &failure))
        return archive_fail(failure.detail);
    ssize_t got;
    while ((got = tar_pack_read(pack, piece, PIECE, &failure)) > 0)
        if (path_write_all(STDOUT_FILENO, piece, (size_t)got))
            return 1;
    tar_pack_close(pack);
    return got < 0 ? archive_fail(failure.detail) : 0;
}

int pack_run(const char *root, const char *path)
{
    struct stat status;
    auto_close int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = root_fd < 0 ? -errno
                         : path_open_beneath(root_fd, path,
                                             O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
    char *piece = malloc(PIECE);
    if (fd < 0)
        return archive_fail_errno(fd);
    if (!piece || fstat(fd, &status) < 0)
        return archive_fail(strerror(errno));
    if (S_ISDIR(status.st_mode)) {
        confine_packer(fd);
        return pack_directory(fd, piece);
    }
    if (!S_ISREG(status.st_mode))
        return archive_fail("it is no directory and no file");
    confine_reader();
    return copy_file(fd, piece);
}
