#include "base/untar.h"

#include "base/buf.h"
#include "base/id.h"
#include "base/path_at.h"
#include "base/tar_header.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAX_MAX ((size_t)1 << 20)
#define NS_PER_S INT64_C(1000000000)

enum state { STATE_HEADER, STATE_PAX, STATE_FILE, STATE_PADDING, STATE_END };

/* A directory's time and mode are set at the end: what is put into it would change them. */
struct late_directory {
    struct late_directory *next;
    mode_t mode;
    int64_t mtime_ns;
    char path[];
};

struct untar {
    char *output;
    int above_fd;   /* the directory that output is to be in */
    char made[48];  /* the name in it until the end */
    int root_fd;    /* made, where it is a directory; -1 before the first member */
    bool directory; /* what is unpacked */
    bool kept;      /* it has its name */
    enum state state;
    struct buf block; /* a header or pax records so far */
    size_t want;      /* bytes of it */
    char kind;        /* of the pax records: 'x' or 'g' */
    uint64_t left;    /* of the file */
    size_t padding;
    int file_fd;
    mode_t mode;
    int64_t mtime_ns;
    /* What pax records said of the next member. */
    char *pax_path, *pax_link;
    bool has_size, has_mtime;
    uint64_t pax_size;
    int64_t pax_mtime_ns;
    struct late_directory *directories;
    untar_remark remark;
    struct untar_stats stats;
};

static int broken(struct hearth_failure *failure, const char *what)
{
    return hearth_fail(failure, HEARTH_EIO, "bad_reply", "the archive cannot be unpacked: %s",
                       what);
}

static int cannot(struct hearth_failure *failure, int errno_value, const char *name)
{
    return hearth_fail_errno(failure, errno_value, "cannot_write", "%s cannot be written", name);
}

static int fail_exists(const struct untar *untar, struct hearth_failure *failure)
{
    int error = hearth_fail(failure, HEARTH_ECONFLICT, "output_exists", "%s is there already",
                            untar->output);
    hearth_failure_hint(failure, "Nothing is overwritten: name a path where nothing is.");
    return error;
}

static int open_above(struct untar *untar, struct hearth_failure *failure)
{
    auto_free char *directory = strdup(untar->output);
    if (!directory)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    size_t length = strlen(directory);
    for (; length > 1 && directory[length - 1] == '/'; length--)
        directory[length - 1] = untar->output[length - 1] = '\0';
    char *slash = strrchr(directory, '/');
    if (slash)
        slash[slash == directory] = '\0';
    untar->above_fd = open(slash ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return untar->above_fd < 0 ? cannot(failure, errno, untar->output) : 0;
}

static const char *name_of(const struct untar *untar)
{
    const char *slash = strrchr(untar->output, '/');
    return slash ? slash + 1 : untar->output;
}

static int check_free(const struct untar *untar, struct hearth_failure *failure)
{
    struct stat status;
    const char *name = name_of(untar);
    bool taken = !*name || fstatat(untar->above_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0;
    return taken ? fail_exists(untar, failure) : 0;
}

int untar_open(struct untar **ret_untar, int above_fd, const char *output, untar_remark remark,
               struct hearth_failure *failure)
{
    char suffix[13];
    struct untar *untar = calloc(1, sizeof *untar);
    if (!untar)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    *untar = (struct untar){.above_fd = above_fd,
                            .root_fd = -1,
                            .file_fd = -1,
                            .want = TAR_BLOCK,
                            .remark = remark,
                            .output = strdup(output)};
    id_random_text(suffix, sizeof suffix - 1);
    snprintf(untar->made, sizeof untar->made, ".hearth-export-%s", suffix);
    int error = untar->output ? 0 : hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    if (!error && above_fd < 0)
        error = open_above(untar, failure);
    if (!error)
        error = check_free(untar, failure);
    if (error) {
        untar_close(untar);
        return error;
    }
    *ret_untar = untar;
    return 0;
}

/* Members. */

/* Where a member goes: below the new directory, or, of a single one, its name beside the output. */
static int open_parent(struct untar *untar, const char *path, const char **ret_name)
{
    if (untar->directory)
        return path_open_plain_parent(untar->root_fd, path, ret_name);
    *ret_name = untar->made;
    return fcntl(untar->above_fd, F_DUPFD_CLOEXEC, 0);
}

static struct timespec time_of(int64_t ns)
{
    struct timespec time = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
    if (time.tv_nsec < 0) {
        time.tv_nsec += NS_PER_S;
        time.tv_sec--;
    }
    return time;
}

static int put_directory(struct untar *untar, int parent, const char *name, const char *path)
{
    struct late_directory *late = malloc(sizeof *late + strlen(path) + 1);
    if (!late)
        return -ENOMEM;
    if (mkdirat(parent, name, 0700) < 0) {
        int error = -errno;
        free(late);
        return error;
    }
    *late = (struct late_directory){
        .next = untar->directories, .mode = untar->mode, .mtime_ns = untar->mtime_ns};
    memcpy(late->path, path, strlen(path) + 1);
    untar->directories = late;
    return 0;
}

static int put_symlink(struct untar *untar, int parent, const char *name, const char *target)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, time_of(untar->mtime_ns)};
    if (symlinkat(target, parent, name) < 0)
        return -errno;
    utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW);
    return 0;
}

