#include "cli/upload.h"

#include "cli/body.h"
#include "cli/output.h"

#include <stdio.h>

int upload_seed(struct cli *cli, const char *path, const struct text_list *excludes, char *ret_id,
                size_t ret_size)
{
    struct body body;
    struct hearth_failure failure;
    if (body_open(&body, path, excludes, &failure))
        return cli_fail(cli, &failure, NULL);

    auto_json cJSON *result = NULL;
    const struct http_request request = {.method = "POST",
                                         .path = "/v1/uploads",
                                         .read = body_read,
                                         .read_arg = &body,
                                         .content_type = "application/x-tar",
                                         .own_failure = &body.failure};
    int status = cli_call(cli, &request, NULL, &result);
    body_close(&body);
    if (status == 0)
        snprintf(ret_id, ret_size, "%s", json_text(result, "upload_id", ""));
    return status;
}
