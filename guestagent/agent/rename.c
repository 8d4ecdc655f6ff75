/* Names in the workspace: directories made, entries moved. */
#include "base/path_at.h"
#include "guestagent/agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void reply_entry(struct link_call *call, int parent, const char *name, const char *path)
{
    Hearth__Agent__V1__FileEntry entry = HEARTH__AGENT__V1__FILE_ENTRY__INIT;
    char target[4096];
    int error = file_entry_fill(parent, name, &entry, target);
    if (error) {
        call_refuse_errno(call, -error, path);
        return;
    }
    entry.path.data = (uint8_t *)(uintptr_t)path;
    entry.path.len = strlen(path);
    link_call_reply(call, &entry.base);
}

static int make_above(struct agent *agent, const char *path)
{
    char above[4096];
    const char *slash = strrchr(path, '/');
    if (!slash)
        return 0;
    if (snprintf(above, sizeof above, "%.*s", (int)(slash - path), path) >= (int)sizeof above)
        return -ENAMETOOLONG;
    return path_make_directories(agent->root_fd, above, 0755);
}

void directory_handle_make(struct agent *agent, struct link_call *call,
                           const Hearth__Agent__V1__DirectoryMakeRequest *request)
{
    const char *name;
    struct stat status;
    mode_t mode = request->mode ? request->mode & 0777 : 0755;
    int error = request->parents ? make_above(agent, request->path) : 0;
    auto_close int parent = error ? error : path_open_parent(agent->root_fd, request->path, &name);
    if (parent < 0) {
        call_refuse_errno(call, -parent, "mkdir");
        return;
    }
    bool made = mkdirat(parent, name, mode) == 0;
    error = made ? 0 : -errno;
    if (made && fchmodat(parent, name, mode, 0) < 0) /* whatever the umask */
        error = -errno;
    if (error == -EEXIST && request->parents && fstatat(parent, name, &status, 0) == 0 &&
        S_ISDIR(status.st_mode))
        error = 0;
    if (error)
        call_refuse_errno(call, -error, "mkdir");
    else
        reply_entry(call, parent, name, request->path);
}

static void refuse_move(struct link_call *call, const Hearth__Agent__V1__FileMoveRequest *request,
                        int errno_value, const char *field)
{
    Hearth__Agent__V1__FileEntry entry = HEARTH__AGENT__V1__FILE_ENTRY__INIT;
    Hearth__Agent__V1__FileRefusal refusal = HEARTH__AGENT__V1__FILE_REFUSAL__INIT;
    char detail[128];
    if (!request->refusal_in_reply) {
        call_refuse_errno(call, errno_value, "move");
        return;
    }
    snprintf(detail, sizeof detail, "move: %s", call_refusal_text(errno_value));
    refusal.status = call_status_of(errno_value);
    refusal.detail = detail;
    refusal.field = (char *)(uintptr_t)field;
    entry.refusal = &refusal;
    link_call_reply(call, &entry.base);
}

void file_handle_move(struct agent *agent, struct link_call *call,
                      const Hearth__Agent__V1__FileMoveRequest *request)
{
    const char *name, *to_name;
    struct stat status;
    auto_close int parent = path_open_parent(agent->root_fd, request->path, &name);
    /* Before directories are made for what is not there. */
    if (parent < 0 || fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) < 0) {
        refuse_move(call, request, parent < 0 ? -parent : errno, "path");
        return;
    }
    int error = request->create_parents ? make_above(agent, request->to) : 0;
    auto_close int to_parent =
        error ? error : path_open_parent(agent->root_fd, request->to, &to_name);
    if (to_parent < 0) {
        refuse_move(call, request, -to_parent, "to");
        return;
    }
    /* Into itself is EINVAL to the kernel; over a directory that is not empty ENOTEMPTY. */
    if (renameat2(parent, name, to_parent, to_name, request->replace ? 0 : RENAME_NOREPLACE) < 0)
        refuse_move(call, request, errno, errno == EINVAL ? "path" : "to");
    else
        reply_entry(call, to_parent, to_name, request->to);
}
