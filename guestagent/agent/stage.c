#include "guestagent/agent/stage.h"

#include "base/cleanup.h"
#include "base/id.h"
#include "base/path_at.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define PREFIX ".hearth-stage-"
#define LEFT_MAX 64 /* at one start; more wait for the next */

static bool same_mount(int left, int right)
{
    struct statx one, other;
    return statx(left, "", AT_EMPTY_PATH, STATX_MNT_ID, &one) == 0 &&
           statx(right, "", AT_EMPTY_PATH, STATX_MNT_ID, &other) == 0 &&
           one.stx_mnt_id == other.stx_mnt_id;
}

/* Beside the workspace; in it where it is a mount of its own, for a rename crosses no mount. */
static int open_parent(int root_fd)
{
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    auto_close int above = openat(root_fd, "..", flags);
    if (above >= 0 && same_mount(above, root_fd))
        return steal_fd(&above);
    int inside = openat(root_fd, ".", flags);
    return inside < 0 ? -errno : inside;
}

int stage_open(struct stage *stage, int root_fd)
{
    char suffix[17];
    *stage = STAGE_NONE;
    int parent = open_parent(root_fd);
    if (parent < 0)
        return parent;
    id_random_text(suffix, sizeof suffix - 1);
    snprintf(stage->name, sizeof stage->name, PREFIX "%s", suffix);
    int error = mkdirat(parent, stage->name, 0700) < 0 ? -errno : 0;
    int fd = error ? -1 : openat(parent, stage->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        error = error ? error : -errno;
        close(parent);
        return error;
    }
    stage->parent_fd = parent;
    stage->fd = fd;
    return 0;
}

void stage_close(struct stage *stage)
{
    if (stage->fd < 0)
        return;
    close(stage->fd);
    (void)path_remove_tree(stage->parent_fd, stage->name);
    close(stage->parent_fd);
    *stage = STAGE_NONE;
}

static void recover_one(int root_fd, int parent, const char *name,
                        void (*finish)(int root_fd, const struct stage *stage))
{
    struct stage stage = {
        .parent_fd = fcntl(parent, F_DUPFD_CLOEXEC, 0),
        .fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
    if (stage.parent_fd < 0 || stage.fd < 0) {
        cleanup_close(&stage.parent_fd);
        cleanup_close(&stage.fd);
        return;
    }
    snprintf(stage.name, sizeof stage.name, "%.39s", name);
    finish(root_fd, &stage);
    stage_close(&stage);
}

void stage_recover(int root_fd, void (*finish)(int root_fd, const struct stage *stage))
{
    char names[LEFT_MAX][sizeof((struct stage *)0)->name];
    size_t count = 0;
    auto_close int parent = open_parent(root_fd);
    int copy = parent < 0 ? -1 : fcntl(parent, F_DUPFD_CLOEXEC, 0);
    auto_closedir DIR *directory = copy < 0 ? NULL : fdopendir(copy);
    if (!directory) {
        cleanup_close(&copy);
        return;
    }
    for (struct dirent *entry; count < LEFT_MAX && (entry = readdir(directory));)
        if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) == 0 &&
            strlen(entry->d_name) < sizeof names[0])
            snprintf(names[count++], sizeof names[0], "%.39s", entry->d_name);
    for (size_t i = 0; i < count; i++)
        recover_one(root_fd, parent, names[i], finish);
}
