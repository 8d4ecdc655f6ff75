/* A checked archive's members, put below a directory of the workspace one after the other. The host
 * has refused what is hostile before it sent anything; here every name is resolved beneath the root
 * once more, no symlink is written through, and what is not a file, directory, symlink or hard link
 * is refused. */
#include "base/path_at.h"
#include "guestagent/agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 4096

/* A directory's mode and time are set at the end: what is put into it would change them. */
struct late_directory {
    struct late_directory *next;
    uint32_t mode, uid, gid;
    int64_t mtime_ns;
    char path[];
};

struct applying {
    struct agent *agent;
    int base_fd;   /* the destination */
    int parent_fd; /* the directory that the last member went into, -1 */
    char parent[PATH_BYTES];
    int file_fd; /* the member whose content is coming, -1 */
    uint32_t mode, uid, gid;
    int64_t mtime_ns;
    bool exact; /* owners and all of the mode */
    uint64_t entry_count, bytes_written;
    struct late_directory *directories;
    bool ended;
};

static int to_text(const ProtobufCBinaryData *bytes, char out[PATH_BYTES])
{
    if (!bytes->len || bytes->len >= PATH_BYTES || memchr(bytes->data, 0, bytes->len))
        return -EINVAL;
    memcpy(out, bytes->data, bytes->len);
    out[bytes->len] = '\0';
    return out[0] == '/' ? -EXDEV : 0;
}

static struct timespec time_of(int64_t ns)
{
    struct timespec time = {.tv_sec = (time_t)(ns / 1000000000),
                            .tv_nsec = (long)(ns % 1000000000)};
    if (time.tv_nsec < 0) {
        time.tv_nsec += 1000000000;
        time.tv_sec--;
    }
    return time;
}

static mode_t mode_mask(const struct applying *applying)
{
    return applying->exact ? 07777 : 0777;
}

static int finish_file(struct applying *applying)
{
    if (applying->file_fd < 0)
        return 0;
    struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, time_of(applying->mtime_ns)};
    /* The owner first: a change of it takes set-user-ID bits away. */
    int error = (applying->exact && (applying->uid || applying->gid) &&
                 fchown(applying->file_fd, applying->uid, applying->gid) < 0) ||
                        fchmod(applying->file_fd, applying->mode & mode_mask(applying)) < 0 ||
                        futimens(applying->file_fd, times) < 0
                    ? -errno
                    : 0;
    close(steal_fd(&applying->file_fd));
    return error;
}

/* The parent directory of path, made where it is missing; nothing on the way may be a symlink.
 * Members of one directory mostly come together: it is looked up once. Borrowed. */
static int open_parent(struct applying *applying, const char *path, const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    const char *name = *ret_name = slash ? slash + 1 : path;
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return -EINVAL;
    if (!length)
        return applying->base_fd;
    if (applying->parent_fd >= 0 && strlen(applying->parent) == length &&
        memcmp(applying->parent, path, length) == 0)
        return applying->parent_fd;
    cleanup_close(&applying->parent_fd);
    memcpy(applying->parent, path, length);
    applying->parent[length] = '\0';
    int error = path_make_directories(applying->base_fd, applying->parent, 0755);
    applying->parent_fd =
        error ? -1
              : path_open_beneath(applying->base_fd, applying->parent, O_PATH | O_DIRECTORY, 0);
    return error ? error : applying->parent_fd;
}

/* What is in the way of a member that is no directory; a directory stays and the member is refused.
 */
static int make_way(int parent, const char *name)
{
    return unlinkat(parent, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

static int put_directory(struct applying *applying, const char *path,
                         const Hearth__Agent__V1__TreeItem *item)
{
    const Hearth__Agent__V1__FileEntry *entry = item->entry;
    int error = path_make_directories(applying->base_fd, path, 0755);
    struct late_directory *late = error ? NULL : malloc(sizeof *late + strlen(path) + 1);
    if (!late)
        return error ? error : -ENOMEM;
    late->next = applying->directories;
    late->mode = entry->mode;
    late->uid = item->uid;
    late->gid = item->gid;
    late->mtime_ns = entry->mtime_ns;
    memcpy(late->path, path, strlen(path) + 1);
    applying->directories = late;
    return 0;
}

static int put_file(struct applying *applying, int parent, const char *name,
                    const Hearth__Agent__V1__TreeItem *item)
{
    const Hearth__Agent__V1__FileEntry *entry = item->entry;
    int fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    applying->file_fd = fd;
    applying->mode = entry->mode;
    applying->uid = item->uid;
    applying->gid = item->gid;
    applying->mtime_ns = entry->mtime_ns;
    return 0;
}

static int put_symlink(struct applying *applying, int parent, const char *name,
                       const Hearth__Agent__V1__TreeItem *item)
{
    const Hearth__Agent__V1__FileEntry *entry = item->entry;
    char target[PATH_BYTES];
    const ProtobufCBinaryData *bytes = &entry->link_target;
    if (!bytes->len || bytes->len >= sizeof target || memchr(bytes->data, 0, bytes->len))
        return -EINVAL;
    memcpy(target, bytes->data, bytes->len);
    target[bytes->len] = '\0';
    if (symlinkat(target, parent, name) < 0 ||
        (applying->exact && (item->uid || item->gid) &&
         fchownat(parent, name, item->uid, item->gid, AT_SYMLINK_NOFOLLOW) < 0))
        return -errno;
    struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, time_of(entry->mtime_ns)};
    utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW);
    return 0;
}

