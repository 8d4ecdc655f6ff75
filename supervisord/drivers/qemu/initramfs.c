/* The initramfs: the agent as /init and the modules in the order in which they are loaded, as an
 * uncompressed cpio archive ("newc", Documentation/driver-api/early-userspace/buffer-format.rst of
 * Linux). Made once for each kernel and agent. */
#include "supervisord/drivers/qemu/qemu.h"

#include "base/buf.h"
#include "base/id.h"
#include "base/path_at.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define FILE_MAX ((size_t)64 << 20)
#define PAD "\0\0\0"

struct archive {
    struct buf bytes;
    unsigned entries;
    int error;
};

static void append(struct archive *archive, const void *data, size_t length)
{
    if (!archive->error)
        archive->error = buf_append(&archive->bytes, data, length);
}

static void align(struct archive *archive)
{
    append(archive, PAD, -archive->bytes.length & 3);
}

static void add(struct archive *archive, const char *name, mode_t mode, dev_t device,
                const void *data, size_t length)
{
    const unsigned fields[] = {++archive->entries,
                               mode,
                               0,
                               0,
                               1,
                               0,
                               (unsigned)length,
                               0,
                               0,
                               major(device),
                               minor(device),
                               (unsigned)strlen(name) + 1,
                               0};
    char field[9];
    append(archive, "070701", 6);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        snprintf(field, sizeof field, "%08x", fields[i]);
        append(archive, field, 8);
    }
    append(archive, name, strlen(name) + 1);
    align(archive);
    append(archive, data, length);
    align(archive);
}

static int read_whole(int directory, const char *path, struct buf *out)
{
    auto_close int fd = openat(directory, path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0)
        return -errno;
    if ((size_t)status.st_size > FILE_MAX || buf_reserve(out, (size_t)status.st_size + 1))
        return -EFBIG;
    for (ssize_t length; out->length < (size_t)status.st_size; out->length += (size_t)length)
        if ((length = read(fd, out->data + out->length, (size_t)status.st_size - out->length)) <= 0)
            return -EIO;
    return 0;
}

/* What a kernel loads of a program; the rest (symbols, debug information) is for people. */
static size_t loaded_length(const struct buf *program)
{
    const Elf64_Ehdr *header = (const void *)program->data;
    size_t end = 0;
    if (program->length < sizeof *header || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
        header->e_phoff > program->length ||
        header->e_phnum > (program->length - header->e_phoff) / sizeof(Elf64_Phdr))
        return program->length;
    const Elf64_Phdr *segments = (const void *)(program->data + header->e_phoff);
    for (size_t i = 0; i < header->e_phnum; i++)
        if (segments[i].p_offset + segments[i].p_filesz > end)
            end = segments[i].p_offset + segments[i].p_filesz;
    return end && end < program->length ? end : program->length;
}

static int is_module(const struct dirent *file)
{
    const char *name = file->d_name;
    size_t length = strlen(name);
    return length > 6 && name[0] >= '0' && name[0] <= '9' && name[2] == '-' &&
           strcmp(name + length - 3, ".ko") == 0;
}

static int add_modules(struct archive *archive, const char *directory)
{
    struct dirent **files = NULL;
    auto_close int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int count = fd < 0 ? -1 : scandirat(fd, ".", &files, is_module, alphasort);
    int error = count < 0 ? -errno : 0;
    for (int i = 0; i < count; i++) {
        auto_buf struct buf module = {0};
        char name[300];
        snprintf(name, sizeof name, "modules/%s", files[i]->d_name);
        if (!error)
            error = read_whole(fd, files[i]->d_name, &module);
        if (!error)
            add(archive, name, S_IFREG | 0644, 0, module.data, module.length);
        free(files[i]);
    }
    free(files);
    return error;
}

static int build(struct archive *archive, const struct buf *agent, const char *modules)
{
    static const char *const directories[] = {"dev", "proc", "sys", "modules"};
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++)
        add(archive, directories[i], S_IFDIR | 0755, 0, NULL, 0);
    add(archive, "dev/console", S_IFCHR | 0600, makedev(5, 1), NULL, 0);
    add(archive, "init", S_IFREG | 0755, 0, agent->data, loaded_length(agent));
    int error = *modules ? add_modules(archive, modules) : 0;
    add(archive, "TRAILER!!!", 0, 0, NULL, 0);
    return error ? error : archive->error ? -ENOMEM : 0;
}

