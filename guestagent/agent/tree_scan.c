/* Scans of the whole workspace. What the last one saw is remembered, so that the next one tells the
 * difference alone: an unchanged tree is one short message. The walk opens one directory at a time
 * and gives way every few milliseconds. */
#include "base/clock.h"
#include "base/path_at.h"
#include "guestagent/agent/agent.h"
#include "guestagent/agent/scan_entry.h"

#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define REMEMBERED_MAX 200000u /* some 40 MiB; a larger tree is told whole each time */
#define SLICE_US 3000
#define CLOCK_EVERY 64 /* entries between two looks at the clock */
#define BATCH_ENTRIES 256
#define BATCH_BYTES ((size_t)128 << 10)
#define PATH_BYTES 4096

/* What was seen. The map's key is the path, which follows. */
struct seen {
    struct map_entry map_entry;
    Hearth__Agent__V1__ScanEntry entry;
    uint32_t round; /* of the scan that saw it last */
    char path[];    /* then the link target */
};

struct directory {
    struct directory *next;
    char path[];
};

struct tree_scan {
    struct agent *agent;
    struct link_call *call;
    struct event *timer;
    struct directory *todo;
    DIR *open; /* the directory being read, path is its own */
    size_t path_length;
    char path[PATH_BYTES];
    bool from_base, told_base, differs;
    char scan_id[40]; /* the base's, until something differs */
    int64_t settled_before;
    uint64_t count;
    Hearth__Agent__V1__ScanEntry *batch[BATCH_ENTRIES];
    struct seen *owned[BATCH_ENTRIES]; /* those of the batch that are not remembered */
    size_t batch_count, owned_count, batch_bytes;
};

struct scan_memory {
    struct map entries; /* seen::map_entry */
    char scan_id[40];   /* "" while a scan is under way, or when nothing is remembered */
    uint32_t round;
    struct tree_scan *running;
};

static void forget_all(struct scan_memory *memory)
{
    for (size_t i = 0; i < memory->entries.bucket_count; i++)
        for (struct map_entry *entry = memory->entries.buckets[i], *next; entry; entry = next) {
            next = entry->next;
            free(container_of(entry, struct seen, map_entry));
        }
    map_free(&memory->entries);
    memory->entries = (struct map){0};
    memory->scan_id[0] = '\0';
}

static bool push(struct tree_scan *scan, const char *path)
{
    size_t length = strlen(path) + 1;
    struct directory *directory = malloc(sizeof *directory + length);
    if (!directory)
        return false;
    memcpy(directory->path, path, length);
    directory->next = scan->todo;
    scan->todo = directory;
    return true;
}

static void scan_free(struct tree_scan *scan)
{
    if (scan->agent->scan_memory->running == scan)
        scan->agent->scan_memory->running = NULL;
    while (scan->todo) {
        struct directory *directory = scan->todo;
        scan->todo = directory->next;
        free(directory);
    }
    for (size_t i = 0; i < scan->owned_count; i++)
        free(scan->owned[i]);
    if (scan->open)
        closedir(scan->open);
    if (scan->timer)
        event_free(scan->timer);
    free(scan);
}

/* Messages. */

static int flush(struct tree_scan *scan, Hearth__Agent__V1__TreeScanReply *reply)
{
    reply->entries = scan->batch;
    reply->n_entries = scan->batch_count;
    reply->from_base = scan->from_base && !scan->told_base;
    scan->told_base = true;
    int error = link_call_send(scan->call, &reply->base);
    for (size_t i = 0; i < scan->owned_count; i++)
        free(scan->owned[i]);
    scan->batch_count = scan->owned_count = scan->batch_bytes = 0;
    return error ? -ENOMEM : 0;
}

static int tell(struct tree_scan *scan, struct seen *seen, bool owned)
{
    scan->differs = true;
    scan->batch[scan->batch_count++] = &seen->entry;
    if (owned)
        scan->owned[scan->owned_count++] = seen;
    scan->batch_bytes += seen->entry.path.len + seen->entry.link_target.len + 64;
    if (scan->batch_count < BATCH_ENTRIES && scan->batch_bytes < BATCH_BYTES)
        return 0;
    Hearth__Agent__V1__TreeScanReply reply = HEARTH__AGENT__V1__TREE_SCAN_REPLY__INIT;
    return flush(scan, &reply);
}

struct removal {
    ProtobufCBinaryData paths[BATCH_ENTRIES];
    struct seen *gone[BATCH_ENTRIES];
    size_t count, bytes;
};

