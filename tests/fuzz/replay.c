/* Runs a fuzz target over the files and directories it is given: how its corpus is a test where
 * there is no libFuzzer. */
#include "fuzz.h"

#include "base/buf.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

static int replay(const char *path)
{
    auto_fclose FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return 1;
    }
    auto_buf struct buf input = {0};
    char chunk[65536];
    for (size_t got; (got = fread(chunk, 1, sizeof chunk, file)) > 0;) {
        if (buf_append(&input, chunk, got) < 0)
            return 1;
    }
    LLVMFuzzerTestOneInput((const uint8_t *)(input.data ? input.data : ""), input.length);
    return 0;
}

int main(int argc, char **argv)
{
    int failed = 0;
    unsigned count = 0;
    for (int i = 1; i < argc; i++) {
        auto_closedir DIR *directory = opendir(argv[i]);
        if (!directory) {
            failed |= replay(argv[i]);
            count++;
            continue;
        }
        for (struct dirent *entry; (entry = readdir(directory));) {
            char path[4096];
            if (entry->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            failed |= replay(path);
            count++;
        }
    }
    printf("%u inputs\n", count);
    return failed || count == 0;
}
