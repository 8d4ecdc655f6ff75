#include "cli/plain.h"

#include "cli/exec_stream.h"
#include "cli/standard_input.h"

#include <stdio.h>
#include <string.h>

union value {
    bool flag;
    const char *text;
    long number;
    struct text_list list;
};

static void *target_of(union value *value, enum option_kind kind)
{
    switch (kind) {
    case OPTION_FLAG:
        return &value->flag;
    case OPTION_TEXT:
        return &value->text;
    case OPTION_INTEGER:
        return &value->number;
    case OPTION_LIST:
        return &value->list;
    }
    return NULL;
}

static size_t count_options(const struct plain *plain)
{
    size_t count = 0;
    while (plain->options[count].name)
        count++;
    return count;
}

static size_t count_words(const struct plain *plain)
{
    size_t count = 0;
    while (count < PLAIN_WORDS_MAX && plain->words[count])
        count++;
    return count;
}

/* False where it is not what it should be (told). */
static bool add_option(cJSON *arguments, const struct plain_option *option,
                       const union value *value, const struct usage *usage)
{
    switch (option->kind) {
    case OPTION_FLAG:
        if (value->flag)
            cJSON_AddBoolToObject(arguments, option->argument, !option->negative);
        break;
    case OPTION_TEXT:
        cli_add_text(arguments, option->argument, value->text);
        break;
    case OPTION_INTEGER:
        cli_add_number(arguments, option->argument, value->number);
        break;
    case OPTION_LIST:
        if (option->add)
            return option->add(arguments, option->argument, &value->list, usage);
        if (value->list.count || option->always) {
            cJSON *items = cJSON_AddArrayToObject(arguments, option->argument);
            for (size_t i = 0; i < value->list.count; i++)
                cJSON_AddItemToArray(items, cJSON_CreateString(value->list.items[i]));
        }
        break;
    }
    return true;
}

static int add_command(const struct cli *cli, const struct words *words, cJSON *arguments)
{
    auto_free char *line = cli_shell_line(words);
    if (!line)
        return cli_out_of_memory(cli);
    cJSON_AddStringToObject(arguments, "command", line);
    return 0;
}

static int add_input(const struct cli *cli, const struct plain *plain, cJSON *arguments)
{
    auto_buf struct buf input = {0};
    struct hearth_failure failure;
    if (!plain->input)
        return 0;
    if (standard_input_read(&input, &failure))
        return cli_fail(cli, &failure, NULL);
    cJSON_AddStringToObject(arguments, plain->input, input.data ? input.data : "");
    return 0;
}

static void show_id(const struct plain *plain, const cJSON *row)
{
    output_text(json_text(row, plain->id, ""));
    output_text("\n");
}

static void show_ids(const struct plain *plain, const cJSON *result)
{
    const cJSON *row;
    if (!plain->list)
        show_id(plain, result);
    cJSON_ArrayForEach(row, json_member(result, plain->list))
    {
        show_id(plain, row);
    }
}

static void show(const struct cli *cli, const struct plain *plain, const char *verb,
                 const struct buf *body, const cJSON *result, bool id_only)
{
    if (cli->json) {
        output_json(body->data);
        return;
    }
    if (id_only) {
        show_ids(plain, result);
        return;
    }
    if (plain->text) {
        output_text(json_text(result, plain->text, ""));
        output_text(plain->line_of_text ? "\n" : "");
    } else if (plain->list) {
        output_table(json_member(result, plain->list), plain->columns);
    } else if (!plain->told || plain->fields) {
        output_fields(result);
    }
    if (plain->told)
        output_summary(verb, result, plain->told);
    else if (plain->list)
        output_count(verb, json_member(result, plain->list));
}

/* "workspace-snapshot-list" of "workspace snapshot list WORKSPACE_ID". */
static bool name_of(struct buf *name, const struct plain *plain)
{
    size_t length = strcspn(plain->line, "ABCDEFGHIJKLMNOPQRSTUVWXYZ[");
    while (length && plain->line[length - 1] == ' ')
        length--;
    if (buf_append(name, plain->line, length))
        return false;
    for (char *blank = name->data; (blank = strchr(blank, ' '));)
        *blank = '-';
    return true;
}

