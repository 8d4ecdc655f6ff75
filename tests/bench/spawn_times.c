/* How long programs take from posix_spawn until they are waited for.
 *
 *   spawn_times [--together] ROUNDS THREADS PROGRAM [ARGUMENT]… [+ PROGRAM [ARGUMENT]…]…
 *
 * A round is every program once, one after the other; each must end with status 0; what it says is
 * not kept. "{n}" at an argument's end becomes a number that no other round of this run has. */
#include "rounds.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define STEPS_MAX 8
#define ARGUMENTS_MAX 64

extern char **environ;

static char **steps[STEPS_MAX];
static struct rounds rounds;
static posix_spawn_file_actions_t actions;

static void *begin(unsigned thread)
{
    unsigned *number = malloc(sizeof *number);
    if (!number)
        rounds_die("out of memory");
    *number = thread;
    return number;
}

static void step(void *state, unsigned round, unsigned number)
{
    unsigned thread = *(unsigned *)state;
    char *arguments[ARGUMENTS_MAX + 1] = {0}, texts[ARGUMENTS_MAX][160];
    for (size_t i = 0; steps[number][i] && i < ARGUMENTS_MAX; i++) {
        arguments[i] = steps[number][i];
        size_t length = strlen(arguments[i]);
        if (length > 3 && strcmp(arguments[i] + length - 3, "{n}") == 0) {
            snprintf(texts[i], sizeof texts[i], "%.*s%u", (int)(length - 3), arguments[i],
                     thread * rounds.count + round);
            arguments[i] = texts[i];
        }
    }
    pid_t pid;
    int status;
    if (posix_spawnp(&pid, arguments[0], &actions, NULL, arguments, environ))
        rounds_die("cannot run %s", arguments[0]);
    if (waitpid(pid, &status, 0) != pid || status)
        rounds_die("%s ended with wait status %#x", arguments[0], (unsigned)status);
}

int main(int argc, char **argv)
{
    int at = 1;
    if (at < argc && strcmp(argv[at], "--together") == 0) {
        rounds.together = true;
        at++;
    }
    if (argc - at < 3)
        rounds_die("usage: spawn_times [--together] ROUNDS THREADS PROGRAM …");
    rounds.count = (unsigned)strtoul(argv[at], NULL, 10);
    rounds.threads = (unsigned)strtoul(argv[at + 1], NULL, 10);
    steps[rounds.step_count++] = &argv[at + 2];
    for (at += 2; at < argc; at++) {
        if (strcmp(argv[at], "+") != 0)
            continue;
        argv[at] = NULL;
        if (rounds.step_count == STEPS_MAX || !argv[at + 1])
            rounds_die("too many steps, or an empty one");
        steps[rounds.step_count++] = &argv[at + 1];
    }
    rounds.begin = begin;
    rounds.step = step;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    rounds_run(&rounds);
    return 0;
}
