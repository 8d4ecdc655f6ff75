/* Files below the workspace root: every path goes through openat2 beneath it, and what is checked
 * is what was opened. */
#include "base/path_at.h"
#include "guestagent/agent/agent.h"
#include "guestagent/agent/inside.h"
#include "guestagent/agent/jobs.h"
#include "guestagent/data_field.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* With what goes before it in a message, this is one frame of the link. */
#define READ_CHUNK (((size_t)256 << 10) - 64)
#define READ_DATA 2  /* FileReadReply.data */
#define WRITE_DATA 4 /* FileWriteRequest.data */

_Static_assert(READ_CHUNK < DATA_FIELD_MAX, "data_field_head tells its length");

static void fill(const struct stat *status, Hearth__Agent__V1__FileEntry *entry)
{
    entry->type = S_ISREG(status->st_mode)   ? HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_FILE
                  : S_ISDIR(status->st_mode) ? HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_DIRECTORY
                  : S_ISLNK(status->st_mode) ? HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_SYMLINK
                                             : HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_OTHER;
    entry->size = S_ISREG(status->st_mode) ? (uint64_t)status->st_size : 0;
    entry->mode = status->st_mode & 07777;
    entry->mtime_ns = (int64_t)status->st_mtim.tv_sec * 1000000000 + status->st_mtim.tv_nsec;
}

