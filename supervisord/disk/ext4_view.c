#include "supervisord/disk/ext4_view.h"

#include "supervisord/disk/answer.h"

#include "base/cleanup.h"

#include <errno.h>
#include <ext2fs/ext2fs.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 256
#define NAMES_MAX ((size_t)200000) /* of one directory */
#define READ_SIZE ((size_t)64 << 10)

static struct qcow2 *the_disk; /* the library opens a device by its name, and there is one */

static _Noreturn void refuse(errcode_t error)
{
    switch (error) {
    case EXT2_ET_FILE_NOT_FOUND:
        answer_refuse_errno(ENOENT);
    case EXT2_ET_NO_DIRECTORY:
        answer_refuse_errno(ENOTDIR);
    case EXT2_ET_SYMLINK_LOOP:
        answer_refuse_errno(ELOOP);
    default:
        answer_refuse("disk_unreadable", error_message(error));
    }
}

/* --- the disk, as the library sees one --- */

static struct struct_io_manager manager;

static errcode_t disk_open(const char *name, int flags, io_channel *ret_channel)
{
    (void)name;
    (void)flags;
    io_channel channel = calloc(1, sizeof *channel);
    if (!channel)
        return EXT2_ET_NO_MEMORY;
    channel->magic = EXT2_ET_MAGIC_IO_CHANNEL;
    channel->manager = &manager;
    channel->name = strdup("disk");
    channel->block_size = 1024;
    channel->refcount = 1;
    *ret_channel = channel;
    return 0;
}

static errcode_t disk_close(io_channel channel)
{
    if (--channel->refcount > 0)
        return 0;
    free(channel->name);
    free(channel);
    return 0;
}

static errcode_t disk_set_block_size(io_channel channel, int size)
{
    channel->block_size = size;
    return 0;
}

/* A negative count is one of bytes. */
static errcode_t disk_read_blocks(io_channel channel, unsigned long long block, int count,
                                  void *data)
{
    size_t length =
        count < 0 ? (size_t) - (long)count : (size_t)count * (size_t)channel->block_size;
    if (block > (unsigned long long)INT64_MAX / (unsigned)channel->block_size)
        return EXT2_ET_BAD_BLOCK_NUM;
    int error = qcow2_read(the_disk, block * (unsigned)channel->block_size, data, length);
    return error == -EBADMSG ? EXT2_ET_SHORT_READ : -error;
}

static errcode_t disk_read_block(io_channel channel, unsigned long block, int count, void *data)
{
    return disk_read_blocks(channel, block, count, data);
}

static errcode_t disk_write_block(io_channel channel, unsigned long block, int count,
                                  const void *data)
{
    (void)channel;
    (void)block;
    (void)count;
    (void)data;
    return EXT2_ET_RO_FILSYS;
}

static errcode_t disk_flush(io_channel channel)
{
    (void)channel;
    return 0;
}

static struct struct_io_manager manager = {
    .magic = EXT2_ET_MAGIC_IO_MANAGER,
    .name = "a machine's disk",
    .open = disk_open,
    .close = disk_close,
    .set_blksize = disk_set_block_size,
    .read_blk = disk_read_block,
    .read_blk64 = disk_read_blocks,
    .write_blk = disk_write_block,
    .flush = disk_flush,
};

static ext2_filsys open_file_system(struct qcow2 *disk)
{
    ext2_filsys fs;
    the_disk = disk;
    errcode_t error =
        ext2fs_open("disk", EXT2_FLAG_64BITS | EXT2_FLAG_SOFTSUPP_FEATURES, 0, 0, &manager, &fs);
    if (error)
        refuse(error);
    return fs;
}

static ext2_ino_t find(ext2_filsys fs, const char *path, struct ext2_inode *ret_inode)
{
    ext2_ino_t number;
    errcode_t error = ext2fs_namei_follow(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, &number);
    if (!error)
        error = ext2fs_read_inode(fs, number, ret_inode);
    if (error)
        refuse(error);
    return number;
}

/* --- listing --- */

struct name {
    ext2_ino_t inode;
    char *text;
};

struct names {
    struct name *items;
    size_t count, room;
    bool more;
};

static int collect(ext2_ino_t directory, int entry, struct ext2_dir_entry *file, int offset,
                   int block_size, char *buffer, void *arg)
{
    struct names *names = arg;
    int length = ext2fs_dirent_name_len(file);
    (void)directory;
    (void)offset;
    (void)block_size;
    (void)buffer;
    if (entry != DIRENT_OTHER_FILE || !file->inode || length <= 0 || length > NAME_MAX ||
        memchr(file->name, '/', (size_t)length) || memchr(file->name, '\0', (size_t)length))
        return 0;
    if (names->count == NAMES_MAX) {
        names->more = true;
        return DIRENT_ABORT;
    }
    if (names->count == names->room) {
        size_t room = names->room ? 2 * names->room : 64;
        struct name *bigger = realloc(names->items, room * sizeof *bigger);
        if (!bigger)
            _exit(1);
        names->items = bigger;
        names->room = room;
    }
    char *text = strndup(file->name, (size_t)length);
    if (!text)
        _exit(1);
    names->items[names->count++] = (struct name){file->inode, text};
    return 0;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(((const struct name *)a)->text, ((const struct name *)b)->text);
}

