#include "supervisord/disk/image.h"

#include "supervisord/disk/measure.h"

#include "base/cleanup.h"

#include <errno.h>
#include <ext2fs/ext2fs.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define MIB ((uint64_t)1 << 20)
#define JOURNAL_MIB 16
#define SLACK_MIB 64
#define BYTES_PER_INODE 8192 /* a guest's disk grows by groups of this proportion */
#define INODE_BYTES 256
#define ATTEMPTS 3
#define IMAGE_FD 3 /* in mke2fs */
#define IMAGE_PATH "/proc/self/fd/3"
/* As Debian 12's, in full: what another host's mke2fs.conf says makes no other image. */
static const char FEATURES[] =
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,"
    "large_file,huge_file,dir_nlink,extra_isize,metadata_csum";
#define EPOCH "1686355200" /* of the file system itself: Debian 12's release */

static int fail(int error, char *detail, size_t size, const char *what)
{
    snprintf(detail, size, "%s: %s", what, strerror(-error));
    return error;
}

/* A UUID (version 4, as to its form) of 16 bytes. */
static void print_uuid(char out[37], const unsigned char bytes[16])
{
    char *at = out;
    for (int i = 0; i < 16; i++) {
        unsigned byte = bytes[i];
        if (i == 6)
            byte = (byte & 0x0f) | 0x40;
        else if (i == 8)
            byte = (byte & 0x3f) | 0x80;
        at += sprintf(at, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", byte);
    }
}

/* What these programs say when they fail, which it breaks into lines, is the last of what it says.
 */
static void read_reason(int fd, char *out, size_t size)
{
    char text[4096];
    size_t length = 0;
    for (ssize_t got; (got = read(fd, text + length, sizeof text - 1 - length)) > 0;) {
        length += (size_t)got;
        if (length == sizeof text - 1) { /* the newest half is enough */
            memmove(text, text + length / 2, length - length / 2);
            length -= length / 2;
        }
    }
    while (length && (text[length - 1] == '\n' || text[length - 1] == ' '))
        length--;
    text[length] = '\0';
    for (char *at = text; *at; at++)
        if (*at == '\n')
            *at = ' ';
    snprintf(out, size, "%s", length < size ? text : text + length - size + 1);
}

/* Gives the exit status, or a negative errno. */
static int run(const char *const *argv, int image_fd, char *detail, size_t detail_size)
{
    static const char *const environment[] = {"MKE2FS_CONFIG=/nonexistent",
                                              "E2FSPROGS_FAKE_TIME=" EPOCH, "LC_ALL=C.UTF-8", NULL};
    posix_spawn_file_actions_t actions;
    int ends[2], status = -1;
    pid_t pid;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return fail(-errno, detail, detail_size, "cannot make a pipe");
    setenv("PATH", "/usr/sbin:/sbin:/usr/bin:/bin", 1); /* not every user's has sbin */
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
    posix_spawn_file_actions_adddup2(&actions, image_fd, IMAGE_FD);
    int error = -posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv,
                              (char *const *)environment);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (error) {
        close(ends[0]);
        return fail(error, detail, detail_size, "cannot run a program of e2fsprogs");
    }
    read_reason(ends[0], detail, detail_size);
    close(ends[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}

static int make_file_system(int fd, const char *tree, const unsigned char *seed,
                            const struct tree_measure *measure, unsigned room, char *detail,
                            size_t detail_size)
{
    char uuid[37], hash_seed[37], inodes[24], size[24], journal[24], extended[160];
    uint64_t content = measure->block_bytes + measure->block_bytes / 16 * room;
    uint64_t bytes = content + content / 16 + (SLACK_MIB * room + JOURNAL_MIB) * MIB;
    uint64_t inode_count = measure->file_count + measure->file_count / 4 + 1024;
    if (inode_count < bytes / BYTES_PER_INODE)
        inode_count = bytes / BYTES_PER_INODE;
    bytes += inode_count * INODE_BYTES;
    bytes = (bytes + MIB - 1) / MIB * MIB;
    print_uuid(uuid, seed);
    print_uuid(hash_seed, seed + 16);
    snprintf(inodes, sizeof inodes, "%" PRIu64, inode_count);
    snprintf(size, sizeof size, "%" PRIu64 "k", bytes / 1024);
    snprintf(journal, sizeof journal, "size=%d", JOURNAL_MIB);
    snprintf(extended, sizeof extended,
             "hash_seed=%s,lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0", hash_seed);
    const char *const argv[] = {"mke2fs", "-q",   "-F",       "-t",  "ext4", "-O", FEATURES,
                                "-b",     "4096", "-I",       "256", "-m",   "0",  "-N",
                                inodes,   "-J",   journal,    "-U",  uuid,   "-E", extended,
                                "-d",     tree,   IMAGE_PATH, size,  NULL};
    int status = run(argv, fd, detail, detail_size);
    return status > 0 ? -EIO : status;
}

static void settle_inode(struct ext2_inode_large *inode)
{
    inode->i_atime = inode->i_ctime = inode->i_crtime = inode->i_mtime;
    inode->i_atime_extra = inode->i_ctime_extra = inode->i_crtime_extra = inode->i_mtime_extra;
}

/* When a file was read, changed in its inode and made is the host's history, not the tree's. */
static errcode_t settle_inodes(ext2_filsys fs, const struct stat *root)
{
    struct ext2_inode_large inode;
    ext2_inode_scan scan;
    ext2_ino_t number;
    errcode_t error = ext2fs_open_inode_scan(fs, 0, &scan);
    if (error)
        return error;
    while (!(error = ext2fs_get_next_inode_full(scan, &number, (struct ext2_inode *)&inode,
                                                sizeof inode)) &&
           number) {
        if (!inode.i_links_count || (number < EXT2_GOOD_OLD_FIRST_INO && number != EXT2_ROOT_INO))
            continue;
        if (number == EXT2_ROOT_INO) {
            inode.i_mode = (uint16_t)(LINUX_S_IFDIR | (root->st_mode & 07777));
            inode.i_mtime = (uint32_t)root->st_mtim.tv_sec;
            inode.i_mtime_extra = 0;
        }
        settle_inode(&inode);
        error = ext2fs_write_inode_full(fs, number, (struct ext2_inode *)&inode, sizeof inode);
        if (error)
            break;
    }
    ext2fs_close_inode_scan(scan);
    return error;
}

static int settle(int fd, const char *tree, uint64_t *ret_bytes, char *detail, size_t detail_size)
{
    struct stat root;
    ext2_filsys fs;
    char name[16];
    if (stat(tree, &root) < 0)
        return fail(-errno, detail, detail_size, "cannot read the tree's root");
    /* The library closes what it is given. */
    snprintf(name, sizeof name, "%d", fcntl(fd, F_DUPFD_CLOEXEC, IMAGE_FD + 1));
    errcode_t error =
        ext2fs_open(name, EXT2_FLAG_RW | EXT2_FLAG_64BITS, 0, 0, unixfd_io_manager, &fs);
    if (!error) {
        fs->now = (time_t)strtoll(EPOCH, NULL, 10);
        error = settle_inodes(fs, &root);
        fs->super->s_kbytes_written = 0;
        ext2fs_mark_super_dirty(fs);
        /* mke2fs may make less of it than it was told: a last group that is too small is left out.
         */
        *ret_bytes = ext2fs_blocks_count(fs->super) * fs->blocksize;
        errcode_t closed = ext2fs_close_free(&fs);
        error = error ? error : closed;
    }
    if (!error)
        return 0;
    snprintf(detail, detail_size, "cannot put the new file system in order: %s",
             error_message(error));
    return -EIO;
}

int image_make(int fd, const char *tree, const unsigned char seed[IMAGE_SEED_SIZE],
               uint64_t *ret_bytes, char *detail, size_t detail_size)
{
    struct tree_measure measure;
    initialize_ext2_error_table();
    int error = tree_measure(tree, &measure);
    if (error)
        return fail(error, detail, detail_size, "cannot read the tree");
    /* What is measured is an estimate: a tree that does not fit gets more room. */
    for (unsigned attempt = 1; attempt <= ATTEMPTS; attempt++) {
        error = make_file_system(fd, tree, seed, &measure, 1U << 2 * (attempt - 1), detail,
                                 detail_size);
        if (!error || ftruncate(fd, 0) < 0)
            break;
    }
    if (!error)
        error = settle(fd, tree, ret_bytes, detail, detail_size);
    if (!error && (ftruncate(fd, (off_t)*ret_bytes) < 0 || fsync(fd) < 0))
        error = fail(-errno, detail, detail_size, "cannot store the image");
    return error;
}

static bool is_clean(int fd)
{
    ext2_filsys fs;
    char name[16];
    snprintf(name, sizeof name, "%d", fcntl(fd, F_DUPFD_CLOEXEC, IMAGE_FD + 1));
    if (ext2fs_open(name, EXT2_FLAG_64BITS, 0, 0, unixfd_io_manager, &fs))
        return false;
    bool clean = fs->super->s_state & EXT2_VALID_FS && !(fs->super->s_state & EXT2_ERROR_FS) &&
                 !ext2fs_has_feature_journal_needs_recovery(fs->super);
    ext2fs_free(fs);
    return clean;
}

int image_repair(int fd, char *detail, size_t detail_size)
{
    static const char *const argv[] = {"e2fsck", "-f", "-y", IMAGE_PATH, NULL};
    if (is_clean(fd))
        return 0;
    int status = run(argv, fd, detail, detail_size);
    return status < 0 ? status : status & ~1 ? -EIO : 0; /* 1: it has been mended */
}
