/* What several families' results have in common: rows of fields, and the functions that write them.
 */
#pragma once

#include "api/json_write.h"
#include "api/operations/output.h"
#include "api/optable.h"
#include "supervisord/diff.h"

/* STATUS and ROW of the contract. */
extern const struct field status_fields[], row_fields[], exec_fields[], environment_fields[],
    environment_inspect_fields[], file_entry_fields[];

/* What a guest is run by, and how well it is bounded. */
extern const struct field metadata_fields[];
void write_metadata(struct json_writer *json, const struct workspace_status *status);

void write_status(struct json_writer *json, struct workspace *workspace);
void write_status_members(struct json_writer *json, struct workspace *workspace); /* no braces */
void write_row(struct json_writer *json, struct workspace *workspace);

/* The members of an exec's result, without the braces; without its streams where stream_room is 0.
 */
void write_exec(struct json_writer *json, struct workspace *workspace,
                const struct exec_status *status, enum text_encoding encoding, size_t stream_room);
void write_file_entry(struct json_writer *json, const struct file_entry *entry);
void write_environment(struct json_writer *json, const char *key,
                       const struct environment *environment);
/* The same into an object that has begun. */
void write_environment_members(struct json_writer *json, const struct environment *environment);

/* Finishes: sends what was written, or the failure that writing ran into. */
void reply_with(struct call *call, struct buf *body, const struct json_writer *json);
/* NULL after the call has been failed with 404. */
struct workspace *workspace_or_fail(struct call *call, const char *workspace_id);
/* What an operation that asks a guest's agent may be refused with, in its list of errors. */
#define GUEST_ERRORS                                                                               \
    "workspace_not_found", "workspace_not_started", "workspace_busy", "workspace_failed"
/* secret_env as the supervisor wants it; NULL after the call has been failed. */
const struct secret_variable *secret_variables_of(struct call *call, const struct pair_list *pairs);
/* The failure of a host path, as the call's. */
void fail_host_path(struct call *call, const struct hearth_failure *failure, const char *field,
                    const char *hint);
/* Whether what is exported has a place: output_path, or the reply's body. False after the call has
 * been failed. */
bool output_or_fail(struct call *call, const char *output_path, const char *hint);
/* The failure of a host_output, whose own failures are output_path's; hint where it has none. */
void fail_output_path(struct call *call, const struct hearth_failure *failure, const char *hint);
enum text_encoding encoding_of(const char *name);

#define ID_PATTERN(prefix) "^" prefix "_[a-z2-7]{16}$"

/* The name and the value of a label, as the schemas say them. */
extern const struct field label_parts[];
extern const char *const isolation_names[], *const transport_names[], *const encoding_names[];

/* Rows of input and output fields that are the same everywhere. */
#define WORKSPACE_ID_FIELD(input_struct)                                                           \
    {                                                                                              \
        .name = "workspace_id", .type = FIELD_STRING, .place = PLACE_PATH,                         \
        .flags = FIELD_REQUIRED, .maximum = 64, .pattern = ID_PATTERN("ws"),                       \
        .description = "ID of the workspace, as workspace_create gave it.",                        \
        .offset = offsetof(struct input_struct, workspace_id)                                      \
    }
#define SHELL_ID_FIELD(input_struct)                                                               \
    {                                                                                              \
        .name = "shell_id", .type = FIELD_STRING, .place = PLACE_PATH, .flags = FIELD_REQUIRED,    \
        .maximum = 64, .pattern = ID_PATTERN("sh"),                                                \
        .description = "ID of the shell, as shell_open gave it.",                                  \
        .offset = offsetof(struct input_struct, shell_id)                                          \
    }
/* limit and cursor of a list; the result has NEXT_CURSOR_FIELD. */
#define PAGE_FIELDS(input_struct, cursor_maximum)                                                  \
    {.name = "limit",                                                                              \
     .type = FIELD_INTEGER,                                                                        \
     .place = PLACE_QUERY,                                                                         \
     .minimum = 1,                                                                                 \
     .maximum = 1000,                                                                              \
     .default_json = "100",                                                                        \
     .description = "Entries in a page.",                                                          \
     .offset = offsetof(struct input_struct, limit)},                                              \
    {                                                                                              \
        .name = "cursor", .type = FIELD_STRING, .place = PLACE_QUERY, .maximum = (cursor_maximum), \
        .description = "next_cursor of the page before.",                                          \
        .offset = offsetof(struct input_struct, cursor)                                            \
    }