/* What is no target that the kernel would follow is told as none. */
static void read_target(ext2_filsys fs, ext2_ino_t number, struct ext2_inode *inode,
                        char out[PATH_MAX])
{
    ext2_file_t file;
    unsigned got = 0;
    uint64_t size = EXT2_I_SIZE(inode);
    out[0] = '\0';
    if (!size || size >= PATH_MAX)
        return;
    if (ext2fs_is_fast_symlink(inode)) {
        if (size <= sizeof inode->i_block)
            memcpy(out, inode->i_block, got = (unsigned)size);
    } else if (ext2fs_file_open2(fs, number, inode, 0, &file) == 0) {
        if (ext2fs_file_read(file, out, (unsigned)size, &got))
            got = 0;
        ext2fs_file_close(file);
    }
    out[got] = '\0';
}

struct listing {
    struct answer_list answer;
    ext2_filsys fs;
    bool recursive;
    char path[PATH_MAX + NAME_MAX + 2];
};

static bool list_directory(struct listing *listing, ext2_ino_t number, unsigned depth);

/* False where the listing is full. */
static bool list_entry(struct listing *listing, ext2_ino_t number, unsigned depth)
{
    char target[PATH_MAX] = "";
    struct ext2_inode inode;
    if (ext2fs_read_inode(listing->fs, number, &inode)) {
        listing->answer.more = true;
        return true;
    }
    if (LINUX_S_ISLNK(inode.i_mode))
        read_target(listing->fs, number, &inode, target);
    const struct answer_entry entry = {
        .path = listing->path,
        .target = target,
        .mode = inode.i_mode,
        .size = LINUX_S_ISREG(inode.i_mode) ? EXT2_I_SIZE(&inode) & INT64_MAX : 0,
        .seconds = (int32_t)inode.i_mtime,
    };
    if (!answer_add(&listing->answer, &entry))
        return false;
    if (!listing->recursive || !LINUX_S_ISDIR(inode.i_mode))
        return true;
    if (depth == DEPTH_MAX) {
        listing->answer.more = true;
        return true;
    }
    return list_directory(listing, number, depth + 1);
}

static bool list_directory(struct listing *listing, ext2_ino_t number, unsigned depth)
{
    struct names names = {0};
    size_t length = strlen(listing->path);
    errcode_t error = ext2fs_dir_iterate2(listing->fs, number, 0, NULL, collect, &names);
    if (error && depth == 0)
        refuse(error);
    listing->answer.more |= names.more || error;
    if (names.count)
        qsort(names.items, names.count, sizeof *names.items, by_bytes);
    bool room = true;
    for (size_t i = 0; i < names.count; i++) {
        if (length + 1 + strlen(names.items[i].text) >= PATH_MAX) {
            listing->answer.more = true;
        } else if (room) {
            sprintf(listing->path + length, "/%s", names.items[i].text);
            room = list_entry(listing, names.items[i].inode, depth);
            listing->path[length] = '\0';
        }
        free(names.items[i].text);
    }
    free(names.items);
    return room;
}

void ext4_list(struct qcow2 *disk, const char *path, bool recursive, unsigned limit)
{
    static struct listing listing;
    struct ext2_inode inode;
    listing = (struct listing){
        .answer.left = limit, .fs = open_file_system(disk), .recursive = recursive};
    ext2_ino_t number = find(listing.fs, path, &inode);
    if (!LINUX_S_ISDIR(inode.i_mode))
        answer_refuse_errno(ENOTDIR);
    snprintf(listing.path, sizeof listing.path, "%s", strcmp(path, "/") == 0 ? "" : path);
    list_directory(&listing, number, 0);
    answer_end(&listing.answer);
}

void ext4_read(struct qcow2 *disk, const char *path, uint64_t offset, uint64_t most)
{
    static char data[READ_SIZE];
    struct ext2_inode inode;
    ext2_file_t file;
    ext2_filsys fs = open_file_system(disk);
    ext2_ino_t number = find(fs, path, &inode);
    if (!LINUX_S_ISREG(inode.i_mode))
        answer_refuse_errno(EISDIR);
    uint64_t size = EXT2_I_SIZE(&inode) & INT64_MAX, left = offset < size ? size - offset : 0;
    if (left > most)
        left = most;
    errcode_t error = ext2fs_file_open2(fs, number, &inode, 0, &file);
    if (!error && left)
        error = ext2fs_file_llseek(file, offset, EXT2_SEEK_SET, NULL);
    if (error)
        refuse(error);
    int length = snprintf(data, sizeof data, "good %" PRIu64 " %" PRIu64 "\n", size, left);
    answer_bytes(data, (size_t)length);
    while (left) {
        unsigned got;
        error =
            ext2fs_file_read(file, data, left < sizeof data ? (unsigned)left : sizeof data, &got);
        if (error || !got)
            _exit(1);
        answer_bytes(data, got);
        left -= got;
    }
}
