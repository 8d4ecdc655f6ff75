/* Contents of many files in one stream: small files share messages, large ones come in pieces, and
 * with the end of each comes what it was when it had been read. */
#include "base/clock.h"
#include "base/path_at.h"
#include "guestagent/agent/agent.h"
#include "guestagent/agent/scan_entry.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SLICE_US 3000
#define MESSAGE_BYTES ((size_t)256 << 10)
#define MESSAGE_ITEMS 512
#define PATH_BYTES 4096
#define PATHS_MAX 1000000u

struct wanted {
    struct wanted *next;
    char path[];
};

struct reading {
    struct agent *agent;
    struct link_call *call;
    struct event *timer;
    struct wanted *first, **last;
    unsigned count;
    bool complete, ended; /* no more paths come; the call has been ended */
    int fd;               /* the file being read, -1 */
    struct stat before;
    int64_t settled_before; /* when it was opened */
    size_t item_count, used;
    Hearth__Agent__V1__TreeReadItem items[MESSAGE_ITEMS], *list[MESSAGE_ITEMS];
    Hearth__Agent__V1__ScanEntry entries[MESSAGE_ITEMS];
    uint8_t data[MESSAGE_BYTES];
};

static void reading_free(struct reading *reading)
{
    while (reading->first) {
        struct wanted *wanted = reading->first;
        reading->first = wanted->next;
        free(wanted);
    }
    cleanup_close(&reading->fd);
    event_free(reading->timer);
    free(reading);
}

static int flush(struct reading *reading)
{
    Hearth__Agent__V1__TreeReadReply reply = HEARTH__AGENT__V1__TREE_READ_REPLY__INIT;
    if (!reading->item_count)
        return 0;
    reply.items = reading->list;
    reply.n_items = reading->item_count;
    reading->item_count = reading->used = 0;
    return link_call_send(reading->call, &reply.base) ? -ENOMEM : 0;
}

static Hearth__Agent__V1__TreeReadItem *add_item(struct reading *reading)
{
    Hearth__Agent__V1__TreeReadItem *item = &reading->items[reading->item_count];
    hearth__agent__v1__tree_read_item__init(item);
    reading->list[reading->item_count++] = item;
    return item;
}

static void end_file(struct reading *reading, Hearth__Agent__V1__TreeReadItem *item,
                     Hearth__Agent__V1__TreeReadStatus status)
{
    struct wanted *wanted = reading->first;
    reading->first = wanted->next;
    if (!reading->first)
        reading->last = &reading->first;
    free(wanted);
    cleanup_close(&reading->fd);
    reading->fd = -1;
    item->end = true;
    item->status = status;
}

static bool same_time(struct timespec left, struct timespec right)
{
    return left.tv_sec == right.tv_sec && left.tv_nsec == right.tv_nsec;
}

/* The end of the file that is being read: was it one and the same all the time? */
static void conclude(struct reading *reading, Hearth__Agent__V1__TreeReadItem *item, bool whole)
{
    struct stat after;
    bool same = whole && fstat(reading->fd, &after) == 0 &&
                after.st_size == reading->before.st_size &&
                same_time(after.st_mtim, reading->before.st_mtim) &&
                same_time(after.st_ctim, reading->before.st_ctim);
    item->entry = &reading->entries[item - reading->items];
    scan_entry_fill(&reading->before, reading->settled_before, item->entry);
    end_file(reading, item,
             same ? HEARTH__AGENT__V1__TREE_READ_STATUS__TREE_READ_STATUS_OK
                  : HEARTH__AGENT__V1__TREE_READ_STATUS__TREE_READ_STATUS_CHANGED);
}

