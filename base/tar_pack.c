#include "base/tar_pack.h"

#include "base/buf.h"
#include "base/glob.h"
#include "base/ignore.h"
#include "base/list.h"
#include "base/map.h"
#include "base/tar_header.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define TAR_END_BLOCKS 2
#define LINKED_KEY_SIZE 40

/* A directory on the way from the top to where the walk is. */
struct level {
    int fd;
    char **names; /* sorted */
    size_t count, next;
    size_t path_length;    /* of the directory's own path, with its slash */
    struct ignore *ignore; /* its .gitignore, NULL for none */
};

/* The first name of a file that has several. */
struct linked_file {
    struct map_entry entry; // tar_pack::linked
    struct linked_file *next;
    char *path;
    char key[LINKED_KEY_SIZE]; /* "device:inode" */
};

struct tar_pack {
    struct level levels[TAR_PACK_DEPTH_MAX];
    size_t depth;
    struct buf path;
    struct buf pending; /* headers and padding not given yet */
    int file_fd;        /* what is being given, -1 between files */
    uint64_t file_left;
    size_t file_padding; /* zero bytes after it */
    bool ended;
    struct tar_pack_choice choice;
    struct map linked;
    struct linked_file *linked_files;
    struct tar_pack_stats stats;
};

static int out_of_memory(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_ENOMEMORY, "out_of_memory", "out of memory");
}

static int fail_path(struct hearth_failure *failure, const struct tar_pack *pack, const char *what)
{
    return hearth_fail_errno(failure, errno, "cannot_pack", "%s cannot be %s",
                             pack->path.length ? pack->path.data : ".", what);
}

static void level_clear(struct level *level)
{
    for (size_t i = 0; i < level->count; i++)
        free(level->names[i]);
    free(level->names);
    ignore_free(level->ignore);
    close(level->fd);
    *level = (struct level){.fd = -1};
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

static bool level_add(struct level *level, size_t *capacity, const char *name)
{
    if (level->count == *capacity) {
        size_t more = *capacity ? *capacity * 2 : 32;
        char **names = reallocarray(level->names, more, sizeof *names);
        if (!names)
            return false;
        level->names = names;
        *capacity = more;
    }
    char *copy = strdup(name);
    if (copy)
        level->names[level->count++] = copy;
    return copy != NULL;
}

/* Reads all names of level->fd, sorted. */
static int level_read(const struct tar_pack *pack, struct level *level,
                      struct hearth_failure *failure)
{
    int copy = fcntl(level->fd, F_DUPFD_CLOEXEC, 0);
    auto_closedir DIR *directory = copy < 0 ? NULL : fdopendir(copy);
    if (!directory) {
        int error = fail_path(failure, pack, "read");
        if (copy >= 0)
            close(copy);
        return error;
    }
    size_t capacity = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (!entry && errno)
            return fail_path(failure, pack, "read");
        if (!entry)
            break;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        if (!level_add(level, &capacity, entry->d_name))
            return out_of_memory(failure);
    }
    if (level->count)
        qsort(level->names, level->count, sizeof *level->names, compare_names);
    return 0;
}

/* Goes down into the directory fd, which is taken; its path stands in pack->path. */
static int push(struct tar_pack *pack, int fd, struct hearth_failure *failure)
{
    if (pack->depth == TAR_PACK_DEPTH_MAX) {
        close(fd);
        return hearth_fail(failure, HEARTH_ETOOLARGE, "too_deep",
                           "directories are nested more than %d deep at %s", TAR_PACK_DEPTH_MAX,
                           pack->path.data);
    }
    struct level *level = &pack->levels[pack->depth++];
    *level = (struct level){.fd = fd, .path_length = pack->path.length};
    if (pack->choice.gitignore)
        level->ignore = ignore_read(fd);
    return level_read(pack, level, failure);
}

static bool excluded(const struct tar_pack *pack)
{
    for (size_t i = 0; i < pack->choice.exclude_count; i++)
        if (glob_match_path(pack->choice.excludes[i], pack->path.data))
            return true;
    return false;
}