/* form with the arguments that it names in their places; they are taken out of arguments. */
static bool fill_path(struct buf *path, const char *form, cJSON *arguments)
{
    for (const char *brace; (brace = strchr(form, '{')); form = strchr(brace, '}') + 1) {
        auto_free char *name = strndup(brace + 1, strcspn(brace + 1, "}"));
        auto_json cJSON *word =
            name ? cJSON_DetachItemFromObjectCaseSensitive(arguments, name) : NULL;
        if (!word || buf_append(path, form, (size_t)(brace - form)) ||
            http_escape(path, word->valuestring))
            return false;
    }
    return !buf_text(path, form);
}

static bool has_body(const char *method)
{
    return strcmp(method, "GET") != 0 && strcmp(method, "DELETE") != 0;
}

static int ask(struct cli *cli, const struct plain *plain, cJSON *arguments, bool id_only)
{
    const char *method = plain->method ? plain->method : "POST";
    auto_buf struct buf path = {0}, body = {0}, verb = {0};
    auto_json cJSON *result = NULL;
    bool named = plain->tool ? cli_path(&path, "/v1/tools/", plain->tool, "/call", NULL)
                             : fill_path(&path, plain->path, arguments);
    if (!named || !name_of(&verb, plain)) {
        cJSON_Delete(arguments);
        return cli_out_of_memory(cli);
    }
    if (plain->command)
        return exec_answer(cli, verb.data, path.data, arguments, plain->told);
    if (!has_body(method)) {
        cJSON_Delete(arguments);
        arguments = NULL;
    }
    int status = cli_call_json(cli, method, path.data, arguments, &body, &result);
    if (status)
        return status;
    show(cli, plain, verb.data, &body, result, id_only);
    return plain->good && !cJSON_IsTrue(json_member(result, plain->good)) ? 1 : 0;
}

static int run(struct cli *cli, const struct plain *plain, const struct usage *usage,
               const struct words *words, const union value *values, bool id_only)
{
    auto_json cJSON *arguments = cJSON_CreateObject();
    for (size_t i = 0; i < words->count; i++)
        cJSON_AddStringToObject(arguments, plain->words[i], words->items[i]);
    for (size_t i = 0; plain->options[i].name; i++)
        if (!add_option(arguments, &plain->options[i], &values[i], usage))
            return 2;
    int status =
        plain->command ? add_command(cli, words, arguments) : add_input(cli, plain, arguments);
    return status ? status : ask(cli, plain, steal_pointer(arguments), id_only);
}

int plain_run(struct cli *cli, const struct plain *plain, int argc, char **argv)
{
    union value values[PLAIN_OPTIONS_MAX] = {0};
    struct option options[PLAIN_OPTIONS_MAX + 2] = {0};
    bool id_only = false;
    size_t option_count = count_options(plain);
    for (size_t i = 0; i < option_count; i++) {
        const struct plain_option *row = &plain->options[i];
        if (row->kind == OPTION_INTEGER)
            values[i].number = -1;
        options[i] = (struct option){row->name, row->kind, target_of(&values[i], row->kind),
                                     row->value_name, row->help};
    }
    if (plain->id)
        options[option_count] =
            (struct option){"id-only", OPTION_FLAG, &id_only, NULL,
                            plain->list ? "print the IDs and no more" : "print the ID and no more"};
    const struct usage usage = {.line = plain->line,
                                .summary = plain->summary,
                                .options = options,
                                .minimum = count_words(plain),
                                .maximum = count_words(plain),
                                .command = plain->command};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status == OPTIONS_PARSED)
        status = run(cli, plain, &usage, &words, values, id_only);
    for (size_t i = 0; i < option_count; i++)
        if (plain->options[i].kind == OPTION_LIST)
            text_list_free(&values[i].list);
    return status;
}
