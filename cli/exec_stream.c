#include "cli/exec_stream.h"

#include "cli/base64.h"
#include "cli/lines.h"
#include "cli/output.h"

#include <stdio.h>
#include <string.h>

struct exec_reader {
    struct hearth_failure failure;
    cJSON *result; /* of the last event */
};

/* One piece of output, to where it belongs. */
static int write_output(struct exec_reader *reader, FILE *out, const cJSON *event)
{
    const char *data = json_text(event, "data", "");
    auto_buf struct buf bytes = {0};
    bool encoded = !strcmp(json_text(event, "encoding", "utf-8"), "base64");
    int error = encoded ? base64_decode(&bytes, data) : 0;
    if (error)
        return hearth_fail(&reader->failure, HEARTH_EIO, "bad_reply", "output that is not base64");

    size_t length = encoded ? bytes.length : strlen(data);
    if (fwrite(encoded ? bytes.data : data, 1, length, out) != length || fflush(out) != 0)
        return hearth_fail(&reader->failure, HEARTH_EIO, "output_closed",
                           "output cannot be written, the command was ended");
    return 0;
}

static int on_event(void *arg, const cJSON *event, const char *text)
{
    struct exec_reader *reader = arg;
    const char *type = json_text(event, "type", "");

    if (!strcmp(type, "stdout"))
        return write_output(reader, stdout, event);
    if (!strcmp(type, "stderr"))
        return write_output(reader, stderr, event);
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
