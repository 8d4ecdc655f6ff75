#include "api/operations/families.h"
#include "api/operations/views.h"
#include "api/problem.h"

#include <stdio.h>
#include <string.h>

struct name_input {
    const char *name, *path, *format;
    bool stream, force;
};

#define NAME_FIELD(input_struct)                                                                   \
    {                                                                                              \
        .name = "name", .type = FIELD_STRING, .place = PLACE_PATH, .flags = FIELD_REQUIRED,        \
        .maximum = 129, .pattern = "^[A-Za-z0-9][A-Za-z0-9._:-]*$",                                \
        .description = "Name of the environment, for example debian:12.",                          \
        .offset = offsetof(struct input_struct, name)                                              \
    }
#define STREAM_FIELD                                                                               \
    {                                                                                              \
        .name = "stream", .type = FIELD_BOOLEAN, .default_json = "false",                          \
        .description = "Send progress as NDJSON lines, the result last.",                          \
        .offset = offsetof(struct name_input, stream)                                              \
    }

static int unknown(struct hearth_failure *failure)
{
    int error = hearth_fail(failure, HEARTH_ENOTFOUND, "unknown_environment",
                            "there is no such environment");
    hearth_failure_field(failure, "/name");
    hearth_failure_hint(failure, "GET /v1/environments lists them.");
    return error;
}

/* inspect */

#define PACKAGE_CURSOR_SIZE 520 /* NAME:ARCHITECTURE */

struct inspect_input {
    const char *name, *cursor;
    int64_t limit;
};

static const struct field inspect_input[] = {
    NAME_FIELD(inspect_input), PAGE_FIELDS(inspect_input, PACKAGE_CURSOR_SIZE - 1), {0}};

struct inspecting {
    struct call *call;
    struct buf body;
    struct json_writer json;
    size_t limit;
    char name[256], architecture[256]; /* the last of the page before; "" at the start */
};

/* What dpkg said, from the first package past the cursor on. */
static void inspected(void *arg, const struct environment_package *packages, size_t count)
{
    struct inspecting *inspecting = arg;
    struct json_writer *json = &inspecting->json;
    char cursor[PACKAGE_CURSOR_SIZE] = "";
    size_t begin = 0;
    for (int order = -1; begin < count; begin++) {
        order = strcmp(packages[begin].name, inspecting->name);
        if (order > 0 ||
            (order == 0 && strcmp(packages[begin].architecture, inspecting->architecture) > 0))
            break;
    }
    size_t end = count - begin > inspecting->limit ? begin + inspecting->limit : count;
    json_unsigned(json, "package_count", count);
    json_array_begin(json, "packages");
    for (size_t i = begin; i < end; i++) {
        json_object_begin(json, NULL);
        json_string(json, "name", packages[i].name);
        json_string(json, "version", packages[i].version);
        json_string(json, "architecture", packages[i].architecture);
        json_object_end(json);
    }
    json_array_end(json);
    if (end < count)
        snprintf(cursor, sizeof cursor, "%s:%s", packages[end - 1].name,
                 packages[end - 1].architecture);
    json_string(json, "next_cursor", *cursor ? cursor : NULL);
    json_object_end(json);
    reply_with(inspecting->call, &inspecting->body, json);
}

static int parse_package_cursor(struct inspecting *inspecting, const char *cursor,
                                struct hearth_failure *failure)
{
    const char *colon = cursor ? strchr(cursor, ':') : NULL;
    if (!cursor)
        return 0;
    if (!colon || colon - cursor >= (ptrdiff_t)sizeof inspecting->name ||
        strlen(colon + 1) >= sizeof inspecting->architecture)
        return supervisor_bad_cursor(failure);
    snprintf(inspecting->name, sizeof inspecting->name, "%.*s", (int)(colon - cursor), cursor);
    snprintf(inspecting->architecture, sizeof inspecting->architecture, "%s", colon + 1);
    return 0;
}

static void inspect(struct call *call, const void *arg)
{
    const struct inspect_input *input = arg;
    struct environments *environments = supervisor_environments(call_supervisor(call));
    const struct environment *environment =
        environment_name_valid(input->name) ? environment_find(environments, input->name) : NULL;
    struct hearth_failure failure;
    struct inspecting *inspecting = call_allocate_or_fail(call, sizeof *inspecting);
    if (!inspecting)
        return;
    if (!environment || parse_package_cursor(inspecting, input->cursor, &failure)) {
        if (!environment)
            unknown(&failure);
        call_fail(call, &failure);
        return;
    }
    inspecting->call = call;
    inspecting->limit = (size_t)input->limit;
    inspecting->json = (struct json_writer)JSON_WRITER(&inspecting->body);
    json_object_begin(&inspecting->json, NULL);
    write_environment_members(&inspecting->json, environment);
    environment_packages(environments, environment->version, inspected, inspecting);
}

/* pull and import: long work that may tell its progress */

struct job {
    struct call *call;
    struct environment_job *job; /* NULL once done */
    const char *operation;
    bool stream, begun;
};

static void begin_stream(struct job *job)
{
    if (!job->begun)
        call_stream_begin(job->call, 200, "application/x-ndjson", -1, NULL, NULL);
    job->begun = true;
}

