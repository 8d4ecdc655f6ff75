/* hearth-disk: ext4 images and offline disks, in a process of its own.
 *
 *   hearth-disk image --seed HEX TREE IMAGE    makes an environment's image of its tree, with the
 *                                              owners that a guest is to see: "good BYTES", or
 *                                              "failed DETAIL" with exit status 1
 *   hearth-disk export DISK --seed HEX         a stopped guest's root as one image, which is made
 *                                              in descriptor 3, an empty file
 *   hearth-disk list DISK [--recursive] --limit N PATH
 *   hearth-disk read DISK [--offset N] --limit N PATH
 *
 * DISK is --tree DIR --disk DIR [--uid-base N] (a container's), or --overlay FILE --base FILE
 * [--uid-base N] (a machine's; N is the user to be). What the last three say is in answer.h; before
 * they look at what the guest has made, they are confined to it. */
#include "supervisord/archive/confine.h"
#include "supervisord/disk/answer.h"
#include "supervisord/disk/ext4_view.h"
#include "supervisord/disk/image.h"
#include "supervisord/disk/layers.h"
#include "supervisord/disk/tree_view.h"
#include "supervisord/launch/userns.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define EXPORT_FD 3
#define COPY_SIZE ((size_t)256 << 10)

struct order {
    const char *verb;
    struct layers layers;
    const char *overlay, *base;
    unsigned char seed[IMAGE_SEED_SIZE];
    bool has_seed, recursive;
    uint64_t offset, limit;
    char **words;
    int word_count;
};

static _Noreturn void usage(void)
{
    fprintf(stderr, "usage: hearth-disk image --seed HEX TREE IMAGE\n"
                    "       hearth-disk export DISK --seed HEX\n"
                    "       hearth-disk list DISK [--recursive] --limit N PATH\n"
                    "       hearth-disk read DISK [--offset N] --limit N PATH\n"
                    "DISK: --tree DIR --disk DIR [--uid-base N], or\n"
                    "      --overlay FILE --base FILE [--uid-base N]\n");
    _exit(2);
}

static uint64_t number(const char *text)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno)
        usage();
    return value;
}

static void parse_seed(struct order *order, const char *hex)
{
    size_t length;
    if (sodium_hex2bin(order->seed, IMAGE_SEED_SIZE, hex, strlen(hex), NULL, &length, NULL) != 0 ||
        length != IMAGE_SEED_SIZE || strlen(hex) != (size_t)2 * IMAGE_SEED_SIZE)
        usage();
    order->has_seed = true;
}

static void parse(int argc, char **argv, struct order *order)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},    {"tree", required_argument, NULL, 't'},
        {"disk", required_argument, NULL, 'd'},    {"uid-base", required_argument, NULL, 'u'},
        {"overlay", required_argument, NULL, 'v'}, {"base", required_argument, NULL, 'b'},
        {"recursive", no_argument, NULL, 'r'},     {"limit", required_argument, NULL, 'l'},
        {"offset", required_argument, NULL, 'o'},  {0},
    };
    *order = (struct order){.verb = argc > 1 ? argv[1] : ""};
    for (int option; (option = getopt_long(argc - 1, argv + 1, "", options, NULL)) != -1;) {
        switch (option) {
        case 's':
            parse_seed(order, optarg);
            break;
        case 't':
            order->layers.tree = optarg;
            break;
        case 'd':
            order->layers.disk = optarg;
            break;
        case 'v':
            order->overlay = optarg;
            break;
        case 'b':
            order->base = optarg;
            break;
        case 'u':
            order->layers.as_root = true;
            order->layers.uid_base = (uid_t)number(optarg);
            break;
        case 'r':
            order->recursive = true;
            break;
        case 'l':
            order->limit = number(optarg);
            break;
        case 'o':
            order->offset = number(optarg);
            break;
        default:
            usage();
        }
    }
    order->words = argv + 1 + optind;
    order->word_count = argc - 1 - optind;
}

static int run_image(const struct order *order)
{
    uint64_t bytes;
    char detail[384];
    const char *tree = order->words[0], *path = order->words[1];
    /* A plain user's tree has that user's IDs: they are the guest's where they are mapped so. */
    if (geteuid() != 0)
        userns_become_root(userns_make(false, 0));
    auto_close int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    int error = fd < 0 ? -errno : 0;
    if (error)
        snprintf(detail, sizeof detail, "cannot make the image: %s", strerror(-error));
    else if ((error = image_make(fd, tree, order->seed, &bytes, detail, sizeof detail)))
        unlink(path);
    if (error)
        printf("failed %s\n", detail);
    else
        printf("good %" PRIu64 "\n", bytes);
    return error ? 1 : 0;
}

