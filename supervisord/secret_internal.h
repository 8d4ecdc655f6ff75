/* What the supervisor's own files do with secrets. */
#pragma once

#include "agent.pb-c.h"
#include "supervisord/secret.h"
#include "supervisord/secret_key.h"
#include "supervisord/supervisor_internal.h"

/* One as it is kept: sealed. */
struct secret {
    char name[SECRET_NAME_MAX + 1];
    bool from_file;
    size_t length; /* of sealed */
    unsigned char *sealed;
};

/* Seals checked ones into the workspace. 0 or HEARTH_ENOMEMORY. */
int secrets_keep(struct workspace *workspace, const struct secret_spec *secrets, size_t count);
/* Of another workspace: opened and sealed again. */
int secrets_copy(struct workspace *workspace, const struct workspace *from,
                 struct hearth_failure *failure);
void secrets_drop(struct workspace *workspace);
/* Their rows, after the workspace's own. */
void secrets_put(const struct workspace *workspace, struct change *change);
int secrets_load(struct supervisor *supervisor, const struct row_secret *row);
struct secret_owner secret_owner_of(const struct workspace *workspace, const char *name);

/* In clear, for one message to an agent. */
struct secrets_open {
    size_t size, count;
    char *memory; /* secret_memory.h */
    Hearth__Agent__V1__Secret messages[SECRETS_MAX], *list[SECRETS_MAX];
};
/* Opens all of the workspace's (NULL: none); the memory is given back by secrets_close. */
int secrets_open(const struct workspace *workspace, struct secrets_open *ret_open,
                 struct hearth_failure *failure);
void secrets_close(struct secrets_open *open);

/* The variables of a request to the agent, copied: a list of count pointers in one piece of memory
 * (free). NULL without memory. */
Hearth__Agent__V1__SecretVariable **secret_variables_make(const struct secret_variable *variables,
                                                          size_t count);
