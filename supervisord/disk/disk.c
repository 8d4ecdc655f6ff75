/* hearth-disk: ext4 images, in a process of its own.
 *
 *   hearth-disk image --seed HEX TREE IMAGE   makes an environment's image of its tree, with the
 *                                             owners that a guest is to see
 *
 * The answer is one line on descriptor 1: "good BYTES", or "failed DETAIL" with exit status 1. */
#include "supervisord/disk/image.h"
#include "supervisord/launch/userns.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static _Noreturn void usage(void)
{
    fprintf(stderr, "usage: hearth-disk image --seed HEX TREE IMAGE\n");
    _exit(2);
}

static void parse_seed(unsigned char seed[IMAGE_SEED_SIZE], const char *hex)
{
    size_t length;
    if (sodium_hex2bin(seed, IMAGE_SEED_SIZE, hex, strlen(hex), NULL, &length, NULL) != 0 ||
        length != IMAGE_SEED_SIZE || strlen(hex) != (size_t)2 * IMAGE_SEED_SIZE)
        usage();
}

static int run_image(const char *seed_text, const char *tree, const char *image)
{
    unsigned char seed[IMAGE_SEED_SIZE];
    uint64_t bytes;
    char detail[384];
    parse_seed(seed, seed_text);
    /* A plain user's tree has that user's IDs: they are the guest's where they are mapped so. */
    if (geteuid() != 0)
        userns_become_root(userns_make(false, 0));
    int error = image_make(tree, image, seed, &bytes, detail, sizeof detail);
    if (error)
        printf("failed %s\n", detail);
    else
        printf("good %" PRIu64 "\n", bytes);
    return error ? 1 : 0;
}

int main(int argc, char **argv)
{
    if (argc == 6 && strcmp(argv[1], "image") == 0 && strcmp(argv[2], "--seed") == 0)
        return run_image(argv[3], argv[4], argv[5]);
    usage();
}
