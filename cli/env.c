/* hearth env list|pull|inspect|import|prune: the systems that guests start from. */

#include "cli/lines.h"
#include "cli/plain.h"
#include "cli/progress.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const summary_names[] = {"name", "version", "size_bytes", NULL};

static const struct plain env_list = {
    .line = "env list",
    .summary = "Lists environments: built, imported, and to be had.",
    .method = "GET",
    .path = "/v1/environments?limit=1000",
    .list = "environments",
    .columns = (const struct column[]){{"NAME", "name"},
                                       {"BUILT", "built"},
                                       {"SIZE", "size_bytes"},
                                       {"DESCRIPTION", "description"},
                                       {NULL, NULL}},
};
PLAIN_COMMAND(env_list)

static int env_inspect(struct cli *cli, int argc, char **argv)
{
    static const struct column columns[] = {{"PACKAGE", "name"},
                                            {"VERSION", "version"},
                                            {"ARCHITECTURE", "architecture"},
                                            {NULL, NULL}};
    const struct usage usage = {
        .line = "env inspect ENVIRONMENT",
        .summary = "Shows what an environment is made of, with its first 1000 packages.",
        .minimum = 1,
        .maximum = 1};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;
    auto_buf struct buf path = {0}, body = {0};
    auto_json cJSON *result = NULL;
    if (!cli_path(&path, "/v1/environments/", words.items[0], NULL) ||
        buf_text(&path, "?limit=1000"))
        return cli_out_of_memory(cli);
    status = cli_call_json(cli, "GET", path.data, NULL, &body, &result);
    if (status)
        return status;
    if (cli->json) {
        output_json(body.data);
        return 0;
    }
    auto_json cJSON *packages = cJSON_DetachItemFromObjectCaseSensitive(result, "packages");
    static const char *const names[] = {"name", "version", "built", NULL};
    output_fields(result);
    if (cJSON_GetArraySize(packages))
        output_table(packages, columns);
    output_summary("env-inspect", result, names);
    return 0;
}

/* Long work that tells how far it is: lines of type "progress" (`stage`, `done`, `total`, `unit`
 * "bytes" where they are), and at last "result" with the members of the result. */
struct job {
    struct progress progress;
    cJSON *result;
};

static int on_event(void *arg, const cJSON *event, const char *text)
{
    struct job *job = arg;
    const char *type = json_text(event, "type", "");
    if (!strcmp(type, "progress")) {
        double done = json_number(event, "done", 0), total = json_number(event, "total", 0);
        progress_update(&job->progress, json_text(event, "stage", ""), (uint64_t)done,
                        (uint64_t)total, !strcmp(json_text(event, "unit", ""), "bytes"));
    } else if (!strcmp(type, "result")) {
        cJSON_Delete(job->result);
        job->result = cJSON_Duplicate(event, true);
        cJSON_DeleteItemFromObjectCaseSensitive(job->result, "type");
    }
    return 0;
}

/* Does request, whose answer comes as events, and shows its end. failure is where what reads or
 * writes for it tells why it gave up. */
static int perform_job(struct cli *cli, const char *verb, const char *label,
                       struct http_request *request, struct hearth_failure *failure)
{
    struct job job = {0};
    auto_lines struct lines lines = {.on_object = on_event, .arg = &job, .failure = failure};
    progress_begin(&job.progress, label);
    request->accept = NDJSON_MEDIA_TYPE;
    request->write = lines_write;
    request->write_arg = &lines;
    request->own_failure = failure;

    int status = cli_call(cli, request, NULL, NULL);
    progress_end(&job.progress);
    if (status == 0 && !job.result) {
        hearth_fail(failure, HEARTH_EIO, "bad_reply", "the work ended without a result");
        status = cli_fail(cli, failure, NULL);
    } else if (status == 0 && cli->json) {
        char *text = cJSON_PrintUnformatted(job.result);
        output_json(text ? text : "{}");
        cJSON_free(text);
    } else if (status == 0) {
        output_summary(verb, job.result, summary_names);
    }
    cJSON_Delete(job.result);
    return status;
}

static int env_pull(struct cli *cli, int argc, char **argv)
{
    bool force = false;
    const struct option options[] = {
        {"force", OPTION_FLAG, &force, NULL, "build it anew, with today's packages"}, {0}};
    const struct usage usage = {.line = "env pull ENVIRONMENT [--force]",
                                .summary = "Builds an environment from its packages, if it is not "
                                           "there.",
                                .options = options,
                                .minimum = 1,
                                .maximum = 1};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;
    auto_buf struct buf path = {0};
    if (!cli_path(&path, "/v1/environments/", words.items[0], "/pull", NULL))
        return cli_out_of_memory(cli);
    struct http_request request = {.method = "POST",
                                   .path = path.data,
                                   .body = force ? "{\"stream\":true,\"force\":true}"
                                                 : "{\"stream\":true}"};
    struct hearth_failure failure;
    return perform_job(cli, "env-pull", words.items[0], &request, &failure);
}

static int env_import(struct cli *cli, int argc, char **argv)
{
    const char *format = NULL;
    const struct option options[] = {{"format", OPTION_TEXT, &format, "FORMAT",
                                      "rootfs-tar, oci-layout or docker-archive (rootfs-tar)"},
                                     {0}};
    const struct usage usage = {.line = "env import NAME PATH [--format FORMAT]",
                                .summary = "Makes an environment of a file on the daemon's host: a "
                                           "tar, an OCI layout (directory or tar), or an image "
                                           "that `docker save` wrote.",
                                .options = options,
                                .minimum = 2,
                                .maximum = 2};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;

    /* The daemon reads the file itself: images are large, and the operator's. */
    struct hearth_failure failure;
    auto_free char *absolute = realpath(words.items[1], NULL);
    if (!absolute) {
        hearth_fail_errno(&failure, errno, "bad_path", "cannot find %s", words.items[1]);
        return cli_fail(cli, &failure, NULL);
    }
    auto_buf struct buf path = {0};
    auto_json cJSON *arguments = cJSON_CreateObject();
    cJSON_AddStringToObject(arguments, "path", absolute);
    cJSON_AddStringToObject(arguments, "format", format ? format : "rootfs-tar");
    cJSON_AddBoolToObject(arguments, "stream", true);
    char *body = cJSON_PrintUnformatted(arguments);
    if (!body || !cli_path(&path, "/v1/environments/", words.items[0], "/import", NULL)) {
        cJSON_free(body);
        return cli_out_of_memory(cli);
    }
    struct http_request request = {.method = "POST", .path = path.data, .body = body};
    status = perform_job(cli, "env-import", words.items[0], &request, &failure);
    cJSON_free(body);
    return status;
}

static const struct plain env_prune = {
    .line = "env prune",
    .summary = "Removes what no environment's name and no workspace refers to.",
    .path = "/v1/environments/prune",
    .told = (const char *const[]){"removed", "bytes_freed", NULL},
};
PLAIN_COMMAND(env_prune)

const struct command env_commands[] = {
    {"env", "list", "list environments", run_env_list},
    {"env", "pull", "build an environment", env_pull},
    {"env", "import", "make one of a root file system's tar or an image", env_import},
    {"env", "inspect", "show what one is made of", env_inspect},
    {"env", "prune", "remove what nothing refers to", run_env_prune},
    {0}};
