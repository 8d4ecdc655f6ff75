#include "supervisord/tree/known.h"

#include "base/log.h"
#include "base/path_at.h"
#include "supervisord/tree/codec.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "hearth known 1\n"
#define FILE_MAX ((size_t)512 << 20)

void known_free(struct known *known)
{
    tree_list_free(&known->list);
    *known = (struct known){0};
}

static int encode(const struct known *known, struct buf *out)
{
    unsigned flags = (known->has_root ? 1u : 0) | (known->has_clean ? 2u : 0);
    int error = buf_text(out, MAGIC);
    if (!error)
        error = buf_char(out, (char)flags);
    if (!error)
        error = buf_append(out, known->scan_id, sizeof known->scan_id);
    if (!error)
        error = buf_append(out, &known->root, sizeof known->root);
    if (!error)
        error = buf_append(out, &known->clean, sizeof known->clean);
    const char *previous = "";
    for (size_t i = 0; i < known->list.count && !error; i++) {
        error = tree_entry_encode(out, &known->list.entries[i], previous, true);
        previous = known->list.entries[i].path;
    }
    return error;
}

void known_save(const struct known *known, int dir_fd, const char *name)
{
    auto_buf struct buf bytes = {.limit = FILE_MAX};
    unsigned char hash[32];
    char temporary[80];
    snprintf(temporary, sizeof temporary, "%s.new", name);
    bool done = false;
    if (encode(known, &bytes) == 0) {
        auto_close int fd =
            openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        crypto_generichash(hash, sizeof hash, (unsigned char *)bytes.data, bytes.length, NULL, 0);
        done = fd >= 0 && path_write_all(fd, bytes.data, bytes.length) == 0 &&
               path_write_all(fd, hash, sizeof hash) == 0 &&
               renameat(dir_fd, temporary, dir_fd, name) == 0;
    }
    if (!done) { /* then the old one may not stay either: it is of another tree */
        log_warning("known_tree_not_kept", "%s", name);
        unlinkat(dir_fd, temporary, 0);
        unlinkat(dir_fd, name, 0);
    }
}

static bool decode(struct known *known, const unsigned char *data, size_t length)
{
    size_t fixed =
        strlen(MAGIC) + 1 + sizeof known->scan_id + sizeof known->root + sizeof known->clean;
    if (length < fixed || memcmp(data, MAGIC, strlen(MAGIC)) != 0)
        return false;
    data += strlen(MAGIC);
    known->has_root = data[0] & 1;
    known->has_clean = data[0] & 2;
    memcpy(known->scan_id, data + 1, sizeof known->scan_id);
    known->scan_id[sizeof known->scan_id - 1] = '\0';
    memcpy(&known->root, data + 1 + sizeof known->scan_id, sizeof known->root);
    memcpy(&known->clean, data + 1 + sizeof known->scan_id + sizeof known->root,
           sizeof known->clean);
    struct hearth_failure failure;
    auto_free struct tree_decoder *decoder = calloc(1, sizeof *decoder);
    if (!decoder)
        return false;
    decoder->data = data - strlen(MAGIC) + fixed;
    decoder->length = length - fixed;
    decoder->with_scan = true;
    for (struct tree_entry entry;;) {
        int got = tree_entry_decode(decoder, &entry, &failure);
        if (got <= 0)
            return got == 0;
        if (tree_list_add(&known->list, &entry, &failure))
            return false;
    }
}

static bool read_all(int fd, void *data, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t got = read(fd, (char *)data + done, length - done);
        if (got == 0 || (got < 0 && errno != EINTR))
            return false;
        done += got > 0 ? (size_t)got : 0;
    }
    return true;
}

bool known_load(struct known *known, int dir_fd, const char *name)
{
    unsigned char hash[32];
    struct stat status;
    known_free(known);
    auto_close int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &status) < 0 || (size_t)status.st_size < sizeof hash ||
        (size_t)status.st_size > FILE_MAX)
        return false;
    size_t length = (size_t)status.st_size - sizeof hash;
    auto_free unsigned char *data = malloc(length + sizeof hash);
    if (!data || !read_all(fd, data, length + sizeof hash))
        return false;
    crypto_generichash(hash, sizeof hash, data, length, NULL, 0);
    if (memcmp(hash, data + length, sizeof hash) == 0 && decode(known, data, length))
        return true;
    known_free(known);
    return false;
}
