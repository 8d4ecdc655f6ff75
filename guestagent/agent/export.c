/* TreeExport: what is in the workspace, with its contents, as fast as the link takes it and no
 * faster. A file's size is what its header said: what is missing in the end is zeros, what is more
 * is left out, and a note says so. */
#include "base/clock.h"
#include "base/path_at.h"
#include "guestagent/agent/agent.h"
#include "guestagent/agent/walk.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define NS_PER_S INT64_C(1000000000)
#define CHUNK ((size_t)256 << 10)
#define SLICE_US (5 * US_PER_MS) /* then other calls have their turn */
#define PATHS_MAX 100000

/* A file that has several names, by the first that was given. */
struct linked {
    struct map_entry entry; // exporting::linked
    struct linked *next;
    char key[40]; /* "device:inode" */
    char path[];
};

struct exporting {
    struct agent *agent;
    struct link_call *call;
    struct event *turn;
    char **paths;
    size_t count, at;
    bool recursive, follow_parents, ended;
    uint64_t max_file_bytes;
    struct walk *walk; /* NULL between two paths */
    int fd;            /* the file whose content is being given, -1 between files */
    uint64_t left;
    struct stat opened; /* as it was when its header was made */
    struct map linked;
    struct linked *linked_list;
};

static uint8_t chunk[CHUNK]; /* of one step, on the one thread there is */

static void export_ended(struct exporting *exporting, enum link_status status, const char *message)
{
    exporting->ended = true;
    link_call_end(exporting->call, status, message);
}

static void export_failed(struct exporting *exporting, int error, const char *path)
{
    char what[160];
    snprintf(what, sizeof what, "export of %.128s", *path ? path : ".");
    exporting->ended = true;
    call_refuse_errno(exporting->call, -error, what);
}

static void send_item(struct exporting *exporting, const Hearth__Agent__V1__TreeItem *item)
{
    if (link_call_send(exporting->call, &item->base))
        export_ended(exporting, LINK_STATUS_RESOURCE_EXHAUSTED, "the agent is out of memory");
}

static ProtobufCBinaryData bytes_of(const char *text)
{
    return (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)text, .len = strlen(text)};
}

static void send_note(struct exporting *exporting, const char *path,
                      Hearth__Agent__V1__TreeNote note)
{
    Hearth__Agent__V1__TreeItem item = HEARTH__AGENT__V1__TREE_ITEM__INIT;
    Hearth__Agent__V1__FileEntry entry = HEARTH__AGENT__V1__FILE_ENTRY__INIT;
    entry.path = bytes_of(path);
    item.entry = &entry;
    item.note = note;
    send_item(exporting, &item);
}

/* The first name under which this file has been given, or NULL and this one is remembered. */
static const char *first_name(struct exporting *exporting, const struct stat *status,
                              const char *path)
{
    char key[40];
    snprintf(key, sizeof key, "%llx:%llx", (unsigned long long)status->st_dev,
             (unsigned long long)status->st_ino);
    struct map_entry *found = map_find(&exporting->linked, key);
    if (found)
        return container_of(found, struct linked, entry)->path;
    struct linked *linked = malloc(sizeof *linked + strlen(path) + 1);
    if (!linked)
        return NULL; /* it is given once more as a file of its own */
    memcpy(linked->key, key, sizeof key);
    memcpy(linked->path, path, strlen(path) + 1);
    if (map_insert(&exporting->linked, &linked->entry, linked->key)) {
        free(linked);
        return NULL;
    }
    linked->next = exporting->linked_list;
    exporting->linked_list = linked;
    return NULL;
}

static ssize_t read_some(int fd, size_t size)
{
    ssize_t got;
    do
        got = read(fd, chunk, size);
    while (got < 0 && errno == EINTR);
    return got;
}

