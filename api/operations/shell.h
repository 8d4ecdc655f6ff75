/* What shell.c and shell_list.c share: a shell as results have it, and the list's entry. */
#pragma once

#include "api/call.h"
#include "api/json_write.h"
#include "api/optable.h"
#include "supervisord/shell.h"

extern const struct field shell_fields[];
/* Its members, into an object that has begun. */
void write_shell(struct json_writer *json, const struct shell_status *status);

struct shell_list_input {
    const char *workspace_id, *cursor;
    int64_t limit;
};
extern const struct field shell_list_input[], shell_list_output[];
void shell_list_handler(struct call *call, const void *arg);
