#include "cli/upload.h"

#include "cli/output.h"
#include "cli/progress.h"
#include "cli/tar_pack.h"

#include <stdio.h>

struct packing {
    struct tar_pack *pack;
    struct progress progress;
    struct hearth_failure failure;
};

static ssize_t read_pack(void *arg, void *out, size_t size)
{
    struct packing *packing = arg;
    struct tar_pack_stats stats;
    ssize_t got = tar_pack_read(packing->pack, out, size, &packing->failure);
    tar_pack_stats(packing->pack, &stats);
    if (packing->progress.terminal)
        progress_update(&packing->progress, "uploading", stats.bytes, 0, true);
    return got;
}

static void warn_skipped(const struct tar_pack *pack)
{
    struct tar_pack_stats stats;
    tar_pack_stats(pack, &stats);
    if (stats.skipped)
        fprintf(stderr, "hearth: left out %llu sockets, pipes or devices\n",
                (unsigned long long)stats.skipped);
}

int upload_directory(struct cli *cli, const char *directory, const struct text_list *excludes,
                     char *ret_id, size_t ret_size)
{
    struct packing packing = {0};
    if (tar_pack_open(&packing.pack, directory, excludes->items, excludes->count, &packing.failure))
        return cli_fail(cli, &packing.failure, NULL);

    progress_begin(&packing.progress, directory);
    auto_json cJSON *result = NULL;
    const struct http_request request = {.method = "POST",
                                         .path = "/v1/uploads",
                                         .read = read_pack,
                                         .read_arg = &packing,
                                         .content_type = "application/x-tar",
                                         .own_failure = &packing.failure};
    int status = cli_call(cli, &request, NULL, &result);
    progress_end(&packing.progress);
    if (status == 0)
        warn_skipped(packing.pack);
    tar_pack_close(packing.pack);
    if (status == 0)
        snprintf(ret_id, ret_size, "%s", json_text(result, "upload_id", ""));
    return status;
}
