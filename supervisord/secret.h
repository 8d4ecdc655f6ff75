/* Secrets of a workspace: given when it is made, sealed at once (secret_key.h), opened only to hand
 * them to its guest's agent and to look for them in what is shown. Loop thread. */
#pragma once

#include "base/redact.h"
#include "supervisord/workspace.h"

#define SECRET_NAME_MAX 64
#define SECRET_VALUE_MAX 65536
#define SECRETS_MAX 32
#define SECRETS_BYTES_MAX ((size_t)256 << 10) /* of all values of a workspace */

/* `field` of a failure is "/secrets/N/…". */
int secrets_check(const struct secret_spec *secrets, size_t count, struct hearth_failure *failure);
/* HEARTH_EINVALID `unknown_secret`, `bad_variable`; field is "/secret_env/NAME". */
int secret_variables_check(const struct workspace *workspace,
                           const struct secret_variable *variables, size_t count,
                           struct hearth_failure *failure);

/* What the workspace's secrets look like, to be looked for: freed by redact_values_free. NULL where
 * it has none, or *ret_error says why they cannot be opened. */
struct redact_values *workspace_redact_values(const struct workspace *workspace, int *ret_error);
/* Each text (owned) with them replaced, and as it was where there are none; the secrets are opened
 * once for all. NULL where it was, without memory, and where they cannot be opened. */
void workspace_redact_texts(const struct workspace *workspace, char **texts, size_t count);
char *workspace_redact_text(const struct workspace *workspace, char *text);

/* For hashes of what may hold something secret. */
#define SECRET_HASH_KEY_SIZE 32
const unsigned char *supervisor_hash_key(const struct supervisor *supervisor);
