#include "cli/command.h"

#include "base/text.h"
#include "cli/endpoint.h"
#include "cli/output.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What to do next about what went wrong on this side, where its maker had nothing better to say. */
static const char *hint_of(const struct hearth_failure *failure)
{
    static const struct {
        const char *code, *hint;
    } hints[] = {
        {"cannot_read", "name what is there and may be read by you"},
        {"cannot_write", "name a place where you may write, on a disk with room"},
        {"bad_path", "name what is there and may be read by you"},
        {"bad_reply", "look whether HEARTH_URL names a hearthd, and its log"},
        {"out_of_memory", "ask again with less at a time"},
    };
    if (failure->hint[0])
        return failure->hint;
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++)
        if (strcmp(failure->code, hints[i].code) == 0)
            return hints[i].hint;
    return "";
}

static void add_text_or_null(cJSON *object, const char *name, const char *text)
{
    if (*text)
        cJSON_AddStringToObject(object, name, text);
    else
        cJSON_AddNullToObject(object, name);
}

cJSON *cli_problem(const struct hearth_failure *failure)
{
    const char *hint = hint_of(failure);
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "type", "about:blank");
    cJSON_AddStringToObject(object, "title", hearth_error_name(failure->error));
    cJSON_AddNullToObject(object, "status"); /* of no reply */
    cJSON_AddStringToObject(object, "detail", failure->detail);
    cJSON_AddStringToObject(object, "code", failure->code);
    add_text_or_null(object, "field", failure->field);
    cJSON_AddStringToObject(object, "hint", *hint ? hint : "look at the detail, then ask again");
    cJSON_AddNullToObject(object, "request_id");
    cJSON_AddBoolToObject(object, "retryable", failure->retryable);
    return object;
}

int cli_fail(const struct cli *cli, const struct hearth_failure *failure, const struct buf *problem)
{
    if (cli->json && problem && problem->length) {
        puts(problem->data);
    } else if (cli->json) {
        auto_json cJSON *object = cli_problem(failure);
        char *text = cJSON_PrintUnformatted(object);
        puts(text ? text : "{}");
        cJSON_free(text);
    }
    /* A guest may have a say in it: what its agent answers, what its files are called. */
    auto_buf struct buf line = {0};
    int error = buf_printf(&line, "hearth: %s", failure->detail);
    if (!error && failure->field[0])
        error = buf_printf(&line, " [%s]", failure->field);
    if (!error && *hint_of(failure))
        error = buf_printf(&line, " (%s)", hint_of(failure));
    output_words(stderr, line.data ? line.data : "", line.length);
    fputc('\n', stderr);
    return EXIT_PROBLEM;
}

int cli_out_of_memory(const struct cli *cli)
{
    struct hearth_failure failure;
    hearth_fail(&failure, HEARTH_ENOMEMORY, "out_of_memory", "out of memory");
    return cli_fail(cli, &failure, NULL);
}

int cli_open(struct cli *cli, struct hearth_failure *failure)
{
    if (cli->http)
        return 0;
    struct endpoint endpoint = {0};
    int error = endpoint_find(&endpoint, failure);
    if (!error)
        error = http_open(&cli->http, &endpoint, failure);
    endpoint_free(&endpoint);
    return error;
}

/* A text of cJSON ends at a NUL, and what came after it would not be shown: U+FFFD stands for it.
 */
static cJSON *parse(const struct buf *body)
{
    auto_buf struct buf text = {.limit = SIZE_MAX};
    if (!body->data || !memmem(body->data, body->length, "\\u0000", 6))
        return body->data ? cJSON_ParseWithLength(body->data, body->length) : NULL;
    if (buf_append(&text, body->data, body->length))
        return NULL;
    for (size_t i = 0; i + 6 <= text.length; i++)
        if (text.data[i] == '\\') {
            if (memcmp(text.data + i, "\\u0000", 6) == 0)
                memcpy(text.data + i + 2, "fffd", 4);
            i++; /* what is escaped may be a backslash */
        }
    return cJSON_ParseWithLength(text.data, text.length);
}

