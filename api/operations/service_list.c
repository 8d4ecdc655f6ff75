/* service_list: a workspace's services by name, in pages. */
#include "api/operations/service.h"
#include "api/operations/views.h"

#include <stdio.h>
#include <string.h>

const struct field service_list_input[] = {
    WORKSPACE_ID_FIELD(service_list_input), PAGE_FIELDS(service_list_input, 64), {0}};
const struct field service_list_output[] = {
    {.name = "workspace_id", .type = FIELD_STRING, .description = "The workspace."},
    {.name = "count", .type = FIELD_INTEGER, .description = "Services in this page."},
    {.name = "running_count",
     .type = FIELD_INTEGER,
     .description = "How many of the workspace's services run, on all pages."},
    {.name = "services",
     .type = FIELD_OBJECT_LIST,
     .fields = service_fields,
     .description = "By name, those that do not run any more too."},
    NEXT_CURSOR_FIELD,
    {0},
};

/* A page goes on after the name that its cursor is. */
struct list_writer {
    struct json_writer json;
    const struct service_list_input *input;
    unsigned count, running;
    char last[65];
    bool more;
};

static void visit(void *arg, const struct service_status *found)
{
    struct list_writer *writer = arg;
    writer->running += strcmp(found->state, "running") == 0;
    if (writer->input->cursor && strcmp(found->name, writer->input->cursor) <= 0)
        return;
    writer->more = writer->count == (uint64_t)writer->input->limit;
    if (writer->more)
        return;
    snprintf(writer->last, sizeof writer->last, "%s", found->name);
    json_object_begin(&writer->json, NULL);
    write_service(&writer->json, found);
    json_object_end(&writer->json);
    writer->count++;
}

void service_list(struct call *call, const void *arg)
{
    const struct service_list_input *input = arg;
    struct buf body = {0};
    struct list_writer writer = {.json = JSON_WRITER(&body), .input = input};
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    if (!workspace)
        return;
    json_object_begin(&writer.json, NULL);
    json_string(&writer.json, "workspace_id", input->workspace_id);
    json_array_begin(&writer.json, "services");
    service_each(workspace, visit, &writer);
    json_array_end(&writer.json);
    json_unsigned(&writer.json, "count", writer.count);
    json_unsigned(&writer.json, "running_count", writer.running);
    json_string(&writer.json, "next_cursor", writer.more ? writer.last : NULL);
    json_object_end(&writer.json);
    reply_with(call, &body, &writer.json);
}
