/* The words of a command line: a table of options and how many other words there may be. A fault is
 * told on stderr with the usage line; --help prints the table. Borrows argv throughout. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum option_kind {
    OPTION_FLAG,    /* target: bool */
    OPTION_TEXT,    /* target: const char *, left alone where absent */
    OPTION_INTEGER, /* target: long, >= 0; left alone where absent */
    OPTION_LIST,    /* target: struct text_list; may be given again and again */
};

struct text_list {
    size_t count;
    const char **items; /* owned; the texts are borrowed */
};

struct option {
    const char *name; /* "timeout" for --timeout; NULL ends the table */
    enum option_kind kind;
    void *target;
    const char *value_name; /* "SECONDS"; of a flag its letter, "f" for -f, or NULL */
    const char *help;
};

struct usage {
    const char *line;    /* "workspace exec WORKSPACE_ID [--] COMMAND..." */
    const char *summary; /* one sentence */
    const struct option *options;
    size_t minimum, maximum; /* of plain words */
    bool command;            /* after them comes a command, whose words are not ours to read */
};

struct words {
    size_t count;
    const char *items[4];
    size_t command_count;
    char **command; /* in argv */
};

#define OPTIONS_PARSED (-1)

/* OPTIONS_PARSED, or the status to exit with: 0 where help was asked for, 2 where the words are
 * wrong. --json goes to *ret_json, from any place before the command. */
int options_parse(const struct usage *usage, int argc, char **argv, bool *ret_json,
                  struct words *ret_words);

/* "hearth: text" and the usage line on stderr; gives 2. */
int options_fail(const struct usage *usage, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

void text_list_free(struct text_list *list);
#define auto_text_list __attribute__((cleanup(text_list_free)))
