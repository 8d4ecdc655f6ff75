/* FilesChange: many files put and removed at once. Contents come into a stage beside the workspace;
 * at the commit every path is compared with what the caller saw, a journal is written, and then
 * names change places: renames alone, so that a full disk is met before. What fails halfway is put
 * back; what a killed agent left halfway is finished from the journal at its next start. */
#include "base/path_at.h"
#include "guestagent/agent/agent.h"
#include "guestagent/agent/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define CHANGES_MAX 20000
#define EMPTY_DEPTH_MAX 64
#define JOURNAL "journal"
#define JOURNAL_MAX ((size_t)128 << 20)

struct change {
    bool remove, symlink, was_there;
    bool done;        /* to be put back where a later one fails */
    bool empty_aside; /* the directory of its name, which the removals left empty */
    uint32_t mode;
    char *path;
    Hearth__Agent__V1__FileEntry before;
};

struct changing {
    struct agent *agent;
    struct stage stage;
    struct change *changes;
    size_t count, capacity;
    char **made; /* directories, for the way back */
    size_t made_count, made_capacity;
    int file_fd; /* content of the last change, -1 */
    uint64_t bytes_written;
    size_t failed_at; /* the change to blame */
    bool ended;
};

static void staged_name(char out[32], const char *kind, size_t index)
{
    snprintf(out, 32, "%s-%zu", kind, index);
}

static int copy_text(char **ret_text, const ProtobufCBinaryData *bytes)
{
    if (!bytes->len || bytes->len >= 4096 || memchr(bytes->data, 0, bytes->len))
        return -EINVAL;
    *ret_text = strndup((const char *)bytes->data, bytes->len);
    return *ret_text ? 0 : -ENOMEM;
}

/* Taking what comes. */

static struct change *add_change(struct changing *changing)
{
    if (changing->count == changing->capacity) {
        size_t more = changing->capacity ? changing->capacity * 2 : 64;
        struct change *grown =
            changing->count < CHANGES_MAX
                ? reallocarray(changing->changes, more, sizeof *changing->changes)
                : NULL;
        if (!grown)
            return NULL;
        changing->changes = grown;
        changing->capacity = more;
    }
    changing->changes[changing->count] = (struct change){0};
    return &changing->changes[changing->count++];
}

static int stage_symlink(struct changing *changing, const Hearth__Agent__V1__FileEntry *entry)
{
    char name[32];
    auto_free char *target = NULL;
    int error = copy_text(&target, &entry->link_target);
    staged_name(name, "new", changing->count - 1);
    return error ? error : symlinkat(target, changing->stage.fd, name) < 0 ? -errno : 0;
}