#define NEXT_CURSOR_FIELD                                                                          \
    {                                                                                              \
        .name = "next_cursor", .type = FIELD_STRING, .flags = FIELD_NULLABLE,                      \
        .description = "Pass it for the next page; null at the end."                               \
    }
/* What a sandbox is made of. */
#define ENVIRONMENT_FIELD(input_struct)                                                            \
    {                                                                                              \
        .name = "environment", .type = FIELD_STRING, .flags = FIELD_REQUIRED, .maximum = 129,      \
        .description =                                                                             \
            "Environment to start from, for example debian:12; vm_list_environments lists them.",  \
        .offset = offsetof(struct input_struct, environment)                                       \
    }
#define MACHINE_FIELDS(input_struct)                                                               \
    {.name = "vcpu_count",                                                                         \
     .type = FIELD_INTEGER,                                                                        \
     .minimum = 1,                                                                                 \
     .maximum = 8,                                                                                 \
     .default_json = "1",                                                                          \
     .description = "Virtual CPUs.",                                                               \
     .offset = offsetof(struct input_struct, vcpu_count)},                                         \
    {                                                                                              \
        .name = "mem_mib", .type = FIELD_INTEGER, .minimum = 256, .maximum = 32768,                \
        .default_json = "1024", .description = "Memory in MiB.",                                   \
        .offset = offsetof(struct input_struct, mem_mib)                                           \
    }
#define ISOLATION_FIELD(input_struct)                                                              \
    {                                                                                              \
        .name = "isolation", .type = FIELD_STRING, .choices = isolation_names,                     \
        .description = "Demand a vm or a container; what is demanded is given or it fails.",       \
        .offset = offsetof(struct input_struct, isolation)                                         \
    }
#define TRANSPORT_FIELD(input_struct, field_flags)                                                 \
    {                                                                                              \
        .name = "transport", .type = FIELD_STRING, .flags = (field_flags),                         \
        .choices = transport_names,                                                                \
        .description = "Demand how a vm is reached (and so a vm): serial is virtio-serial, "       \
                       "vhost-vsock the host kernel's vsock, vhost-user-vsock the one of "         \
                       "vhost-device-vsock, vsock either; what is demanded is given or it fails.", \
        .offset = offsetof(struct input_struct, transport)                                         \
    }
#define ALLOW_HOST_COMPAT_FIELD(input_struct)                                                      \
    {                                                                                              \
        .name = "allow_host_compat", .type = FIELD_BOOLEAN, .default_json = "false",               \
        .description = "Accepted for compatibility: a container is fine.",                         \
        .offset = offsetof(struct input_struct, allow_host_compat)                                 \
    }
#define ENCODING_FIELD(input_struct, field_place)                                                  \
    {                                                                                              \
        .name = "encoding", .type = FIELD_STRING, .place = (field_place),                          \
        .choices = encoding_names, .default_json = "\"utf-8\"",                                    \
        .description = "utf-8, or base64 for bytes that are no text.",                             \
        .offset = offsetof(struct input_struct, encoding)                                          \
    }
/* Labels as rows, the call's; NULL with the call failed where memory is short. */
const struct row_label *labels_of(struct call *call, const struct pair_list *pairs);

/* How much has changed since the baseline: rows of a result, and their writer. */
#define CHANGE_COUNT_FIELDS                                                                        \
    {.name = "total", .type = FIELD_INTEGER, .description = "All changes."},                       \
        {.name = "added", .type = FIELD_INTEGER, .description = "Not there before."},              \
        {.name = "modified", .type = FIELD_INTEGER, .description = "Another content or mode."},    \
        {.name = "deleted", .type = FIELD_INTEGER, .description = "Not there any more."},          \
    {                                                                                              \
        .name = "type_changed", .type = FIELD_INTEGER,                                             \
        .description = "A file became a symlink, and the like."                                    \
    }
void write_change_counts(struct json_writer *json, const struct diff_result *result);
const char *change_status_name(enum diff_status status);

/* Of a result that is no JSON. */
extern const struct field no_fields[];