int file_entry_fill(int parent_fd, const char *name, Hearth__Agent__V1__FileEntry *entry,
                    char target[4096])
{
    struct stat status;
    if (fstatat(parent_fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    fill(&status, entry);
    if (!S_ISLNK(status.st_mode))
        return 0;
    ssize_t length = readlinkat(parent_fd, name, target, 4096);
    if (length < 0)
        return -errno;
    entry->link_target.data = (uint8_t *)target;
    entry->link_target.len = (size_t)length;
    return 0;
}

static void set_path(Hearth__Agent__V1__FileEntry *entry, const char *path)
{
    entry->path.data = (uint8_t *)(uintptr_t)path;
    entry->path.len = strlen(path);
}

void file_handle_stat(struct agent *agent, struct link_call *call,
                      const Hearth__Agent__V1__FileStatRequest *request)
{
    Hearth__Agent__V1__FileEntry entry = HEARTH__AGENT__V1__FILE_ENTRY__INIT;
    char target[4096];
    struct stat status;
    int error = 0;
    if (request->follow || !*request->path) {
        auto_close int fd = inside_open(agent, request->path, O_PATH);
        error = fd < 0 ? fd : fstat(fd, &status) < 0 ? -errno : 0;
        if (!error)
            fill(&status, &entry);
    } else {
        const char *name;
        auto_close int parent = inside_open_parent(agent, request->path, &name);
        error = parent < 0 ? parent : file_entry_fill(parent, name, &entry, target);
    }
    if (error) {
        call_refuse_errno(call, -error, "stat");
        return;
    }
    set_path(&entry, request->path);
    link_call_reply(call, &entry.base);
}

/* Reading: pieces as long as the link has room. */

struct reading {
    int fd;
    uint64_t offset, left; /* left UINT64_MAX: to the end */
    uint64_t size;         /* when it was opened */
    bool done;
};

/* As much as the file seems to have, and one byte to see its end by. */
static size_t room_for(const struct reading *reading)
{
    uint64_t rest = reading->size > reading->offset ? reading->size - reading->offset + 1 : 1;
    rest = rest < reading->left ? rest : reading->left;
    return rest < READ_CHUNK ? (size_t)rest : READ_CHUNK;
}

/* What was read, or 0 at the end, or a negative errno; it has been sent. */
static ssize_t read_piece(struct link_call *call, const struct reading *reading)
{
    size_t room = room_for(reading);
    uint8_t *message = link_message_new(DATA_FIELD_HEAD + room);
    if (!message)
        return -ENOMEM;
    ssize_t got;
    do
        got = pread(reading->fd, message + DATA_FIELD_HEAD, room, (off_t)reading->offset);
    while (got < 0 && errno == EINTR);
    if (got <= 0) {
        got = got < 0 ? -errno : 0;
        link_message_free(message);
        return got;
    }
    data_field_head(message, READ_DATA, (size_t)got);
    return link_call_send_message(call, message, DATA_FIELD_HEAD + (size_t)got) ? -ENOMEM : got;
}

static void read_more(struct link_call *call, void *arg)
{
    struct reading *reading = arg;
    while (!reading->done && link_call_queued(call) <= LINK_SEND_LOW_WATER) {
        ssize_t got = reading->left ? read_piece(call, reading) : 0;
        reading->done = got <= 0;
        if (got == -ENOMEM)
            call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED, "the agent is out of memory");
        else if (got < 0)
            call_refuse_errno(call, (int)-got, "read");
        else if (got == 0)
            link_call_end(call, LINK_STATUS_OK, NULL);
        if (reading->done)
            return;
        reading->offset += (uint64_t)got;
        if (reading->left != UINT64_MAX)
            reading->left -= (uint64_t)got;
    }
}

static void read_ignores(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    (void)call;
    (void)arg;
    (void)data;
    (void)length;
}

static void read_end(struct link_call *call, void *arg, enum link_status status,
                     const char *message)
{
    struct reading *reading = arg;
    (void)call;
    (void)status;
    (void)message;
    close(reading->fd);
    free(reading);
}

static const struct link_call_events read_events = {
    .on_message = read_ignores, .on_writable = read_more, .on_end = read_end};

bool file_stream_read(struct agent *agent, struct link_call *call,
                      const Hearth__Agent__V1__FileReadRequest *request)
{
    struct stat status;
    /* O_NONBLOCK: a FIFO must not hold the agent. */
    auto_close int fd = inside_open(agent, request->path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    int error = fd < 0 ? fd : fstat(fd, &status) < 0 ? -errno : 0;
    if (error) {
        call_refuse_errno(call, -error, "open");
        return false;
    }
    if (!S_ISREG(status.st_mode)) {
        call_refuse(call, LINK_STATUS_FAILED_PRECONDITION, "%s",
                    S_ISDIR(status.st_mode) ? "it is a directory" : "it is no regular file");
        return false;
    }
    struct reading *reading = calloc(1, sizeof *reading);
    Hearth__Agent__V1__FileEntry entry = HEARTH__AGENT__V1__FILE_ENTRY__INIT;
    Hearth__Agent__V1__FileReadReply reply = HEARTH__AGENT__V1__FILE_READ_REPLY__INIT;
    fill(&status, &entry);
    set_path(&entry, request->path);
    reply.entry = &entry;
    if (!reading || link_call_send(call, &reply.base)) {
        free(reading);
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED, "the agent is out of memory");
        return false;
    }
    *reading = (struct reading){.fd = steal_fd(&fd),
                                .offset = request->offset,
                                .left = request->length ? request->length : UINT64_MAX,
                                .size = (uint64_t)status.st_size};
    link_call_accept(call, &read_events, reading);
    read_more(call, reading);
    return true;
}

/* Writing: into a file without a place in the tree's order of names, renamed at the commit. */

struct writing {
    struct agent *agent;
    int parent_fd, fd; /* -1 before the first message */
    char name[256], temporary[32], path[4096];
    uint32_t mode;
    uint64_t written;
    bool created, ended;
};

/* The directory and name that writing to path means: symlinks are followed as long as they stay
 * inside; what is missing above is made where make says so. */
static int resolve(const struct agent *agent, const char *path, bool make, char name[256])
{
    char resolved[INSIDE_PATH_MAX];
    const char *last;
    int error = inside_resolve(agent, path, true, resolved);
    if (error)
        return error;
    char *slash = strrchr(resolved, '/');
    if (make && slash) {
        *slash = '\0';
        error = path_make_directories(agent->root_fd, resolved, 0755);
        *slash = '/';
    }
    int parent = error ? error : path_open_parent(agent->root_fd, resolved, &last);
    if (parent < 0)
        return parent == -EINVAL ? -EISDIR : parent; /* the workspace itself */
    if (strlen(last) > 255) {
        close(parent);
        return -ENAMETOOLONG;
    }
    memcpy(name, last, strlen(last) + 1);
    return parent;
}

static int write_open(struct writing *writing, const Hearth__Agent__V1__FileWriteRequest *request)
{
    struct stat old;
    if (!*request->path || strlen(request->path) >= sizeof writing->path)
        return *request->path ? -ENAMETOOLONG : -EISDIR;
    memcpy(writing->path, request->path, strlen(request->path) + 1);
    writing->parent_fd =
        resolve(writing->agent, request->path, request->create_parents, writing->name);
    if (writing->parent_fd < 0)
        return writing->parent_fd;
    bool there = fstatat(writing->parent_fd, writing->name, &old, AT_SYMLINK_NOFOLLOW) == 0;
    if (there && !S_ISREG(old.st_mode))
        return S_ISDIR(old.st_mode) ? -EISDIR : -ENOTSUP;
    writing->created = !there;
    writing->mode = request->mode ? request->mode & 0777 : there ? old.st_mode & 07777 : 0644;
    char suffix[13];
    id_random_text(suffix, sizeof suffix - 1);
    snprintf(writing->temporary, sizeof writing->temporary, ".hearth-%s", suffix);
    writing->fd = openat(writing->parent_fd, writing->temporary,
                         O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    return writing->fd < 0 ? -errno : 0;
}

static int write_all(struct writing *writing, const uint8_t *data, size_t length)
{
    int error = path_write_all(writing->fd, data, length);
    if (!error)
        writing->written += length;
    return error;
}

static void write_discard(struct writing *writing)
{
    if (writing->fd >= 0) {
        close(writing->fd);
        unlinkat(writing->parent_fd, writing->temporary, 0);
    }
    if (writing->parent_fd >= 0)
        close(writing->parent_fd);
    writing->fd = writing->parent_fd = -1;
    writing->ended = true;
}

static int write_commit(struct writing *writing)
{
    if (fchmod(writing->fd, writing->mode) < 0 ||
        renameat(writing->parent_fd, writing->temporary, writing->parent_fd, writing->name) < 0)
        return -errno;
    close(writing->fd);
    writing->fd = -1;
    return 0;
}

static void write_reply(struct writing *writing, struct link_call *call)
{
    Hearth__Agent__V1__FileWriteReply reply = HEARTH__AGENT__V1__FILE_WRITE_REPLY__INIT;
    Hearth__Agent__V1__FileEntry entry = HEARTH__AGENT__V1__FILE_ENTRY__INIT;
    char target[4096];
    if (file_entry_fill(writing->parent_fd, writing->name, &entry, target) == 0)
        reply.entry = &entry;
    set_path(&entry, writing->path);
    reply.bytes_written = writing->written;
    reply.created = writing->created;
    write_discard(writing);
    link_call_reply(call, &reply.base);
}

/* The first message opens the file, any may commit it. */
static int write_take(struct writing *writing, const uint8_t *data, size_t length, bool *ret_commit)
{
    Hearth__Agent__V1__FileWriteRequest *request =
        hearth__agent__v1__file_write_request__unpack(NULL, length, data);
    int error = request ? 0 : -EINVAL;
    if (!error && writing->parent_fd < 0)
        error = write_open(writing, request);
    if (!error)
        error = write_all(writing, request->data.data, request->data.len);
    *ret_commit = !error && request->commit;
    if (request)
        hearth__agent__v1__file_write_request__free_unpacked(request, NULL);
    return error;
}

static void write_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    struct writing *writing = arg;
    const uint8_t *piece;
    size_t piece_length;
    bool commit = false;
    if (writing->ended)
        return;
    int error =
        writing->fd >= 0 && data_field_alone(data, length, WRITE_DATA, &piece, &piece_length)
            ? write_all(writing, piece, piece_length)
            : write_take(writing, data, length, &commit);
    if (commit)
        error = write_commit(writing);
    if (error) {
        write_discard(writing);
        call_refuse_errno(call, -error, "write");
    } else if (commit) {
        write_reply(writing, call);
    }
}

static void write_half_closed(struct link_call *call, void *arg)
{
    struct writing *writing = arg;
    if (writing->ended)
        return;
    write_discard(writing);
    call_refuse(call, LINK_STATUS_INVALID_ARGUMENT, "the write was not committed");
}

static void write_end(struct link_call *call, void *arg, enum link_status status,
                      const char *message)
{
    (void)call;
    (void)status;
    (void)message;
    write_discard(arg);
    free(arg);
}

static const struct link_call_events write_events = {
    .on_message = write_message, .on_half_closed = write_half_closed, .on_end = write_end};

void file_accept_write(struct agent *agent, struct link_call *call)
{
    struct writing *writing = calloc(1, sizeof *writing);
    if (!writing) {
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED, "the agent is out of memory");
        return;
    }
    *writing = (struct writing){.agent = agent, .parent_fd = -1, .fd = -1};
    link_call_accept(call, &write_events, writing);
}