static int put_hard_link(struct untar *untar, int parent, const char *name, const char *target)
{
    const char *target_name;
    auto_close int directory = path_open_plain_parent(untar->root_fd, target, &target_name);
    if (directory < 0)
        return directory;
    return linkat(directory, target_name, parent, name, 0) < 0 ? -errno : 0;
}

static int finish_file(struct untar *untar)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, time_of(untar->mtime_ns)};
    int error =
        fchmod(untar->file_fd, untar->mode) < 0 || futimens(untar->file_fd, times) < 0 ? -errno : 0;
    close(steal_fd(&untar->file_fd));
    return error;
}

static int put_file(struct untar *untar, int parent, const char *name)
{
    untar->file_fd =
        openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (untar->file_fd < 0)
        return -errno;
    return untar->left ? 0 : finish_file(untar);
}

static int begin(struct untar *untar, char type)
{
    untar->directory = type == TAR_DIRECTORY;
    untar->stats.artifact_type = type == TAR_DIRECTORY ? "directory"
                                 : type == TAR_SYMLINK ? "symlink"
                                                       : "file";
    if (!untar->directory)
        return 0;
    if (mkdirat(untar->above_fd, untar->made, 0700) < 0)
        return -errno;
    untar->root_fd = path_open_directory(untar->above_fd, untar->made);
    return untar->root_fd < 0 ? untar->root_fd : 0;
}

static int put(struct untar *untar, char type, char *path, const char *target)
{
    size_t length = strlen(path);
    while (length && path[length - 1] == '/')
        path[--length] = '\0';
    const char *name;
    auto_close int parent = open_parent(untar, path, &name);
    if (parent < 0)
        return parent;
    switch (type) {
    case TAR_DIRECTORY:
        return put_directory(untar, parent, name, path);
    case TAR_SYMLINK:
        return put_symlink(untar, parent, name, target);
    case TAR_HARD_LINK:
        return put_hard_link(untar, parent, name, target);
    case TAR_FILE:
        return put_file(untar, parent, name);
    default:
        return -EINVAL;
    }
}

static int take_member(struct untar *untar, char type, char *path, const char *target,
                       struct hearth_failure *failure)
{
    bool first = !untar->stats.artifact_type;
    int error = first ? begin(untar, type) : 0;
    if (!error && !first && untar->directory && strcmp(path, "./") == 0)
        return 0; /* once more, after a remark */
    if (!error && !first && !untar->directory)
        return broken(failure, "one member was expected");
    untar->stats.entries++;
    if (!error && first && untar->directory) {
        struct late_directory *late = malloc(sizeof *late + 2);
        if (!late)
            return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        *late = (struct late_directory){.mode = untar->mode, .mtime_ns = untar->mtime_ns};
        memcpy(late->path, ".", 2);
        untar->directories = late;
        return 0;
    }
    if (!error)
        error = put(untar, type, path, target);
    return error ? cannot(failure, -error, path) : 0;
}

