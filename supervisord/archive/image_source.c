#include "supervisord/archive/image_source.h"

#include "supervisord/archive/member_name.h"

#include "base/path_at.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_SIZE ((size_t)64 << 10)

static int open_in_directory(struct image_file *file, int dir_fd, const char *name)
{
    struct stat status;
    int fd = path_open_beneath(dir_fd, name, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0)
        return fd;
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
        close(fd);
        return -ENOENT;
    }
    file->fd = fd;
    file->size = (uint64_t)status.st_size;
    return 0;
}

static int find_member(struct image_file *file, const char *name)
{
    char path[MEMBER_PATH_MAX + 1];
    struct archive_entry *entry;
    int result;
    while ((result = archive_read_next_header(file->archive, &entry)) == ARCHIVE_OK ||
           result == ARCHIVE_WARN) {
        const char *found = archive_entry_pathname(entry);
        if (!found || member_name_clean(path, found) != MEMBER_NAME_GOOD || strcmp(path, name) != 0)
            continue;
        if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry))
            return -ENOENT;
        file->size = archive_entry_size(entry) > 0 ? (uint64_t)archive_entry_size(entry) : 0;
        return 0;
    }
    return result == ARCHIVE_EOF ? -ENOENT : -EBADMSG;
}

static int open_in_tar(struct image_file *file, int fd, const char *name)
{
    file->archive = archive_read_new();
    if (!file->archive)
        return -ENOMEM;
    archive_read_support_format_tar(file->archive);
    archive_read_support_filter_gzip(file->archive);
    archive_read_support_filter_zstd(file->archive);
    if (lseek(fd, 0, SEEK_SET) < 0)
        return -errno;
    if (archive_read_open_fd(file->archive, fd, READ_SIZE) != ARCHIVE_OK)
        return -EBADMSG;
    return find_member(file, name);
}

int image_file_open(struct image_file *ret_file, const struct image_source *source,
                    const char *name)
{
    *ret_file = (struct image_file){.fd = -1};
    crypto_hash_sha256_init(&ret_file->hash);
    int error = source->is_directory ? open_in_directory(ret_file, source->fd, name)
                                     : open_in_tar(ret_file, source->fd, name);
    if (error)
        image_file_close(ret_file);
    return error;
}

static ssize_t read_member(struct image_file *file, void *data, size_t size)
{
    while (!file->block_length) {
        la_int64_t offset;
        int result =
            archive_read_data_block(file->archive, &file->block, &file->block_length, &offset);
        if (result == ARCHIVE_EOF)
            return file->offset == file->size ? 0 : -1;
        /* A sparse file is nothing that an image is made of. */
        if (result != ARCHIVE_OK || (uint64_t)offset != file->offset)
            return -1;
    }
    size_t length = size < file->block_length ? size : file->block_length;
    memcpy(data, file->block, length);
    file->block = (const char *)file->block + length;
    file->block_length -= length;
    return (ssize_t)length;
}

ssize_t image_file_read(void *arg, void *data, size_t size)
{
    struct image_file *file = arg;
    ssize_t got = file->archive ? read_member(file, data, size) : read(file->fd, data, size);
    if (got > 0) {
        crypto_hash_sha256_update(&file->hash, data, (size_t)got);
        file->offset += (uint64_t)got;
    }
    return got;
}

int image_file_digest(struct image_file *file, char out[65])
{
    unsigned char value[crypto_hash_sha256_BYTES];
    char data[16384];
    ssize_t got;
    while ((got = image_file_read(file, data, sizeof data)) > 0)
        ;
    crypto_hash_sha256_final(&file->hash, value);
    sodium_bin2hex(out, 65, value, sizeof value);
    return got < 0 ? -EIO : 0;
}

void image_file_close(struct image_file *file)
{
    if (file->archive)
        archive_read_free(file->archive);
    if (file->fd >= 0)
        close(file->fd);
    file->archive = NULL;
    file->fd = -1;
}

char *image_file_text(const struct image_source *source, const char *name, size_t limit,
                      char digest[65])
{
    struct image_file file;
    if (image_file_open(&file, source, name))
        return NULL;
    char *text = file.size <= limit ? malloc((size_t)file.size + 1) : NULL;
    size_t length = 0;
    for (ssize_t got;
         text && length < file.size &&
         (got = image_file_read(&file, text + length, (size_t)file.size - length)) > 0;)
        length += (size_t)got;
    if (text && (length < file.size || image_file_digest(&file, digest))) {
        free(text);
        text = NULL;
    }
    if (text)
        text[length] = '\0';
    image_file_close(&file);
    return text;
}