static int stage_file(struct changing *changing)
{
    char name[32];
    staged_name(name, "new", changing->count - 1);
    changing->file_fd = openat(changing->stage.fd, name,
                               O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return changing->file_fd < 0 ? -errno : 0;
}

static void finish_file(struct changing *changing)
{
    cleanup_close(&changing->file_fd);
    changing->file_fd = -1;
}

static int begin_change(struct changing *changing, const Hearth__Agent__V1__FileChange *request)
{
    const Hearth__Agent__V1__FileEntry *entry = request->entry;
    finish_file(changing);
    struct change *change = add_change(changing);
    changing->failed_at = changing->count - (change ? 1 : 0);
    if (!change)
        return -ENOMEM;
    int error = entry ? copy_text(&change->path, &entry->path) : -EINVAL;
    if (error)
        return error;
    change->remove = request->kind == HEARTH__AGENT__V1__FILE_CHANGE_KIND__FILE_CHANGE_KIND_REMOVE;
    change->symlink = entry->type == HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_SYMLINK;
    change->mode = entry->mode & 0777;
    change->was_there = request->before != NULL;
    if (request->before) { /* without what it points to, which lives as long as the message */
        change->before = *request->before;
        change->before.path = change->before.link_target = (ProtobufCBinaryData){0};
    }
    if (change->remove)
        return change->was_there ? 0 : -EINVAL;
    return change->symlink ? stage_symlink(changing, entry) : stage_file(changing);
}

static int take_data(struct changing *changing, const ProtobufCBinaryData *data)
{
    if (data->len && changing->file_fd < 0)
        return -EINVAL;
    int error = path_write_all(changing->file_fd, data->data, data->len);
    if (error)
        return error;
    changing->bytes_written += data->len;
    return 0;
}

/* Looking at what is there. ESTALE: it is not what the caller saw. */

static int verify(struct changing *changing, size_t index)
{
    struct change *change = &changing->changes[index];
    Hearth__Agent__V1__FileEntry now = HEARTH__AGENT__V1__FILE_ENTRY__INIT;
    char target[4096];
    const char *name;
    auto_close int parent = path_open_plain_parent(changing->agent->root_fd, change->path, &name);
    int error = parent < 0 ? parent : file_entry_fill(parent, name, &now, target);
    /* A directory, or a file or symlink above it, may be what the removals take away: if they do
     * not, changing names finds it. */
    bool makes_room = error == -ENOTDIR || error == -ELOOP ||
                      (!error && now.type == HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_DIRECTORY);
    if (!change->was_there)
        return error == -ENOENT || makes_room ? 0 : error ? error : -ESTALE;
    if (error)
        return error == -ENOENT ? -ESTALE : error;
    const Hearth__Agent__V1__FileEntry *before = &change->before;
    bool same = now.type == before->type && now.size == before->size && now.mode == before->mode &&
                now.mtime_ns == before->mtime_ns;
    return same ? 0 : -ESTALE;
}

/* Mode and owner of what it replaces, where nothing else was said. */
static int dress(struct changing *changing, size_t index)
{
    const struct change *change = &changing->changes[index];
    char staged[32];
    struct stat old;
    const char *name;
    if (change->remove || change->symlink)
        return 0;
    staged_name(staged, "new", index);
    auto_close int parent =
        change->was_there ? path_open_plain_parent(changing->agent->root_fd, change->path, &name)
                          : -1;
    bool replaces = parent >= 0 && fstatat(parent, name, &old, AT_SYMLINK_NOFOLLOW) == 0 &&
                    S_ISREG(old.st_mode);
    uint32_t mode = change->mode ? change->mode : replaces ? old.st_mode & 0777 : 0644;
    if (replaces && (old.st_uid != geteuid() || old.st_gid != getegid()) &&
        fchownat(changing->stage.fd, staged, old.st_uid, old.st_gid, AT_SYMLINK_NOFOLLOW) < 0 &&
        errno != EPERM)
        return -errno;
    return fchmodat(changing->stage.fd, staged, mode, 0) < 0 ? -errno : 0;
}

/* The journal: for each change a byte ('-' or '+'), its path and a NUL, in the order of the staged
 * names. It is whole once it has its name. */
static int write_journal(const struct changing *changing)
{
    auto_buf struct buf text = {.limit = JOURNAL_MAX};
    int error = 0;
    for (size_t i = 0; !error && i < changing->count; i++) {
        const struct change *change = &changing->changes[i];
        error = buf_char(&text, change->remove ? '-' : '+');
        if (!error)
            error = buf_append(&text, change->path, strlen(change->path) + 1);
    }
    if (error)
        return -ENOMEM;
    return path_write_durable(changing->stage.fd, JOURNAL, text.data ? text.data : "", text.length,
                              0600);
}

/* Changing names. */

static int remember_made(struct changing *changing, const char *path)
{
    if (changing->made_count == changing->made_capacity) {
        size_t more = changing->made_capacity ? changing->made_capacity * 2 : 16;
        char **grown = reallocarray(changing->made, more, sizeof *grown);
        if (!grown)
            return -ENOMEM;
        changing->made = grown;
        changing->made_capacity = more;
    }
    char *copy = strdup(path);
    if (!copy)
        return -ENOMEM;
    changing->made[changing->made_count++] = copy;
    return 0;
}

/* Makes the directories above path that are missing. */
static int make_parents(struct changing *changing, const char *path)
{
    char above[4096];
    for (const char *slash = path; (slash = strchr(slash, '/')); slash++) {
        const char *name;
        snprintf(above, sizeof above, "%.*s", (int)(slash - path), path);
        auto_close int parent = path_open_plain_parent(changing->agent->root_fd, above, &name);
        if (parent < 0)
            return parent;
        if (mkdirat(parent, name, 0755) < 0) {
            if (errno == EEXIST)
                continue; /* what it is, the next one's open says */
            return -errno;
        }
        int error = remember_made(changing, above);
        if (error) {
            unlinkat(parent, name, AT_REMOVEDIR);
            return error;
        }
    }
    return 0;
}

static int take_away(struct changing *changing, size_t index)
{
    struct change *change = &changing->changes[index];
    char old[32];
    const char *name;
    staged_name(old, "old", index);
    auto_close int parent = path_open_plain_parent(changing->agent->root_fd, change->path, &name);
    if (parent < 0)
        return parent;
    if (renameat(parent, name, changing->stage.fd, old) < 0)
        return -errno;
    change->done = true;
    return 0;
}

/* Are there only directories in it, however deep? */
static bool holds_nothing(int parent, const char *name, unsigned depth)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    auto_closedir DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (!directory) {
        cleanup_close(&fd);
        return false;
    }
    bool empty = depth < EMPTY_DEPTH_MAX;
    for (struct dirent *entry; empty && (entry = readdir(directory));)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                holds_nothing(dirfd(directory), entry->d_name, depth + 1);
    return empty;
}

