#include "cli/mcp_files.h"

#include "cli/command.h"
#include "cli/mcp_message.h"
#include "cli/mcp_output.h"
#include "cli/output.h"
#include "cli/secret.h"
#include "cli/upload.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct mcp_files {
    const struct endpoint *endpoint;
    const char *profile;
    int done_fd;
    pthread_mutex_t lock;
    struct buf to_daemon, to_client;
};

struct job {
    struct mcp_files *files;
    cJSON *message;
};

/* What a tool's argument names, and where the upload's ID goes. */
static const struct {
    const char *tool, *path, *upload;
} uploads[] = {{"workspace_create", "seed_path", "seed_upload"},
               {"workspace_sync_push", "source_path", "upload_id"}};

int mcp_files_open(struct mcp_files **ret_files, const struct endpoint *endpoint,
                   const char *profile, int done_fd)
{
    struct mcp_files *files = calloc(1, sizeof *files);
    if (!files)
        return HEARTH_ENOMEMORY;
    files->endpoint = endpoint;
    files->profile = profile;
    files->done_fd = done_fd;
    pthread_mutex_init(&files->lock, NULL);
    *ret_files = files;
    return 0;
}

void mcp_files_use(struct mcp_files *files, const struct endpoint *endpoint)
{
    pthread_mutex_lock(&files->lock);
    files->endpoint = endpoint;
    pthread_mutex_unlock(&files->lock);
}

/* A copy of one's own, for http_open to take. */
static struct endpoint copy_endpoint(struct mcp_files *files)
{
    pthread_mutex_lock(&files->lock);
    const struct endpoint *from = files->endpoint;
    struct endpoint endpoint = {.url = strdup(from->url),
                                .socket_path = from->socket_path ? strdup(from->socket_path) : NULL,
                                .token = from->token ? strdup(from->token) : NULL};
    pthread_mutex_unlock(&files->lock);
    return endpoint;
}

static void job_free(struct job *job)
{
    cJSON_Delete(job->message);
    free(job);
}

static void give(struct mcp_files *files, struct buf *out, const cJSON *message)
{
    auto_buf struct buf line = {0};
    mcp_append(&line, message);
    pthread_mutex_lock(&files->lock);
    buf_append(out, line.data, line.length);
    pthread_mutex_unlock(&files->lock);
    if (write(files->done_fd, "", 1) < 0)
        return; /* it is full: there is something to be taken anyway */
}

/* Answers a call: text is its only block; structured (taken) is its result, NULL: it has failed. */
static void answer_with(struct job *job, const char *text, cJSON *structured)
{
    const cJSON *params = json_member(job->message, "params");
    auto_json cJSON *answer = mcp_answer(json_member(job->message, "id"));
    mcp_add_tool_result(answer, mcp_is_modern(params), text, structured);
    give(job->files, &job->files->to_client, answer);
}

static void fail(struct job *job, const struct hearth_failure *failure, const char *argument)
{
    struct hearth_failure told = *failure;
    char pointer[64];
    snprintf(pointer, sizeof pointer, "/%s", argument);
    hearth_failure_field(&told, pointer);
    cJSON *problem = cli_problem(&told);
    char *text = cJSON_PrintUnformatted(problem);
    answer_with(job, text ? text : "{}", NULL);
    cJSON_free(text);
    cJSON_Delete(problem);
}

/* The command's JSON is the tool's result, or the problem. */
static void write_out(struct job *job, const char *tool, const cJSON *arguments)
{
    auto_buf struct buf out = {0};
    struct hearth_failure failure;
    int status = mcp_output_run(tool, arguments, &out);
    cJSON *told = out.length ? cJSON_ParseWithLength(out.data, out.length) : NULL;
    char *text = told ? cJSON_PrintUnformatted(told) : NULL;
    if (text && status >= 0) {
        answer_with(job, text, status == 0 ? told : NULL);
        if (status == 0)
            told = NULL;
    } else {
        hearth_fail(&failure, HEARTH_EIO, "cannot_write", "the command that writes it has failed");
        fail(job, &failure, "output_path");
    }
    cJSON_free(text);
    cJSON_Delete(told);
}

/* The path that an argument names. What can be none (empty, or too long to be opened) is the
 * daemon's to refuse, as it does for everybody. */
static const char *named_path(const cJSON *arguments, const char *name)
{
    const char *path = json_text(arguments, name, "");
    return *path && strlen(path) < PATH_MAX ? path : NULL;
}

