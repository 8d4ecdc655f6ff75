/* The secrets that a request gives, by value or by a file of the daemon's host. */
#pragma once

#include "api/optable.h"
#include "supervisord/workspace.h"

struct secret_input {
    const char *name, *value, *file_path;
};
extern const struct field secret_input_fields[];

/* What the files hold is read where no value is given. done(arg, secrets) comes once, with as many
 * as there are in list (of struct secret_input), in the call's memory; maybe before this returns;
 * never where the call has been failed. */
typedef void (*secrets_gathered)(void *arg, const struct secret_spec *secrets);
void secrets_gather(struct call *call, const struct object_list *list, secrets_gathered done,
                    void *arg);
/* Of what has been taken, the values (in the call's memory) are no more. */
void secrets_wipe(const struct secret_spec *secrets, size_t count);