static int flush_removed(struct tree_scan *scan, struct removal *removal)
{
    Hearth__Agent__V1__TreeScanReply reply = HEARTH__AGENT__V1__TREE_SCAN_REPLY__INIT;
    reply.removed = removal->paths;
    reply.n_removed = removal->count;
    scan->differs = true;
    int error = flush(scan, &reply);
    while (removal->count)
        free(removal->gone[--removal->count]);
    removal->bytes = 0;
    return error;
}

/* What the base had and is not there any more. */
static int tell_removed(struct tree_scan *scan)
{
    struct scan_memory *memory = scan->agent->scan_memory;
    struct removal removal = {.count = 0};
    int error = 0;
    for (size_t i = 0; !error && i < memory->entries.bucket_count; i++)
        for (struct map_entry *entry = memory->entries.buckets[i], *next; !error && entry;
             entry = next) {
            struct seen *seen = container_of(entry, struct seen, map_entry);
            next = entry->next;
            if (seen->round == memory->round)
                continue;
            map_remove(&memory->entries, entry);
            removal.gone[removal.count] = seen;
            removal.paths[removal.count++] = seen->entry.path;
            removal.bytes += seen->entry.path.len;
            if (removal.count == BATCH_ENTRIES || removal.bytes >= BATCH_BYTES)
                error = flush_removed(scan, &removal);
        }
    return removal.count ? flush_removed(scan, &removal) : error;
}

static int finish(struct tree_scan *scan)
{
    struct scan_memory *memory = scan->agent->scan_memory;
    int error = scan->from_base ? tell_removed(scan) : 0;
    if (error)
        return error;
    Hearth__Agent__V1__TreeScanReply reply = HEARTH__AGENT__V1__TREE_SCAN_REPLY__INIT;
    if (!scan->from_base || scan->differs)
        id_random_text(scan->scan_id, 26);
    reply.scan_id = scan->scan_id;
    reply.entry_count = scan->count;
    error = flush(scan, &reply);
    if (scan->count > REMEMBERED_MAX)
        forget_all(memory);
    else
        memcpy(memory->scan_id, scan->scan_id, sizeof memory->scan_id);
    memory->running = NULL;
    if (!error)
        link_call_end(scan->call, LINK_STATUS_OK, NULL);
    return error;
}

/* The walk. */

static struct seen *make(const char *path, size_t length, const char *target, size_t target_length)
{
    struct seen *seen = malloc(sizeof *seen + length + 1 + target_length);
    if (!seen)
        return NULL;
    memcpy(seen->path, path, length + 1);
    memcpy(seen->path + length + 1, target, target_length);
    return seen;
}

static int remember(struct tree_scan *scan, const Hearth__Agent__V1__ScanEntry *entry,
                    const char *target, size_t target_length)
{
    struct scan_memory *memory = scan->agent->scan_memory;
    struct map_entry *known = map_find(&memory->entries, scan->path);
    size_t length = strlen(scan->path);
    if (known) {
        struct seen *seen = container_of(known, struct seen, map_entry);
        if (seen->round == memory->round) { /* a directory that changes may give a name twice */
            scan->count--;
            return 0;
        }
        seen->round = memory->round;
        /* A symlink's target changes with its inode or its change time only. */
        if (scan_entry_same(&seen->entry, entry) && !seen->entry.recent)
            return 0;
        map_remove(&memory->entries, known);
        free(seen);
    }
    struct seen *seen = make(scan->path, length, target, target_length);
    if (!seen)
        return -ENOMEM;
    seen->entry = *entry;
    seen->entry.path = (ProtobufCBinaryData){.data = (uint8_t *)seen->path, .len = length};
    seen->entry.link_target =
        (ProtobufCBinaryData){.data = (uint8_t *)seen->path + length + 1, .len = target_length};
    seen->round = memory->round;
    bool owned = scan->count > REMEMBERED_MAX;
    if (!owned && map_insert(&memory->entries, &seen->map_entry, seen->path)) {
        free(seen);
        return -ENOMEM;
    }
    return tell(scan, seen, owned);
}

