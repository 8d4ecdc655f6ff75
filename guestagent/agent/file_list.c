/* Pages of a directory, or of a tree in depth-first order of names. A page begins after the path
 * that the last one ended with, compared name by name, so that it never repeats or skips an entry
 * that was there throughout. */
#include "guestagent/agent/agent.h"
#include "guestagent/agent/inside.h"
#include "guestagent/agent/jobs.h"

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

/* A directory has as many names as the guest likes: reading them is a job. */

struct listing {
    struct job job;
    struct awaited awaited;
    struct page page;
    int fd; /* the directory */
    int error;
    char path[PATH_MAX_BYTES]; /* of the directory; grows and shrinks with the walk */
    char after[PATH_MAX_BYTES];
};

static void list_run(struct job *job)
{
    struct listing *listing = container_of(job, struct listing, job);
    size_t length = strlen(listing->path);
    const char *after = *listing->after ? listing->after : NULL;
    /* The cursor is a whole path; the walk compares below the directory that is listed. */
    if (after && length)
        after = strncmp(after, listing->path, length) == 0 && after[length] == '/'
                    ? after + length + 1
                    : NULL;
    listing->error = walk(&listing->page, steal_fd(&listing->fd), listing->path, length, after, 0);
}

static void listing_free(struct listing *listing)
{
    for (unsigned i = 0; i < listing->page.count; i++)
        free(listing->page.entries[i].path.data);
    free(listing->page.entries);
    free(listing->page.list);
    if (listing->fd >= 0)
        close(listing->fd);
    free(listing);
}

static void list_done(struct job *job)
{
    struct listing *listing = container_of(job, struct listing, job);
    struct link_call *call = awaited_take(&listing->awaited);
    if (call && listing->error) {
        call_refuse_errno(call, -listing->error, "list");
    } else if (call) {
        Hearth__Agent__V1__FileListReply reply = HEARTH__AGENT__V1__FILE_LIST_REPLY__INIT;
        reply.entries = listing->page.list;
        reply.n_entries = listing->page.count;
        reply.more = listing->page.more;
        link_call_reply(call, &reply.base);
    }
    listing_free(listing);
}

static int list_prepare(struct agent *agent, struct listing *listing,
                        const Hearth__Agent__V1__FileListRequest *request)
{
    struct page *page = &listing->page;
    page->limit = request->limit ? request->limit : LIMIT_DEFAULT;
    page->recursive = request->recursive;
    if (page->limit > LIMIT_MAX)
        page->limit = LIMIT_MAX;
    if (strlen(request->path) >= sizeof listing->path ||
        request->after.len >= sizeof listing->after)
        return -ENAMETOOLONG;
    memcpy(listing->path, request->path, strlen(request->path) + 1);
    if (request->after.len)
        memcpy(listing->after, request->after.data, request->after.len);
    page->entries = calloc(page->limit, sizeof *page->entries);
    page->list = calloc(page->limit, sizeof(void *));
    if (!page->entries || !page->list)
        return -ENOMEM;
    listing->fd = inside_open(agent, request->path, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
    return listing->fd < 0 ? listing->fd : 0;
}

void file_handle_list(struct agent *agent, struct link_call *call,
                      const Hearth__Agent__V1__FileListRequest *request)
{
    struct listing *listing = calloc(1, sizeof *listing);
    if (!listing) {
        call_refuse_errno(call, ENOMEM, "list");
        return;
    }
    listing->fd = -1;
    listing->job = (struct job){.run = list_run, .done = list_done};
    int error = list_prepare(agent, listing, request);
    if (error) {
        listing_free(listing);
        call_refuse_errno(call, -error, "list");
        return;
    }
    awaited_add(agent, &listing->awaited, call);
    jobs_submit(agent->jobs, &listing->job);
}
