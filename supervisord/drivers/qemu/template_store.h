/* Templates on the disk, so that the next daemon has them too:
 *   STATE/machines/templates/NAME/{memory,state,disk,about}   NAME: a digest of the key
 * They hold nothing of any workspace. They are read back into memory files, which can be sealed;
 * what was kept before the host was restarted, or is not whole, is removed. All blocking, but
 * none that needs the loop; each call touches the files of its key alone. */
#pragma once

#include "base/failure.h"

#include <stdint.h>

#define TEMPLATE_KEY_SIZE 1400 /* of a key's text: two paths and a few words, no line end */

enum { TEMPLATE_MEMORY, TEMPLATE_STATE, TEMPLATE_DISK, TEMPLATE_FILES };

/* An empty memory file of this size that every user may be given; or a negative errno. */
int template_memory_file(int file, uint64_t size);
/* Those that are there; all are -1 then. */
void template_close_files(int fds[TEMPLATE_FILES]);
/* Nobody can change them any more; a negative errno. */
int template_seal(const int fds[TEMPLATE_FILES]);

/* machines_fd is STATE/machines. Takes the place of one of the same key. A negative errno. */
int template_store_put(int machines_fd, const char *boot_id, const char *key,
                       const int fds[TEMPLATE_FILES]);
/* Fills ret_fds with memory files, sealed; a negative errno, then all are -1. -EBADMSG: it is not
 * what was put. */
int template_store_get(int machines_fd, const char *key, int ret_fds[TEMPLATE_FILES]);
void template_store_remove(int machines_fd, const char *key);
/* Visits what may be used after the daemon was started, the oldest first, and removes the rest. */
void template_store_each(int machines_fd, const char *boot_id,
                         void (*visit)(void *arg, const char *key), void *arg);