/* Headers. */

static uint64_t octal(const char *field, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size && field[i] >= '0' && field[i] <= '7'; i++)
        value = value * 8 + (uint64_t)(field[i] - '0');
    return value;
}

static int64_t pax_time(const char *text)
{
    char *end;
    bool negative = *text == '-';
    int64_t seconds = strtoll(text, &end, 10), ns = 0, unit = NS_PER_S / 10;
    if (*end == '.')
        for (end++; *end >= '0' && *end <= '9' && unit; end++, unit /= 10)
            ns += (*end - '0') * unit;
    return seconds * NS_PER_S + (negative ? -ns : ns);
}

static void take_record(struct untar *untar, const char *key, const char *value)
{
    if (untar->kind == 'g') {
        for (const char *line = strcmp(key, "comment") == 0 ? value : NULL; line;
             line = (line = strchr(line, '\n')) ? line + 1 : NULL) {
            untar->stats.changed++;
            if (untar->remark)
                untar->remark(line, (int)strcspn(line, "\n"));
        }
    } else if (strcmp(key, "path") == 0) {
        free(untar->pax_path);
        untar->pax_path = strdup(value);
    } else if (strcmp(key, "linkpath") == 0) {
        free(untar->pax_link);
        untar->pax_link = strdup(value);
    } else if (strcmp(key, "size") == 0) {
        untar->has_size = true;
        untar->pax_size = strtoull(value, NULL, 10);
    } else if (strcmp(key, "mtime") == 0) {
        untar->has_mtime = true;
        untar->pax_mtime_ns = pax_time(value);
    }
}

/* "LENGTH KEY=VALUE\n", one after the other. */
static int take_records(struct untar *untar, struct hearth_failure *failure)
{
    char *at = untar->block.data, *end = at + untar->block.length;
    while (at < end && *at) {
        char *rest;
        unsigned long long length = strtoull(at, &rest, 10);
        char *equals = *rest == ' ' ? memchr(rest, '=', (size_t)(end - rest)) : NULL;
        if (!equals || length > (size_t)(end - at) || at + length <= equals ||
            at[length - 1] != '\n')
            return broken(failure, "a pax record is broken");
        at[length - 1] = '\0';
        *equals = '\0';
        take_record(untar, rest + 1, equals + 1);
        at += length;
    }
    return 0;
}

static void next_header(struct untar *untar)
{
    untar->state = STATE_HEADER;
    buf_clear(&untar->block);
    untar->want = TAR_BLOCK;
}

static void forget_pax(struct untar *untar)
{
    free(steal_pointer(untar->pax_path));
    free(steal_pointer(untar->pax_link));
    untar->has_size = untar->has_mtime = false;
}

static int take_header(struct untar *untar, struct hearth_failure *failure)
{
    const char *header = untar->block.data;
    char type = header[156], path[4200], target[101];
    if (!header[0]) {
        untar->state = STATE_END;
        return 0;
    }
    if (memcmp(header + 257, "ustar", 5) != 0)
        return broken(failure, "it is no tar");
    uint64_t size = untar->has_size ? untar->pax_size : octal(header + 124, 12);
    if (type == 'x' || type == 'g') {
        size = octal(header + 124, 12);
        if (size > PAX_MAX)
            return broken(failure, "a pax header is too large");
        untar->kind = type;
        untar->state = STATE_PAX;
        buf_clear(&untar->block);
        untar->want = (size_t)size;
        untar->padding = tar_padding(size);
        return 0;
    }
    snprintf(path, sizeof path, "%.*s", untar->pax_path ? 4100 : 100,
             untar->pax_path ? untar->pax_path : header);
    snprintf(target, sizeof target, "%.100s", header + 157);
    untar->mode = (mode_t)octal(header + 100, 8) & 0777;
    untar->mtime_ns =
        untar->has_mtime ? untar->pax_mtime_ns : (int64_t)octal(header + 136, 12) * NS_PER_S;
    untar->left = type == TAR_FILE ? size : 0;
    untar->padding = type == TAR_FILE ? tar_padding(size) : 0;
    int error = take_member(untar, type, path, untar->pax_link ? untar->pax_link : target, failure);
    forget_pax(untar);
    next_header(untar);
    if (untar->left)
        untar->state = STATE_FILE;
    return error;
}