/* The next piece of the file: from it, or zeros once it has given all that it has. */
static void fill_data(struct exporting *exporting, Hearth__Agent__V1__TreeItem *item)
{
    struct stat now;
    size_t want = exporting->left < CHUNK ? (size_t)exporting->left : CHUNK;
    ssize_t got = read_some(exporting->fd, want);
    bool cut = got <= 0 && want;
    if (cut) {
        memset(chunk, 0, want);
        got = (ssize_t)want;
    }
    exporting->left -= (uint64_t)got;
    item->data.data = chunk;
    item->data.len = (size_t)got;
    if (exporting->left)
        return;
    const struct stat *before = &exporting->opened;
    if (cut || fstat(exporting->fd, &now) < 0 || now.st_size != before->st_size ||
        now.st_mtim.tv_sec != before->st_mtim.tv_sec ||
        now.st_mtim.tv_nsec != before->st_mtim.tv_nsec)
        item->note = HEARTH__AGENT__V1__TREE_NOTE__TREE_NOTE_CHANGED;
    close(steal_fd(&exporting->fd));
}

/* Opens a file and makes its header tell what was opened. False: it is gone, or is none any more.
 */
static bool open_file(struct exporting *exporting, int parent, const char *name, const char *path,
                      Hearth__Agent__V1__TreeItem *item, int *ret_error)
{
    auto_close int fd =
        openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        *ret_error = errno == ENOENT || errno == ELOOP || errno == ENXIO ? 0 : -errno;
        return false;
    }
    if (fstat(fd, &exporting->opened) < 0 || !S_ISREG(exporting->opened.st_mode))
        return false;
    const struct stat *status = &exporting->opened;
    item->entry->size = (uint64_t)status->st_size;
    item->entry->mode = status->st_mode & 07777;
    item->entry->mtime_ns = (int64_t)status->st_mtim.tv_sec * NS_PER_S + status->st_mtim.tv_nsec;
    const char *first =
        exporting->recursive && status->st_nlink > 1 ? first_name(exporting, status, path) : NULL;
    if (first) {
        item->hard_link = bytes_of(first);
        return true;
    }
    if (exporting->max_file_bytes && item->entry->size > exporting->max_file_bytes) {
        item->note = HEARTH__AGENT__V1__TREE_NOTE__TREE_NOTE_TOO_LARGE;
        return true;
    }
    exporting->left = item->entry->size;
    exporting->fd = exporting->left ? steal_fd(&fd) : -1;
    return true;
}

/* One entry's header, with its content where that is short. */
static void give(struct exporting *exporting, int parent, const char *name, const char *path)
{
    Hearth__Agent__V1__TreeItem item = HEARTH__AGENT__V1__TREE_ITEM__INIT;
    Hearth__Agent__V1__FileEntry entry = HEARTH__AGENT__V1__FILE_ENTRY__INIT;
    char target[4096];
    int error = file_entry_fill(parent, name, &entry, target);
    if (error == -ENOENT)
        return;
    entry.path = bytes_of(path);
    item.entry = &entry;
    if (!error && entry.type == HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_FILE &&
        !open_file(exporting, parent, name, path, &item, &error) && !error)
        return;
    if (error) {
        export_failed(exporting, error, path);
        return;
    }
    if (exporting->fd >= 0 && exporting->left <= CHUNK)
        fill_data(exporting, &item);
    send_item(exporting, &item);
}

static bool is_directory(int parent, const char *name)
{
    struct stat status;
    return fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode);
}

static int open_parent(struct exporting *exporting, const char *path, const char **ret_name)
{
    int root = exporting->agent->root_fd;
    if (!*path)
        return path_open_plain(root, "", O_PATH);
    return exporting->follow_parents ? path_open_parent(root, path, ret_name)
                                     : path_open_plain_parent(root, path, ret_name);
}