static int visit(struct tree_scan *scan, const char *name)
{
    char target[PATH_BYTES];
    ssize_t target_length = 0;
    struct stat status;
    Hearth__Agent__V1__ScanEntry entry;
    size_t length = scan->path_length, name_length = strlen(name);
    int fd = dirfd(scan->open);
    if (length + 1 + name_length >= sizeof scan->path)
        return -ENAMETOOLONG;
    if (fstatat(fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (S_ISLNK(status.st_mode) &&
        (target_length = readlinkat(fd, name, target, sizeof target)) < 0)
        return errno == ENOENT || errno == EINVAL ? 0 : -errno;
    if (length)
        scan->path[length++] = '/';
    memcpy(scan->path + length, name, name_length + 1);
    scan_entry_fill(&status, scan->settled_before, &entry);
    scan->count++;
    int error = remember(scan, &entry, target, (size_t)target_length);
    if (!error && S_ISDIR(status.st_mode) && !push(scan, scan->path))
        error = -ENOMEM;
    scan->path[scan->path_length] = '\0';
    return error;
}

static int open_next(struct tree_scan *scan)
{
    struct directory *directory = scan->todo;
    scan->todo = directory->next;
    scan->path_length = strlen(directory->path);
    memcpy(scan->path, directory->path, scan->path_length + 1);
    free(directory);
    int fd =
        path_open_beneath(scan->agent->root_fd, scan->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (fd < 0) /* it went away, or is something else by now */
        return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP || fd == -EXDEV ? 0 : fd;
    scan->open = fdopendir(fd);
    if (!scan->open)
        close(fd);
    return scan->open ? 0 : -ENOMEM;
}

/* Goes on for a slice. 1: more to do; 0: the end. */
static int walk(struct tree_scan *scan)
{
    int64_t until = clock_monotonic_us() + SLICE_US;
    unsigned visited = 0;
    while (scan->open || scan->todo) {
        if (!scan->open) {
            int error = open_next(scan);
            if (error)
                return error;
            continue;
        }
        errno = 0;
        struct dirent *file = readdir(scan->open);
        if (!file) {
            if (errno && errno != ENOENT)
                return -errno;
            closedir(steal_pointer(scan->open));
            continue;
        }
        if (strcmp(file->d_name, ".") == 0 || strcmp(file->d_name, "..") == 0)
            continue;
        int error = visit(scan, file->d_name);
        if (error)
            return error;
        if (++visited % CLOCK_EVERY == 0 &&
            (clock_monotonic_us() >= until || link_call_queued(scan->call) > LINK_SEND_LOW_WATER))
            return 1;
    }
    return 0;
}

static void step(struct tree_scan *scan)
{
    static const struct timeval now = {0};
    struct scan_memory *memory = scan->agent->scan_memory;
    if (memory->running != scan || link_call_queued(scan->call) > LINK_SEND_LOW_WATER)
        return; /* ended, or on_writable goes on */
    int error = walk(scan);
    if (error > 0) {
        event_add(scan->timer, &now);
        return;
    }
    if (!error)
        error = finish(scan);
    if (error) {
        memory->running = NULL;
        call_refuse_errno(scan->call, -error, "scan");
    }
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    step(arg);
}

static void scan_writable(struct link_call *call, void *arg)
{
    (void)call;
    struct tree_scan *scan = arg;
    if (!event_pending(scan->timer, EV_TIMEOUT, NULL))
        step(scan);
}

static void scan_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    (void)call;
    (void)arg;
    (void)data;
    (void)length;
}

static void scan_end(struct link_call *call, void *arg, enum link_status status,
                     const char *message)
{
    (void)call;
    (void)status;
    (void)message;
    scan_free(arg);
}

static const struct link_call_events scan_events = {
    .on_message = scan_message, .on_writable = scan_writable, .on_end = scan_end};

void tree_scan_free(struct agent *agent)
{
    if (!agent->scan_memory)
        return;
    forget_all(agent->scan_memory);
    free(steal_pointer(agent->scan_memory));
}

bool tree_stream_scan(struct agent *agent, struct link_call *call,
                      const Hearth__Agent__V1__TreeScanRequest *request)
{
    struct scan_memory *memory = agent->scan_memory;
    if (!memory)
        memory = agent->scan_memory = calloc(1, sizeof *memory);
    struct tree_scan *scan = memory ? calloc(1, sizeof *scan) : NULL;
    if (scan)
        scan->timer = evtimer_new(agent->base, on_timer, scan);
    if (!scan || !scan->timer || !push(scan, "")) {
        if (scan && scan->timer)
            event_free(scan->timer);
        free(scan);
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED, "the agent is out of memory");
        return false;
    }
    /* A daemon that was killed may have left one that nobody reads. */
    struct tree_scan *before = steal_pointer(memory->running);
    if (before)
        call_refuse(before->call, LINK_STATUS_FAILED_PRECONDITION, "another scan has begun");
    scan->agent = agent;
    scan->call = call;
    scan->from_base = *memory->scan_id && strcmp(memory->scan_id, request->base_id) == 0;
    if (!scan->from_base)
        forget_all(memory);
    memcpy(scan->scan_id, memory->scan_id, sizeof scan->scan_id);
    memory->scan_id[0] = '\0';
    memory->round++;
    memory->running = scan;
    scan->settled_before = scan_settled_before();
    link_call_accept(call, &scan_events, scan);
    step(scan);
    return true;
}
