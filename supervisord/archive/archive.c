/* hearth-archive: reads what a tenant sent, in a process that can do nothing else.
 *
 *   hearth-archive check --entries N --bytes N    the archive on descriptor 0 → the verdict on 1
 *   hearth-archive tree  --entries N --bytes N    the same → TreeItem messages on 1, verdict on 2
 *   hearth-archive unpack --entries N --bytes N FORMAT DIRECTORY
 *                                                 an image (rootfs, oci, docker) on descriptor 0
 *                                                 into a directory; verdict on 1
 *   hearth-archive pack -- ROOT PATH              a directory below ROOT → a tar on 1 (a file: as
 *                                                 it is), or a reason on 2
 *   hearth-archive read-small -- ROOT PATH        a file below ROOT, its beginning → 1, or a reason
 *                                                 on 2
 *   hearth-archive put -- ROOT PATH               the daemon's tar on 0 → one new thing below ROOT
 *   hearth-archive put-file -- ROOT PATH          "SIZE\n" and so many bytes on 0 → a new file
 *   hearth-archive digest DIRECTORY               a manifest on 1, verdict on 2 (not confined: it
 *                                                 reads a tree, and as its owner)
 *
 * The verdict is one line: "good ENTRIES BYTES COMPRESSION" (DIGEST; put: what was put), or
 * "refused CODE DETAIL" with exit status 1. */
#include "supervisord/archive/confine.h"
#include "supervisord/archive/digest.h"
#include "supervisord/archive/frames.h"
#include "supervisord/archive/image.h"
#include "supervisord/archive/pack.h"
#include "supervisord/archive/put.h"
#include "supervisord/archive/read_small.h"
#include "supervisord/archive/reader.h"

#include <getopt.h>
#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENTRIES_DEFAULT 100000
#define BYTES_DEFAULT ((uint64_t)16 << 30)

static _Noreturn void usage(void)
{
    fprintf(stderr, "usage: hearth-archive check|tree [--entries N] [--bytes N]\n"
                    "       hearth-archive pack|read-small|put|put-file -- ROOT PATH\n"
                    "       hearth-archive unpack [--entries N] [--bytes N] FORMAT DIRECTORY\n"
                    "       hearth-archive digest DIRECTORY\n");
    _exit(2);
}

static uint64_t number(const char *text)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end)
        usage();
    return value;
}

static void parse_limits(int argc, char **argv, struct reader_limits *limits)
{
    static const struct option options[] = {
        {"entries", required_argument, NULL, 'e'}, {"bytes", required_argument, NULL, 'b'}, {0}};
    *limits = (struct reader_limits){.max_entries = ENTRIES_DEFAULT, .max_bytes = BYTES_DEFAULT};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'e')
            limits->max_entries = number(optarg);
        else if (option == 'b')
            limits->max_bytes = number(optarg);
        else
            usage();
    }
}

static const struct reader_source input = {.fd = STDIN_FILENO};

static int tell(int fd, const struct reader_verdict *verdict)
{
    if (verdict->good)
        dprintf(fd, "good %" PRIu64 " %" PRIu64 " %s\n", verdict->entry_count,
                verdict->content_bytes, verdict->compression);
    else
        dprintf(fd, "refused %s %s\n", verdict->code, verdict->detail);
    return verdict->good ? 0 : 1;
}

static int run_tree(const struct reader_limits *limits)
{
    struct frames frames;
    struct reader_verdict verdict = {.code = "archive_too_large", .detail = "out of memory"};
    if (frames_open(&frames, stdout) < 0)
        return tell(STDERR_FILENO, &verdict);
    struct reader_visitor visitor = {
        .on_member = frames_member, .on_data = frames_data, .arg = &frames};
    reader_run(&input, limits, &visitor, &verdict);
    if (!frames_close(&frames) && verdict.good)
        verdict = (struct reader_verdict){.code = "archive_abandoned",
                                          .detail = "nobody took what was read"};
    return tell(STDERR_FILENO, &verdict);
}

static int run_check(const struct reader_limits *limits)
{
    struct reader_verdict verdict;
    reader_run(&input, limits, NULL, &verdict);
    return tell(STDOUT_FILENO, &verdict);
}

static int run_digest(const char *directory)
{
    struct digest_result result;
    char *path;
    int error = digest_tree(directory, stdout, &result, &path);
    if (error)
        fprintf(stderr, "refused tree_unreadable %s: %s\n", path ? path : ".", strerror(-error));
    else
        fprintf(stderr, "good %" PRIu64 " %" PRIu64 " %s\n", result.entry_count, result.size_bytes,
                result.digest);
    return error ? 1 : 0;
}

static int run_unpack(const char *format_name, const char *directory,
                      const struct reader_limits *wanted)
{
    static const char *const names[] = {[IMAGE_ROOTFS_TAR] = "rootfs",
                                        [IMAGE_OCI_LAYOUT] = "oci",
                                        [IMAGE_DOCKER_ARCHIVE] = "docker"};
    struct reader_limits limits = *wanted;
    struct reader_verdict verdict;
    struct stat status;
    size_t format = 0;
    while (format < sizeof names / sizeof names[0] && strcmp(names[format], format_name) != 0)
        format++;
    if (format == sizeof names / sizeof names[0] || fstat(STDIN_FILENO, &status) < 0)
        usage();
    limits.root_filesystem = true;
    confine_unpacker(directory, STDIN_FILENO);
    struct image_source source = {.fd = STDIN_FILENO, .is_directory = S_ISDIR(status.st_mode)};
    image_unpack(&source, (enum image_format)format, &limits, &verdict);
    return tell(STDOUT_FILENO, &verdict);
}

int main(int argc, char **argv)
{
    struct reader_limits limits;
    const char *mode = argc > 1 ? argv[1] : "";
    setlocale(LC_CTYPE, "C.UTF-8"); /* names come as they are stored */
    parse_limits(argc - 1, argv + 1, &limits);
    char **words = argv + 1 + optind;
    int count = argc - 1 - optind;
    if (strcmp(mode, "digest") == 0 && count == 1)
        return run_digest(words[0]);
    /* Without exit handlers: what they do is of no use in there. */
    if (strcmp(mode, "unpack") == 0 && count == 2)
        _exit(run_unpack(words[0], words[1], &limits));
    if (strcmp(mode, "pack") == 0 && count == 2)
        _exit(pack_run(words[0], words[1]));
    if (strcmp(mode, "read-small") == 0 && count == 2)
        _exit(read_small_run(words[0], words[1]));
    if (strcmp(mode, "put") == 0 && count == 2)
        _exit(put_tree(words[0], words[1]));
    if (strcmp(mode, "put-file") == 0 && count == 2)
        _exit(put_file(words[0], words[1]));
    if (count || (strcmp(mode, "check") != 0 && strcmp(mode, "tree") != 0))
        usage();
    confine_reader();
    _exit(strcmp(mode, "check") == 0 ? run_check(&limits) : run_tree(&limits));
}