/* One of the paths asked for. */
static void begin_path(struct exporting *exporting)
{
    const char *path = exporting->paths[exporting->at++], *name = ".";
    auto_close int parent = open_parent(exporting, path, &name);
    if (parent == -ENOENT) {
        send_note(exporting, path, HEARTH__AGENT__V1__TREE_NOTE__TREE_NOTE_MISSING);
        return;
    }
    if (parent == -ELOOP || parent == -ENOTDIR) {
        send_note(exporting, path, HEARTH__AGENT__V1__TREE_NOTE__TREE_NOTE_BEHIND_LINK);
        return;
    }
    if (parent < 0) {
        export_failed(exporting, parent, path);
        return;
    }
    if (faccessat(parent, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT) {
        send_note(exporting, path, HEARTH__AGENT__V1__TREE_NOTE__TREE_NOTE_MISSING);
        return;
    }
    give(exporting, parent, name, path);
    if (exporting->ended || !exporting->recursive || !is_directory(parent, name))
        return;
    int error = walk_open(&exporting->walk, exporting->agent->root_fd, path);
    if (error)
        export_failed(exporting, error, path);
}

static void next_entry(struct exporting *exporting)
{
    struct walk_entry entry;
    int got = walk_next(exporting->walk, &entry);
    if (got > 0) {
        give(exporting, entry.parent_fd, entry.name, entry.path);
        return;
    }
    walk_close(steal_pointer(exporting->walk));
    if (got < 0)
        export_failed(exporting, got, exporting->paths[exporting->at - 1]);
}

static void step(struct exporting *exporting)
{
    if (exporting->fd >= 0) {
        Hearth__Agent__V1__TreeItem item = HEARTH__AGENT__V1__TREE_ITEM__INIT;
        fill_data(exporting, &item);
        send_item(exporting, &item);
    } else if (exporting->walk) {
        next_entry(exporting);
    } else if (exporting->at < exporting->count) {
        begin_path(exporting);
    } else {
        export_ended(exporting, LINK_STATUS_OK, NULL);
    }
}

static void export_more(struct exporting *exporting)
{
    int64_t until = clock_monotonic_us() + SLICE_US;
    while (!exporting->ended && link_call_queued(exporting->call) < LINK_SEND_LOW_WATER) {
        step(exporting);
        if (clock_monotonic_us() >= until) {
            event_add(exporting->turn, &(struct timeval){0});
            return;
        }
    }
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    export_more(arg);
}

static void on_writable(struct link_call *call, void *arg)
{
    (void)call;
    export_more(arg);
}

static void on_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    (void)call;
    (void)arg;
    (void)data;
    (void)length;
}

static void export_free(struct exporting *exporting)
{
    for (struct linked *linked = exporting->linked_list, *next; linked; linked = next) {
        next = linked->next;
        free(linked);
    }
    map_free(&exporting->linked);
    for (size_t i = 0; exporting->paths && i < exporting->count; i++)
        free(exporting->paths[i]);
    free(exporting->paths);
    walk_close(exporting->walk);
    cleanup_close(&exporting->fd);
    if (exporting->turn)
        event_free(exporting->turn);
    free(exporting);
}

static void on_end(struct link_call *call, void *arg, enum link_status status, const char *message)
{
    (void)call;
    (void)status;
    (void)message;
    export_free(arg);
}

static const struct link_call_events events = {
    .on_message = on_message, .on_writable = on_writable, .on_end = on_end};

static bool take_paths(struct exporting *exporting,
                       const Hearth__Agent__V1__TreeExportRequest *request)
{
    exporting->paths = calloc(request->n_paths + 1, sizeof *exporting->paths);
    for (size_t i = 0; exporting->paths && i < request->n_paths; i++) {
        const ProtobufCBinaryData *path = &request->paths[i];
        if (path->len >= WALK_PATH_MAX || (path->len && memchr(path->data, 0, path->len)))
            return false;
        /* An empty path has no bytes at all. */
        exporting->paths[i] = path->len ? strndup((const char *)path->data, path->len) : strdup("");
        if (!exporting->paths[i])
            return false;
        exporting->count++;
    }
    return exporting->paths != NULL;
}

bool tree_stream_export(struct agent *agent, struct link_call *call,
                        const Hearth__Agent__V1__TreeExportRequest *request)
{
    struct exporting *exporting =
        request->n_paths <= PATHS_MAX ? calloc(1, sizeof *exporting) : NULL;
    if (!exporting) {
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED, "too many paths");
        return false;
    }
    *exporting = (struct exporting){.agent = agent,
                                    .call = call,
                                    .fd = -1,
                                    .recursive = request->recursive,
                                    .follow_parents = request->follow_parents,
                                    .max_file_bytes = request->max_file_bytes};
    exporting->turn = event_new(agent->base, -1, 0, on_turn, exporting);
    if (!exporting->turn || !take_paths(exporting, request)) {
        call_refuse(call, LINK_STATUS_INVALID_ARGUMENT, "a path is none");
        export_free(exporting);
        return false;
    }
    link_call_accept(call, &events, exporting);
    export_more(exporting);
    return true;
}
