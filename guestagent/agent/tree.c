/* A checked archive's members, put below a directory of the workspace all at once. They come into a
 * stage beside the workspace, so that a full disk, a broken link or a bad member is met before
 * anything has changed; tree_commit.c then moves them. The host has refused what is hostile before
 * it sent anything; here no name leads out of the stage, and what is not a file, directory, symlink
 * or hard link is refused once more. */
#include "base/path_at.h"
#include "guestagent/agent/agent.h"
#include "guestagent/agent/inside.h"
#include "guestagent/agent/jobs.h"
#include "guestagent/agent/stage.h"
#include "guestagent/agent/tree_commit.h"

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
    struct job job; /* its end: the commit where all came, and the stage's removal */
    struct agent *agent;
    struct link_call *call; /* NULL once it has ended */
    struct stage stage;
    int tree_fd, aside_fd; /* in the stage: the members, and what they replace; -1 before the first
                              message */
    int parent_fd;         /* the directory that the last member went into, -1 */
    char parent[PATH_BYTES];
    int file_fd; /* the member whose content is coming, -1 */
    bool mode_unset;
    uint32_t mode, uid, gid;
    int64_t mtime_ns;
    bool exact; /* owners and all of the mode */
    uint64_t entry_count, bytes_written;
    struct late_directory *directories;
    char destination[PATH_BYTES]; /* resolved */
    bool refused, whole, ending;  /* ending: the job is under way, or over */
    bool job_over;
    int error;
    struct tree_commit commit;
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
                        (applying->mode_unset && fchmod(applying->file_fd, applying->mode) < 0) ||
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
        return applying->tree_fd;
    if (applying->parent_fd >= 0 && strlen(applying->parent) == length &&
        memcmp(applying->parent, path, length) == 0)
        return applying->parent_fd;
    cleanup_close(&applying->parent_fd);
    memcpy(applying->parent, path, length);
    applying->parent[length] = '\0';
    int error = path_make_directories(applying->tree_fd, applying->parent, 0755);
    applying->parent_fd =
        error ? -1 : path_open_plain(applying->tree_fd, applying->parent, O_PATH | O_DIRECTORY);
    return error ? error : applying->parent_fd;
}

static int put_directory(struct applying *applying, const char *path,
                         const Hearth__Agent__V1__TreeItem *item)
{
    const Hearth__Agent__V1__FileEntry *entry = item->entry;
    const char *name;
    int parent = open_parent(applying, path, &name);
    int error = parent < 0                                           ? parent
                : mkdirat(parent, name, 0755) < 0 && errno != EEXIST ? -errno
                                                                     : 0;
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
    mode_t mode = entry->mode & mode_mask(applying);
    /* Most modes can be had at once: a change later is as dear as the file itself. */
    bool at_once =
        !(mode & (07000 | AGENT_UMASK)) && !(applying->exact && (item->uid || item->gid));
    int fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                    at_once ? mode : 0600);
    if (fd < 0)
        return -errno;
    applying->file_fd = fd;
    applying->mode = mode;
    applying->mode_unset = !at_once;
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
    auto_close int directory =
        error ? -1 : path_open_plain_parent(applying->tree_fd, path, &target_name);
    if (error || directory < 0)
        return error ? error : directory;
    return linkat(directory, target_name, parent, name, 0) < 0 ? -errno : 0;
}

static int put_named(struct applying *applying, int parent, const char *name,
                     const Hearth__Agent__V1__TreeItem *item)
{
    if (item->hard_link.len)
        return put_hard_link(applying, parent, name, &item->hard_link);
    if (item->entry->type == HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_SYMLINK)
        return put_symlink(applying, parent, name, item);
    if (item->entry->type == HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_FILE)
        return put_file(applying, parent, name, item);
    return -EINVAL;
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
    error = put_named(applying, parent, name, item);
    if (error != -EEXIST)
        return error;
    /* An earlier member of the same name gives way; a directory stays and the member is refused. */
    return unlinkat(parent, name, 0) < 0 ? -errno : put_named(applying, parent, name, item);
}

static int put_data(struct applying *applying, const ProtobufCBinaryData *data)
{
    if (data->len && applying->file_fd < 0)
        return -EINVAL;
    int error = path_write_all(applying->file_fd, data->data, data->len);
    if (error)
        return error;
    applying->bytes_written += data->len;
    return 0;
}

