/* FileSearch: file by file, line by line, in slices between which other calls have their turn. */
#include "base/clock.h"
#include "base/glob.h"
#include "base/path_at.h"
#include "guestagent/agent/agent.h"
#include "guestagent/agent/matcher.h"
#include "guestagent/agent/secrets.h"
#include "guestagent/agent/walk.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <string.h>

#define SLICE_US (5 * US_PER_MS)
#define READ_SIZE ((size_t)256 << 10)
#define BINARY_LOOK ((size_t)64 << 10) /* a NUL in here makes a file binary */
#define LIMIT_DEFAULT 100
#define LIMIT_MAX 2000
#define FILE_DEFAULT ((uint64_t)16 << 20)
#define FILE_MAX ((uint64_t)256 << 20)
#define LINE_DEFAULT 512
#define LINE_MAX_BYTES 2048
#define TIMEOUT_DEFAULT_MS 30000

struct found {
    Hearth__Agent__V1__FileMatch match;
    char *path;
    char *text;
};

struct searching {
    struct agent *agent;
    struct link_call *call;
    struct event *turn;
    Hearth__Agent__V1__FileSearchRequest *request; /* a copy */
    struct matcher *matcher;
    struct walk *walk; /* NULL: one file */
    size_t below;      /* of a path, where the part that globs are held against begins */
    int64_t deadline_us;
    /* The file being searched. */
    int fd;
    bool reading;
    char *path;
    struct buf content;
    size_t at;
    uint64_t line;
    /* What has been found. */
    struct found *found;
    unsigned limit;
    Hearth__Agent__V1__FileSearchReply reply;
    bool ended;
};

static void finish(struct searching *searching)
{
    Hearth__Agent__V1__FileSearchReply *reply = &searching->reply;
    Hearth__Agent__V1__FileMatch **list = calloc(reply->n_matches + 1, sizeof *list);
    searching->ended = true;
    if (!list) {
        call_refuse_errno(searching->call, ENOMEM, "search");
        return;
    }
    for (size_t i = 0; i < reply->n_matches; i++)
        list[i] = &searching->found[i].match;
    reply->matches = list;
    link_call_reply(searching->call, &reply->base);
    free(list);
}

static void fail(struct searching *searching, int error)
{
    searching->ended = true;
    call_refuse_errno(searching->call, -error, "search");
}

static bool fits_one(char **globs, size_t count, const char *path)
{
    for (size_t i = 0; i < count; i++)
        if (glob_match_path(globs[i], path))
            return true;
    return false;
}

/* Lines. */

/* A part of the line that holds the match, where the line is longer than what is told of one. */
static void window(const struct searching *searching, size_t length, size_t column,
                   size_t *ret_from, size_t *ret_size)
{
    size_t most = searching->request->max_line_bytes;
    size_t from = column > most / 4 ? column - most / 4 : 0;
    if (length <= most)
        from = 0;
    else if (from > length - most)
        from = length - most;
    *ret_from = from;
    *ret_size = length - from < most ? length - from : most;
}

/* As it may be shown. */
static char *shown_text(const struct searching *searching, const char *text, size_t size,
                        size_t *ret_size)
{
    const struct buf *content = &searching->content;
    return secrets_clean_part(searching->agent, content->data, content->length,
                              (size_t)(text - content->data), size, ret_size);
}

static int add_match(struct searching *searching, const char *line, size_t length, size_t offset)
{
    size_t from, size, shown;
    struct found *found = &searching->found[searching->reply.n_matches];
    window(searching, length, offset, &from, &size);
    hearth__agent__v1__file_match__init(&found->match);
    found->path = strdup(searching->path);
    found->text = shown_text(searching, line + from, size, &shown);
    if (!found->path || !found->text) {
        free(found->path);
        free(found->text);
        return -ENOMEM;
    }
    found->match.path.data = (uint8_t *)found->path;
    found->match.path.len = strlen(found->path);
    found->match.line = searching->line;
    found->match.column = offset + 1;
    found->match.text.data = (uint8_t *)found->text;
    found->match.text.len = shown;
    found->match.text_column = from + 1;
    searching->reply.n_matches++;
    return 0;
}

static uint64_t newlines(const char *data, size_t length)
{
    uint64_t count = 0;
    for (const char *end = data + length; (data = memchr(data, '\n', (size_t)(end - data))); data++)
        count++;
    return count;
}