static void open_file(struct reading *reading)
{
    reading->settled_before = scan_settled_before();
    reading->fd = path_open_beneath(reading->agent->root_fd, reading->first->path,
                                    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
    if (reading->fd < 0)
        end_file(reading, add_item(reading),
                 HEARTH__AGENT__V1__TREE_READ_STATUS__TREE_READ_STATUS_MISSING);
    else if (fstat(reading->fd, &reading->before) < 0 || !S_ISREG(reading->before.st_mode))
        end_file(reading, add_item(reading),
                 HEARTH__AGENT__V1__TREE_READ_STATUS__TREE_READ_STATUS_NO_FILE);
}

/* One piece of the file that is open. Its end is seen by a read that gives less than was asked for,
 * or by the size that it had. */
static void read_piece(struct reading *reading)
{
    size_t room = sizeof reading->data - reading->used;
    ssize_t got;
    do
        got = read(reading->fd, reading->data + reading->used, room);
    while (got < 0 && errno == EINTR);
    Hearth__Agent__V1__TreeReadItem *item = add_item(reading);
    if (got > 0) {
        item->data =
            (ProtobufCBinaryData){.data = reading->data + reading->used, .len = (size_t)got};
        reading->used += (size_t)got;
    }
    if (got < 0)
        conclude(reading, item, false);
    else if ((size_t)got < room)
        conclude(reading, item, true);
}

static int work(struct reading *reading)
{
    int64_t until = clock_monotonic_us() + SLICE_US;
    while (reading->first) {
        if (reading->item_count == MESSAGE_ITEMS || reading->used == sizeof reading->data) {
            int error = flush(reading);
            if (error)
                return error;
            if (link_call_queued(reading->call) > LINK_SEND_LOW_WATER ||
                clock_monotonic_us() >= until)
                return 1;
        }
        if (reading->fd < 0)
            open_file(reading);
        else
            read_piece(reading);
    }
    return flush(reading);
}

static void step(struct reading *reading)
{
    static const struct timeval now = {0};
    if (reading->ended || link_call_queued(reading->call) > LINK_SEND_LOW_WATER)
        return;
    int error = work(reading);
    if (error > 0) {
        event_add(reading->timer, &now);
    } else if (error < 0) {
        reading->ended = true;
        call_refuse_errno(reading->call, -error, "read");
    } else if (reading->complete) {
        reading->ended = true;
        link_call_end(reading->call, LINK_STATUS_OK, NULL);
    }
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    step(arg);
}

static void go_on(struct reading *reading)
{
    if (!event_pending(reading->timer, EV_TIMEOUT, NULL))
        step(reading);
}

static int add_path(struct reading *reading, const ProtobufCBinaryData *path)
{
    if (!path->len || path->len >= PATH_BYTES || memchr(path->data, 0, path->len) ||
        ++reading->count > PATHS_MAX)
        return -EINVAL;
    struct wanted *wanted = malloc(sizeof *wanted + path->len + 1);
    if (!wanted)
        return -ENOMEM;
    wanted->next = NULL;
    memcpy(wanted->path, path->data, path->len);
    wanted->path[path->len] = '\0';
    *reading->last = wanted;
    reading->last = &wanted->next;
    return 0;
}

static void read_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    struct reading *reading = arg;
    if (reading->ended)
        return;
    Hearth__Agent__V1__TreeReadRequest *request =
        hearth__agent__v1__tree_read_request__unpack(NULL, length, data);
    int error = request ? 0 : -EINVAL;
    for (size_t i = 0; request && !error && i < request->n_paths; i++)
        error = add_path(reading, &request->paths[i]);
    if (request)
        hearth__agent__v1__tree_read_request__free_unpacked(request, NULL);
    if (error) {
        reading->ended = true;
        call_refuse_errno(call, -error, "read");
        return;
    }
    go_on(reading);
}

static void read_half_closed(struct link_call *call, void *arg)
{
    (void)call;
    struct reading *reading = arg;
    reading->complete = true;
    go_on(reading);
}

static void read_writable(struct link_call *call, void *arg)
{
    (void)call;
    go_on(arg);
}

static void read_end(struct link_call *call, void *arg, enum link_status status,
                     const char *message)
{
    (void)call;
    (void)status;
    (void)message;
    reading_free(arg);
}

static const struct link_call_events read_events = {.on_message = read_message,
                                                    .on_writable = read_writable,
                                                    .on_half_closed = read_half_closed,
                                                    .on_end = read_end};

void tree_accept_read(struct agent *agent, struct link_call *call)
{
    struct reading *reading = malloc(sizeof *reading);
    struct event *timer = reading ? evtimer_new(agent->base, on_timer, reading) : NULL;
    if (!timer) {
        free(reading);
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED, "the agent is out of memory");
        return;
    }
    reading->agent = agent;
    reading->call = call;
    reading->timer = timer;
    reading->first = NULL;
    reading->last = &reading->first;
    reading->count = 0;
    reading->complete = reading->ended = false;
    reading->fd = -1;
    reading->item_count = reading->used = 0;
    link_call_accept(call, &read_events, reading);
}
