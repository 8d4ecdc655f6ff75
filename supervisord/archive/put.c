#include "supervisord/archive/put.h"

#include "base/cleanup.h"
#include "base/id.h"
#include "base/path_at.h"
#include "base/untar.h"
#include "supervisord/archive/confine.h"
#include "supervisord/archive/status.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE ((size_t)256 << 10)

static int refuse(const struct hearth_failure *failure)
{
    dprintf(STDOUT_FILENO, "refused %s %s\n", failure->code, failure->detail);
    return 1;
}

static int refuse_errno(const char *what)
{
    struct hearth_failure failure;
    hearth_fail_errno(&failure, errno, "cannot_write", "%s", what);
    return refuse(&failure);
}

static int good(uint64_t entries, uint64_t bytes, const char *type)
{
    return dprintf(STDOUT_FILENO, "good %" PRIu64 " %" PRIu64 " %s\n", entries, bytes, type) < 0;
}

/* The directory that path is to be in, confined to it. Gives 0, or the status to exit with. */
static int enter(const char *root, const char *path, int *ret_fd, const char **ret_name)
{
    struct hearth_failure failure;
    auto_close int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0)
        return refuse_errno("the host root cannot be opened");
    auto_close int above = path_open_parent(root_fd, path, ret_name);
    if (archive_leads_out(above))
        return ARCHIVE_LEADS_OUT;
    if (above == -EINVAL) { /* the root itself */
        hearth_fail(&failure, HEARTH_ECONFLICT, "output_exists", "it is there already");
        return refuse(&failure);
    }
    /* For reading too: what is taken away again is looked for. */
    *ret_fd = above < 0 ? -1 : openat(above, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*ret_fd < 0) {
        errno = above < 0 ? -above : errno;
        return refuse_errno("the directory that it would be in cannot be opened");
    }
    confine_writer(*ret_fd);
    return 0;
}

static ssize_t take(char *piece, size_t size)
{
    ssize_t got;
    do
        got = read(STDIN_FILENO, piece, size);
    while (got < 0 && errno == EINTR);
    return got;
}

int put_tree(const char *root, const char *path)
{
    static char piece[PIECE];
    struct hearth_failure failure;
    struct untar_stats stats;
    struct untar *untar;
    const char *name;
    ssize_t got;
    int fd, status = enter(root, path, &fd, &name);
    if (status)
        return status;
    if (untar_open(&untar, fd, name, NULL, &failure))
        return refuse(&failure);
    int error = 0;
    while (!error && (got = take(piece, sizeof piece)) > 0)
        error = untar_write(untar, piece, (size_t)got, &failure);
    if (!error)
        error = untar_finish(untar, &stats, &failure);
    untar_close(untar);
    return error ? refuse(&failure) : good(stats.entries, stats.bytes, stats.artifact_type);
}

static bool is_zero(const char *data, size_t length)
{
    return !data[0] && memcmp(data, data + 1, length - 1) == 0;
}

/* The line with the size, byte by byte: what follows is the file's. */
static bool take_size(uint64_t *ret_size)
{
    char line[24];
    for (size_t length = 0; length < sizeof line; length++) {
        if (take(line + length, 1) != 1)
            return false;
        if (line[length] == '\n') {
            line[length] = '\0';
            return sscanf(line, "%" SCNu64, ret_size) == 1;
        }
    }
    return false;
}

/* False, with errno (0: it is cut short). */
static bool copy(int fd, uint64_t size)
{
    static char piece[PIECE];
    errno = 0;
    for (uint64_t left = size; left;) {
        ssize_t got = take(piece, left < PIECE ? (size_t)left : PIECE);
        if (got <= 0)
            return false;
        if (is_zero(piece, (size_t)got) ? lseek(fd, got, SEEK_CUR) < 0
                                        : path_write_all(fd, piece, (size_t)got) < 0)
            return false;
        left -= (uint64_t)got;
    }
    return ftruncate(fd, (off_t)size) == 0;
}

int put_file(const char *root, const char *path)
{
    char made[48], suffix[13];
    struct stat status;
    const char *name;
    uint64_t size = 0;
    int above, refused = enter(root, path, &above, &name);
    if (refused)
        return refused;
    id_random_text(suffix, sizeof suffix - 1);
    snprintf(made, sizeof made, ".hearth-export-%s", suffix);
    /* Nothing is made before there is something to put. */
    bool taken = fstatat(above, name, &status, AT_SYMLINK_NOFOLLOW) == 0;
    errno = taken ? EEXIST : 0;
    bool begun = !taken && take_size(&size);
    auto_close int fd =
        begun ? openat(above, made, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
    bool whole = fd >= 0 && copy(fd, size) && fchmod(fd, 0644) == 0 &&
                 renameat2(above, made, above, name, RENAME_NOREPLACE) == 0;
    if (whole)
        return good(1, size, "file");
    int error = errno;
    if (fd >= 0)
        (void)unlinkat(above, made, 0);
    struct hearth_failure failure;
    if (error == EEXIST)
        hearth_fail(&failure, HEARTH_ECONFLICT, "output_exists", "%s is there already", name);
    else
        hearth_fail(&failure, HEARTH_EIO, "cannot_write", "%s cannot be written: %s", name,
                    error ? strerror(error) : "it is cut short");
    return refuse(&failure);
}
