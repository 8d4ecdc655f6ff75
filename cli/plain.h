/* Commands whose words and options are one operation's arguments and nothing more: a row each,
 * instead of a function each. */
#pragma once

#include "cli/command.h"
#include "cli/output.h"

#define PLAIN_WORDS_MAX 4
#define PLAIN_OPTIONS_MAX 8

struct plain_option {
    const char *name; /* NULL ends the list */
    enum option_kind kind;
    const char *argument; /* of the operation */
    const char *value_name, *help;
    bool negative; /* OPTION_FLAG: what it says is false */
    /* OPTION_LIST, for an argument that is a map: cli_add_pairs or a sibling of it */
    bool (*add)(cJSON *object, const char *name, const struct text_list *pairs,
                const struct usage *usage);
    bool always; /* OPTION_LIST: an empty one is sent too */
};

struct plain {
    const char *line, *summary;         /* as struct usage has them */
    const char *tool;                   /* called as a tool, or: */
    const char *method, *path;          /* method NULL: POST; "{name}" in path is that argument */
    const char *words[PLAIN_WORDS_MAX]; /* arguments that the plain words are, in order */
    struct plain_option options[PLAIN_OPTIONS_MAX + 1];
    bool command;                 /* more words are one, and the result is what it printed */
    const char *input;            /* the argument that standard input is */
    const char *text;             /* the member of the result that is printed as it is, or: */
    bool line_of_text;            /* … and is a line without its end */
    const char *list;             /* the member that is a table of */
    const struct column *columns; /* these columns; without either, all members are shown */
    const char *id; /* of a row of the table, or of the result: --id-only shows nothing else */
    const char *const *told; /* members for the summary line; NULL ends them */
    bool fields;             /* all members are shown beside it */
    const char *good;        /* a member that is true, or the command has failed: status 1 */
};

int plain_run(struct cli *cli, const struct plain *plain, int argc, char **argv);

/* The function that a command's row wants, of the struct plain called name. */
#define PLAIN_COMMAND(name)                                                                        \
    static int run_##name(struct cli *cli, int argc, char **argv)                                  \
    {                                                                                              \
        return plain_run(cli, &name, argc, argv);                                                  \
    }
