#include "supervisord/archive/digest.h"

#include "base/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define READ_SIZE ((size_t)256 << 10)
#define DEPTH_MAX 128

struct digest {
    FILE *out;
    crypto_hash_sha256_state hash;
    struct digest_result *result;
    unsigned char *data; /* READ_SIZE bytes */
    char path[PATH_MAX]; /* of the entry at hand, below the tree */
};

static void put(struct digest *digest, const char *text, size_t length)
{
    crypto_hash_sha256_update(&digest->hash, (const unsigned char *)text, length);
    fwrite(text, 1, length, digest->out);
}

/* Bytes that would end a field are written as \ooo. */
static void put_name(struct digest *digest, const char *name)
{
    char escaped[8];
    for (const char *at = name; *at; at++) {
        unsigned char byte = (unsigned char)*at;
        if (byte > ' ' && byte != 0x7f && byte != '\\')
            put(digest, at, 1);
        else
            put(digest, escaped, (size_t)snprintf(escaped, sizeof escaped, "\\%03o", byte));
    }
}

static int hash_file(struct digest *digest, int dir_fd, const char *name, char hex[65])
{
    unsigned char value[crypto_hash_sha256_BYTES];
    crypto_hash_sha256_state state;
    auto_close int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    crypto_hash_sha256_init(&state);
    for (ssize_t got; (got = read(fd, digest->data, READ_SIZE)) != 0;) {
        if (got < 0)
            return -errno;
        crypto_hash_sha256_update(&state, digest->data, (size_t)got);
    }
    crypto_hash_sha256_final(&state, value);
    sodium_bin2hex(hex, 65, value, sizeof value);
    return 0;
}

static char type_letter(mode_t mode)
{
    return S_ISREG(mode)   ? 'f'
           : S_ISDIR(mode) ? 'd'
           : S_ISLNK(mode) ? 'l'
           : S_ISCHR(mode) ? 'c'
           : S_ISBLK(mode) ? 'b'
                           : 'p';
}

static int put_entry(struct digest *digest, int dir_fd, const char *name, const struct stat *status)
{
    char text[128], hex[65], target[PATH_MAX];
    put_name(digest, digest->path);
    put(digest, text,
        (size_t)snprintf(text, sizeof text, " %c %04o %u:%u", type_letter(status->st_mode),
                         (unsigned)status->st_mode & 07777, (unsigned)status->st_uid,
                         (unsigned)status->st_gid));
    if (S_ISREG(status->st_mode)) {
        int error = hash_file(digest, dir_fd, name, hex);
        if (error)
            return error;
        put(digest, text,
            (size_t)snprintf(text, sizeof text, " %lld %s", (long long)status->st_size, hex));
        /* Each name of a file with several has its part. */
        digest->result->size_bytes += (uint64_t)status->st_size / (uint64_t)status->st_nlink;
    } else if (S_ISLNK(status->st_mode)) {
        ssize_t length = readlinkat(dir_fd, name, target, sizeof target - 1);
        if (length < 0)
            return -errno;
        target[length] = '\0';
        put(digest, " ", 1);
        put_name(digest, target);
    } else if (S_ISCHR(status->st_mode) || S_ISBLK(status->st_mode)) {
        put(digest, text,
            (size_t)snprintf(text, sizeof text, " %u:%u", major(status->st_rdev),
                             minor(status->st_rdev)));
    }
    put(digest, "\n", 1);
    digest->result->entry_count++;
    return 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_entry(const struct dirent *file)
{
    return strcmp(file->d_name, ".") != 0 && strcmp(file->d_name, "..") != 0;
}

static int walk(struct digest *digest, int dir_fd, unsigned depth);

static int visit(struct digest *digest, int dir_fd, const char *name, unsigned depth)
{
    struct stat status;
    if (fstatat(dir_fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    int error = put_entry(digest, dir_fd, name, &status);
    if (error || !S_ISDIR(status.st_mode))
        return error;
    auto_close int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : walk(digest, fd, depth + 1);
}

static int walk(struct digest *digest, int dir_fd, unsigned depth)
{
    struct dirent **files;
    size_t length = strlen(digest->path);
    int error = 0,
        count = depth > DEPTH_MAX ? -1 : scandirat(dir_fd, ".", &files, is_entry, by_bytes);
    if (count < 0)
        return depth > DEPTH_MAX ? -ENAMETOOLONG : -errno;
    for (int i = 0; i < count; i++) {
        const char *name = files[i]->d_name;
        if (!error && length + 1 + strlen(name) >= sizeof digest->path)
            error = -ENAMETOOLONG;
        if (!error) {
            sprintf(digest->path + length, "%s%s", length ? "/" : "", name);
            error = visit(digest, dir_fd, name, depth);
        }
        if (!error)
            digest->path[length] = '\0';
        free(files[i]);
    }
    free(files);
    return error;
}

int digest_tree(const char *directory, FILE *out, struct digest_result *ret_result, char **ret_path)
{
    unsigned char value[crypto_hash_sha256_BYTES];
    auto_free struct digest *digest = calloc(1, sizeof *digest);
    auto_free unsigned char *data = malloc(READ_SIZE);
    auto_close int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *ret_path = NULL;
    *ret_result = (struct digest_result){0};
    if (fd < 0)
        return -errno;
    if (!digest || !data)
        return -ENOMEM;
    digest->out = out;
    digest->result = ret_result;
    digest->data = data;
    crypto_hash_sha256_init(&digest->hash);
    int error = walk(digest, fd, 0);
    if (!error && fflush(out) != 0)
        error = -errno;
    if (error)
        *ret_path = strdup(digest->path);
    crypto_hash_sha256_final(&digest->hash, value);
    sodium_bin2hex(ret_result->digest, sizeof ret_result->digest, value, sizeof value);
    return error;
}
