/* Another key for secrets. Where it is the file's, on request: the new key is in the file beside
 * the old one before anything is sealed with it, all that the old one has sealed is sealed again,
 * and only when no row names it any more is it taken out of the file. A daemon that is killed
 * anywhere goes on with that at its next start; until the end either key opens what it has sealed.
 * A credential is changed by the operator, and settled at the start. Loop thread; the file is
 * written by a worker. */
#pragma once

#include "supervisord/secret_key.h"

struct secret_rotation_result {
    char key_id[SECRET_KEY_ID_SIZE], old_key_id[SECRET_KEY_ID_SIZE];
    size_t secrets; /* sealed again */
};

/* result is NULL where error is not 0: HEARTH_ECONFLICT `key_is_credential` or `rotation_running`,
 * `key_unusable` (the file cannot be written), `secret_unreadable` (some cannot be opened: the old
 * key is kept), or what the storage says. */
typedef void (*secret_rotated)(void *arg, int error, const struct hearth_failure *failure,
                               const struct secret_rotation_result *result);

/* Goes on with one that was cut short, else begins one. done is told later, never before this
 * returns; it writes no audit. */
void secret_rotate(struct supervisor *supervisor, secret_rotated done, void *arg);

/* After all rows are loaded: ends what was cut short. */
void secret_rotation_settle(struct supervisor *supervisor);
