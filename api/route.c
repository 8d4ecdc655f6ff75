#include "api/call_internal.h"

#include <stdio.h>
#include <string.h>

/* Does path fit the template? Fills the parameters. */
static bool fits(const char *template, const char *path, bool open, struct route *route)
{
    route->parameter_count = 0;
    while (*template) {
        /* The rest is nobody's here to look at (what is kept of it may be cut), and the slash
         * before it may be missing. */
        const char *last = open && !*path && *template == '/' ? template + 1 : template;
        if (open && *last == '{' && !strchr(last, '/')) {
            unsigned rest = route->parameter_count++;
            route->parameters[rest].name = last + 1;
            snprintf(route->parameters[rest].value, sizeof route->parameters[rest].value, "%s",
                     path);
            return true;
        }
        if (*template != '{') {
            if (*template ++ != *path++)
                return false;
            continue;
        }
        size_t length = strcspn(path, "/"), name_length = strcspn(template, "}");
        if (!length || length >= sizeof route->parameters[0].value || route->parameter_count == 3)
            return false;
        unsigned index = route->parameter_count++;
        route->parameters[index].name = template + 1; /* up to its brace */
        memcpy(route->parameters[index].value, path, length);
        route->parameters[index].value[length] = '\0';
        template += name_length + 1;
        path += length;
    }
    return !*path;
}

static void allow_method(char allow[64], const char *method)
{
    size_t used = strlen(allow);
    if (!strstr(allow, method))
        snprintf(allow + used, 64 - used, "%s%s%s", used ? ", " : "", method,
                 strcmp(method, "GET") == 0 ? ", HEAD" : "");
}

int route_find(const char *method, const char *path, struct route *ret_route, char allow[64],
               struct hearth_failure *failure)
{
    size_t count, other_count;
    const struct operation_entry *const *table = optable(&count);
    const struct service_route *others = service_routes(&other_count);
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    *allow = '\0';
    for (size_t i = 0; i < other_count; i++)
        if (fits(others[i].path, path, false, ret_route)) {
            if (strcmp(others[i].method, wanted) == 0) {
                ret_route->kind = others[i].kind;
                ret_route->entry = NULL;
                return 0;
            }
            allow_method(allow, others[i].method);
        }
    for (size_t i = 0; i < count; i++)
        if ((table[i]->surfaces & SURFACE_REST) &&
            fits(table[i]->path, path, table[i]->flags & OPERATION_RELAY, ret_route)) {
            if ((table[i]->flags & OPERATION_RELAY) || strcmp(table[i]->method, wanted) == 0) {
                ret_route->kind = ROUTE_OPERATION;
                ret_route->entry = table[i];
                return 0;
            }
            allow_method(allow, table[i]->method);
        }
    if (*allow)
        return hearth_fail(failure, HEARTH_EINVALID, "method_not_allowed", "this resource takes %s",
                           allow);
    int error =
        hearth_fail(failure, HEARTH_ENOTFOUND, "route_not_found", "there is no such resource");
    hearth_failure_hint(failure, "GET /openapi.json lists what there is.");
    return error;
}