/* Makes room for a file where a directory is that has nothing left: it goes into the stage as it
 * is, so that it can come back. */
static int set_empty_aside(const struct stage *stage, int parent, const char *name, size_t index)
{
    char aside[32];
    staged_name(aside, "empty", index);
    if (renameat(parent, name, stage->fd, aside) < 0)
        return -errno;
    if (holds_nothing(stage->fd, aside, 0))
        return 0;
    return renameat(stage->fd, aside, parent, name) < 0 ? -errno : -EEXIST;
}

static bool is_directory(int parent, const char *name)
{
    struct stat status;
    return fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode);
}

static int put_in_place(struct changing *changing, size_t index)
{
    struct change *change = &changing->changes[index];
    char new[32], old[32];
    const char *name;
    staged_name(new, "new", index);
    staged_name(old, "old", index);
    int error = make_parents(changing, change->path);
    auto_close int parent =
        error ? error : path_open_plain_parent(changing->agent->root_fd, change->path, &name);
    if (parent < 0)
        return parent;
    if (!change->was_there && is_directory(parent, name)) {
        error = set_empty_aside(&changing->stage, parent, name, index);
        if (error)
            return error;
        change->empty_aside = true;
    }
    if (change->was_there && linkat(parent, name, changing->stage.fd, old, 0) < 0)
        return -errno;
    if (renameat2(changing->stage.fd, new, parent, name, change->was_there ? 0 : RENAME_NOREPLACE) <
        0)
        return -errno;
    change->done = true;
    return 0;
}

static void put_back(struct changing *changing, size_t index)
{
    struct change *change = &changing->changes[index];
    char old[32], empty[32];
    const char *name;
    if (!change->done && !change->empty_aside)
        return;
    staged_name(old, "old", index);
    staged_name(empty, "empty", index);
    auto_close int parent = path_open_plain_parent(changing->agent->root_fd, change->path, &name);
    if (parent < 0)
        return;
    if (change->was_there)
        renameat(changing->stage.fd, old, parent, name);
    else if (change->done)
        unlinkat(parent, name, 0);
    if (change->empty_aside)
        renameat(changing->stage.fd, empty, parent, name);
}

static void roll_back(struct changing *changing)
{
    for (size_t i = changing->count; i--;)
        if (!changing->changes[i].remove)
            put_back(changing, i);
    for (size_t i = changing->made_count; i--;) {
        const char *name;
        auto_close int parent =
            path_open_plain_parent(changing->agent->root_fd, changing->made[i], &name);
        if (parent >= 0)
            unlinkat(parent, name, AT_REMOVEDIR);
    }
    for (size_t i = changing->count; i--;)
        if (changing->changes[i].remove)
            put_back(changing, i);
}

/* Directories that have lost their last entry to a removal go too. */
static void remove_emptied(int root_fd, const char *path)
{
    char above[4096];
    snprintf(above, sizeof above, "%s", path);
    for (char *slash; (slash = strrchr(above, '/'));) {
        const char *name;
        *slash = '\0';
        auto_close int parent = path_open_plain_parent(root_fd, above, &name);
        if (parent < 0 || unlinkat(parent, name, AT_REMOVEDIR) < 0)
            return;
    }
}

/* Removals first: what is put may need the name of what is removed. */
static int change_names(struct changing *changing)
{
    for (int removals = 1; removals >= 0; removals--)
        for (size_t i = 0; i < changing->count; i++) {
            if (changing->changes[i].remove != (bool)removals)
                continue;
            int error = removals ? take_away(changing, i) : put_in_place(changing, i);
            changing->failed_at = i;
            if (error)
                return error;
        }
    return 0;
}

static int commit(struct changing *changing)
{
    int error = 0;
    finish_file(changing);
    for (size_t i = 0; !error && i < changing->count; i++) {
        changing->failed_at = i;
        error = verify(changing, i);
        if (!error)
            error = dress(changing, i);
    }
    if (!error) {
        changing->failed_at = changing->count;
        error = write_journal(changing);
    }
    if (error)
        return error;
    error = change_names(changing);
    if (error)
        roll_back(changing);
    unlinkat(changing->stage.fd, JOURNAL, 0);
    for (size_t i = 0; !error && i < changing->count; i++)
        if (changing->changes[i].remove)
            remove_emptied(changing->agent->root_fd, changing->changes[i].path);
    return error;
}

/* After a kill. */

