/* What a workspace tried to reach and was denied. */
#include "api/operations/denial.h"
#include "api/operations/families.h"
#include "api/operations/views.h"

#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

struct log_input {
    const char *workspace_id, *cursor;
    int64_t limit;
};

static const struct field log_input[] = {
    WORKSPACE_ID_FIELD(log_input),
    PAGE_FIELDS(log_input, 20),
    {0},
};

const struct field denial_fields[] = {
    {.name = "sequence", .type = FIELD_INTEGER, .description = "Number of the entry."},
    {.name = "decision",
     .type = FIELD_STRING,
     .description = "denied_address, denied_name (a name that may not be looked up), or "
                    "denied_answer (a name with an address that may not be reached)."},
    {.name = "protocol", .type = FIELD_STRING, .description = "tcp, udp, icmp, dns or ip-N."},
    {.name = "destination",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "The address."},
    {.name = "port",
     .type = FIELD_INTEGER,
     .flags = FIELD_NULLABLE,
     .description = "The port there."},
    {.name = "name",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "The name, where the guest has looked it up."},
    {.name = "count", .type = FIELD_INTEGER, .description = "How many times."},
    {.name = "first_at", .type = FIELD_NUMBER, .description = "The first time."},
    {.name = "last_at", .type = FIELD_NUMBER, .description = "The last time."},
    {0},
};
static const struct field log_output[] = {
    {.name = "workspace_id", .type = FIELD_STRING, .description = "ID of the workspace."},
    {.name = "count", .type = FIELD_INTEGER, .description = "Entries in this page."},
    {.name = "denied_count",
     .type = FIELD_INTEGER,
     .description = "All denials since the guest was made."},
    {.name = "forgotten_count",
     .type = FIELD_INTEGER,
     .description = "Entries that were left out for newer ones."},
    {.name = "entries",
     .type = FIELD_OBJECT_LIST,
     .description = "In the order in which they came up.",
     .fields = denial_fields},
    NEXT_CURSOR_FIELD,
    {0},
};

static void write_protocol(struct json_writer *json, const struct net_log_entry *entry)
{
    char number[16];
    snprintf(number, sizeof number, "ip-%u", entry->protocol);
    json_string(json, "protocol",
                entry->decision != NET_DENIED_ADDRESS ? "dns"
                : entry->protocol == IPPROTO_TCP      ? "tcp"
                : entry->protocol == IPPROTO_UDP      ? "udp"
                : entry->protocol == IPPROTO_ICMP     ? "icmp"
                                                      : number);
}

void write_denial(struct json_writer *json, const struct net_log_entry *entry)
{
    static const char *const decisions[] = {[NET_DENIED_ADDRESS] = "denied_address",
                                            [NET_DENIED_NAME] = "denied_name",
                                            [NET_DENIED_ANSWER] = "denied_answer"};
    char address[NET_PREFIX_TEXT];
    net_address_print(entry->address, address);
    json_object_begin(json, NULL);
    json_unsigned(json, "sequence", entry->sequence);
    json_string(json, "decision", decisions[entry->decision]);
    write_protocol(json, entry);
    json_string(json, "destination", entry->decision != NET_DENIED_NAME ? address : NULL);
    if (entry->port)
        json_unsigned(json, "port", entry->port);
    else
        json_null(json, "port");
    json_string(json, "name", *entry->name ? entry->name : NULL);
    json_unsigned(json, "count", entry->count);
    json_time(json, "first_at", entry->first_us);
    json_time(json, "last_at", entry->last_us);
    json_object_end(json);
}

/* The number of the last entry of the page before. */
static bool read_cursor(const char *text, uint64_t *ret_after)
{
    char *end;
    *ret_after = 0;
    if (!text)
        return true;
    *ret_after = strtoull(text, &end, 10);
    return *text >= '1' && *text <= '9' && !*end;
}

static void network_log(struct call *call, const void *arg)
{
    const struct log_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    struct net_log *log = workspace ? call_allocate_or_fail(call, sizeof *log) : NULL;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    struct hearth_failure failure;
    char cursor[24] = "";
    uint64_t after;
    size_t entries, written = 0;
    if (!log)
        return;
    if (!read_cursor(input->cursor, &after)) {
        supervisor_bad_cursor(&failure);
        call_fail(call, &failure);
        return;
    }
    guest_network_log(workspace, log, &entries);
    json_object_begin(&json, NULL);
    json_string(&json, "workspace_id", input->workspace_id);
    json_array_begin(&json, "entries");
    for (size_t i = 0; i < entries && !*cursor; i++) {
        if (log->entries[i].sequence <= after)
            continue;
        write_denial(&json, &log->entries[i]);
        if (++written == (size_t)input->limit && i + 1 < entries)
            snprintf(cursor, sizeof cursor, "%" PRIu64, log->entries[i].sequence);
    }
    json_array_end(&json);
    json_unsigned(&json, "count", written);
    json_unsigned(&json, "denied_count", log->denied);
    json_unsigned(&json, "forgotten_count", log->forgotten);
    json_string(&json, "next_cursor", *cursor ? cursor : NULL);
    json_object_end(&json);
    reply_with(call, &body, &json);
}

static const char *const log_errors[] = {"workspace_not_found", "bad_cursor", NULL};

const struct operation_entry network_operations[] = {
    {
        .name = "workspace_network_log",
        .family = "workspace",
        .title = "List denied connections",
        .summary = "What the workspace tried to reach and was denied, each with its count.",
        .description = "Lists the connections and name look-ups of a workspace that its network "
                       "policy denied, each once with how often and when. Empty where the "
                       "workspace has no outbound network. Does not count as activity.",
        .method = "GET",
        .path = "/v1/workspaces/{workspace_id}/network-log",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_READ_ONLY | OPERATION_IDEMPOTENT,
        .status = 200,
        .input = log_input,
        .input_size = sizeof(struct log_input),
        .output = log_output,
        .errors = log_errors,
        .handler = network_log,
    },
    {0},
};
