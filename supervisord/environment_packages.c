#include "supervisord/environment_packages.h"

#include "supervisord/environment_internal.h"

#include "base/path_at.h"
#include "base/text.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATUS_FILE "var/lib/dpkg/status"
#define STATUS_MAX ((off_t)32 << 20)
#define PACKAGES_MAX 100000
#define WORD_MAX 255

static bool word_valid(const char *word)
{
    size_t length = word ? strnlen(word, WORD_MAX + 1) : 0;
    for (size_t i = 0; i < length; i++)
        if (!isgraph((unsigned char)word[i]))
            return false;
    return length >= 1 && length <= WORD_MAX;
}

/* The value of line if it is this field, else value. */
static const char *take(const char *line, const char *field, const char *value)
{
    return text_starts_with(line, field) ? line + strlen(field) : value;
}

static int compare(const void *a, const void *b)
{
    const struct environment_package *left = a, *right = b;
    int order = strcmp(left->name, right->name);
    return order ? order : strcmp(left->architecture, right->architecture);
}

static int add(struct environment_package **packages, size_t *count,
               const struct environment_package *package)
{
    if (!(*count & (*count - 1))) { /* full at each power of two */
        void *bigger = realloc(*packages, (*count ? *count * 2 : 1) * sizeof **packages);
        if (!bigger)
            return -1;
        *packages = bigger;
    }
    (*packages)[(*count)++] = *package;
    return 0;
}

struct environment_package *environment_packages_parse(char *text, size_t *ret_count)
{
    struct environment_package *packages = NULL, package = {0};
    const char *status = "";
    size_t count = 0;
    for (char *line; text && count < PACKAGES_MAX;) {
        line = strsep(&text, "\n");
        if (*line) {
            package.name = take(line, "Package: ", package.name);
            package.version = take(line, "Version: ", package.version);
            package.architecture = take(line, "Architecture: ", package.architecture);
            status = take(line, "Status: ", status);
        }
        if (*line && text)
            continue;
        if (strcmp(status, "install ok installed") == 0 && word_valid(package.name) &&
            word_valid(package.version) && word_valid(package.architecture) &&
            add(&packages, &count, &package))
            break;
        package = (struct environment_package){0};
        status = "";
    }
    if (count)
        qsort(packages, count, sizeof *packages, compare);
    *ret_count = count;
    return packages;
}

struct reading {
    int dir_fd;
    char version[ENVIRONMENT_VERSION_SIZE];
    char *text;
    struct environment_package *packages;
    size_t count;
    void (*done)(void *arg, const struct environment_package *packages, size_t count);
    void *arg;
};

/* The tree may be anybody's: what is read is a regular file inside it, and so much at most. */
static char *read_status(const struct reading *reading)
{
    char path[ENVIRONMENT_VERSION_SIZE + 32];
    struct stat stat;
    snprintf(path, sizeof path, "versions/%s/tree", reading->version);
    auto_close int tree_fd = openat(reading->dir_fd, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    auto_close int fd =
        tree_fd < 0 ? -1 : path_open_beneath(tree_fd, STATUS_FILE, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0 || fstat(fd, &stat) < 0 || !S_ISREG(stat.st_mode) || stat.st_size > STATUS_MAX)
        return NULL;
    size_t length = 0, size = (size_t)stat.st_size;
    char *text = malloc(size + 1);
    for (ssize_t got = 1; text && length < size && got > 0; length += got > 0 ? (size_t)got : 0)
        got = read(fd, text + length, size - length);
    if (text)
        text[length] = '\0';
    return text;
}

static void run(void *arg)
{
    struct reading *reading = arg;
    reading->text = read_status(reading);
    if (reading->text)
        reading->packages = environment_packages_parse(reading->text, &reading->count);
}

static void tell(void *arg)
{
    struct reading *reading = arg;
    reading->done(reading->arg, reading->packages, reading->count);
    cleanup_close(&reading->dir_fd);
    free(reading->packages);
    free(reading->text);
    free(reading);
}

void environment_packages(struct environments *environments, const char *version,
                          void (*done)(void *arg, const struct environment_package *packages,
                                       size_t count),
                          void *arg)
{
    struct reading *reading = calloc(1, sizeof *reading);
    if (!reading || !environment_version_valid(version)) {
        free(reading);
        done(arg, NULL, 0);
        return;
    }
    reading->dir_fd = fcntl(environments->dir_fd, F_DUPFD_CLOEXEC, 3);
    snprintf(reading->version, sizeof reading->version, "%s", version);
    reading->done = done;
    reading->arg = arg;
    worker_submit(environments->workers, run, tell, reading);
}
