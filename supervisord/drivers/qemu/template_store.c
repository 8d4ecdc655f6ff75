#include "supervisord/drivers/qemu/template_store.h"

#include "base/cleanup.h"
#include "base/path_at.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIRECTORY "templates"
#define ABOUT "about"
#define ABOUT_FORMAT "template 1\nboot %s\ndigest %s\nkey %s\n"
#define ABOUT_SIZE (TEMPLATE_KEY_SIZE + 256)
#define NAME_BYTES 16
#define DIGEST_BYTES 32
#define HEX_SIZE(bytes) (2 * (bytes) + 1)
#define PIECE ((size_t)1 << 20)

static const char *const file_names[TEMPLATE_FILES] = {"memory", "state", "disk"};

int template_memory_file(int file, uint64_t size)
{
    static const char *const names[TEMPLATE_FILES] = {
        "hearth-template-ram", "hearth-template-state", "hearth-template-disk"};
    auto_close int fd = memfd_create(names[file], MFD_CLOEXEC | MFD_ALLOW_SEALING);
    /* QEMU is another user. */
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0 || fchmod(fd, 0666) < 0)
        return -errno;
    return steal_fd(&fd);
}

int template_seal(const int fds[TEMPLATE_FILES])
{
    for (int file = 0; file < TEMPLATE_FILES; file++)
        if (fcntl(fds[file], F_ADD_SEALS,
                  F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
            return -errno;
    return 0;
}

/* --- copying, with holes left out, and the digest of what is there --- */

static bool is_zero(const char *data, size_t length)
{
    return !*data && memcmp(data, data + 1, length - 1) == 0;
}

/* File systems differ in what of a hole they tell: only what is not zero is copied and counts. */
static int copy_piece(int from, int to, off_t offset, size_t length, char *buffer,
                      crypto_generichash_state *digest)
{
    const uint64_t where[] = {(uint64_t)offset, length};
    ssize_t got = pread(from, buffer, length, offset);
    if (got != (ssize_t)length)
        return got < 0 ? -errno : -EIO;
    if (is_zero(buffer, length))
        return 0;
    ssize_t put = pwrite(to, buffer, length, offset);
    if (put != (ssize_t)length)
        return put < 0 ? -errno : -ENOSPC;
    crypto_generichash_update(digest, (const void *)where, sizeof where);
    crypto_generichash_update(digest, (const void *)buffer, length);
    return 0;
}

static int copy_file(int from, int to, char *buffer, crypto_generichash_state *digest)
{
    struct stat status;
    if (fstat(from, &status) < 0 || ftruncate(to, status.st_size) < 0)
        return -errno;
    crypto_generichash_update(digest, (const void *)&status.st_size, sizeof status.st_size);
    for (off_t at = 0; at < status.st_size;) {
        off_t data = lseek(from, at, SEEK_DATA);
        if (data < 0)
            return errno == ENXIO ? 0 : -errno; /* the rest is a hole */
        at = data - data % (off_t)PIECE;
        off_t left = status.st_size - at;
        int error =
            copy_piece(from, to, at, left < (off_t)PIECE ? (size_t)left : PIECE, buffer, digest);
        if (error)
            return error;
        at += (off_t)PIECE;
    }
    return 0;
}

static int copy_all(const int from[TEMPLATE_FILES], const int to[TEMPLATE_FILES],
                    char out[HEX_SIZE(DIGEST_BYTES)])
{
    unsigned char bytes[DIGEST_BYTES];
    crypto_generichash_state digest;
    auto_free char *buffer = malloc(PIECE);
    int error = buffer ? 0 : -ENOMEM;
    crypto_generichash_init(&digest, NULL, 0, sizeof bytes);
    for (int file = 0; file < TEMPLATE_FILES && !error; file++)
        error = copy_file(from[file], to[file], buffer, &digest);
    crypto_generichash_final(&digest, bytes, sizeof bytes);
    sodium_bin2hex(out, HEX_SIZE(DIGEST_BYTES), bytes, sizeof bytes);
    return error;
}

/* --- names --- */

static void name_of(const char *key, char out[HEX_SIZE(NAME_BYTES)])
{
    unsigned char bytes[NAME_BYTES];
    crypto_generichash(bytes, sizeof bytes, (const void *)key, strlen(key), NULL, 0);
    sodium_bin2hex(out, HEX_SIZE(NAME_BYTES), bytes, sizeof bytes);
}

void template_close_files(int fds[TEMPLATE_FILES])
{
    for (int file = 0; file < TEMPLATE_FILES; file++) {
        cleanup_close(&fds[file]);
        fds[file] = -1;
    }
}

/* --- putting --- */

static int write_files(int directory, const char *boot_id, const char *key,
                       const int fds[TEMPLATE_FILES])
{
    int files[TEMPLATE_FILES] = {-1, -1, -1}, error = 0;
    char digest[HEX_SIZE(DIGEST_BYTES)], about[ABOUT_SIZE];
    for (int file = 0; file < TEMPLATE_FILES && !error; file++) {
        files[file] = openat(directory, file_names[file],
                             O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        error = files[file] < 0 ? -errno : 0;
    }
    if (!error)
        error = copy_all(fds, files, digest);
    template_close_files(files);
    if (error)
        return error;
    int length = snprintf(about, sizeof about, ABOUT_FORMAT, boot_id, digest, key);
    auto_close int fd =
        openat(directory, ABOUT, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd < 0 ? -errno : write(fd, about, (size_t)length) != length ? -ENOSPC : 0;
}

/* Not synced: after a power cut it is of another boot, and not taken. */
int template_store_put(int machines_fd, const char *boot_id, const char *key,
                       const int fds[TEMPLATE_FILES])
{
    char name[HEX_SIZE(NAME_BYTES)], temporary[sizeof name + 4];
    if (strchr(key, '\n') || strlen(key) >= TEMPLATE_KEY_SIZE)
        return -EINVAL;
    if (mkdirat(machines_fd, DIRECTORY, 0700) < 0 && errno != EEXIST)
        return -errno;
    auto_close int templates = path_open_directory(machines_fd, DIRECTORY);
    if (templates < 0)
        return templates;
    name_of(key, name);
    snprintf(temporary, sizeof temporary, "%s.new", name);
    int error = path_remove_tree(templates, temporary);
    if (!error && mkdirat(templates, temporary, 0700) < 0)
        error = -errno;
    if (!error) {
        auto_close int directory = path_open_directory(templates, temporary);
        error = directory < 0 ? directory : write_files(directory, boot_id, key, fds);
    }
    if (!error)
        error = path_remove_tree(templates, name);
    if (!error && renameat(templates, temporary, templates, name) < 0)
        error = -errno;
    if (error)
        (void)path_remove_tree(templates, temporary);
    return error;
}

void template_store_remove(int machines_fd, const char *key)
{
    char path[sizeof DIRECTORY + HEX_SIZE(NAME_BYTES)] = DIRECTORY "/";
    name_of(key, path + strlen(path));
    (void)path_remove_tree(machines_fd, path);
}

/* --- getting --- */

struct about {
    char boot_id[40], digest[HEX_SIZE(DIGEST_BYTES)], key[TEMPLATE_KEY_SIZE];
};

static int read_about(int directory, struct about *ret_about)
{
    char text[ABOUT_SIZE];
    if (path_read_small(directory, ABOUT, text, sizeof text) <= 0)
        return -ENOENT;
    char *key = strstr(text, "\nkey "), *end = key ? strchr(key + 1, '\n') : NULL;
    if (!end || end[1] || (size_t)(end - key) >= sizeof ret_about->key ||
        sscanf(text, "template 1\nboot %39s\ndigest %64s\nkey ", ret_about->boot_id,
               ret_about->digest) != 2)
        return -EBADMSG;
    *end = '\0';
    snprintf(ret_about->key, sizeof ret_about->key, "%s", key + strlen("\nkey "));
    return 0;
}

static int read_files(int directory, int ret_fds[TEMPLATE_FILES], const char *wanted)
{
    int files[TEMPLATE_FILES] = {-1, -1, -1}, error = 0;
    char digest[HEX_SIZE(DIGEST_BYTES)];
    for (int file = 0; file < TEMPLATE_FILES && !error; file++) {
        files[file] = openat(directory, file_names[file], O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        error = files[file] < 0 ? -errno : 0;
        if (!error && (ret_fds[file] = template_memory_file(file, 0)) < 0)
            error = ret_fds[file];
    }
    if (!error)
        error = copy_all(files, ret_fds, digest);
    template_close_files(files);
    return error ? error : strcmp(digest, wanted) != 0 ? -EBADMSG : 0;
}

int template_store_get(int machines_fd, const char *key, int ret_fds[TEMPLATE_FILES])
{
    char path[sizeof DIRECTORY + HEX_SIZE(NAME_BYTES)] = DIRECTORY "/";
    struct about about;
    for (int file = 0; file < TEMPLATE_FILES; file++)
        ret_fds[file] = -1;
    name_of(key, path + strlen(path));
    auto_close int directory = path_open_directory(machines_fd, path);
    int error = directory < 0 ? directory : read_about(directory, &about);
    if (!error && strcmp(about.key, key) != 0)
        error = -EBADMSG;
    if (!error)
        error = read_files(directory, ret_fds, about.digest);
    if (!error)
        error = template_seal(ret_fds);
    if (error)
        template_close_files(ret_fds);
    return error;
}

/* --- the daemon's start --- */

struct found {
    struct timespec time;
    struct about about;
};

static int by_age(const void *left, const void *right)
{
    const struct timespec *a = &((const struct found *)left)->time,
                          *b = &((const struct found *)right)->time;
    return a->tv_sec != b->tv_sec ? (a->tv_sec < b->tv_sec ? -1 : 1)
                                  : (a->tv_nsec > b->tv_nsec) - (a->tv_nsec < b->tv_nsec);
}

/* False: it is of no use. */
static bool look(int templates, const char *name, const char *boot_id, struct found *ret_found)
{
    char right[HEX_SIZE(NAME_BYTES)];
    struct stat status;
    auto_close int directory = path_open_directory(templates, name);
    if (directory < 0 || fstat(directory, &status) < 0 || read_about(directory, &ret_found->about))
        return false;
    ret_found->time = status.st_mtim;
    name_of(ret_found->about.key, right);
    return strcmp(right, name) == 0 && strcmp(ret_found->about.boot_id, boot_id) == 0;
}

void template_store_each(int machines_fd, const char *boot_id,
                         void (*visit)(void *arg, const char *key), void *arg)
{
    struct found *all = NULL;
    size_t count = 0;
    int templates = path_open_directory(machines_fd, DIRECTORY);
    auto_closedir DIR *directory = templates < 0 ? NULL : fdopendir(templates);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        if (entry->d_name[0] == '.')
            continue;
        struct found *grown = realloc(all, (count + 1) * sizeof *all);
        if (!grown)
            break;
        all = grown;
        if (look(templates, entry->d_name, boot_id, &all[count]))
            count++;
        else
            (void)path_remove_tree(templates, entry->d_name);
    }
    if (count)
        qsort(all, count, sizeof *all, by_age);
    for (size_t i = 0; i < count; i++)
        visit(arg, all[i].about.key);
    free(all);
}
