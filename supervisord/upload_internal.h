/* What upload.c (those that are there) and upload_sink.c (those on their way in) share. */
#pragma once

#include "supervisord/archive_child.h"
#include "supervisord/tenant.h"
#include "supervisord/upload.h"
#include "supervisord/worker.h"

#include "base/list.h"
#include "base/map.h"
#include "storage/change.h"

struct upload_entry {
    struct list link;           /* uploads::entries, the least lately used first */
    struct map_entry map_entry; /* uploads::map, by ID */
    struct upload public;
    struct tenant *tenant; /* its upload_bytes has public.size_bytes in it */
    char compression[8];
};

struct uploads {
    struct loop *loop;
    struct writer *writer;
    struct worker_pool *workers; /* of its own, one thread: a slow disk delays uploads alone */
    int dir_fd;                  /* STATE_DIR/uploads */
    const char *node_tag;
    struct upload_limits limits;
    struct list entries; /* upload_entry::link */
    struct list sinks;   /* upload_sink::link */
    struct map map;      /* upload_entry::map_entry */
    struct timer expiry;
    void (*forgotten)(void *arg, const struct upload *upload);
    void *forgotten_arg;
};

/* Takes entry, which is used now. 0 or HEARTH_ENOMEMORY; entry is the caller's then. */
int upload_keep(struct uploads *uploads, struct upload_entry *entry);
void upload_put_row(const struct upload_entry *entry, struct change *change);
void upload_entry_free(struct upload_entry *entry);
/* Removes uploads/NAME on the worker. */
void upload_remove_file(struct uploads *uploads, const char *name);
/* The sinks lose their uploads; those nobody waits for free themselves when their last step ends.
 */
void upload_sinks_orphan(struct uploads *uploads);