static void send_image(int fd, uint64_t bytes)
{
    static char data[COPY_SIZE];
    int length = snprintf(data, sizeof data, "good %" PRIu64 "\n", bytes);
    answer_bytes(data, (size_t)length);
    for (uint64_t at = 0; at < bytes;) {
        ssize_t got = pread(fd, data, sizeof data, (off_t)at);
        if (got <= 0)
            _exit(1);
        answer_bytes(data, (size_t)got);
        at += (uint64_t)got;
    }
}

static void export_layers(const struct order *order)
{
    uint64_t bytes;
    char detail[384];
    layers_enter(&order->layers);
    confine_image_maker(EXPORT_FD);
    int error = image_make(EXPORT_FD, LAYERS_ROOT, order->seed, &bytes, detail, sizeof detail);
    if (error)
        answer_refuse(error == -ENOSPC ? "no_space" : "disk_unreadable", detail);
    send_image(EXPORT_FD, bytes);
}

static void view_layers(const struct order *order, bool list)
{
    const char *path = order->words[0];
    layers_enter(&order->layers);
    confine_walker(LAYERS_ROOT);
    if (list)
        tree_list(path, order->recursive, (unsigned)order->limit);
    else
        tree_read(path, order->offset, order->limit);
}

/* --- machines --- */

struct files {
    int overlay, base;
};

static struct files open_files(const struct order *order)
{
    struct files files = {.overlay = open(order->overlay, O_RDONLY | O_NOFOLLOW | O_CLOEXEC),
                          .base = open(order->base, O_RDONLY | O_CLOEXEC)};
    if (files.overlay < 0 || files.base < 0)
        answer_refuse("disk_unreadable", strerror(errno));
    return files;
}

static void open_machine_disk(struct qcow2 *disk, const struct files *files)
{
    int error = qcow2_open(disk, files->overlay, files->base);
    if (error)
        answer_refuse("disk_unreadable",
                      error == -EBADMSG ? "its overlay is not what QEMU makes" : strerror(-error));
}

static void view_machine(const struct order *order, bool list)
{
    struct qcow2 disk;
    struct files files = open_files(order);
    confine_reader();
    open_machine_disk(&disk, &files);
    if (list)
        ext4_list(&disk, order->words[0], order->recursive, (unsigned)order->limit);
    else
        ext4_read(&disk, order->words[0], order->offset, order->limit);
}

/* Zeros become holes. */
static void copy_disk(struct qcow2 *disk, int fd)
{
    static char data[COPY_SIZE];
    for (uint64_t at = 0; at < disk->size; at += sizeof data) {
        size_t length = disk->size - at < sizeof data ? (size_t)(disk->size - at) : sizeof data;
        int error = qcow2_read(disk, at, data, length);
        if (!error && (data[0] || memcmp(data, data + 1, length - 1) != 0) &&
            pwrite(fd, data, length, (off_t)at) != (ssize_t)length)
            error = errno ? -errno : -ENOSPC;
        if (error)
            answer_refuse(error == -ENOSPC ? "no_space" : "disk_unreadable", strerror(-error));
    }
    if (ftruncate(fd, (off_t)disk->size) < 0)
        answer_refuse_errno(errno);
}

static void export_machine(const struct order *order)
{
    struct qcow2 disk;
    char detail[384];
    struct files files = open_files(order);
    if (order->layers.as_root)
        confine_user(order->layers.uid_base);
    confine_image_maker(EXPORT_FD);
    open_machine_disk(&disk, &files);
    copy_disk(&disk, EXPORT_FD);
    if (image_repair(EXPORT_FD, detail, sizeof detail))
        answer_refuse("disk_unreadable", detail);
    send_image(EXPORT_FD, disk.size);
}

int main(int argc, char **argv)
{
    struct order order;
    parse(argc, argv, &order);
    if (strcmp(order.verb, "image") == 0 && order.has_seed && order.word_count == 2)
        return run_image(&order);
    bool list = strcmp(order.verb, "list") == 0;
    bool machine = order.overlay && order.base;
    if (machine == (order.layers.tree && order.layers.disk))
        usage();
    if (strcmp(order.verb, "export") == 0 && order.has_seed && order.word_count == 0)
        (machine ? export_machine : export_layers)(&order);
    else if ((list || strcmp(order.verb, "read") == 0) && order.word_count == 1 &&
             order.words[0][0] == '/')
        (machine ? view_machine : view_layers)(&order, list);
    else
        usage();
    /* Without exit handlers: what they do is of no use in there. */
    fflush(stdout);
    _exit(0);
}
