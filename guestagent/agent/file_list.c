/* Pages of a directory, or of a tree in depth-first order of names. A page begins after the path
 * that the last one ended with, compared name by name, so that it never repeats or skips an entry
 * that was there throughout. */
#include "base/path_at.h"
#include "guestagent/agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LIMIT_DEFAULT 100
#define LIMIT_MAX 10000
#define DEPTH_MAX 256
#define PATH_MAX_BYTES 4096

struct page {
    unsigned limit, count;
    bool more, recursive;
    Hearth__Agent__V1__FileEntry *entries, **list;
    char target[PATH_MAX_BYTES];
};

static int compare_names(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

static void free_names(char **names, size_t count)
{
    for (size_t i = 0; names && i < count; i++)
        free(names[i]);
    free(names);
}

/* The names in a directory, sorted by their bytes. Takes fd. */
static int read_names(int fd, char ***ret_names, size_t *ret_count)
{
    size_t count = 0, capacity = 0;
    char **names = NULL;
    auto_closedir DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return -errno;
    }
    for (struct dirent *entry; (errno = 0, entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (count == capacity) {
            capacity = capacity ? capacity * 2 : 64;
            char **grown = realloc(names, capacity * sizeof *names);
            if (!grown) {
                free_names(names, count);
                return -ENOMEM;
            }
            names = grown;
        }
        if (!(names[count] = strdup(entry->d_name))) {
            free_names(names, count);
            return -ENOMEM;
        }
        count++;
    }
    if (count)
        qsort(names, count, sizeof *names, compare_names);
    *ret_names = names;
    *ret_count = count;
    return 0;
}

static int add(struct page *page, int fd, const char *name, const char *path)
{
    Hearth__Agent__V1__FileEntry *entry = &page->entries[page->count];
    hearth__agent__v1__file_entry__init(entry);
    if (file_entry_fill(fd, name, entry, page->target))
        return 0; /* gone since it was read */
    uint8_t *copy = malloc(strlen(path) + entry->link_target.len + 1);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, path, strlen(path));
    entry->path.data = copy;
    entry->path.len = strlen(path);
    if (entry->link_target.len) {
        memcpy(copy + entry->path.len, entry->link_target.data, entry->link_target.len);
        entry->link_target.data = copy + entry->path.len;
    }
    page->list[page->count++] = entry;
    return 0;
}

static int walk(struct page *page, int fd, char path[PATH_MAX_BYTES], size_t length,
                const char *after, int depth);

/* One name: itself, unless it lies at or before `after`, then what is below it. */
static int visit(struct page *page, int fd, const char *name, char path[PATH_MAX_BYTES],
                 size_t length, const char *after, int depth)
{
    size_t first = after ? strcspn(after, "/") : 0;
    int order = 1;
    if (after) {
        size_t common = strlen(name) < first ? strlen(name) : first;
        order = memcmp(name, after, common);
        if (!order)
            order = (strlen(name) > first) - (strlen(name) < first);
    }
    size_t need = length + (length ? 1 : 0) + strlen(name);
    if (order < 0 || need >= PATH_MAX_BYTES)
        return 0;
    snprintf(path + length, PATH_MAX_BYTES - length, "%s%s", length ? "/" : "", name);
    int error = 0;
    if (order > 0) {
        if (page->count == page->limit) {
            page->more = true;
            return 0;
        }
        error = add(page, fd, name, path);
    }
    struct stat status;
    if (!error && page->recursive && depth < DEPTH_MAX &&
        fstatat(fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode)) {
        int below = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        const char *rest = order == 0 && after[first] == '/' ? after + first + 1 : NULL;
        if (below >= 0)
            error = walk(page, below, path, need, rest, depth + 1);
    }
    path[length] = '\0';
    return error;
}

/* Takes fd. */
static int walk(struct page *page, int fd, char path[PATH_MAX_BYTES], size_t length,
                const char *after, int depth)
{
    char **names = NULL;
    size_t count = 0;
    auto_close int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    int error = read_names(fd, &names, &count);
    if (error || own < 0)
        return error ? error : -EMFILE;
    for (size_t i = 0; i < count && !error && !page->more; i++)
        error = visit(page, own, names[i], path, length, after, depth);
    free_names(names, count);
    return error;
}

static int list(struct agent *agent, struct page *page, const char *path, const char *after)
{
    char prefix[PATH_MAX_BYTES];
    struct stat status;
    size_t length = strlen(path);
    if (length >= sizeof prefix)
        return -ENAMETOOLONG;
    memcpy(prefix, path, length + 1);
    int fd =
        path_open_beneath(agent->root_fd, *path ? path : ".", O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0)
        return fd;
    if (fstat(fd, &status) < 0 || !S_ISDIR(status.st_mode)) {
        close(fd);
        return -ENOTDIR;
    }
    /* The cursor is a whole path; the walk compares below the directory that is listed. */
    if (after && length)
        after =
            strncmp(after, path, length) == 0 && after[length] == '/' ? after + length + 1 : NULL;
    return walk(page, fd, prefix, length, after, 0);
}

void file_handle_list(struct agent *agent, struct link_call *call,
                      const Hearth__Agent__V1__FileListRequest *request)
{
    struct page page = {.limit = request->limit ? request->limit : LIMIT_DEFAULT,
                        .recursive = request->recursive};
    char after[PATH_MAX_BYTES] = "";
    if (page.limit > LIMIT_MAX)
        page.limit = LIMIT_MAX;
    if (request->after.len >= sizeof after) {
        call_refuse(call, LINK_STATUS_INVALID_ARGUMENT, "the cursor is too long");
        return;
    }
    memcpy(after, request->after.data ? request->after.data : (const uint8_t *)"",
           request->after.len);
    page.entries = calloc(page.limit, sizeof *page.entries);
    page.list = calloc(page.limit, sizeof *page.list);
    int error = page.entries && page.list ? list(agent, &page, request->path, *after ? after : NULL)
                                          : -ENOMEM;
    if (error) {
        call_refuse_errno(call, -error, "list");
    } else {
        Hearth__Agent__V1__FileListReply reply = HEARTH__AGENT__V1__FILE_LIST_REPLY__INIT;
        reply.entries = page.list;
        reply.n_entries = page.count;
        reply.more = page.more;
        link_call_reply(call, &reply.base);
    }
    for (unsigned i = 0; i < page.count; i++)
        free(page.entries[i].path.data);
    free(page.entries);
    free(page.list);
}
