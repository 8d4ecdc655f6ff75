/* What a machine is saved to, sealed: QEMU's stream, encrypted and authenticated in chunks under a
 * key of this one time (libsodium's secretstream, XChaCha20-Poly1305), each bound to the guest and
 * to its place, the last one marked as such. What is in clear is in a pipe and in memory of ours
 * that is locked where the limits allow it, never in a file. Blocking, any one thread. */
#pragma once

#include "base/failure.h"

#include <stdatomic.h>
#include <stdint.h>

#define SEALED_STATE_KEY_SIZE 32

struct sealed_state;

/* Copies both; wiped by sealed_state_free (NULL is fine). NULL without memory. */
struct sealed_state *sealed_state_new(const unsigned char key[SEALED_STATE_KEY_SIZE],
                                      const char *guest_id);
void sealed_state_free(struct sealed_state *state);

/* Borrowed descriptors; the pipe's end does not block. */
struct sealed_move {
    int from_fd, to_fd;
    uint64_t limit; /* bytes in clear; more is refused */
    int64_t deadline_us;
    const atomic_bool *abandoned; /* nobody wants it any more: ends within a tenth of a second */
};

/* From a pipe, up to its end, to an empty file. HEARTH_EUNAVAILABLE `suspend_failed`. */
int sealed_state_seal(struct sealed_state *state, const struct sealed_move *move,
                      struct hearth_failure *failure);
/* From a file to a pipe, of which only what is proved to be whole so far is written; 0 when all is,
 * to the end. HEARTH_EIO `suspend_unreadable`: it was altered or cut, or is not of this key and
 * guest. HEARTH_ECANCELLED: abandoned, or the pipe's reader has gone. */
int sealed_state_open(struct sealed_state *state, const struct sealed_move *move,
                      struct hearth_failure *failure);