static int upload(struct job *job, cJSON *arguments, const char *path_name, const char *upload_name,
                  struct hearth_failure *failure)
{
    struct endpoint endpoint = copy_endpoint(job->files);
    auto_buf struct buf reply = {0};
    struct http *http = NULL;
    char id[64];
    int error = http_open(&http, &endpoint, failure);
    if (!error)
        error = upload_path(http, json_text(arguments, path_name, NULL), NULL, id, sizeof id,
                            &reply, failure);
    if (!error) {
        auto_free char *absolute = cli_absolute(json_text(arguments, path_name, ""));
        cJSON_AddStringToObject(arguments, upload_name, id);
        cJSON_ReplaceItemInObjectCaseSensitive(arguments, path_name,
                                               cJSON_CreateString(absolute ? absolute : ""));
    }
    endpoint_free(&endpoint);
    http_close(http);
    return error;
}

static void *work(void *arg)
{
    struct job *job = arg;
    cJSON *params = cJSON_GetObjectItemCaseSensitive(job->message, "params");
    cJSON *arguments = cJSON_GetObjectItemCaseSensitive(params, "arguments");
    const char *tool = json_text(params, "name", NULL), *blamed = NULL;
    struct hearth_failure failure;
    char of_secret[48];
    unsigned number = 0;
    cJSON *secret;
    if (mcp_output_concerns_us(tool, arguments, job->files->profile)) {
        write_out(job, tool, arguments);
        job_free(job);
        return NULL;
    }
    for (size_t i = 0; i < sizeof uploads / sizeof *uploads && !blamed; i++)
        if (strcmp(uploads[i].tool, tool) == 0 && named_path(arguments, uploads[i].path) &&
            upload(job, arguments, uploads[i].path, uploads[i].upload, &failure))
            blamed = uploads[i].path;
    cJSON_ArrayForEach(secret, json_member(arguments, "secrets"))
    {
        if (blamed)
            break;
        snprintf(of_secret, sizeof of_secret, "secrets/%u/file_path", number++);
        if (named_path(secret, "file_path") && secret_read(secret, &failure))
            blamed = of_secret;
    }
    if (blamed)
        fail(job, &failure, blamed);
    else
        give(job->files, &job->files->to_daemon, job->message);
    job_free(job);
    return NULL;
}

/* Has the call something for us to do? */
static bool concerns_us(const cJSON *message, const char *profile)
{
    const cJSON *params = json_member(message, "params");
    const cJSON *arguments = json_member(params, "arguments");
    const char *method = json_text(message, "method", NULL),
               *tool = json_text(params, "name", NULL);
    const cJSON *secret;
    if (!method || strcmp(method, "tools/call") != 0 || !tool ||
        !cJSON_HasObjectItem(message, "id"))
        return false;
    if (mcp_output_concerns_us(tool, arguments, profile))
        return named_path(arguments, "output_path");
    for (size_t i = 0; i < sizeof uploads / sizeof *uploads; i++)
        if (strcmp(uploads[i].tool, tool) == 0 && named_path(arguments, uploads[i].path) &&
            !json_text(arguments, uploads[i].upload, NULL))
            return true;
    if (strcmp(tool, "workspace_create") == 0)
        cJSON_ArrayForEach(secret, json_member(arguments, "secrets"))
        {
            if (named_path(secret, "file_path"))
                return true;
        }
    return false;
}

/* Is there an escaped NUL? cJSON's texts end there: a path would be another than the one named. */
static bool holds_nul(const char *line, size_t length)
{
    const char *end = line + length, *at = line;
    while ((at = memmem(at, (size_t)(end - at), "\\u0000", 6))) {
        const char *first = at;
        while (first > line && first[-1] == '\\')
            first--;
        if ((at - first) % 2 == 0)
            return true;
        at++;
    }
    return false;
}

/* Most lines name no path: they are not parsed. */
static bool may_concern_us(const char *line, size_t length)
{
    return memmem(line, length, "_path\"", 6) && memmem(line, length, "tools/call", 10) &&
           !holds_nul(line, length);
}

bool mcp_files_take(struct mcp_files *files, const char *line, size_t length)
{
    pthread_t thread;
    pthread_attr_t attributes;
    cJSON *message = may_concern_us(line, length) ? cJSON_ParseWithLength(line, length) : NULL;
    mcp_keep_ids(message, line, length);
    struct job *job = concerns_us(message, files->profile) ? malloc(sizeof *job) : NULL;
    bool started = false;
    if (job && !pthread_attr_init(&attributes)) {
        *job = (struct job){files, message};
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        started = pthread_create(&thread, &attributes, work, job) == 0;
        pthread_attr_destroy(&attributes);
    }
    if (!started) {
        cJSON_Delete(message);
        free(job);
    }
    return started;
}

void mcp_files_collect(struct mcp_files *files, struct buf *to_daemon, struct buf *to_client)
{
    pthread_mutex_lock(&files->lock);
    buf_append(to_daemon, files->to_daemon.data, files->to_daemon.length);
    buf_append(to_client, files->to_client.data, files->to_client.length);
    buf_clear(&files->to_daemon);
    buf_clear(&files->to_client);
    pthread_mutex_unlock(&files->lock);
}
