#include "supervisord/disk/tree_view.h"

#include "supervisord/disk/answer.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define DEPTH_MAX 256 /* a descriptor each */
#define READ_SIZE ((size_t)64 << 10)

struct listing {
    struct answer_list answer;
    bool recursive;
    char path[PATH_MAX + NAME_MAX + 2];
};

static int open_in_root(const char *path, int flags)
{
    struct open_how how = {.flags = (uint64_t)(unsigned)flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
    if (fd < 0)
        answer_refuse_errno(errno);
    return fd;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_entry(const struct dirent *file)
{
    return strcmp(file->d_name, ".") != 0 && strcmp(file->d_name, "..") != 0;
}

static bool list_directory(struct listing *listing, int fd, unsigned depth);

/* False where the listing is full. */
static bool list_entry(struct listing *listing, int dir_fd, const char *name, unsigned depth)
{
    char target[PATH_MAX] = "";
    struct stat status;
    if (fstatat(dir_fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return true;
    if (S_ISLNK(status.st_mode)) {
        ssize_t length = readlinkat(dir_fd, name, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = '\0';
    }
    const struct answer_entry entry = {
        .path = listing->path,
        .target = target,
        .mode = status.st_mode,
        .size = S_ISREG(status.st_mode) ? (uint64_t)status.st_size : 0,
        .seconds = status.st_mtim.tv_sec,
        .nanoseconds = (uint32_t)status.st_mtim.tv_nsec,
    };
    if (!answer_add(&listing->answer, &entry))
        return false;
    if (!listing->recursive || !S_ISDIR(status.st_mode))
        return true;
    auto_close int fd = depth < DEPTH_MAX
                            ? openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                            : -1;
    if (fd < 0) {
        listing->answer.more = true;
        return true;
    }
    return list_directory(listing, fd, depth + 1);
}

static bool list_directory(struct listing *listing, int fd, unsigned depth)
{
    struct dirent **files;
    size_t length = strlen(listing->path);
    int count = scandirat(fd, ".", &files, is_entry, by_bytes);
    bool room = count >= 0;
    for (int i = 0; i < count; i++) {
        const char *name = files[i]->d_name;
        if (length + 1 + strlen(name) >= PATH_MAX)
            listing->answer.more = true;
        else if (room) {
            sprintf(listing->path + length, "/%s", name);
            room = list_entry(listing, fd, name, depth);
            listing->path[length] = '\0';
        }
        free(files[i]);
    }
    if (count >= 0)
        free(files);
    return room;
}

void tree_list(const char *path, bool recursive, unsigned limit)
{
    static struct listing listing;
    auto_close int fd = open_in_root(path, O_RDONLY | O_DIRECTORY);
    listing = (struct listing){.answer.left = limit, .recursive = recursive};
    snprintf(listing.path, sizeof listing.path, "%s", strcmp(path, "/") == 0 ? "" : path);
    list_directory(&listing, fd, 0);
    answer_end(&listing.answer);
}

void tree_read(const char *path, uint64_t offset, uint64_t most)
{
    static char data[READ_SIZE];
    struct stat status;
    auto_close int fd = open_in_root(path, O_RDONLY);
    if (fstat(fd, &status) < 0)
        answer_refuse_errno(errno);
    if (!S_ISREG(status.st_mode))
        answer_refuse_errno(EISDIR);
    uint64_t size = (uint64_t)status.st_size, left = offset < size ? size - offset : 0;
    if (left > most)
        left = most;
    int length = snprintf(data, sizeof data, "good %" PRIu64 " %" PRIu64 "\n", size, left);
    answer_bytes(data, (size_t)length);
    while (left) {
        ssize_t got =
            pread(fd, data, left < sizeof data ? (size_t)left : sizeof data, (off_t)offset);
        if (got <= 0)
            _exit(1);
        answer_bytes(data, (size_t)got);
        offset += (uint64_t)got;
        left -= (uint64_t)got;
    }
}
