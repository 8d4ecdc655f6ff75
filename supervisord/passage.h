/* Bytes both ways between two connected sockets of the host, for connections to ports of guests.
 * What one side sends waits in its own socket until the other takes it: at most PASSAGE_PIECE a
 * direction are held here. Each direction ends by itself. Both ends may be hostile: they are bytes.
 * However many there are, in a turn of the loop they pass on PASSAGE_TURN_BYTES at most, by turns:
 * what else the loop has to do waits no longer than that takes. Loop thread. */
#pragma once

#include "supervisord/loop.h"

#include <stddef.h>

#define PASSAGE_PIECE ((size_t)32 << 10)
#define PASSAGE_TURN_BYTES PASSAGE_PIECE

struct passage;
struct passages;

/* What all passages of a loop share; outlives them. Never NULL. */
struct passages *passages_new(struct loop *loop);
void passages_free(struct passages *passages);

/* Once, the passage is gone after it and both sockets are closed; not after passage_free. error 0:
 * both sides came to their end. Else a negative errno: one broke off and the other was reset. */
typedef void (*passage_ended)(void *arg, int error);

/* Takes both sockets, which must be non-blocking, also where it fails. Gives a passage that lives
 * until ended; NULL: no memory. */
struct passage *passage_new(struct passages *passages, int first_fd, int second_fd,
                            passage_ended ended, void *arg);
/* Resets both ends. NULL is fine. */
void passage_free(struct passage *passage);
