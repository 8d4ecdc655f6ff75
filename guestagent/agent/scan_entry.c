#include "guestagent/agent/scan_entry.h"
#include "guestagent/agent/agent.h"

#include <time.h>

static int64_t ns_of(struct timespec time)
{
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

int64_t scan_settled_before(void)
{
    struct timespec now, tick;
    if (clock_gettime(CLOCK_REALTIME, &now) < 0 || clock_getres(CLOCK_REALTIME_COARSE, &tick) < 0)
        return 0; /* then everything is recent */
    return ns_of(now) - 2 * ns_of(tick);
}

void scan_entry_fill(const struct stat *status, int64_t settled_before,
                     Hearth__Agent__V1__ScanEntry *entry)
{
    hearth__agent__v1__scan_entry__init(entry);
    entry->type = S_ISREG(status->st_mode)   ? HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_FILE
                  : S_ISDIR(status->st_mode) ? HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_DIRECTORY
                  : S_ISLNK(status->st_mode) ? HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_SYMLINK
                                             : HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_OTHER;
    entry->size = S_ISREG(status->st_mode) ? (uint64_t)status->st_size : 0;
    entry->mode = status->st_mode & 07777;
    entry->mtime_ns = ns_of(status->st_mtim);
    entry->ctime_ns = ns_of(status->st_ctim);
    entry->inode = status->st_ino;
    entry->links = S_ISREG(status->st_mode) ? (uint32_t)status->st_nlink : 0;
    entry->uid = status->st_uid;
    entry->gid = status->st_gid;
    entry->recent = entry->ctime_ns >= settled_before;
}

bool scan_entry_same(const Hearth__Agent__V1__ScanEntry *left,
                     const Hearth__Agent__V1__ScanEntry *right)
{
    return left->type == right->type && left->mode == right->mode && left->size == right->size &&
           left->mtime_ns == right->mtime_ns && left->ctime_ns == right->ctime_ns &&
           left->inode == right->inode && left->links == right->links && left->uid == right->uid &&
           left->gid == right->gid;
}