static void send_line(struct job *job, struct buf *line)
{
    if (buf_char(line, '\n') == 0)
        call_stream_send(job->call, line->data, line->length);
}

static void on_progress(void *arg, const struct environment_progress *progress)
{
    struct job *job = arg;
    auto_buf struct buf line = {0};
    struct json_writer json = JSON_WRITER(&line);
    if (!job->stream)
        return;
    begin_stream(job);
    json_object_begin(&json, NULL);
    json_string(&json, "type", "progress");
    json_string(&json, "stage", progress->stage);
    json_string(&json, "detail", progress->detail);
    json_unsigned(&json, "done", progress->done);
    json_unsigned(&json, "total", progress->total);
    json_object_end(&json);
    if (!json.error)
        send_line(job, &line);
}

static void end_stream(struct job *job, const struct hearth_failure *failure,
                       const struct environment *environment)
{
    auto_buf struct buf line = {0}, text = {0};
    struct json_writer json = JSON_WRITER(&text);
    begin_stream(job);
    if (failure)
        problem_write(&json, NULL, failure, call_request_id(job->call));
    else
        write_environment(&json, NULL, environment);
    /* The object's own first member gives way to the line's type, or follows it. */
    const char *rest = json.error ? NULL : failure ? strchr(text.data, ',') : text.data + 1;
    if (rest &&
        buf_printf(&line, failure ? "{\"type\":\"error\"%s" : "{\"type\":\"result\",%s", rest) == 0)
        send_line(job, &line);
    call_stream_end(job->call, true);
}

static void on_done(void *arg, int error, const struct hearth_failure *failure,
                    const struct environment *environment)
{
    struct job *job = arg;
    struct call *call = job->call;
    job->job = NULL;
    supervisor_audit(call_supervisor(call), call_principal(call), call_request_id(call),
                     job->operation, error ? NULL : environment->name,
                     error ? failure->code : "ok");
    call_on_gone(call, NULL, NULL);
    if (job->stream && job->begun) {
        end_stream(job, error ? failure : NULL, environment);
    } else if (error) {
        call_fail(call, failure);
    } else if (job->stream) {
        end_stream(job, NULL, environment);
    } else {
        struct buf body = {0};
        struct json_writer json = JSON_WRITER(&body);
        write_environment(&json, NULL, environment);
        reply_with(call, &body, &json);
    }
}

static void gone(void *arg)
{
    struct job *job = arg;
    struct hearth_failure failure;
    if (job->job)
        environment_job_leave(job->job, job);
    hearth_fail(&failure, HEARTH_ECANCELLED, NULL, "the client went away");
    if (job->begun)
        call_stream_end(job->call, false);
    else
        call_fail(job->call, &failure);
}

static struct job *job_new(struct call *call, bool stream, const char *operation)
{
    struct job *job = call_allocate_or_fail(call, sizeof *job);
    if (!job)
        return NULL;
    job->call = call;
    job->stream = stream && call_can_stream(call);
    job->operation = operation;
    call_on_gone(call, gone, job);
    return job;
}

static void job_begun(struct job *job, int error, const struct hearth_failure *failure)
{
    if (!error)
        return;
    call_on_gone(job->call, NULL, NULL);
    call_fail(job->call, failure);
}

static const struct field pull_input[] = {
    NAME_FIELD(name_input),
    STREAM_FIELD,
    {.name = "force",
     .type = FIELD_BOOLEAN,
     .default_json = "false",
     .description = "Build it again even if it is there.",
     .offset = offsetof(struct name_input, force)},
    {0},
};

static void pull(struct call *call, const void *arg)
{
    const struct name_input *input = arg;
    struct hearth_failure failure;
    if (!environment_name_valid(input->name)) {
        unknown(&failure);
        call_fail(call, &failure);
        return;
    }
    struct job *job = job_new(call, input->stream, "environment_pull");
    if (job)
        job_begun(job,
                  environment_pull(&job->job, supervisor_environments(call_supervisor(call)),
                                   input->name, input->force, on_progress, on_done, job, &failure),
                  &failure);
}

static const char *const formats[] = {"rootfs-tar", "oci-layout", "docker-archive", NULL};

static const struct field import_input[] = {
    NAME_FIELD(name_input),
    STREAM_FIELD,
    {.name = "path",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED,
     .maximum = 4095,
     .description = "File or directory on the daemon's host.",
     .offset = offsetof(struct name_input, path)},
    {.name = "format",
     .type = FIELD_STRING,
     .choices = formats,
     .default_json = "\"rootfs-tar\"",
     .description = "What the file is.",
     .offset = offsetof(struct name_input, format)},
    {0},
};

