#include "supervisord/environment_internal.h"

#include "base/id.h"
#include "base/log.h"
#include "base/path_at.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* leases/ID/VERSION is an empty file for each version in use; leases/ID/owner names the state
 * directory whose file `lease` holds ID. It stands for that directory, not for a process: what its
 * workspaces are made of is needed while the daemon is down too. */
#define LEASES "leases"
#define OWNER "owner"
#define STATE_FILE "lease"
#define ID_LENGTH 24

static bool lease_id_valid(const char *id)
{
    return strlen(id) == ID_LENGTH && strspn(id, "abcdefghijklmnopqrstuvwxyz234567") == ID_LENGTH;
}

static int read_id(int dir_fd, const char *path, char id[ID_LENGTH + 1])
{
    char text[ID_LENGTH + 8];
    ssize_t length = path_read_small(dir_fd, path, text, sizeof text);
    if (length < 0)
        return (int)length;
    if (!lease_id_valid(text))
        return -EBADMSG;
    memcpy(id, text, ID_LENGTH + 1);
    return 0;
}

/* The state directory's lease ID, made where there is none; before anything bears its name. */
static int own_id(int state_fd, char id[ID_LENGTH + 1])
{
    int error = read_id(state_fd, STATE_FILE, id);
    if (error != -ENOENT && error != -EBADMSG)
        return error;
    id_random_text(id, ID_LENGTH);
    return path_write_durable(state_fd, STATE_FILE, id, ID_LENGTH, 0600);
}

/* Stale is only what is known to be: nobody holds it, and its state directory is gone or has
 * another lease. One of which nothing can be learned is kept. */
static bool is_stale(int leases_fd, const char *id)
{
    char path[ID_LENGTH + 32], state_dir[PATH_MAX], found[ID_LENGTH + 1] = "";
    snprintf(path, sizeof path, "%s/" OWNER, id);
    auto_close int owner = openat(leases_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (owner < 0 || flock(owner, LOCK_SH | LOCK_NB) < 0 ||
        path_read_small(leases_fd, path, state_dir, sizeof state_dir) <= 0 || *state_dir != '/')
        return false;
    auto_close int state_fd = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int error = state_fd < 0 ? -errno : read_id(state_fd, STATE_FILE, found);
    return error == -ENOENT || error == -ENOTDIR || (!error && strcmp(found, id) != 0);
}

static int is_lease(const struct dirent *file)
{
    return lease_id_valid(file->d_name);
}

void environment_leases_sweep(int dir_fd)
{
    struct dirent **files = NULL;
    auto_close int leases_fd = openat(dir_fd, LEASES, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int count = leases_fd < 0 ? 0 : scandirat(leases_fd, ".", &files, is_lease, NULL);
    for (int i = 0; i < count; i++) {
        if (is_stale(leases_fd, files[i]->d_name))
            (void)path_remove_tree(leases_fd, files[i]->d_name);
        free(files[i]);
    }
    free(files);
}

int environment_leased(int dir_fd, const char *version)
{
    char path[NAME_MAX + ENVIRONMENT_VERSION_SIZE + 1];
    struct dirent **files = NULL;
    auto_close int leases_fd = openat(dir_fd, LEASES, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int count = leases_fd < 0 ? -1 : scandirat(leases_fd, ".", &files, is_lease, NULL);
    if (count < 0)
        return errno == ENOENT ? 0 : -errno;
    int leased = 0;
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%s", files[i]->d_name, version);
        if (!leased && faccessat(leases_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            leased = 1;
        else if (!leased && errno != ENOENT && errno != ENOTDIR)
            leased = -errno;
        free(files[i]);
    }
    free(files);
    return leased;
}

/* A directory's descriptor of a worker's own. */
struct errand {
    int dir_fd;
};

static void run_sweep(void *arg)
{
    environment_leases_sweep(((const struct errand *)arg)->dir_fd);
}

static void run_sync(void *arg)
{
    (void)fsync(((const struct errand *)arg)->dir_fd);
}

static void errand_done(void *arg)
{
    struct errand *errand = arg;
    cleanup_close(&errand->dir_fd);
    free(errand);
}

static void submit(struct environments *environments, void (*run)(void *arg), int dir_fd)
{
    struct errand *errand = calloc(1, sizeof *errand);
    if (!errand)
        return;
    errand->dir_fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 3);
    worker_submit(environments->workers, run, errand_done, errand);
}

static int take(struct environments *environments, const char *state_dir, int state_fd)
{
    char id[ID_LENGTH + 1], path[ID_LENGTH + 32];
    auto_free char *full = realpath(state_dir, NULL);
    int error = full ? own_id(state_fd, id) : -errno;
    if (error)
        return error;
    snprintf(path, sizeof path, LEASES "/%s", id);
    if ((mkdirat(environments->dir_fd, LEASES, 0755) < 0 && errno != EEXIST) ||
        (mkdirat(environments->dir_fd, path, 0755) < 0 && errno != EEXIST))
        return -errno;
    auto_close int lease_fd =
        openat(environments->dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (lease_fd < 0)
        return -errno;
    error = path_write_durable(lease_fd, OWNER, full, strlen(full), 0644);
    if (error)
        return error;
    environments->owner_fd = openat(lease_fd, OWNER, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (environments->owner_fd < 0)
        return -errno;
    /* One that looks whether it is stale may hold it for a moment: the state directory's file says
     * the same. */
    (void)flock(environments->owner_fd, LOCK_EX | LOCK_NB);
    environments->lease_fd = lease_fd;
    lease_fd = -1;
    return 0;
}

void environments_lease_open(struct environments *environments, const char *state_dir, int state_fd)
{
    if (environment_check_writable(environments, NULL))
        return;
    int error = take(environments, state_dir, state_fd);
    if (error)
        log_warning("environments_not_leased", "image_dir=%s error=\"%s\"", environments->image_dir,
                    strerror(-error));
    submit(environments, run_sweep, environments->dir_fd);
}

bool environment_lease(struct environments *environments, const char *version)
{
    char path[ENVIRONMENT_VERSION_SIZE + 32];
    if (!environment_version_valid(version))
        return false;
    if (environments->lease_fd >= 0 &&
        faccessat(environments->lease_fd, version, F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
        auto_close int fd = openat(environments->lease_fd, version,
                                   O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd < 0)
            log_warning("environment_not_leased", "version=%s error=\"%s\"", version,
                        strerror(errno));
        submit(environments, run_sync, environments->lease_fd);
    }
    snprintf(path, sizeof path, "versions/%s/tree", version);
    return faccessat(environments->dir_fd, path, F_OK, 0) == 0;
}

void environment_lease_only(struct environments *environments, const char *const *versions,
                            size_t count)
{
    struct dirent **files = NULL;
    int found =
        environments->lease_fd < 0 ? 0 : scandirat(environments->lease_fd, ".", &files, NULL, NULL);
    for (int i = 0; i < found; i++) {
        bool used = !environment_version_valid(files[i]->d_name);
        for (size_t j = 0; !used && j < count; j++)
            used = strcmp(versions[j], files[i]->d_name) == 0;
        if (!used)
            (void)unlinkat(environments->lease_fd, files[i]->d_name, 0);
        free(files[i]);
    }
    free(files);
}
