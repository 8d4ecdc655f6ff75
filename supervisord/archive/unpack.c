#include "supervisord/archive/unpack.h"

#include "supervisord/archive/member_name.h"

#include "base/path_at.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"
#define NAMES_MAX 4000000
#define NS_PER_S 1000000000

__attribute__((format(printf, 2, 3))) static bool fail(struct unpack *unpack, const char *format,
                                                       ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(unpack->detail, sizeof unpack->detail, format, arguments);
    va_end(arguments);
    for (char *at = unpack->detail; *at; at++)
        if ((unsigned char)*at < ' ' || (unsigned char)*at >= 0x7f)
            *at = '?';
    return false;
}

static bool fail_errno(struct unpack *unpack, const char *path)
{
    return fail(unpack, "%.200s cannot be made: %s", path, strerror(errno));
}

static const char *last_component(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void parent_of(char out[MEMBER_PATH_MAX + 1], const char *path)
{
    size_t length = (size_t)(last_component(path) - path);
    memcpy(out, path, length);
    out[length ? length - 1 : 0] = '\0';
    if (!length)
        strcpy(out, ".");
}

/* The directories above path. Symlinks in it are those of the system that is being made, and lead
 * nowhere out of it. */
static bool make_parents(struct unpack *unpack, const char *path)
{
    char above[MEMBER_PATH_MAX + 1];
    for (const char *slash = path; (slash = strchr(slash, '/')); slash++) {
        memcpy(above, path, (size_t)(slash - path));
        above[slash - path] = '\0';
        if (mkdir(above, 0755) < 0 && errno != EEXIST)
            return fail_errno(unpack, above);
    }
    return true;
}

/* Takes away what is in path's place, unless a directory is there and wanted. */
static bool clear_place(struct unpack *unpack, const char *path, bool want_directory)
{
    struct stat status;
    if (lstat(path, &status) < 0)
        return errno == ENOENT || fail_errno(unpack, path);
    if (S_ISDIR(status.st_mode) && want_directory)
        return true;
    int error = path_remove_tree(AT_FDCWD, path);
    errno = -error;
    return !error || fail_errno(unpack, path);
}

/* What lower layers have put into a directory goes; what this one has put there before stays. */
static bool make_opaque(struct unpack *unpack, const char *directory)
{
    char path[MEMBER_PATH_MAX + NAME_MAX + 2];
    auto_closedir DIR *entries = opendir(directory);
    for (struct dirent *file; entries && (file = readdir(entries));) {
        if (strcmp(file->d_name, ".") == 0 || strcmp(file->d_name, "..") == 0)
            continue;
        if (strcmp(directory, ".") == 0)
            snprintf(path, sizeof path, "%s", file->d_name);
        else
            snprintf(path, sizeof path, "%s/%s", directory, file->d_name);
        if (!members_find(&unpack->layer, path) && path_remove_tree(AT_FDCWD, path))
            return fail(unpack, "%.200s cannot be removed", path);
    }
    return true;
}

static bool apply_whiteout(struct unpack *unpack, const char *path, const char *name)
{
    char target[2 * MEMBER_PATH_MAX], parent[MEMBER_PATH_MAX + 1];
    const char *hidden = name + strlen(WHITEOUT);
    parent_of(parent, path);
    if (strcmp(name, OPAQUE) == 0)
        return make_opaque(unpack, parent);
    if (!*hidden || strcmp(hidden, ".") == 0 || strcmp(hidden, "..") == 0)
        return fail(unpack, "the whiteout %.200s hides nothing", path);
    if (text_starts_with(hidden, WHITEOUT))
        return true; /* bookkeeping of the tool that wrote the layer */
    snprintf(target, sizeof target, "%s/%s", parent, hidden);
    (void)path_remove_tree(AT_FDCWD, target); /* most often of what is there */
    return true;
}

/* Where a plain user unpacks there is nobody but root, who is that user: what was another's stays
 * root's. */
static bool set_owner_and_mode(struct unpack *unpack, const struct member_header *member)
{
    if ((lchown(member->path, member->uid, member->gid) < 0 && errno != EINVAL) ||
        (member->type != MEMBER_SYMLINK && chmod(member->path, member->mode) < 0))
        return fail_errno(unpack, member->path);
    return true;
}

static bool make_file(struct unpack *unpack, const struct member_header *member)
{
    unpack->fd = open(member->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    unpack->mtime_ns = member->mtime_ns;
    if (unpack->fd < 0 || !set_owner_and_mode(unpack, member))
        return fail_errno(unpack, member->path);
    return true;
}

static bool make(struct unpack *unpack, const struct member_header *member)
{
    if (member->hard_link)
        return linkat(AT_FDCWD, member->hard_link, AT_FDCWD, member->path, 0) == 0 ||
               fail_errno(unpack, member->path);
    switch (member->type) {
    case MEMBER_FILE:
        return make_file(unpack, member);
    case MEMBER_DIRECTORY:
        if (mkdir(member->path, 0700) < 0 && errno != EEXIST)
            return fail_errno(unpack, member->path);
        break;
    case MEMBER_SYMLINK:
        if (symlink(member->link_target, member->path) < 0)
            return fail_errno(unpack, member->path);
        break;
    }
    return set_owner_and_mode(unpack, member);
}

static bool end_file(struct unpack *unpack)
{
    int fd = unpack->fd;
    unpack->fd = -1;
    /* At last, for writing moves it. The time before 1970 is the time of no system's files. */
    int64_t ns = unpack->mtime_ns > 0 ? unpack->mtime_ns : 0;
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                {.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S}};
    if (fd >= 0)
        (void)futimens(fd, times);
    return fd < 0 || close(fd) == 0 || fail(unpack, "a file cannot be written");
}

bool unpack_member(void *arg, const struct member_header *member)
{
    struct unpack *unpack = arg;
    const char *name = last_component(member->path);
    if (!end_file(unpack))
        return false;
    if (unpack->layered && text_starts_with(name, WHITEOUT))
        return apply_whiteout(unpack, member->path, name);
    if (member->hard_link && strcmp(member->hard_link, member->path) == 0)
        return true;
    if (!make_parents(unpack, member->path) ||
        !clear_place(unpack, member->path, member->type == MEMBER_DIRECTORY))
        return false;
    unpack->layer.limit = NAMES_MAX;
    /* Where symlinks are on the way the names are not the true ones: then an opaque directory below
     * them keeps less than it might. */
    (void)members_add(&unpack->layer, member->path, member->type);
    return make(unpack, member);
}

bool unpack_data(void *arg, const void *data, size_t length)
{
    struct unpack *unpack = arg;
    if (unpack->fd < 0)
        return true; /* of a whiteout, which has none */
    int error = path_write_all(unpack->fd, data, length);
    return !error || fail(unpack, "a file cannot be written: %s", strerror(-error));
}

bool unpack_end_layer(struct unpack *unpack)
{
    members_free(&unpack->layer);
    unpack->layer = (struct members){0};
    return end_file(unpack);
}

static bool make_empty_file(struct unpack *unpack, const char *path)
{
    (void)path_remove_tree(AT_FDCWD, path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0 || fchmod(fd, 0644) < 0)
        return fail_errno(unpack, path);
    close(fd);
    return true;
}

bool unpack_finish(struct unpack *unpack)
{
    static const struct {
        const char *path;
        mode_t mode;
    } directories[] = {{"dev", 0755}, {"proc", 0755}, {"sys", 0755},      {"run", 0755},
                       {"etc", 0755}, {"tmp", 01777}, {"workspace", 0755}};
    struct stat status;
    (void)path_remove_tree(AT_FDCWD, "dev");
    for (size_t i = 0; i < sizeof directories / sizeof directories[0]; i++) {
        const char *path = directories[i].path;
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            return fail_errno(unpack, path);
        if (lstat(path, &status) < 0 || !S_ISDIR(status.st_mode))
            return fail(unpack, "/%s is no directory", path);
        if ((i == 0 || strcmp(path, "workspace") == 0) && chmod(path, directories[i].mode) < 0)
            return fail_errno(unpack, path);
    }
    if (!make_empty_file(unpack, "etc/resolv.conf") || !make_empty_file(unpack, "etc/machine-id"))
        return false;
    return stat("bin/sh", &status) == 0 || fail(unpack, "it has no /bin/sh");
}
