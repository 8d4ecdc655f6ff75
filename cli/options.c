#include "cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void text_list_free(struct text_list *list)
{
    free(list->items);
    *list = (struct text_list){0};
}

static bool text_list_add(struct text_list *list, const char *text)
{
    const char **items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (!items)
        return false;
    list->items = items;
    list->items[list->count++] = text;
    return true;
}

static void print_usage(FILE *out, const struct usage *usage)
{
    fprintf(out, "usage: hearth %s\n", usage->line);
}

static void print_help(const struct usage *usage)
{
    print_usage(stdout, usage);
    printf("\n%s\n\n", usage->summary);
    for (const struct option *option = usage->options; option && option->name; option++) {
        char left[64];
        if (!option->value_name)
            snprintf(left, sizeof left, "--%s", option->name);
        else if (option->kind == OPTION_FLAG)
            snprintf(left, sizeof left, "-%s, --%s", option->value_name, option->name);
        else
            snprintf(left, sizeof left, "--%s %s", option->name, option->value_name);
        printf("  %-28s %s\n", left, option->help);
    }
    printf("  %-28s %s\n", "--json", "print the result as JSON");
}

int options_fail(const struct usage *usage, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("hearth: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    print_usage(stderr, usage);
    return 2;
}

/* The name of the plain word at index (from 0) in the usage line: WORKSPACE_ID. */
static const char *word_name(const struct usage *usage, size_t index, int *ret_length)
{
    const char *at = usage->line;
    for (size_t seen = 0; *at; at += strspn(at, " ")) {
        *ret_length = (int)strcspn(at, " ");
        if (*at >= 'A' && *at <= 'Z' && seen++ == index)
            return at;
        at += *ret_length;
    }
    *ret_length = 4;
    return "word";
}

static const struct option *option_named(const struct usage *usage, const char *name, size_t length)
{
    for (const struct option *option = usage->options; option && option->name; option++) {
        if (strlen(option->name) == length && !memcmp(option->name, name, length))
            return option;
    }
    return NULL;
}

/* By its name, or by that of the argument that it stands for: --timeout-seconds is --timeout. */
static const struct option *option_find(const struct usage *usage, const char *name, size_t length)
{
    static const char *const ends[] = {"-seconds", "-ms", "-path", "-name"};
    const struct option *option = option_named(usage, name, length);
    for (size_t i = 0; !option && i < sizeof ends / sizeof *ends; i++) {
        size_t end = strlen(ends[i]);
        if (length > end && !memcmp(name + length - end, ends[i], end))
            option = option_named(usage, name, length - end);
    }
    return option;
}

/* The flag that "-f" stands for. */
static const struct option *flag_find(const struct usage *usage, const char *word)
{
    for (const struct option *option = usage->options; option && option->name; option++) {
        if (option->kind == OPTION_FLAG && option->value_name && word[0] == '-' &&
            strcmp(word + 1, option->value_name) == 0)
            return option;
    }
    return NULL;
}

static bool integer_parse(const char *text, long *ret_value)
{
    if (!isdigit((unsigned char)text[0]))
        return false;

    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || *end)
        return false;
    *ret_value = value;
    return true;
}

static int option_take(const struct usage *usage, const struct option *option, const char *value)
{
    switch (option->kind) {
    case OPTION_FLAG:
        *(bool *)option->target = true;
        return OPTIONS_PARSED;
    case OPTION_TEXT:
        *(const char **)option->target = value;
        return OPTIONS_PARSED;
    case OPTION_INTEGER:
        if (!integer_parse(value, option->target))
            return options_fail(usage, "--%s takes a whole number, not '%s'", option->name, value);
        return OPTIONS_PARSED;
    case OPTION_LIST:
        if (!text_list_add(option->target, value))
            return options_fail(usage, "out of memory");
        return OPTIONS_PARSED;
    }
    return OPTIONS_PARSED;
}

/* For the shells' completion: a line an option. */
static void list_options(const struct usage *usage)
{
    for (const struct option *option = usage->options; option && option->name; option++)
        printf("--%s\t%s\n", option->name, option->help);
    puts("--json\tprint the result as JSON\n--help\tsay what it does");
}

/* argv[*index] starts with "--": takes it, and its value where that is the next word. */
static int parse_option(const struct usage *usage, int argc, char **argv, int *index,
                        bool *ret_json)
{
    const char *name = argv[*index] + 2;
    size_t length = strcspn(name, "=");
    const char *value = name[length] == '=' ? name + length + 1 : NULL;

    if (!strcmp(name, "help")) {
        print_help(usage);
        return 0;
    }
    if (!strcmp(name, "list-options")) {
        list_options(usage);
        return 0;
    }
    if (!strcmp(name, "json")) {
        *ret_json = true;
        return OPTIONS_PARSED;
    }
    const struct option *option = option_find(usage, name, length);
    if (!option)
        return options_fail(usage, "no such option: --%.*s", (int)length, name);
    if (option->kind == OPTION_FLAG && value)
        return options_fail(usage, "--%s takes no value", option->name);
    if (option->kind != OPTION_FLAG && !value) {
        if (*index + 1 >= argc)
            return options_fail(usage, "--%s needs a value: %s", option->name, option->value_name);
        value = argv[++*index];
    }
    return option_take(usage, option, value);
}

int options_parse(const struct usage *usage, int argc, char **argv, bool *ret_json,
                  struct words *ret_words)
{
    *ret_words = (struct words){0};

    int index = 0;
    bool plain = false; /* after "--" nothing is an option */
    for (; index < argc; index++) {
        bool all_words = ret_words->count == usage->maximum;
        if (!plain && !strcmp(argv[index], "--")) {
            plain = true;
            if (usage->command) {
                index++;
                break;
            }
        } else if (!plain && !strcmp(argv[index], "-h")) {
            print_help(usage);
            return 0;
        } else if (!plain && argv[index][0] == '-' && argv[index][1] == '-') {
            int status = parse_option(usage, argc, argv, &index, ret_json);
            if (status != OPTIONS_PARSED)
                return status;
        } else if (!plain && flag_find(usage, argv[index])) {
            option_take(usage, flag_find(usage, argv[index]), NULL);
        } else if (all_words && usage->command) {
            break;
        } else if (all_words) {
            return options_fail(usage, "one word too many: '%s'", argv[index]);
        } else {
            ret_words->items[ret_words->count++] = argv[index];
        }
    }
    if (ret_words->count < usage->minimum) {
        int length;
        const char *name = word_name(usage, ret_words->count, &length);
        return options_fail(usage, "%.*s is missing", length, name);
    }
    if (usage->command && index >= argc)
        return options_fail(usage, "the command is missing");
    ret_words->command = argv + index;
    ret_words->command_count = (size_t)(argc - index);
    return OPTIONS_PARSED;
}
