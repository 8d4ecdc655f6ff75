#include "supervisord/disk/answer.h"

#include "base/path_at.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void answer_refuse(const char *code, const char *detail)
{
    fflush(stdout);
    dprintf(STDOUT_FILENO, "refused %s %s\n", code, detail);
    _exit(1);
}

void answer_refuse_errno(int error)
{
    switch (error) {
    case ENOENT:
        answer_refuse("file_not_found", "there is no such file");
    case ENOTDIR:
    case EISDIR:
        answer_refuse("wrong_file_type", "it is not of that kind");
    case ELOOP:
        answer_refuse("file_not_found", "its symlinks lead nowhere");
    default:
        answer_refuse("disk_unreadable", strerror(error));
    }
}

static char type_letter(mode_t mode)
{
    return S_ISREG(mode) ? 'f' : S_ISDIR(mode) ? 'd' : S_ISLNK(mode) ? 'l' : 'o';
}

bool answer_add(struct answer_list *list, const struct answer_entry *entry)
{
    char head[96];
    int length = snprintf(head, sizeof head, "%c %04o %" PRIu64 " %" PRId64 ".%09u ",
                          type_letter(entry->mode), (unsigned)entry->mode & 07777, entry->size,
                          entry->seconds, entry->nanoseconds);
    size_t bytes = (size_t)length + strlen(entry->path) + 1 + strlen(entry->target) + 1;
    if (!list->left || list->bytes + bytes > ANSWER_LIST_MAX) {
        list->more = true;
        return false;
    }
    list->left--;
    list->bytes += bytes;
    fwrite(head, 1, (size_t)length, stdout);
    fwrite(entry->path, 1, strlen(entry->path) + 1, stdout);
    fwrite(entry->target, 1, strlen(entry->target) + 1, stdout);
    return true;
}

void answer_end(const struct answer_list *list)
{
    char text[] = "end 0";
    text[4] = list->more ? '1' : '0';
    fwrite(text, 1, sizeof text, stdout);
    if (fflush(stdout) != 0)
        _exit(1);
}

void answer_bytes(const void *data, size_t length)
{
    if (path_write_all(STDOUT_FILENO, data, length))
        _exit(1);
}