/* Removing a tree of any size is a job. */

struct removing {
    struct job job;
    struct awaited awaited;
    int parent_fd;
    char name[256];
    int error;
};

static void delete_reply(struct link_call *call, int error)
{
    Hearth__Agent__V1__Empty empty = HEARTH__AGENT__V1__EMPTY__INIT;
    if (error)
        call_refuse_errno(call, -error, "delete");
    else
        link_call_reply(call, &empty.base);
}

static void remove_run(struct job *job)
{
    struct removing *removing = container_of(job, struct removing, job);
    removing->error = path_remove_tree(removing->parent_fd, removing->name);
}

static void remove_done(struct job *job)
{
    struct removing *removing = container_of(job, struct removing, job);
    struct link_call *call = awaited_take(&removing->awaited);
    if (call)
        delete_reply(call, removing->error);
    close(removing->parent_fd);
    free(removing);
}

void file_handle_delete(struct agent *agent, struct link_call *call,
                        const Hearth__Agent__V1__FileDeleteRequest *request)
{
    const char *name;
    struct stat status;
    auto_close int parent = inside_open_parent(agent, request->path, &name);
    int error = parent < 0                                                ? parent
                : strlen(name) > 255                                      ? -ENAMETOOLONG
                : fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) < 0 ? -errno
                                                                          : 0;
    bool tree = !error && S_ISDIR(status.st_mode) && request->recursive;
    struct removing *removing = tree ? calloc(1, sizeof *removing) : NULL;
    if (!removing) {
        if (tree)
            error = -ENOMEM;
        else if (!error && unlinkat(parent, name, S_ISDIR(status.st_mode) ? AT_REMOVEDIR : 0) < 0)
            error = -errno;
        delete_reply(call, error);
        return;
    }
    *removing = (struct removing){.job = {.run = remove_run, .done = remove_done},
                                  .parent_fd = steal_fd(&parent)};
    memcpy(removing->name, name, strlen(name) + 1);
    awaited_add(agent, &removing->awaited, call);
    jobs_submit(agent->jobs, &removing->job);
}
