/* hearth workspace file list|read|write */

#include "cli/command.h"
#include "cli/download.h"
#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define OFFSET_MAX (1L << 50) /* as the daemon's */

static int file_list(struct cli *cli, int argc, char **argv)
{
    static const struct column columns[] = {{"TYPE", "artifact_type"}, {"SIZE", "size_bytes"},
                                            {"MODE", "mode"},          {"PATH", "path"},
                                            {"TARGET", "link_target"}, {NULL, NULL}};
    bool recursive = false;
    const char *limit = NULL, *cursor = NULL;
    const struct option options[] = {
        {"recursive", OPTION_FLAG, &recursive, NULL, "with all that is below"},
        {"limit", OPTION_TEXT, &limit, "N", "at most so many"},
        {"cursor", OPTION_TEXT, &cursor, "CURSOR", "go on from a page's next_cursor"},
        {0}};
    const struct usage usage = {.line = "workspace file list WORKSPACE_ID [PATH] [OPTIONS]",
                                .summary = "Lists a directory (/workspace).",
                                .options = options,
                                .minimum = 1,
                                .maximum = 2};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;

    auto_buf struct buf path = {0}, body = {0};
    auto_json cJSON *result = NULL;
    if (!cli_path(&path, "/v1/workspaces/", words.items[0], "/files", NULL) ||
        !cli_query(&path, "path", words.items[1]) ||
        !cli_query(&path, "recursive", recursive ? "true" : NULL) ||
        !cli_query(&path, "limit", limit) || !cli_query(&path, "cursor", cursor))
        return cli_out_of_memory(cli);
    status = cli_call_json(cli, "GET", path.data, NULL, &body, &result);
    if (status)
        return status;
    const cJSON *entries = json_member(result, "entries");
    if (cli->json)
        output_json(body.data);
    else
        output_table(entries, columns);
    const char *next = json_text(result, "next_cursor", NULL);
    fprintf(stderr, "[workspace-file-list] path=%s count=%d%s%s%s\n", json_text(result, "path", ""),
            cJSON_GetArraySize(entries), next ? " (there are more: --cursor " : "",
            next ? next : "", next ? ")" : "");
    return 0;
}

/* Of a Range header (RFC 9110, 14.1.2); NULL for the whole file. */
static const char *byte_range(char *text, size_t size, long offset, long max_bytes)
{
    if (offset == 0 && max_bytes < 0)
        return NULL;
    if (max_bytes < 0 || max_bytes > OFFSET_MAX)
        snprintf(text, size, "bytes=%ld-", offset);
    else
        snprintf(text, size, "bytes=%ld-%ld", offset, offset + max_bytes - 1);
    return text;
}

static int file_read(struct cli *cli, int argc, char **argv)
{
    const char *encoding = NULL, *output = NULL;
    long offset = 0, max_bytes = -1;
    const struct option options[] = {
        {"offset", OPTION_INTEGER, &offset, "N", "begin at this byte (0)"},
        {"max-bytes", OPTION_INTEGER, &max_bytes, "N", "at most so many (all; with --json 65536)"},
        {"encoding", OPTION_TEXT, &encoding, "NAME", "with --json: utf-8 or base64 (utf-8)"},
        {"output", OPTION_TEXT, &output, "FILE", "into this file instead of stdout"},
        {0}};
    const struct usage usage = {.line = "workspace file read WORKSPACE_ID PATH [OPTIONS]",
                                .summary = "Prints a file's bytes, all of them or a part.",
                                .options = options,
                                .minimum = 2,
                                .maximum = 2};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;
    if (max_bytes == 0)
        return options_fail(&usage, "--max-bytes is 1 or more");
    if (offset > OFFSET_MAX)
        return options_fail(&usage, "--offset is past the end of any file");
    if (encoding && !cli->json)
        return options_fail(&usage,
                            "--encoding is of --json: without it the bytes come as they are");

    auto_buf struct buf path = {0}, body = {0};
    if (!cli_path(&path, "/v1/workspaces/", words.items[0], "/files/content", NULL) ||
        !cli_query(&path, "path", words.items[1]))
        return cli_out_of_memory(cli);
    if (!cli->json) {
        char range[64];
        uint64_t bytes;
        status = download(cli, path.data, byte_range(range, sizeof range, offset, max_bytes),
                          output, false, &bytes);
        if (status == 0)
            fprintf(stderr, "[workspace-file-read] bytes=%llu\n", (unsigned long long)bytes);
        return status;
    }
    if (!cli_query_number(&path, "offset", offset) ||
        !cli_query_number(&path, "max_bytes", max_bytes) || !cli_query(&path, "encoding", encoding))
        return cli_out_of_memory(cli);
    status = cli_call_json(cli, "GET", path.data, NULL, &body, NULL);
    if (status == 0)
        output_json(body.data);
    return status;
}