static void import(struct call *call, const void *arg)
{
    const struct name_input *input = arg;
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    enum environment_format format = strcmp(input->format, formats[1]) == 0 ? ENVIRONMENT_OCI_LAYOUT
                                     : strcmp(input->format, formats[2]) == 0
                                         ? ENVIRONMENT_DOCKER_ARCHIVE
                                         : ENVIRONMENT_ROOTFS_TAR;
    if (!environment_name_valid(input->name)) {
        hearth_fail(&failure, HEARTH_EINVALID, "bad_environment_name",
                    "a name is of a-z, 0-9 and ._-, with a tag after one colon");
        hearth_failure_field(&failure, "/name");
    } else if (input->path[0] != '/') {
        hearth_fail(&failure, HEARTH_EINVALID, "bad_path", "the path must be absolute");
        hearth_failure_field(&failure, "/path");
    }
    if (failure.error) {
        call_fail(call, &failure);
        return;
    }
    struct job *job = job_new(call, input->stream, "environment_import");
    if (job)
        job_begun(job,
                  environment_import(&job->job, supervisor_environments(call_supervisor(call)),
                                     input->name, format, input->path, on_progress, on_done, job,
                                     &failure),
                  &failure);
}

/* prune */

static const struct field no_input[] = {{0}};
static const struct field prune_output[] = {
    {.name = "removed", .type = FIELD_INTEGER, .description = "Versions removed."},
    {.name = "bytes_freed", .type = FIELD_INTEGER, .description = "Bytes freed."},
    {0},
};

static void pruned(void *arg, int error, const struct hearth_failure *failure, uint64_t removed,
                   uint64_t bytes_freed)
{
    struct call *call = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    supervisor_audit(call_supervisor(call), call_principal(call), call_request_id(call),
                     "environment_prune", NULL, error ? failure->code : "ok");
    if (error) {
        call_fail(call, failure);
        return;
    }
    json_object_begin(&json, NULL);
    json_unsigned(&json, "removed", removed);
    json_unsigned(&json, "bytes_freed", bytes_freed);
    json_object_end(&json);
    reply_with(call, &body, &json);
}

static void prune(struct call *call, const void *arg)
{
    size_t count;
    const char *const *versions = supervisor_versions_in_use(call_supervisor(call), &count);
    (void)arg;
    environment_prune(supervisor_environments(call_supervisor(call)), versions, count, pruned,
                      call);
}

static const char *const progress_types[] = {"application/x-ndjson", NULL};
static const char *const inspect_errors[] = {"unknown_environment", "bad_cursor", NULL};
static const char *const pull_errors[] = {"unknown_environment", "environment_build_failed",
                                          "image_dir_read_only", NULL};
static const char *const import_errors[] = {
    "bad_environment_name", "archive_refused",  "archive_truncated",   "archive_too_large",
    "image_unreadable",     "environment_busy", "image_dir_read_only", NULL};

const struct operation_entry environment_operations[] = {
    {
        .name = "environment_inspect",
        .family = "environment",
        .title = "Show an environment",
        .summary = "Tells what is known of one environment.",
        .description = "Tells an environment's version, size, when it was built, and which Debian "
                       "packages are installed in it, a page at a time.",
        .method = "GET",
        .path = "/v1/environments/{name}",
        .surfaces = SURFACE_REST,
        .flags = OPERATION_READ_ONLY | OPERATION_IDEMPOTENT,
        .status = 200,
        .input = inspect_input,
        .input_size = sizeof(struct inspect_input),
        .output = environment_inspect_fields,
        .errors = inspect_errors,
        .handler = inspect,
    },
    {
        .name = "environment_pull",
        .family = "environment",
        .title = "Build an environment",
        .summary = "Builds a known environment from Debian's packages, unless it is there.",
        .description = "Builds an environment from Debian's packages.",
        .method = "POST",
        .path = "/v1/environments/{name}/pull",
        .surfaces = SURFACE_REST,
        .flags = OPERATION_ADMIN | OPERATION_LONG | OPERATION_STREAMS | OPERATION_IDEMPOTENT |
                 OPERATION_OPEN_WORLD,
        .status = 200,
        .input = pull_input,
        .input_size = sizeof(struct name_input),
        .output = environment_fields,
        .errors = pull_errors,
        .stream_types = progress_types,
        .handler = pull,
    },
    {
        .name = "environment_import",
        .family = "environment",
        .title = "Import an environment",
        .summary =
            "Makes an environment of a root file system tar, an OCI layout or a docker archive.",
        .description = "Makes an environment of a file on the daemon's host.",
        .method = "POST",
        .path = "/v1/environments/{name}/import",
        .surfaces = SURFACE_REST,
        .flags = OPERATION_ADMIN | OPERATION_LONG | OPERATION_STREAMS,
        .status = 200,
        .input = import_input,
        .input_size = sizeof(struct name_input),
        .output = environment_fields,
        .errors = import_errors,
        .stream_types = progress_types,
        .handler = import,
    },
    {
        .name = "environment_prune",
        .family = "environment",
        .title = "Prune environments",
        .summary = "Removes versions that no name and no workspace refers to.",
        .description = "Removes versions of environments that nothing uses.",
        .method = "POST",
        .path = "/v1/environments/prune",
        .surfaces = SURFACE_REST,
        .flags = OPERATION_ADMIN | OPERATION_LONG | OPERATION_DESTRUCTIVE | OPERATION_IDEMPOTENT,
        .status = 200,
        .input = no_input,
        .output = prune_output,
        .handler = prune,
    },
    {0},
};
