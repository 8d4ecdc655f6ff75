/* hearth: nouns, verbs, and who takes them. */

#include "base/standard_fds.h"
#include "cli/command.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct command *const tables[] = {
    run_commands,     workspace_commands, exec_commands, file_commands,   tree_commands,
    shell_commands,   disk_commands,      env_commands,  tenant_commands, doctor_commands,
    events_commands,  mcp_commands,       sync_commands, change_commands, service_commands,
    network_commands, vm_commands,
};
#define TABLE_COUNT (sizeof tables / sizeof *tables)

/* What they are listed in the order of. */
static const char *const nouns[] = {
    "run",
    "workspace",
    "workspace exec",
    "workspace file",
    "workspace sync",
    "workspace patch",
    "workspace snapshot",
    "workspace shell",
    "workspace service",
    "workspace disk",
    "env",
    "vm",
    "tenant",
    "secret",
    "store",
    "events",
    "mcp",
    "doctor",
};
#define NOUN_COUNT (sizeof nouns / sizeof *nouns)

/* Its place among them; NOUN_COUNT, the last, for one that is not there. */
static size_t place_of(const char *noun)
{
    size_t place = 0;
    while (place < NOUN_COUNT && strcmp(nouns[place], noun))
        place++;
    return place;
}

/* noun or one below it, as "workspace file" is below "workspace". */
static bool is_below(const char *noun, const char *top)
{
    size_t length = strlen(top);
    return strncmp(noun, top, length) == 0 && (noun[length] == 0 || noun[length] == ' ');
}

static void print_command(FILE *out, const struct command *command, bool aligned)
{
    char name[48];
    snprintf(name, sizeof name, "%s%s%s", command->noun, command->verb ? " " : "",
             command->verb ? command->verb : "");
    if (aligned)
        fprintf(out, "  %-25s  %s\n", name, command->summary);
    else
        fprintf(out, "%s\t%s\n", name, command->summary);
}

/* A line a command of noun and those below it (NULL: of all): aligned for a person, else name, tab
 * and summary. */
static void print_commands(FILE *out, const char *noun, bool aligned)
{
    for (size_t place = 0; place <= NOUN_COUNT; place++)
        for (size_t i = 0; i < TABLE_COUNT; i++)
            for (const struct command *command = tables[i]; command->noun; command++)
                if (place_of(command->noun) == place && (!noun || is_below(command->noun, noun)))
                    print_command(out, command, aligned);
}

static int print_help(void)
{
    printf("usage: hearth NOUN VERB [WORDS] [--json] [--help]\n\n");
    print_commands(stdout, NULL, true);
    printf("\n"
           "Talks to the daemon that HEARTH_URL names (http://HOST:PORT or unix:///PATH, with\n"
           "HEARTH_TOKEN or HEARTH_TOKEN_FILE), else to this user's own or the system's on this\n"
           "machine; where none runs, it starts a private one.\n");
    return 0;
}

/* How many words of argv the command's name takes; 0: it is another. */
static int matches(const struct command *command, int argc, char **argv)
{
    char noun[48];
    snprintf(noun, sizeof noun, "%s", command->noun);
    int used = 0;
    for (char *rest = noun, *word; (word = strsep(&rest, " ")); used++)
        if (used >= argc || strcmp(argv[used], word))
            return 0;
    if (!command->verb)
        return used;
    return used < argc && !strcmp(argv[used], command->verb) ? used + 1 : 0;
}

static const struct command *find_command(int argc, char **argv, int *ret_used)
{
    const struct command *best = NULL;
    *ret_used = 0;
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        for (const struct command *command = tables[i]; command->noun; command++) {
            int used = matches(command, argc, argv);
            if (used > *ret_used) {
                best = command;
                *ret_used = used;
            }
        }
    }
    return best;
}

/* The noun that argv begins with, of two words where there is such a one, and how many words that
 * are; NULL: none. */
static const char *find_noun(int argc, char **argv, int *ret_used)
{
    const char *best = NULL;
    *ret_used = 0;
    for (size_t i = 0; i < NOUN_COUNT; i++) {
        const struct command noun = {.noun = nouns[i]};
        int used = matches(&noun, argc, argv);
        if (used > *ret_used) {
            best = nouns[i];
            *ret_used = used;
        }
    }
    return best;
}

static int no_such_command(int argc, char **argv)
{
    int used;
    const char *noun = find_noun(argc, argv, &used);
    if (noun) {
        const char *verb = argc > used ? argv[used] : NULL;
        bool help = verb && (!strcmp(verb, "--help") || !strcmp(verb, "-h"));
        FILE *out = help ? stdout : stderr;
        if (!help && verb)
            fprintf(out, "hearth: %s has no verb '%s'\n", noun, verb);
        fprintf(out, "usage: hearth %s VERB [WORDS] [--json] [--help]\n\n", noun);
        print_commands(out, noun, true);
        return help ? 0 : 2;
    }
    if (argc > 0)
        fprintf(stderr, "hearth: no such command: '%s'\n", argv[0]);
    fprintf(stderr, "usage: hearth NOUN VERB [WORDS]; hearth --help lists them\n");
    return 2;
}

int main(int argc, char **argv)
{
    struct cli cli = {0};
    int first = 1;
    standard_fds_hold(); /* or what a guest prints would go to the daemon, as a request of ours */
    if (argc > first && !strcmp(argv[first], "--json")) {
        cli.json = true;
        first++;
    }
    if (argc > first && !strcmp(argv[first], "--version")) {
        puts("hearth " HEARTH_VERSION);
        return 0;
    }
    if (argc > first && (!strcmp(argv[first], "--help") || !strcmp(argv[first], "-h") ||
                         !strcmp(argv[first], "help")))
        return print_help();
    /* For the shells' completion and the manual. */
    if (argc > first && !strcmp(argv[first], "--list-commands")) {
        print_commands(stdout, NULL, false);
        return 0;
    }

    int used;
    const struct command *command = find_command(argc - first, argv + first, &used);
    if (!command)
        return no_such_command(argc - first, argv + first);

    /* A reader that has gone is an error of writing, not a death. */
    signal(SIGPIPE, SIG_IGN);
    int status = command->run(&cli, argc - first - used, argv + first + used);
    http_close(cli.http);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == 0) {
        fputs("hearth: output cannot be written\n", stderr);
        status = EXIT_PROBLEM;
    }
    return status;
}