/* Named after what it is made of. */
static void make_name(char out[64], const struct buf *agent, const struct qemu_kernel *kernel)
{
    unsigned char digest[crypto_hash_sha256_BYTES];
    crypto_hash_sha256_state state;
    crypto_hash_sha256_init(&state);
    crypto_hash_sha256_update(&state, (const void *)agent->data, agent->length);
    crypto_hash_sha256_update(&state, (const void *)kernel->path, strlen(kernel->path) + 1);
    crypto_hash_sha256_update(&state, (const void *)kernel->modules, strlen(kernel->modules) + 1);
    crypto_hash_sha256_final(&state, digest);
    int length = snprintf(out, 64, "initramfs-");
    sodium_bin2hex(out + length, 64 - (size_t)length, digest, 16);
}

int qemu_boot_directory(const struct qemu_driver *driver)
{
    if (mkdirat(driver->state_fd, "boot", 0755) < 0 && errno != EEXIST)
        return -errno;
    return path_open_directory(driver->state_fd, "boot");
}

int qemu_boot_write(int directory, const char *name, const void *data, size_t length)
{
    char suffix[9], temporary[80];
    id_random_text(suffix, sizeof suffix - 1);
    snprintf(temporary, sizeof temporary, "%s.%s", name, suffix);
    auto_close int fd =
        openat(directory, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    int error = path_write_all(fd, data, length);
    if (!error && renameat(directory, temporary, directory, name) < 0)
        error = -errno;
    if (error)
        unlinkat(directory, temporary, 0);
    return error;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int make(const struct qemu_driver *driver, const struct qemu_kernel *kernel,
                char ret_path[PATH_MAX], struct hearth_failure *failure)
{
    auto_buf struct buf agent = {0};
    char name[64];
    auto_close int directory = -1;
    int error = read_whole(AT_FDCWD, driver->agent_path, &agent);
    if (!error && (directory = qemu_boot_directory(driver)) < 0)
        error = directory;
    if (!error)
        make_name(name, &agent, kernel);
    if (!error && faccessat(directory, name, R_OK, 0) < 0) {
        struct archive archive = {0};
        error = build(&archive, &agent, kernel->modules);
        if (!error)
            error = qemu_boot_write(directory, name, archive.bytes.data, archive.bytes.length);
        buf_free(&archive.bytes);
    }
    if (error)
        return hearth_fail_errno(failure, -error, "initramfs_failed",
                                 "cannot make the initramfs of virtual machines");
    snprintf(ret_path, PATH_MAX, "%s/machines/boot/%s", driver->config.state_dir, name);
    return 0;
}

/* The agent is read and hashed once, not for each of many clones. */
static bool is_known(const struct qemu_driver *driver, const struct qemu_kernel *kernel,
                     struct stat *ret_agent)
{
    const struct qemu_initramfs_known *known = driver->initramfs;
    return stat(driver->agent_path, ret_agent) == 0 && same_file(ret_agent, &known->agent) &&
           strcmp(kernel->path, known->kernel.path) == 0 &&
           strcmp(kernel->modules, known->kernel.modules) == 0 && access(known->path, R_OK) == 0;
}

bool qemu_initramfs_same(const struct qemu_driver *driver, const struct qemu_kernel *kernel,
                         const char *path)
{
    struct stat agent;
    if (pthread_mutex_trylock(&driver->initramfs->lock) != 0)
        return true;
    bool same = is_known(driver, kernel, &agent) && strcmp(driver->initramfs->path, path) == 0;
    pthread_mutex_unlock(&driver->initramfs->lock);
    return same;
}

int qemu_initramfs(const struct qemu_driver *driver, const struct qemu_kernel *kernel,
                   char ret_path[PATH_MAX], struct hearth_failure *failure)
{
    struct qemu_initramfs_known *known = driver->initramfs;
    struct stat agent = {0};
    int error = 0;
    pthread_mutex_lock(&known->lock);
    if (is_known(driver, kernel, &agent)) {
        memcpy(ret_path, known->path, sizeof known->path);
    } else if (!(error = make(driver, kernel, ret_path, failure))) {
        known->agent = agent;
        known->kernel = *kernel;
        memcpy(known->path, ret_path, sizeof known->path);
    }
    pthread_mutex_unlock(&known->lock);
    return error;
}
