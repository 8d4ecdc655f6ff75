#include "api/problem.h"

#include <stdio.h>
#include <string.h>

static const struct {
    int status;
    const char *title;
} kinds[HEARTH_ERROR_MAX] = {
    [-HEARTH_EINVALID] = {422, "Invalid argument"},
    [-HEARTH_EMALFORMED] = {400, "Malformed request"},
    [-HEARTH_EUNAUTHENTICATED] = {401, "Not authenticated"},
    [-HEARTH_EFORBIDDEN] = {403, "Forbidden"},
    [-HEARTH_ENOTFOUND] = {404, "Not found"},
    [-HEARTH_ECONFLICT] = {409, "Conflict"},
    [-HEARTH_ETOOLARGE] = {413, "Too large"},
    [-HEARTH_EMEDIATYPE] = {415, "Unsupported media type"},
    [-HEARTH_EQUOTA] = {429, "Quota exceeded"},
    [-HEARTH_EUNSUPPORTED] = {422, "Not supported here"},
    [-HEARTH_EUNAVAILABLE] = {503, "Unavailable"},
    [-HEARTH_ETIMEDOUT] = {504, "Timed out"},
    [-HEARTH_ENOSPACE] = {507, "Insufficient storage"},
    [-HEARTH_ECANCELLED] = {499, "Cancelled"},
    [-HEARTH_ENOMEMORY] = {503, "Out of memory"},
    [-HEARTH_EIO] = {500, "Input/output error"},
    [-HEARTH_EINTERNAL] = {500, "Internal error"},
};

/* What HTTP has a status of its own for and the rest of the daemon has not. */
static const struct {
    const char *code;
    int status;
    const char *title;
} special[] = {
    {"method_not_allowed", 405, "Method not allowed"},
    {"request_timeout", 408, "Request timeout"},
    {"upgrade_required", 426, "Upgrade required"},
    {"port_not_listening", 502, "Bad gateway"},
    {"port_unreachable", 502, "Bad gateway"},
    {"port_not_http", 502, "Bad gateway"},
    {"range_not_satisfiable", 416, "Range not satisfiable"},
    {"http_version_not_supported", 505, "HTTP version not supported"},
};

static int kind_index(const struct hearth_failure *failure)
{
    int index = -(int)failure->error;
    return index > 0 && index < HEARTH_ERROR_MAX ? index : -HEARTH_EINTERNAL;
}

static int special_index(const struct hearth_failure *failure)
{
    int count = sizeof special / sizeof special[0];
    for (int i = 0; i < count; i++) {
        if (!strcmp(failure->code, special[i].code))
            return i;
    }
    return -1;
}

int problem_status(const struct hearth_failure *failure)
{
    int index = special_index(failure);
    return index >= 0 ? special[index].status : kinds[kind_index(failure)].status;
}

void problem_write(struct json_writer *json, const char *key, const struct hearth_failure *failure,
                   const char *request_id)
{
    char type[96];
    snprintf(type, sizeof type, "/problems/%s", failure->code);
    int index = special_index(failure);
    json_object_begin(json, key);
    json_string(json, "type", type);
    json_string(json, "title",
                index >= 0 ? special[index].title : kinds[kind_index(failure)].title);
    json_integer(json, "status", problem_status(failure));
    json_string(json, "detail", failure->detail);
    json_string(json, "code", failure->code);
    json_string(json, "field", failure->field[0] ? failure->field : NULL);
    json_string(json, "hint", problem_hint(failure));
    json_string(json, "request_id", request_id);
    json_boolean(json, "retryable", failure->retryable);
    json_object_end(json);
}
