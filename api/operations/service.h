/* What service.c and service_list.c share: a service as results have it, and the list's entry. */
#pragma once

#include "api/call.h"
#include "api/json_write.h"
#include "api/optable.h"
#include "supervisord/service.h"

extern const struct field service_fields[];
/* Its members, into an object that has begun. */
void write_service(struct json_writer *json, const struct service_status *status);

struct service_list_input {
    const char *workspace_id, *cursor;
    int64_t limit;
};
extern const struct field service_list_input[], service_list_output[];
void service_list(struct call *call, const void *arg);
