/* The keys that secrets are sealed with, outside of the databases: a systemd credential
 * (hearth-secret-key, and while it changes hearth-secret-key-old, in $CREDENTIALS_DIRECTORY), else
 * the file secret.keys (0600) in the state directory, which is made at the first start and may hold
 * the one before on a second line. What is
 * sealed names its key, so that a change of keys can be cut short anywhere. Loop thread. */
#pragma once

#include "base/failure.h"
#include "supervisord/secret.h"

#include <stdbool.h>
#include <stddef.h>

struct secret_keys;

int secret_keys_load(struct secret_keys **ret_keys, int state_fd, struct hearth_failure *failure);
void secret_keys_free(struct secret_keys *keys);

#define SECRET_KEY_ID_SIZE 17 /* hex, with its NUL */
/* Of the key that seals now, and of the one before it ("" where there is none). */
void secret_keys_ids(const struct secret_keys *keys, char ret_id[SECRET_KEY_ID_SIZE],
                     char ret_old_id[SECRET_KEY_ID_SIZE]);
bool secret_keys_any_old(const struct secret_keys *keys);
bool secret_keys_credential(const struct secret_keys *keys);

/* Another key, step by step (secret_rotation.c): next makes one, which seals nothing yet; the file
 * is written with both; turn makes it the one that seals; the file is written with it alone; the
 * old one is forgotten. */
void secret_keys_next(struct secret_keys *keys);
enum secret_key_file { SECRET_KEY_FILE_BOTH, SECRET_KEY_FILE_NOW };
/* Any thread, while nobody changes keys. HEARTH_EIO and its like `key_unusable`. */
int secret_keys_write(const struct secret_keys *keys, enum secret_key_file which,
                      struct hearth_failure *failure);
void secret_keys_turn(struct secret_keys *keys);
void secret_keys_forget_old(struct secret_keys *keys);

/* Whose a sealed value is: opened as anybody else's it is refused. */
struct secret_owner {
    const char *tenant_id, *workspace_id, *name;
};
#define SECRET_SEAL_OVERHEAD 48 /* ID of the key, nonce, tag */
/* out has room for length + SECRET_SEAL_OVERHEAD. */
void secret_seal(const struct secret_keys *keys, const struct secret_owner *owner,
                 const void *value, size_t length, unsigned char *out);
/* value has room for length - SECRET_SEAL_OVERHEAD. HEARTH_EINTERNAL `secret_unreadable`: its key
 * is gone, or it is not what was sealed. */
int secret_open(const struct secret_keys *keys, const struct secret_owner *owner,
                const unsigned char *sealed, size_t length, void *value,
                struct hearth_failure *failure);
/* By the key before the one that seals now. */
bool secret_sealed_before(const struct secret_keys *keys, const unsigned char *sealed,
                          size_t length);

/* A key of its own that never changes, for hashes of what may hold something secret. */
const unsigned char *secret_hash_key(const struct secret_keys *keys);