static void end_file(struct searching *searching)
{
    cleanup_close(&searching->fd);
    searching->fd = -1;
    free(steal_pointer(searching->path));
    buf_clear(&searching->content);
    searching->at = 0;
    searching->line = 0;
}

static void search_line(struct searching *searching)
{
    const char *data = searching->content.data + searching->at;
    size_t left = searching->content.length - searching->at, offset;
    size_t skipped = matcher_skip(searching->matcher, data, left);
    searching->line += newlines(data, skipped);
    searching->at += skipped;
    data += skipped;
    left -= skipped;
    if (!left) {
        end_file(searching);
        return;
    }
    const char *newline = memchr(data, '\n', left);
    size_t length = newline ? (size_t)(newline - data) : left;
    searching->at += length + (newline ? 1 : 0);
    searching->line++;
    size_t shown = length && data[length - 1] == '\r' ? length - 1 : length;
    enum match match = matcher_find(searching->matcher, data, shown, &offset);
    if (match == MATCH_TOO_COSTLY)
        searching->reply.lines_too_costly++;
    if (match != MATCH_FOUND)
        return;
    if (searching->reply.n_matches == searching->limit) {
        searching->reply.more = true;
        finish(searching);
        return;
    }
    int error = add_match(searching, data, shown, offset);
    if (error)
        fail(searching, error);
}

/* Files. */

static void read_some(struct searching *searching)
{
    struct buf *content = &searching->content;
    if (content->length > searching->request->max_file_bytes) { /* it grew */
        searching->reply.files_large++;
        end_file(searching);
        return;
    }
    if (buf_reserve(content, READ_SIZE)) {
        fail(searching, -ENOMEM);
        return;
    }
    ssize_t got = read(searching->fd, content->data + content->length, READ_SIZE);
    if (got < 0 && errno == EINTR)
        return;
    if (got > 0) {
        size_t look = content->length < BINARY_LOOK ? (size_t)got : 0;
        bool binary = look && memchr(content->data + content->length, 0, look);
        content->length += (size_t)got;
        if (binary) {
            searching->reply.files_binary++;
            end_file(searching);
        }
        return;
    }
    if (got < 0) {
        searching->reply.files_unreadable++;
        end_file(searching);
        return;
    }
    searching->reply.files_searched++;
    searching->reading = false;
    if (!content->length)
        end_file(searching);
}

static void begin_file(struct searching *searching, int parent, const char *name, const char *path,
                       int flags)
{
    struct stat status;
    auto_close int fd = openat(parent, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags);
    if (fd < 0 || fstat(fd, &status) < 0) {
        searching->reply.files_unreadable++;
        return;
    }
    if (!S_ISREG(status.st_mode))
        return;
    if ((uint64_t)status.st_size > searching->request->max_file_bytes) {
        searching->reply.files_large++;
        return;
    }
    searching->path = strdup(path);
    if (!searching->path) {
        fail(searching, -ENOMEM);
        return;
    }
    searching->fd = steal_fd(&fd);
    searching->reading = true;
}

static void next_file(struct searching *searching)
{
    const Hearth__Agent__V1__FileSearchRequest *request = searching->request;
    struct walk_entry entry;
    int got = searching->walk ? walk_next(searching->walk, &entry) : 0;
    if (got <= 0) {
        if (got < 0)
            fail(searching, got);
        else
            finish(searching);
        return;
    }
    const char *path = entry.path + searching->below;
    if (fits_one(request->exclude, request->n_exclude, path)) {
        walk_skip(searching->walk);
        return;
    }
    if (S_ISREG(entry.status.st_mode) &&
        (!request->n_include || fits_one(request->include, request->n_include, path)))
        begin_file(searching, entry.parent_fd, entry.name, entry.path, O_NOFOLLOW);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    struct searching *searching = arg;
    int64_t until = clock_monotonic_us() + SLICE_US, now;
    (void)fd;
    (void)what;
    do {
        if (!searching->path)
            next_file(searching);
        else if (searching->reading)
            read_some(searching);
        else
            search_line(searching);
        now = clock_monotonic_us();
        if (!searching->ended && now >= searching->deadline_us) {
            searching->reply.timed_out = true;
            finish(searching);
        }
    } while (!searching->ended && now < until);
    if (!searching->ended)
        event_add(searching->turn, &(struct timeval){0});
}

/* The call. */

static void on_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    (void)call;
    (void)arg;
    (void)data;
    (void)length;
}

