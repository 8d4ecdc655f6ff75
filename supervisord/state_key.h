/* What the state of a suspended guest is sealed with: a key of its own for each time, kept in the
 * guest's row, sealed as a secret is (secret_key.h) and bound to tenant, workspace and guest. So a
 * change of the daemon's key seals these few bytes again, and a state of before is not taken for a
 * later one. Loop thread. */
#pragma once

#include "base/failure.h"
#include "supervisord/drivers/driver.h"
#include "supervisord/secret_key.h"

struct sandbox;

#define STATE_KEY_SEALED (GUEST_STATE_KEY_SIZE + SECRET_SEAL_OVERHEAD)

/* What its user may do where the key cannot be opened. */
#define STATE_KEY_HINT                                                                             \
    "Give the daemon the key of before again, or give up what was in its memory with "             \
    "workspace_stop: its disk is there."

/* A new one; the guest's row has it before anything is sealed with it. */
void state_key_make(struct sandbox *sandbox);
void state_key_load(struct sandbox *sandbox, const void *sealed, size_t length);
/* What it has sealed is used up, or was never kept. */
void state_key_forget(struct sandbox *sandbox);
/* key is wiped by the caller. HEARTH_EINTERNAL `suspend_unreadable`: the daemon's key is not the
 * one that has sealed it, or there is none. */
int state_key_open(const struct sandbox *sandbox, unsigned char key[GUEST_STATE_KEY_SIZE],
                   struct hearth_failure *failure);
/* There is one, and the daemon's key that has sealed it is not there. */
bool state_key_locked(const struct sandbox *sandbox);
/* True: by the daemon's key of before, and now by the one that seals. */
bool state_key_seal_again(struct sandbox *sandbox);