static int make_inside(struct applying *applying, const char *name)
{
    if (mkdirat(applying->stage.fd, name, 0755) < 0)
        return -errno;
    int fd = openat(applying->stage.fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int begin(struct applying *applying, const Hearth__Agent__V1__TreeItem *item)
{
    applying->exact = item->exact;
    int error = inside_resolve(applying->agent, item->destination, true, applying->destination);
    if (!error)
        error = stage_open(&applying->stage, applying->agent->root_fd);
    if (error)
        return error;
    applying->tree_fd = make_inside(applying, "tree");
    if (applying->tree_fd < 0)
        return applying->tree_fd;
    applying->aside_fd = make_inside(applying, "aside");
    return applying->aside_fd < 0 ? applying->aside_fd : 0;
}

/* In the workspace, once all is there. */
static void finish_directories(struct applying *applying)
{
    auto_close int base =
        path_open_plain(applying->agent->root_fd, applying->destination, O_RDONLY | O_DIRECTORY);
    for (struct late_directory *late = applying->directories; late && base >= 0;
         late = late->next) {
        auto_close int fd = path_open_plain(base, late->path, O_RDONLY | O_DIRECTORY);
        struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, time_of(late->mtime_ns)};
        mode_t mode = applying->exact ? late->mode & 07777 : (late->mode & 0777) | 0700;
        if (fd < 0)
            continue;
        if (applying->exact && (late->uid || late->gid))
            (void)!fchown(fd, late->uid, late->gid);
        if (fchmod(fd, mode) == 0)
            futimens(fd, times);
    }
}

/* The end. */

static void run_end(struct job *job)
{
    struct applying *applying = container_of(job, struct applying, job);
    if (applying->whole) {
        applying->commit = (struct tree_commit){.staged_fd = applying->tree_fd,
                                                .aside_fd = applying->aside_fd,
                                                .root_fd = applying->agent->root_fd,
                                                .destination = applying->destination};
        applying->error = tree_commit(&applying->commit);
        if (!applying->error)
            finish_directories(applying);
    }
    cleanup_close(&applying->file_fd);
    cleanup_close(&applying->parent_fd);
    cleanup_close(&applying->tree_fd);
    cleanup_close(&applying->aside_fd);
    stage_close(&applying->stage);
}

static void answer(struct applying *applying)
{
    Hearth__Agent__V1__TreeApplyReply reply = HEARTH__AGENT__V1__TREE_APPLY_REPLY__INIT;
    struct link_call *call = applying->call; /* its end follows */
    reply.entry_count = applying->entry_count;
    reply.bytes_written = applying->bytes_written;
    if (!applying->error)
        link_call_reply(call, &reply.base);
    else if (*applying->commit.problem)
        call_refuse(call, call_status_of(-applying->error), "%s", applying->commit.problem);
    else
        call_refuse_errno(call, -applying->error, "unpack");
}

/* Once both the call and the job are over. */
static void maybe_free(struct applying *applying)
{
    if (applying->call || !applying->job_over)
        return;
    while (applying->directories) {
        struct late_directory *late = applying->directories;
        applying->directories = late->next;
        free(late);
    }
    free(applying);
}

static void ended(struct job *job)
{
    struct applying *applying = container_of(job, struct applying, job);
    applying->job_over = true;
    if (applying->call && !applying->refused)
        answer(applying);
    maybe_free(applying);
}

static void end(struct applying *applying)
{
    if (applying->ending)
        return;
    applying->ending = true;
    applying->job = (struct job){.run = run_end, .done = ended};
    jobs_submit(applying->agent->jobs, &applying->job);
}

static void refuse(struct applying *applying, int error, const Hearth__Agent__V1__TreeItem *item)
{
    char what[160] = "unpack";
    if (item && item->entry && item->entry->path.len)
        snprintf(what, sizeof what, "the member %.*s",
                 (int)(item->entry->path.len < 100 ? item->entry->path.len : 100),
                 (const char *)item->entry->path.data);
    applying->refused = true;
    call_refuse_errno(applying->call, -error, what);
}

static void tree_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    struct applying *applying = arg;
    (void)call;
    if (applying->refused || applying->ending)
        return;
    Hearth__Agent__V1__TreeItem *item = hearth__agent__v1__tree_item__unpack(NULL, length, data);
    int error = item ? 0 : -EINVAL;
    if (!error && applying->tree_fd < 0)
        error = begin(applying, item);
    if (!error && item->entry)
        error = put_member(applying, item);
    if (!error)
        error = put_data(applying, &item->data);
    if (error)
        refuse(applying, error, item);
    if (item)
        hearth__agent__v1__tree_item__free_unpacked(item, NULL);
}

static void tree_half_closed(struct link_call *call, void *arg)
{
    struct applying *applying = arg;
    (void)call;
    if (applying->refused || applying->ending)
        return;
    int error = applying->tree_fd < 0 ? -EINVAL : finish_file(applying);
    if (error) {
        refuse(applying, error, NULL);
        return;
    }
    applying->whole = true;
    end(applying);
}

static void tree_end(struct link_call *call, void *arg, enum link_status status,
                     const char *message)
{
    struct applying *applying = arg;
    (void)call;
    (void)status;
    (void)message;
    applying->call = NULL;
    if (applying->ending)
        maybe_free(applying);
    else
        end(applying);
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
    *applying = (struct applying){.agent = agent,
                                  .call = call,
                                  .stage = STAGE_NONE,
                                  .tree_fd = -1,
                                  .aside_fd = -1,
                                  .parent_fd = -1,
                                  .file_fd = -1};
    link_call_accept(call, &tree_events, applying);
}
