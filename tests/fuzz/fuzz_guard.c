/* api/guard.c: a request's head, whose first line is the target and whose further ones are
 * headers. */
#include "fuzz.h"

#include "api/guard.h"
#include "base/text.h"

#include <string.h>
#include <strings.h>

static void check_target(const char *line)
{
    char *text = strdup(line);
    struct guard_target target;
    if (guard_target_parse(text, &target, NULL) == 0) {
        PROMISE(target.path[0] == '/');
        PROMISE(!strstr(target.path, "//"));
        PROMISE(!strstr(target.path, "/../") && !strstr(target.path, "/./"));
        PROMISE(utf8_valid(target.path, strlen(target.path)));
        for (const char *at = target.path; *at; at++)
            PROMISE((unsigned char)*at >= ' ' && *at != 0x7f);
        PROMISE(target.query_count <= GUARD_QUERY_MAX);
        for (size_t i = 0; i < target.query_count; i++) {
            PROMISE(utf8_valid(target.query[i].name, strlen(target.query[i].name)));
            PROMISE(utf8_valid(target.query[i].value, strlen(target.query[i].value)));
        }
    }
    free(text);
}

static int add_header(struct guard_head *head, char *line)
{
    char *colon = strchr(line, ':');
    if (!colon)
        return 0;
    char *value = colon + 1 + strspn(colon + 1, " \t");
    *colon = '\0';
    return guard_head_add(head, line, (size_t)(colon - line), value, strlen(value),
                          (size_t)(value - colon), NULL);
}

static void check_head(const struct guard_head *head, size_t line_length)
{
    size_t size = line_length + head->byte_count + 2 * (head->line_count + 2);
    PROMISE(guard_head_check(head, "HTTP/1.1", line_length, size + 1, NULL) != 0);
    if (guard_head_check(head, "HTTP/1.1", line_length, size, NULL) == 0) {
        PROMISE(head->host != NULL);
        PROMISE(!head->content_length || !head->transfer_encoding);
        PROMISE(!head->transfer_encoding || guard_body_length(head) == UINT64_MAX);
        guard_origin(head, 0, NULL, NULL, NULL);
        if (guard_origin(head, 80, "a.example, b:1", "https://c.example", NULL) == 0 &&
            head->origin)
            PROMISE(!strncasecmp(head->origin, "http", 4));
    }
    if (head->authorization) {
        const char *token = guard_bearer(head->authorization);
        PROMISE(!token || (*token && !strchr(token, ' ')));
    }
    if (head->request_id && guard_request_id_valid(head->request_id))
        PROMISE(strlen(head->request_id) <= GUARD_REQUEST_ID_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *cursor = text;
    memcpy(text, data, size);
    text[size] = '\0';
    const char *target = strsep(&cursor, "\n");
    struct guard_head head = {0};
    int error = 0;
    check_target(target);
    while (cursor && !error)
        error = add_header(&head, strsep(&cursor, "\n"));
    if (!error)
        check_head(&head, strlen(target));
    free(text);
    return 0;
}