/* What a file is written from: a text, or a descriptor. */
struct source {
    const char *text;
    size_t left;
    int fd;
    struct hearth_failure failure;
};

static ssize_t read_source(void *arg, void *out, size_t size)
{
    struct source *source = arg;
    if (source->text) {
        size_t give = size < source->left ? size : source->left;
        memcpy(out, source->text, give);
        source->text += give;
        source->left -= give;
        return (ssize_t)give;
    }
    ssize_t got;
    do {
        got = read(source->fd, out, size);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return hearth_fail_errno(&source->failure, errno, "cannot_read",
                                 "what is to be written cannot be read");
    return got;
}

static int file_write(struct cli *cli, int argc, char **argv)
{
    static const char *const names[] = {"path", "size_bytes", "bytes_written", NULL};
    const char *text = NULL, *from = NULL, *mode = NULL;
    const struct option options[] = {
        {"text", OPTION_TEXT, &text, "TEXT", "write this"},
        {"from", OPTION_TEXT, &from, "FILE", "write what is in this file; else what stdin gives"},
        {"mode", OPTION_TEXT, &mode, "OCTAL", "permissions (those it has; 0644 for a new one)"},
        {0}};
    const struct usage usage = {.line = "workspace file write WORKSPACE_ID PATH [OPTIONS]",
                                .summary = "Writes a file, whole or not at all.",
                                .options = options,
                                .minimum = 2,
                                .maximum = 2};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;
    if (text && from)
        return options_fail(&usage, "--text and --from exclude each other");

    struct source source = {.text = text, .left = text ? strlen(text) : 0, .fd = STDIN_FILENO};
    auto_close int file = -1;
    if (from) {
        file = open(from, O_RDONLY | O_CLOEXEC);
        if (file < 0) {
            hearth_fail_errno(&source.failure, errno, "cannot_read", "%s cannot be opened", from);
            return cli_fail(cli, &source.failure, NULL);
        }
        source.fd = file;
    }
    auto_buf struct buf path = {0}, body = {0};
    auto_json cJSON *result = NULL;
    if (!cli_path(&path, "/v1/workspaces/", words.items[0], "/files/content", NULL) ||
        !cli_query(&path, "path", words.items[1]) || !cli_query(&path, "mode", mode))
        return cli_out_of_memory(cli);
    const struct http_request request = {.method = "PUT",
                                         .path = path.data,
                                         .read = read_source,
                                         .read_arg = &source,
                                         .content_type = "application/octet-stream",
                                         .own_failure = &source.failure};
    status = cli_call(cli, &request, &body, &result);
    if (status)
        return status;
    if (cli->json)
        output_json(body.data);
    else
        output_summary("workspace-file-write", result, names);
    return 0;
}

const struct command file_commands[] = {{"workspace file", "list", "list a directory", file_list},
                                        {"workspace file", "read", "print a file", file_read},
                                        {"workspace file", "write", "write a file", file_write},
                                        {0}};
