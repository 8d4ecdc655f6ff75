#include "cli/upload.h"

#include "cli/body.h"
#include "cli/output.h"

#include <stdio.h>

int upload_path(struct http *http, const char *path, const struct tar_pack_choice *choice,
                char *ret_id, size_t ret_size, struct buf *ret_reply,
                struct hearth_failure *failure)
{
    static const struct tar_pack_choice everything;
    struct body body;
    int error = body_open(&body, path, choice ? choice : &everything, failure);
    if (error)
        return error;

    const struct http_request request = {.method = "POST",
                                         .path = "/v1/uploads",
                                         .read = body_read,
                                         .read_arg = &body,
                                         .content_type = "application/x-tar",
                                         .own_failure = &body.failure};
    error = http_perform(http, &request, ret_reply, failure);
    body_close(&body);
    if (error)
        return error;
    auto_json cJSON *result = cJSON_ParseWithLength(ret_reply->data, ret_reply->length);
    if (!result)
        return hearth_fail(failure, HEARTH_EIO, "bad_reply", "the daemon's answer is not JSON");
    snprintf(ret_id, ret_size, "%s", json_text(result, "upload_id", ""));
    return 0;
}

int upload_seed(struct cli *cli, const char *path, const struct tar_pack_choice *choice,
                char *ret_id, size_t ret_size)
{
    auto_buf struct buf reply = {0};
    struct hearth_failure failure;
    int error = cli_open(cli, &failure);
    if (!error)
        error = upload_path(cli->http, path, choice, ret_id, ret_size, &reply, &failure);
    return error ? cli_fail(cli, &failure, &reply) : 0;
}