int cli_call(struct cli *cli, const struct http_request *request, struct buf *ret_body,
             cJSON **ret_result)
{
    auto_buf struct buf own = {0};
    struct buf *body = ret_body ? ret_body : &own;
    struct hearth_failure failure = HEARTH_FAILURE_NONE;

    int error = cli_open(cli, &failure);
    if (!error)
        error = http_perform(cli->http, request, body, &failure);
    if (error)
        return cli_fail(cli, &failure, body);
    if (!ret_result)
        return 0;
    *ret_result = parse(body);
    if (!*ret_result) {
        hearth_fail(&failure, HEARTH_EIO, "bad_reply", "the daemon's answer is not JSON");
        return cli_fail(cli, &failure, NULL);
    }
    return 0;
}

int cli_call_json(struct cli *cli, const char *method, const char *path, cJSON *body,
                  struct buf *ret_body, cJSON **ret_result)
{
    char *text = body ? cJSON_PrintUnformatted(body) : NULL;
    bool missing = body && !text;
    cJSON_Delete(body);
    if (missing)
        return cli_out_of_memory(cli);
    const struct http_request request = {.method = method, .path = path, .body = text};
    int status = cli_call(cli, &request, ret_body, ret_result);
    cJSON_free(text);
    return status;
}

bool cli_path(struct buf *path, const char *literal, ...)
{
    va_list parts;
    va_start(parts, literal);
    bool ok = true, encode = false;
    for (const char *part = literal; ok && part; part = va_arg(parts, const char *)) {
        ok = !(encode ? http_escape(path, part) : buf_text(path, part));
        encode = !encode;
    }
    va_end(parts);
    return ok;
}

bool cli_query(struct buf *path, const char *name, const char *value)
{
    if (!value)
        return true;
    const char *mark = memchr(path->data, '?', path->length) ? "&" : "?";
    return !buf_printf(path, "%s%s=", mark, name) && !http_escape(path, value);
}

bool cli_query_number(struct buf *path, const char *name, long number)
{
    char text[24];
    snprintf(text, sizeof text, "%ld", number);
    return cli_query(path, name, number < 0 ? NULL : text);
}

char *cli_absolute(const char *path)
{
    auto_free char *absolute = realpath(path, NULL);
    return absolute && utf8_valid(absolute, strlen(absolute)) ? steal_pointer(absolute)
                                                              : text_copy(path);
}

void cli_add_text(cJSON *object, const char *name, const char *value)
{
    if (value)
        cJSON_AddStringToObject(object, name, value);
}

void cli_add_number(cJSON *object, const char *name, long value)
{
    if (value >= 0)
        cJSON_AddNumberToObject(object, name, (double)value);
}

bool cli_add_pairs(cJSON *object, const char *name, const struct text_list *pairs,
                   const struct usage *usage)
{
    if (!pairs->count)
        return true;
    cJSON *map = cJSON_AddObjectToObject(object, name);
    for (size_t i = 0; i < pairs->count; i++) {
        const char *equals = strchr(pairs->items[i], '=');
        if (!equals || equals == pairs->items[i]) {
            options_fail(usage, "'%s' does not read KEY=VALUE", pairs->items[i]);
            return false;
        }
        auto_free char *key = strndup(pairs->items[i], (size_t)(equals - pairs->items[i]));
        if (key) {
            cJSON_DeleteItemFromObjectCaseSensitive(map, key);
            cJSON_AddStringToObject(map, key, equals + 1);
        }
    }
    return true;
}

static bool shell_plain(const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "@%+=:,./-_";
    return *word && !word[strspn(word, plain)];
}

char *cli_shell_line(const struct words *words)
{
    auto_buf struct buf line = {0};
    int error = 0;
    if (words->command_count == 1)
        error = buf_text(&line, words->command[0]);
    for (size_t i = 0; !error && words->command_count > 1 && i < words->command_count; i++) {
        const char *word = words->command[i];
        if (i)
            error = buf_char(&line, ' ');
        if (!error && shell_plain(word)) {
            error = buf_text(&line, word);
            continue;
        }
        if (!error)
            error = buf_char(&line, '\'');
        for (; !error && *word; word++)
            error = *word == '\'' ? buf_text(&line, "'\\''") : buf_char(&line, *word);
        if (!error)
            error = buf_char(&line, '\'');
    }
    return error ? NULL : buf_steal(&line);
}