static int put_hard_link(struct applying *applying, int parent, const char *name,
                         const ProtobufCBinaryData *target)
{
    char path[PATH_BYTES];
    const char *target_name;
    int error = to_text(target, path);
    auto_close int directory = error ? -1 : path_open_parent(applying->base_fd, path, &target_name);
    if (error || directory < 0)
        return error ? error : directory;
    return linkat(directory, target_name, parent, name, 0) < 0 ? -errno : 0;
}

static int put_member(struct applying *applying, const Hearth__Agent__V1__TreeItem *item)
{
    const Hearth__Agent__V1__FileEntry *entry = item->entry;
    char path[PATH_BYTES];
    int error = finish_file(applying);
    if (!error)
        error = to_text(&entry->path, path);
    if (error)
        return error;
    applying->entry_count++;
    if (entry->type == HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_DIRECTORY)
        return put_directory(applying, path, item);
    const char *name;
    int parent = open_parent(applying, path, &name);
    if (parent < 0)
        return parent;
    error = make_way(parent, name);
    if (error)
        return error;
    if (item->hard_link.len)
        return put_hard_link(applying, parent, name, &item->hard_link);
    if (entry->type == HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_SYMLINK)
        return put_symlink(applying, parent, name, item);
    if (entry->type == HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_FILE)
        return put_file(applying, parent, name, item);
    return -EINVAL;
}

static int put_data(struct applying *applying, const ProtobufCBinaryData *data)
{
    size_t at = 0;
    if (data->len && applying->file_fd < 0)
        return -EINVAL;
    while (at < data->len) {
        ssize_t put = write(applying->file_fd, data->data + at, data->len - at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -errno;
        at += (size_t)put;
    }
    applying->bytes_written += data->len;
    return 0;
}

static int open_destination(struct applying *applying, const char *destination)
{
    if (*destination) {
        int error = path_make_directories(applying->agent->root_fd, destination, 0755);
        if (error)
            return error;
    }
    applying->base_fd = path_open_beneath(
        applying->agent->root_fd, *destination ? destination : ".", O_RDONLY | O_DIRECTORY, 0);
    return applying->base_fd < 0 ? applying->base_fd : 0;
}

static void finish_directories(struct applying *applying, bool apply)
{
    while (applying->directories) {
        struct late_directory *late = applying->directories;
        applying->directories = late->next;
        auto_close int fd =
            apply ? path_open_beneath(applying->base_fd, late->path, O_RDONLY | O_DIRECTORY, 0)
                  : -1;
        if (fd >= 0) {
            struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, time_of(late->mtime_ns)};
            mode_t mode = applying->exact ? late->mode & 07777 : (late->mode & 0777) | 0700;
            if (applying->exact && (late->uid || late->gid))
                (void)!fchown(fd, late->uid, late->gid);
            if (fchmod(fd, mode) == 0)
                futimens(fd, times);
        }
        free(late);
    }
}

static void refuse(struct applying *applying, struct link_call *call, int error)
{
    applying->ended = true;
    call_refuse_errno(call, -error, "unpack");
}

static void tree_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    struct applying *applying = arg;
    if (applying->ended)
        return;
    Hearth__Agent__V1__TreeItem *item = hearth__agent__v1__tree_item__unpack(NULL, length, data);
    int error = item ? 0 : -EINVAL;
    if (!error && applying->base_fd < 0) {
        applying->exact = item->exact;
        error = open_destination(applying, item->destination);
    }
    if (!error && item->entry)
        error = put_member(applying, item);
    if (!error)
        error = put_data(applying, &item->data);
    if (item)
        hearth__agent__v1__tree_item__free_unpacked(item, NULL);
    if (error)
        refuse(applying, call, error);
}

static void tree_half_closed(struct link_call *call, void *arg)
{
    struct applying *applying = arg;
    if (applying->ended)
        return;
    int error = finish_file(applying);
    if (error) {
        refuse(applying, call, error);
        return;
    }
    finish_directories(applying, true);
    applying->ended = true;
    Hearth__Agent__V1__TreeApplyReply reply = HEARTH__AGENT__V1__TREE_APPLY_REPLY__INIT;
    reply.entry_count = applying->entry_count;
    reply.bytes_written = applying->bytes_written;
    link_call_reply(call, &reply.base);
}

static void tree_end(struct link_call *call, void *arg, enum link_status status,
                     const char *message)
{
    struct applying *applying = arg;
    (void)call;
    (void)status;
    (void)message;
    finish_directories(applying, false);
    if (applying->file_fd >= 0)
        close(applying->file_fd);
    cleanup_close(&applying->parent_fd);
    cleanup_close(&applying->base_fd);
    free(applying);
}

static const struct link_call_events tree_events = {
    .on_message = tree_message, .on_half_closed = tree_half_closed, .on_end = tree_end};

void tree_accept_apply(struct agent *agent, struct link_call *call)
{
    struct applying *applying = calloc(1, sizeof *applying);
    if (!applying) {
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED, "the agent is out of memory");
        return;
    }
    *applying = (struct applying){.agent = agent, .base_fd = -1, .parent_fd = -1, .file_fd = -1};
    link_call_accept(call, &tree_events, applying);
}