static int write_file(struct untar *untar, const char *data, size_t length,
                      struct hearth_failure *failure)
{
    int error = path_write_all(untar->file_fd, data, length);
    if (error)
        return cannot(failure, -error, untar->output);
    untar->stats.bytes += length;
    untar->left -= length;
    if (untar->left)
        return 0;
    error = finish_file(untar);
    untar->state = STATE_PADDING;
    return error ? cannot(failure, -error, untar->output) : 0;
}

static size_t smaller(uint64_t left, size_t right)
{
    return left < right ? (size_t)left : right;
}

int untar_write(struct untar *untar, const void *bytes, size_t length,
                struct hearth_failure *failure)
{
    const char *data = bytes;
    int error = 0;
    while (!error && (length || (untar->state == STATE_PADDING && !untar->padding))) {
        size_t take = 0;
        switch (untar->state) {
        case STATE_HEADER:
        case STATE_PAX:
            take = smaller(untar->want - untar->block.length, length);
            if (buf_append(&untar->block, data, take))
                return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
            if (untar->block.length < untar->want)
                break;
            if (untar->state == STATE_HEADER) {
                error = take_header(untar, failure);
            } else {
                error = take_records(untar, failure);
                untar->state = STATE_PADDING;
            }
            break;
        case STATE_FILE:
            take = smaller(untar->left, length);
            error = write_file(untar, data, take, failure);
            break;
        case STATE_PADDING:
            take = smaller(untar->padding, length);
            untar->padding -= take;
            if (!untar->padding)
                next_header(untar);
            break;
        case STATE_END:
            return 0;
        }
        data += take;
        length -= take;
    }
    return error;
}

static void finish_directories(struct untar *untar)
{
    for (struct late_directory *late = untar->directories; late; late = late->next) {
        struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, time_of(late->mtime_ns)};
        auto_close int fd = path_open_plain(untar->root_fd, late->path, O_RDONLY | O_DIRECTORY);
        if (fd >= 0) {
            futimens(fd, times);
            fchmod(fd, late->mode);
        }
    }
}

int untar_finish(struct untar *untar, struct untar_stats *ret_stats, struct hearth_failure *failure)
{
    if (untar->state != STATE_END || !untar->stats.artifact_type)
        return broken(failure, "it is cut short");
    finish_directories(untar);
    if (renameat2(untar->above_fd, untar->made, untar->above_fd, name_of(untar), RENAME_NOREPLACE) <
        0)
        return errno == EEXIST ? fail_exists(untar, failure)
                               : cannot(failure, errno, untar->output);
    untar->kept = true;
    *ret_stats = untar->stats;
    return 0;
}

void untar_close(struct untar *untar)
{
    if (!untar)
        return;
    if (untar->above_fd >= 0 && !untar->kept)
        (void)path_remove_tree(untar->above_fd, untar->made);
    for (struct late_directory *late = untar->directories, *next; late; late = next) {
        next = late->next;
        free(late);
    }
    forget_pax(untar);
    cleanup_close(&untar->above_fd);
    cleanup_close(&untar->root_fd);
    cleanup_close(&untar->file_fd);
    buf_free(&untar->block);
    free(untar->output);
    free(untar);
}