/* The nearest .gitignore that says anything of it decides. */
static bool ignored(const struct tar_pack *pack, bool directory)
{
    for (size_t depth = pack->depth; depth--;) {
        const struct level *level = &pack->levels[depth];
        enum ignore_verdict verdict =
            level->ignore
                ? ignore_check(level->ignore, pack->path.data + level->path_length, directory)
                : IGNORE_SILENT;
        if (verdict != IGNORE_SILENT)
            return verdict == IGNORE_OUT;
    }
    return false;
}

static int64_t mtime_of(const struct stat *stat)
{
    return (int64_t)stat->st_mtim.tv_sec * INT64_C(1000000000) + stat->st_mtim.tv_nsec;
}

static int emit(struct tar_pack *pack, const struct tar_member *member,
                struct hearth_failure *failure)
{
    if (tar_header_write(&pack->pending, member))
        return out_of_memory(failure);
    pack->stats.entries++;
    return 0;
}

static int pack_directory(struct tar_pack *pack, const struct level *parent, const char *name,
                          const struct stat *stat, struct hearth_failure *failure)
{
    int fd = openat(parent->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return fail_path(failure, pack, "opened");
    int error = buf_char(&pack->path, '/') ? out_of_memory(failure) : 0;
    if (!error)
        error = emit(pack,
                     &(struct tar_member){.type = TAR_DIRECTORY,
                                          .path = pack->path.data,
                                          .mode = stat->st_mode,
                                          .mtime_ns = mtime_of(stat)},
                     failure);
    if (error) {
        close(fd);
        return error;
    }
    return push(pack, fd, failure);
}

static int pack_symlink(struct tar_pack *pack, const struct level *parent, const char *name,
                        const struct stat *stat, struct hearth_failure *failure)
{
    char target[PATH_MAX];
    ssize_t length = readlinkat(parent->fd, name, target, sizeof target - 1);
    if (length < 0)
        return fail_path(failure, pack, "read");
    target[length] = '\0';
    return emit(pack,
                &(struct tar_member){.type = TAR_SYMLINK,
                                     .path = pack->path.data,
                                     .link_target = target,
                                     .mode = 0777,
                                     .mtime_ns = mtime_of(stat)},
                failure);
}

/* Gives the name under which this file went in already, or NULL and remembers this one. */
static int find_linked(struct tar_pack *pack, const struct stat *stat, const char **ret_first,
                       struct hearth_failure *failure)
{
    char key[LINKED_KEY_SIZE];
    snprintf(key, sizeof key, "%llx:%llx", (unsigned long long)stat->st_dev,
             (unsigned long long)stat->st_ino);
    struct map_entry *found = map_find(&pack->linked, key);
    if (found) {
        *ret_first = container_of(found, struct linked_file, entry)->path;
        return 0;
    }
    struct linked_file *file = calloc(1, sizeof *file);
    if (!file)
        return out_of_memory(failure);
    file->path = strdup(pack->path.data);
    memcpy(file->key, key, sizeof key);
    if (!file->path || map_insert(&pack->linked, &file->entry, file->key)) {
        free(file->path);
        free(file);
        return out_of_memory(failure);
    }
    file->next = pack->linked_files;
    pack->linked_files = file;
    *ret_first = NULL;
    return 0;
}

static int pack_file(struct tar_pack *pack, const struct level *parent, const char *name,
                     struct hearth_failure *failure)
{
    /* O_NONBLOCK: what was a file a moment ago may be a pipe now. */
    auto_close int fd = openat(parent->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat stat;
    if (fd < 0 || fstat(fd, &stat) < 0)
        return fail_path(failure, pack, "opened");
    if (!S_ISREG(stat.st_mode)) {
        pack->stats.skipped++;
        return 0;
    }
    struct tar_member member = {.type = TAR_FILE,
                                .path = pack->path.data,
                                .size = (uint64_t)stat.st_size,
                                .mode = stat.st_mode,
                                .mtime_ns = mtime_of(&stat)};
    if (stat.st_nlink > 1) {
        int error = find_linked(pack, &stat, &member.link_target, failure);
        if (error)
            return error;
    }
    if (member.link_target) {
        member.type = TAR_HARD_LINK;
        member.size = 0;
    }
    int error = emit(pack, &member, failure);
    if (!error && member.size) {
        pack->file_left = member.size;
        pack->file_padding = tar_padding(member.size);
        pack->file_fd = steal_fd(&fd);
    }
    return error;
}

/* Takes one step of the walk: the next name, or one level up, or the end. */
static int advance(struct tar_pack *pack, struct hearth_failure *failure)
{
    if (pack->depth == 0) {
        static const char zeroes[TAR_END_BLOCKS * TAR_BLOCK];
        pack->ended = true;
        return buf_append(&pack->pending, zeroes, sizeof zeroes) ? out_of_memory(failure) : 0;
    }
    struct level *level = &pack->levels[pack->depth - 1];
    pack->path.length = level->path_length;
    if (level->next == level->count) {
        level_clear(level);
        pack->depth--;
        return 0;
    }
    const char *name = level->names[level->next++];
    if (buf_text(&pack->path, name))
        return out_of_memory(failure);
    if (excluded(pack))
        return 0;

    struct stat stat;
    if (fstatat(level->fd, name, &stat, AT_SYMLINK_NOFOLLOW) < 0)
        return fail_path(failure, pack, "read");
    if (ignored(pack, S_ISDIR(stat.st_mode)))
        return 0;
    if (S_ISDIR(stat.st_mode))
        return pack_directory(pack, level, name, &stat, failure);
    if (S_ISLNK(stat.st_mode))
        return pack_symlink(pack, level, name, &stat, failure);
    if (S_ISREG(stat.st_mode))
        return pack_file(pack, level, name, failure);
    pack->stats.skipped++;
    return 0;
}

static ssize_t read_file(struct tar_pack *pack, void *out, size_t size,
                         struct hearth_failure *failure)
{
    ssize_t got = read(pack->file_fd, out, size < pack->file_left ? size : pack->file_left);
    if (got < 0)
        return fail_path(failure, pack, "read");
    if (got == 0)
        return hearth_fail(failure, HEARTH_ECONFLICT, "file_changed",
                           "%s became shorter while it was read", pack->path.data);
    pack->file_left -= (uint64_t)got;
    pack->stats.bytes += (uint64_t)got;
    if (pack->file_left == 0) {
        static const char zeroes[TAR_BLOCK];
        close(steal_fd(&pack->file_fd));
        if (buf_append(&pack->pending, zeroes, pack->file_padding))
            return out_of_memory(failure);
    }
    return got;
}

ssize_t tar_pack_read(struct tar_pack *pack, void *out, size_t size, struct hearth_failure *failure)
{
    for (;;) {
        if (pack->pending.length) {
            size_t give = size < pack->pending.length ? size : pack->pending.length;
            memcpy(out, pack->pending.data, give);
            buf_consume(&pack->pending, give);
            return (ssize_t)give;
        }
        if (pack->file_fd >= 0)
            return read_file(pack, out, size, failure);
        if (pack->ended)
            return 0;
        int error = advance(pack, failure);
        if (error)
            return error;
    }
}

int tar_pack_open(struct tar_pack **ret_pack, const char *directory,
                  const struct tar_pack_choice *choice, struct hearth_failure *failure)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return hearth_fail_errno(failure, errno, "no_directory", "%s cannot be opened", directory);
    return tar_pack_open_fd(ret_pack, fd, choice, failure);
}

int tar_pack_open_fd(struct tar_pack **ret_pack, int fd, const struct tar_pack_choice *choice,
                     struct hearth_failure *failure)
{
    struct tar_pack *pack = calloc(1, sizeof *pack);
    if (!pack) {
        close(fd);
        return out_of_memory(failure);
    }
    pack->file_fd = -1;
    pack->choice = *choice;
    int error = push(pack, fd, failure);
    if (error) {
        tar_pack_close(pack);
        return error;
    }
    *ret_pack = pack;
    return 0;
}

void tar_pack_stats(const struct tar_pack *pack, struct tar_pack_stats *ret_stats)
{
    *ret_stats = pack->stats;
}

void tar_pack_close(struct tar_pack *pack)
{
    if (!pack)
        return;
    while (pack->depth)
        level_clear(&pack->levels[--pack->depth]);
    for (struct linked_file *file = pack->linked_files, *next; file; file = next) {
        next = file->next;
        free(file->path);
        free(file);
    }
    map_free(&pack->linked);
    if (pack->file_fd >= 0)
        close(pack->file_fd);
    buf_free(&pack->pending);
    buf_free(&pack->path);
    free(pack);
}