static void finish_change(int root_fd, const struct stage *stage, size_t index, bool removal,
                          const char *path)
{
    char new[32], old[32];
    const char *name;
    staged_name(new, "new", index);
    staged_name(old, "old", index);
    if (removal) {
        auto_close int parent = path_open_plain_parent(root_fd, path, &name);
        if (parent >= 0 && faccessat(stage->fd, old, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
            renameat(parent, name, stage->fd, old);
        return;
    }
    if (faccessat(stage->fd, new, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
        return; /* it is where it belongs */
    const char *slash = strrchr(path, '/');
    if (slash) {
        char above[4096];
        snprintf(above, sizeof above, "%.*s", (int)(slash - path), path);
        path_make_directories(root_fd, above, 0755);
    }
    auto_close int parent = path_open_plain_parent(root_fd, path, &name);
    if (parent >= 0 && is_directory(parent, name))
        set_empty_aside(stage, parent, name, index);
    if (parent >= 0)
        renameat(stage->fd, new, parent, name);
}

void files_finish_staged(int root_fd, const struct stage *stage)
{
    struct stat status;
    if (fstatat(stage->fd, JOURNAL, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
        status.st_size > (off_t)JOURNAL_MAX)
        return;
    size_t size = (size_t)status.st_size + 1;
    auto_free char *journal = malloc(size);
    ssize_t length = journal ? path_read_small(stage->fd, JOURNAL, journal, size) : -1;
    if (length <= 0)
        return;
    for (int removals = 1; removals >= 0; removals--) {
        size_t index = 0;
        for (char *at = journal; at < journal + length; at += strlen(at) + 1, index++)
            if ((*at == '-') == (bool)removals)
                finish_change(root_fd, stage, index, removals, at + 1);
    }
    for (char *at = journal; at < journal + length; at += strlen(at) + 1)
        if (*at == '-')
            remove_emptied(root_fd, at + 1);
}

/* The call. */

static void end(struct changing *changing)
{
    changing->ended = true;
    finish_file(changing);
    stage_close(&changing->stage);
}

static void refuse(struct changing *changing, struct link_call *call, int error)
{
    char what[256] = "change";
    if (changing->failed_at < changing->count && changing->changes[changing->failed_at].path)
        snprintf(what, sizeof what, "%.200s", changing->changes[changing->failed_at].path);
    if (error == -ESTALE)
        call_refuse(call, LINK_STATUS_ABORTED, "%s: it was changed meanwhile", what);
    else
        call_refuse_errno(call, -error, what);
    end(changing);
}

static void on_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    struct changing *changing = arg;
    if (changing->ended)
        return;
    Hearth__Agent__V1__FilesChangeItem *item =
        hearth__agent__v1__files_change_item__unpack(NULL, length, data);
    int error = item ? 0 : -EINVAL;
    if (!error && changing->stage.fd < 0)
        error = stage_open(&changing->stage, changing->agent->root_fd);
    if (!error && item->change)
        error = begin_change(changing, item->change);
    if (!error)
        error = take_data(changing, &item->data);
    bool last = !error && item->commit;
    if (last)
        error = commit(changing);
    if (item)
        hearth__agent__v1__files_change_item__free_unpacked(item, NULL);
    if (error) {
        refuse(changing, call, error);
    } else if (last) {
        Hearth__Agent__V1__FilesChangeReply reply = HEARTH__AGENT__V1__FILES_CHANGE_REPLY__INIT;
        reply.bytes_written = changing->bytes_written;
        end(changing);
        link_call_reply(call, &reply.base);
    }
}

static void on_half_closed(struct link_call *call, void *arg)
{
    struct changing *changing = arg;
    if (changing->ended)
        return;
    end(changing);
    call_refuse(call, LINK_STATUS_INVALID_ARGUMENT, "the change was not committed");
}

static void on_end(struct link_call *call, void *arg, enum link_status status, const char *message)
{
    struct changing *changing = arg;
    (void)call;
    (void)status;
    (void)message;
    end(changing);
    for (size_t i = 0; i < changing->count; i++)
        free(changing->changes[i].path);
    for (size_t i = 0; i < changing->made_count; i++)
        free(changing->made[i]);
    free(changing->changes);
    free(changing->made);
    free(changing);
}

static const struct link_call_events events = {
    .on_message = on_message, .on_half_closed = on_half_closed, .on_end = on_end};

void files_accept_change(struct agent *agent, struct link_call *call)
{
    struct changing *changing = calloc(1, sizeof *changing);
    if (!changing) {
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED, "the agent is out of memory");
        return;
    }
    *changing = (struct changing){.agent = agent, .stage = STAGE_NONE, .file_fd = -1};
    link_call_accept(call, &events, changing);
}
