#include "supervisord/launch/id_map.h"

#include "base/cleanup.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool id_map_write(const char *process, const char *name, const char *text)
{
    char path[64];
    snprintf(path, sizeof path, "%s/%s", process, name);
    auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

const char *id_map_alone(const char *process, uid_t uid, gid_t gid, bool as_root)
{
    char uids[48], gids[48];
    snprintf(uids, sizeof uids, "%u %u 1\n", as_root ? 0 : (unsigned)uid, (unsigned)uid);
    snprintf(gids, sizeof gids, "%u %u 1\n", as_root ? 0 : (unsigned)gid, (unsigned)gid);
    if (!id_map_write(process, "setgroups", "deny")) /* the kernel's condition for the next one */
        return "setgroups";
    if (!id_map_write(process, "gid_map", gids))
        return "gid_map";
    return id_map_write(process, "uid_map", uids) ? NULL : "uid_map";
}
