/* The keys that secrets are sealed with, outside of the databases: a systemd credential
 * (hearth-secret-key, and while it changes hearth-secret-key-old, in $CREDENTIALS_DIRECTORY), else
 * the file secret.keys (0600) in the state directory, which is made at the first start. What is
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
/* Of the key that seals now. */
const char *secret_keys_id(const struct secret_keys *keys);
bool secret_keys_any_old(const struct secret_keys *keys);

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
bool secret_sealed_now(const struct secret_keys *keys, const unsigned char *sealed, size_t length);

/* A key of its own that never changes, for hashes of what may hold something secret. */
const unsigned char *secret_hash_key(const struct secret_keys *keys);
