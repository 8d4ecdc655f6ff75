/* shell_list: a workspace's shells in the order of their opening, in pages. */
#include "api/operations/shell.h"
#include "api/operations/views.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CURSOR_SIZE 48 /* STARTED.SHELL_ID */

const struct field shell_list_input[] = {
    WORKSPACE_ID_FIELD(shell_list_input), PAGE_FIELDS(shell_list_input, CURSOR_SIZE - 1), {0}};
const struct field shell_list_output[] = {
    {.name = "workspace_id", .type = FIELD_STRING, .description = "ID of the workspace."},
    {.name = "count", .type = FIELD_INTEGER, .description = "Shells in this page."},
    {.name = "shells",
     .type = FIELD_OBJECT_LIST,
     .description = "In the order of their opening.",
     .fields = shell_fields},
    NEXT_CURSOR_FIELD,
    {0},
};

/* A page goes on after the shell that its cursor is of, whether that is there still or not. */
struct listing {
    struct call *call;
    char workspace_id[ID_SIZE], after_id[ID_SIZE];
    int64_t after; /* -1: from the start */
    uint64_t limit;
};

static bool comes_before(const struct listing *listing, const struct shell_status *shell)
{
    return shell->started_at < listing->after ||
           (shell->started_at == listing->after && strcmp(shell->shell_id, listing->after_id) <= 0);
}

static void listed(void *arg, int error, const struct hearth_failure *failure,
                   const struct shell_status *shells, size_t count)
{
    const struct listing *listing = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    char next[CURSOR_SIZE];
    if (error) {
        call_fail(listing->call, failure);
        return;
    }
    size_t begin = 0;
    while (begin < count && comes_before(listing, &shells[begin]))
        begin++;
    size_t end = count - begin > listing->limit ? begin + (size_t)listing->limit : count;
    if (end < count)
        snprintf(next, sizeof next, "%" PRId64 ".%s", shells[end - 1].started_at,
                 shells[end - 1].shell_id);
    json_object_begin(&json, NULL);
    json_string(&json, "workspace_id", listing->workspace_id);
    json_unsigned(&json, "count", end - begin);
    json_array_begin(&json, "shells");
    for (size_t i = begin; i < end; i++) {
        json_object_begin(&json, NULL);
        write_shell(&json, &shells[i]);
        json_object_end(&json);
    }
    json_array_end(&json);
    json_string(&json, "next_cursor", end < count ? next : NULL);
    json_object_end(&json);
    reply_with(listing->call, &body, &json);
}

static bool read_cursor(struct listing *listing, const char *cursor)
{
    size_t digits = strspn(cursor, "0123456789");
    if (!digits || cursor[digits] != '.' || !id_valid(cursor + digits + 1, "sh"))
        return false;
    snprintf(listing->after_id, sizeof listing->after_id, "%s", cursor + digits + 1);
    return sscanf(cursor, "%20" SCNd64, &listing->after) == 1;
}

void shell_list_handler(struct call *call, const void *arg)
{
    const struct shell_list_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    struct listing *listing = workspace ? call_allocate_or_fail(call, sizeof *listing) : NULL;
    struct hearth_failure failure;
    if (!listing)
        return;
    listing->call = call;
    listing->after = -1;
    listing->limit = (uint64_t)input->limit;
    memcpy(listing->workspace_id, input->workspace_id, strlen(input->workspace_id) + 1);
    if (input->cursor && !read_cursor(listing, input->cursor)) {
        supervisor_bad_cursor(&failure);
        call_fail(call, &failure);
        return;
    }
    shell_list(workspace, listed, listing);
}