static void search_free(struct searching *searching)
{
    for (size_t i = 0; i < searching->reply.n_matches; i++) {
        free(searching->found[i].path);
        free(searching->found[i].text);
    }
    free(searching->found);
    free(searching->path);
    buf_free(&searching->content);
    cleanup_close(&searching->fd);
    walk_close(searching->walk);
    matcher_free(searching->matcher);
    if (searching->turn)
        event_free(searching->turn);
    if (searching->request)
        hearth__agent__v1__file_search_request__free_unpacked(searching->request, NULL);
    free(searching);
}

static void on_end(struct link_call *call, void *arg, enum link_status status, const char *message)
{
    (void)call;
    (void)status;
    (void)message;
    search_free(arg);
}

static const struct link_call_events events = {.on_message = on_message, .on_end = on_end};

/* The request lives for the handler's call alone. */
static Hearth__Agent__V1__FileSearchRequest *
copy_of(const Hearth__Agent__V1__FileSearchRequest *request)
{
    size_t length = hearth__agent__v1__file_search_request__get_packed_size(request);
    auto_free uint8_t *packed = malloc(length + 1);
    if (!packed)
        return NULL;
    hearth__agent__v1__file_search_request__pack(request, packed);
    return hearth__agent__v1__file_search_request__unpack(NULL, length, packed);
}

static uint64_t or_default(uint64_t value, uint64_t otherwise, uint64_t most)
{
    value = value ? value : otherwise;
    return value < most ? value : most;
}

static int open_target(struct searching *searching)
{
    const char *path = searching->request->path;
    struct stat status;
    auto_close int fd = path_open_beneath(searching->agent->root_fd, path, O_PATH, 0);
    if (fd < 0 || fstat(fd, &status) < 0)
        return fd < 0 ? fd : -errno;
    if (S_ISDIR(status.st_mode)) {
        searching->below = *path ? strlen(path) + 1 : 0;
        return walk_open(&searching->walk, searching->agent->root_fd, path);
    }
    if (!S_ISREG(status.st_mode))
        return -ENOTDIR;
    auto_close int file =
        path_open_beneath(searching->agent->root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    if (file < 0)
        return file;
    if ((uint64_t)status.st_size > searching->request->max_file_bytes) {
        searching->reply.files_large++;
        return 0;
    }
    searching->path = strdup(path);
    searching->fd = steal_fd(&file);
    searching->reading = true;
    return searching->path ? 0 : -ENOMEM;
}

bool file_stream_search(struct agent *agent, struct link_call *call,
                        const Hearth__Agent__V1__FileSearchRequest *request)
{
    char problem[256] = "";
    struct searching *searching = calloc(1, sizeof *searching);
    if (!searching || !(searching->request = copy_of(request))) {
        free(searching);
        call_refuse_errno(call, ENOMEM, "search");
        return false;
    }
    hearth__agent__v1__file_search_reply__init(&searching->reply);
    Hearth__Agent__V1__FileSearchRequest *own = searching->request;
    own->max_file_bytes = or_default(own->max_file_bytes, FILE_DEFAULT, FILE_MAX);
    own->max_line_bytes = (uint32_t)or_default(own->max_line_bytes, LINE_DEFAULT, LINE_MAX_BYTES);
    searching->agent = agent;
    searching->call = call;
    searching->fd = -1;
    searching->content.limit = FILE_MAX + 2 * READ_SIZE;
    searching->limit = (unsigned)or_default(own->limit, LIMIT_DEFAULT, LIMIT_MAX);
    searching->deadline_us =
        clock_monotonic_us() +
        (int64_t)or_default(own->timeout_ms, TIMEOUT_DEFAULT_MS, 600000) * US_PER_MS;
    searching->found = calloc(searching->limit, sizeof *searching->found);
    searching->turn = event_new(agent->base, -1, 0, on_turn, searching);
    int error = searching->found && searching->turn ? 0 : -ENOMEM;
    if (!error)
        error = matcher_new(&searching->matcher, own->pattern, own->regex, own->ignore_case,
                            problem, sizeof problem);
    if (!error)
        error = open_target(searching);
    if (error) {
        if (*problem)
            call_refuse(call, LINK_STATUS_OUT_OF_RANGE, "%s", problem);
        else
            call_refuse_errno(call, -error, "search");
        search_free(searching);
        return false;
    }
    link_call_accept(call, &events, searching);
    event_add(searching->turn, &(struct timeval){0});
    return true;
}
