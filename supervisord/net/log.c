#include "supervisord/net/log.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC UINT64_C(0x68656172746e6c31)

struct net_log *net_log_map(int fd)
{
    if (ftruncate(fd, sizeof(struct net_log)) < 0)
        return NULL;
    struct net_log *log = mmap(NULL, sizeof *log, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (log == MAP_FAILED)
        return NULL;
    if (log->magic != MAGIC) {
        memset(log, 0, sizeof *log);
        log->magic = MAGIC;
    }
    return log;
}

static bool same(const struct net_log_entry *a, const struct net_log_entry *b)
{
    return a->sequence && a->address == b->address && a->port == b->port &&
           a->protocol == b->protocol && a->decision == b->decision &&
           strcmp(a->name, b->name) == 0;
}

void net_log_add(struct net_log *log, const struct net_log_entry *what)
{
    struct net_log_entry *oldest = log->entries;
    int64_t now = clock_wall_us();
    log->denied++;
    for (size_t i = 0; i < NET_LOG_ENTRIES; i++) {
        struct net_log_entry *entry = &log->entries[i];
        if (same(entry, what)) {
            entry->last_us = now;
            entry->count++;
            return;
        }
        if (oldest->sequence && (!entry->sequence || entry->last_us < oldest->last_us))
            oldest = entry;
    }
    log->forgotten += oldest->sequence != 0;
    *oldest = *what;
    oldest->first_us = oldest->last_us = now;
    oldest->count = 1;
    oldest->sequence = ++log->sequence;
}

static int by_sequence(const void *a, const void *b)
{
    const struct net_log_entry *first = a, *second = b;
    return (first->sequence > second->sequence) - (first->sequence < second->sequence);
}

static bool makes_sense(const struct net_log_entry *entry)
{
    if (!entry->sequence || !entry->count || entry->decision < NET_DENIED_ADDRESS ||
        entry->decision > NET_DENIED_ANSWER || entry->first_us < 0 || entry->last_us < 0)
        return false;
    for (size_t i = 0; i < sizeof entry->name; i++) {
        if (!entry->name[i])
            return true;
        if (entry->name[i] <= ' ' || entry->name[i] > '~')
            return false;
    }
    return false;
}

bool net_log_read(int fd, struct net_log *ret_log, size_t *ret_count)
{
    size_t count = 0;
    if (pread(fd, ret_log, sizeof *ret_log, 0) != sizeof *ret_log || ret_log->magic != MAGIC)
        return false;
    for (size_t i = 0; i < NET_LOG_ENTRIES; i++)
        if (makes_sense(&ret_log->entries[i]))
            ret_log->entries[count++] = ret_log->entries[i];
    qsort(ret_log->entries, count, sizeof ret_log->entries[0], by_sequence);
    *ret_count = count;
    return true;
}

uint64_t net_log_read_denied(int fd)
{
    uint64_t head[2];
    return pread(fd, head, sizeof head, 0) == sizeof head && head[0] == MAGIC ? head[1] : 0;
}
