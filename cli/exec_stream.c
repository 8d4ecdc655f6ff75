#include "cli/exec_stream.h"

#include "cli/base64.h"
#include "cli/lines.h"
#include "cli/output.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct exec_reader {
    struct hearth_failure failure;
    cJSON *result; /* of the last event */
};

static bool is_base64(const cJSON *object)
{
    return strcmp(json_text(object, "encoding", ""), "base64") == 0;
}

/* Output, to where it belongs. */
static int write_output(FILE *out, const char *data, bool base64, const char *told,
                        struct hearth_failure *failure)
{
    auto_buf struct buf bytes = {.limit = SIZE_MAX};
    if (base64 && base64_decode(&bytes, data))
        return hearth_fail(failure, HEARTH_EIO, "bad_reply", "output that is not base64");

    size_t length = base64 ? bytes.length : strlen(data);
    if (length && (fwrite(base64 ? bytes.data : data, 1, length, out) != length || fflush(out)))
        return hearth_fail(failure, HEARTH_EIO, "output_closed", "%s", told);
    return 0;
}

static int write_event(struct exec_reader *reader, FILE *out, const cJSON *event)
{
    return write_output(out, json_text(event, "data", ""), is_base64(event),
                        "output cannot be written, the command was ended", &reader->failure);
}

static int on_event(void *arg, const cJSON *event, const char *text)
{
    struct exec_reader *reader = arg;
    const char *type = json_text(event, "type", "");

    if (!strcmp(type, "stdout"))
        return write_event(reader, stdout, event);
    if (!strcmp(type, "stderr"))
        return write_event(reader, stderr, event);
    if (!strcmp(type, "exit")) {
        cJSON_Delete(reader->result);
        reader->result = cJSON_Duplicate(event, true);
    }
    return 0;
}

int exec_stream(struct cli *cli, const char *verb, const char *path, cJSON *arguments,
                const char *const *summary_names)
{
    struct exec_reader reader = {0};
    auto_lines struct lines lines = {
        .on_object = on_event, .arg = &reader, .failure = &reader.failure};

    cJSON_AddTrueToObject(arguments, "stream");
    cJSON_AddStringToObject(arguments, "encoding", "base64");
    char *text = cJSON_PrintUnformatted(arguments);
    cJSON_Delete(arguments);
    if (!text)
        return cli_out_of_memory(cli);
    const struct http_request request = {.method = "POST",
                                         .path = path,
                                         .body = text,
                                         .accept = NDJSON_MEDIA_TYPE,
                                         .write = lines_write,
                                         .write_arg = &lines,
                                         .own_failure = &reader.failure};
    int status = cli_call(cli, &request, NULL, NULL);
    cJSON_free(text);
    if (status == 0 && !reader.result) {
        hearth_fail(&reader.failure, HEARTH_EIO, "bad_reply", "the output ended without a result");
        status = cli_fail(cli, &reader.failure, NULL);
    } else if (status == 0) {
        output_summary(verb, reader.result, summary_names);
        status = (int)json_number(reader.result, "exit_code", EXIT_PROBLEM);
    }
    cJSON_Delete(reader.result);
    return status;
}

int exec_show(const struct cli *cli, const char *verb, const cJSON *result,
              const char *const *summary_names)
{
    static const char told[] = "output cannot be written";
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    if (write_output(stdout, json_text(result, "stdout", ""), true, told, &failure) ||
        write_output(stderr, json_text(result, "stderr", ""), true, told, &failure))
        return cli_fail(cli, &failure, NULL);
    output_summary(verb, result, summary_names);
    return 0;
}

int exec_answer(struct cli *cli, const char *verb, const char *path, cJSON *arguments,
                const char *const *summary_names)
{
    auto_buf struct buf body = {0};
    auto_json cJSON *result = NULL;
    if (!cli->json)
        cJSON_AddStringToObject(arguments, "encoding", "base64");
    int status = cli_call_json(cli, "POST", path, arguments, &body, &result);
    if (status == 0 && cli->json)
        output_json(body.data);
    else if (status == 0)
        status = exec_show(cli, verb, result, summary_names);
    if (status || cJSON_IsTrue(json_member(result, "running")))
        return status;
    return (int)json_number(result, "exit_code", EXIT_PROBLEM);
}
