#include "cli/download.h"

#include "base/path_at.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

struct download {
    const char *output; /* NULL: stdout */
    int fd;             /* -1 until there is something to write: a failed read leaves no file */
    bool image;
    uint64_t bytes;
    struct hearth_failure failure;
};

static int fail_exists(struct download *download)
{
    int error = hearth_fail(&download->failure, HEARTH_ECONFLICT, "output_exists",
                            "%s is there already", download->output);
    hearth_failure_hint(&download->failure,
                        "Nothing is overwritten: name a path where nothing is.");
    return error;
}

static int open_download(struct download *download)
{
    if (download->fd >= 0)
        return 0;
    int how = O_WRONLY | O_CREAT | O_CLOEXEC | (download->image ? O_EXCL : O_TRUNC);
    download->fd = open(download->output, how, 0666);
    if (download->fd < 0 && errno == EEXIST)
        return fail_exists(download);
    if (download->fd < 0)
        return hearth_fail_errno(&download->failure, errno, "cannot_write", "%s cannot be opened",
                                 download->output);
    return 0;
}

static bool is_hole(const struct download *download, const char *bytes, size_t length)
{
    return download->image && download->output && length && !bytes[0] &&
           memcmp(bytes, bytes + 1, length - 1) == 0 &&
           lseek(download->fd, (off_t)length, SEEK_CUR) >= 0;
}

static int write_download(void *arg, const void *data, size_t length)
{
    struct download *download = arg;
    const char *bytes = data;
    int error = open_download(download);
    if (error)
        return error;
    download->bytes += length;
    if (is_hole(download, bytes, length))
        return 0;
    return path_write_all(download->fd, bytes, length)
               ? hearth_fail_errno(&download->failure, errno, "cannot_write",
                                   "what was read cannot be written")
               : 0;
}

static int finish(struct download *download)
{
    int error = open_download(download);
    if (!error && download->image && download->output &&
        ftruncate(download->fd, (off_t)download->bytes) < 0)
        error = hearth_fail_errno(&download->failure, errno, "cannot_write",
                                  "what was read cannot be written");
    return error;
}

/* The first bytes of a file that has none are none; the daemon has no such range. */
static bool none_there(const char *range, const struct hearth_failure *failure)
{
    return range && strncmp(range, "bytes=0-", 8) == 0 &&
           strcmp(failure->code, "range_not_satisfiable") == 0;
}

static int fetch(struct cli *cli, const struct http_request *request)
{
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    auto_buf struct buf problem = {0};
    int error = cli_open(cli, &failure);
    if (!error)
        error = http_perform(cli->http, request, &problem, &failure);
    if (!error || none_there(request->range, &failure))
        return 0;
    return cli_fail(cli, &failure, &problem);
}

int download(struct cli *cli, const char *path, const char *range, const char *output, bool image,
             uint64_t *ret_bytes)
{
    struct download download = {
        .output = output, .fd = output ? -1 : STDOUT_FILENO, .image = image};
    const struct http_request request = {.method = "GET",
                                         .path = path,
                                         .accept = "application/octet-stream",
                                         .range = range,
                                         .write = write_download,
                                         .write_arg = &download,
                                         .own_failure = &download.failure};
    bool was_there = output && access(output, F_OK) == 0;
    /* Before the daemon makes an image in vain. */
    if (image && was_there) {
        fail_exists(&download);
        return cli_fail(cli, &download.failure, NULL);
    }
    int status = fetch(cli, &request);
    if (status == 0 && finish(&download))
        status = cli_fail(cli, &download.failure, NULL);
    if (output && download.fd >= 0) {
        close(download.fd);
        if (status && !was_there)
            unlink(output);
    }
    *ret_bytes = download.bytes;
    return status;
}
