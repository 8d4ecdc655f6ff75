#include "guestagent/agent/spawn_command.h"

#include "base/cleanup.h"
#include "guestagent/agent/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ENVIRONMENT_MAX 4096
#define EXIT_CANNOT_EXECUTE 126
#define EXIT_NOT_FOUND 127

static const char *variable(char *const *environment, const char *name)
{
    size_t length = strlen(name);
    for (; *environment; environment++)
        if (strncmp(*environment, name, length) == 0 && (*environment)[length] == '=')
            return *environment + length + 1;
    return NULL;
}

/* argv[0] as a path: looked up as a shell would, in the PATH that the command will see. */
static int look_up(const char *name, char *const *environment, const char *cwd, char out[4096])
{
    const char *path = variable(environment, "PATH");
    int result = -ENOENT;
    if (!*name)
        return -ENOENT;
    if (strchr(name, '/')) {
        snprintf(out, 4096, "%s%s%s", *name == '/' ? "" : cwd, *name == '/' ? "" : "/", name);
        return 0; /* exec says what is wrong with it */
    }
    while (path && *path) {
        size_t length = strcspn(path, ":");
        struct stat status;
        if (length && snprintf(out, 4096, "%.*s/%s", (int)length, path, name) < 4096 &&
            stat(out, &status) == 0 && S_ISREG(status.st_mode)) {
            if (access(out, X_OK) == 0)
                return 0;
            result = -EACCES;
        }
        path += length + (path[length] == ':');
    }
    return result;
}

static bool given_as_secret(const struct command *command, const char *name)
{
    for (size_t i = 0; i < command->secret_variable_count; i++)
        if (strcmp(command->secret_variables[i]->variable, name) == 0)
            return true;
    return false;
}

static void add_variable(char **environment, size_t *count, const char *name, const char *value)
{
    char *text = NULL;
    if (value && asprintf(&text, "%s=%s", name, value) >= 0)
        environment[(*count)++] = text;
}

static char **make_environment(const struct command *command)
{
    size_t most = command->variable_count + command->secret_variable_count, count = 0;
    char **environment = calloc(most + 1, sizeof *environment);
    if (!environment || most > ENVIRONMENT_MAX) {
        free(environment);
        return NULL;
    }
    for (size_t i = 0; i < command->variable_count; i++)
        if (!given_as_secret(command, command->variables[i]->name))
            add_variable(environment, &count, command->variables[i]->name,
                         command->variables[i]->value);
    for (size_t i = 0; i < command->secret_variable_count; i++)
        add_variable(environment, &count, command->secret_variables[i]->variable,
                     secrets_value(command->secrets, command->secret_variables[i]->secret));
    return environment;
}

/* Secrets may be among them. */
static void free_environment(char **environment)
{
    for (char **entry = environment; entry && *entry; entry++) {
        explicit_bzero(*entry, strlen(*entry));
        free(*entry);
    }
    free(environment);
}

static int check_cwd(const char *cwd)
{
    auto_close int fd = open(cwd, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : 0;
}

/* What the agent ignores would stay ignored, and what it handles would be handled by its own code
 * before exec sets it back. Looked up once: the agent sets its signals before it starts anything.
 */
static const sigset_t *changed_signals(void)
{
    static sigset_t changed;
    static bool known;
    struct sigaction action;
    if (!known) {
        sigemptyset(&changed);
        for (int number = 1; number < NSIG; number++)
            if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
                sigaddset(&changed, number);
        known = true;
    }
    return &changed;
}

/* Where its three come from: pipes, or a terminal, which becomes its own as the leader of a session
 * without one opens it. */
struct ends {
    const int *child; /* three descriptors above 2, or NULL */
    const char *terminal;
};

static int take_ends(const struct ends *ends)
{
    int terminal = ends->terminal ? open(ends->terminal, O_RDWR | O_CLOEXEC) : -1;
    if (ends->terminal && terminal < 0)
        return -1;
    for (int i = 0; i < 3; i++)
        if (dup2(ends->terminal ? terminal : ends->child[i], i) < 0)
            return -1;
    return 0;
}

struct image {
    const char *program, *cwd;
    char *const *arguments, *const *environment;
    const struct ends *ends;
    const sigset_t *changed;
    const struct child_limits *limits;
};

/* In the child, before it is another program: what that starts inherits them. What fails is left:
 * the guest's root may have put something else in the place of /proc. */
static void take_limits(const struct child_limits *limits)
{
    struct rlimit files;
    if (limits->files && getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = limits->files;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (limits->goes_first) {
        int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd >= 0) {
            (void)!write(fd, "1000", 4);
            close(fd);
        }
    }
}

/* The child's part, all signals blocked. It is on the memory and the stack of the agent, which
 * waits for it: system calls alone. Returns an errno where it did not become another program. */
static int become(const struct image *image)
{
    const struct sigaction normal = {.sa_handler = SIG_DFL};
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < NSIG; number++)
        if (sigismember(image->changed, number) == 1)
            sigaction(number, &normal, NULL);
    take_limits(image->limits);
    if (setsid() >= 0 && take_ends(image->ends) == 0 && chdir(image->cwd) == 0 &&
        sigprocmask(SIG_SETMASK, &none, NULL) == 0)
        execve(image->program, image->arguments, image->environment);
    return errno;
}

/* Not posix_spawn, which maps a stack and makes two system calls for each of 64 signals. */
static int launch(const struct image *image, pid_t *ret_pid)
{
    sigset_t all, before;
    volatile int error = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = vfork();
    if (pid == 0) {
        error = become(image);
        _exit(EXIT_NOT_FOUND);
    }
    if (pid < 0)
        error = errno;
    else if (error)
        waitpid(pid, NULL, 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    *ret_pid = pid;
    return -error;
}

static int start(const struct command *command, const char *program, const char *cwd,
                 char **environment, const struct ends *ends, pid_t *ret_pid)
{
    char **arguments = calloc(command->argument_count + 1, sizeof *arguments);
    if (!arguments)
        return -ENOMEM;
    memcpy(arguments, command->arguments, command->argument_count * sizeof *arguments);
    const struct image image = {.program = program,
                                .cwd = cwd,
                                .arguments = arguments,
                                .environment = environment,
                                .ends = ends,
                                .changed = changed_signals(),
                                .limits = command->limits};
    int error = launch(&image, ret_pid);
    free(arguments);
    return error;
}

static int with_pipes(const struct command *command, const char *program, const char *cwd,
                      char **environment, pid_t *ret_pid, struct command_pipes *ret_pipes)
{
    int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1};
    int error = pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0
                    ? -errno
                    : 0;
    if (!error) {
        const int child[3] = {in[0], out[1], err[1]};
        const struct ends ends = {.child = child};
        error = start(command, program, cwd, environment, &ends, ret_pid);
    }
    int theirs[] = {in[0], out[1], err[1]}, ours[] = {in[1], out[0], err[0]};
    for (int i = 0; i < 3; i++) {
        if (theirs[i] >= 0)
            close(theirs[i]);
        if (error && ours[i] >= 0)
            close(ours[i]);
        else if (!error)
            fcntl(ours[i], F_SETFL, O_NONBLOCK);
    }
    *ret_pipes = (struct command_pipes){ours[0], ours[1], ours[2]};
    return error;
}

/* pipes, or with a terminal NULL. */
static int spawn(const struct command *command, const char *terminal, pid_t *ret_pid,
                 struct command_pipes *ret_pipes, char *problem, size_t problem_size,
                 int *ret_exit_code)
{
    const char *cwd = *command->cwd ? command->cwd : "/";
    char program[4096];
    char **environment = make_environment(command);
    int error = environment ? check_cwd(cwd) : -ENOMEM;
    if (error) {
        snprintf(problem, problem_size, "cannot change to the directory %.80s: %s", cwd,
                 strerror(-error));
        *ret_exit_code = EXIT_CANNOT_EXECUTE;
        free_environment(environment);
        return error == -ENOMEM ? error : -ENOTDIR; /* whatever there is in its way */
    }
    const struct ends ends = {.terminal = terminal};
    error = look_up(command->arguments[0], environment, cwd, program);
    if (!error)
        error = terminal ? start(command, program, cwd, environment, &ends, ret_pid)
                         : with_pipes(command, program, cwd, environment, ret_pid, ret_pipes);
    if (error) {
        snprintf(problem, problem_size, "cannot run %.80s: %s", command->arguments[0],
                 strerror(-error));
        *ret_exit_code =
            error == -ENOENT || error == -ENOTDIR ? EXIT_NOT_FOUND : EXIT_CANNOT_EXECUTE;
    }
    free_environment(environment);
    return error;
}

int spawn_command(const struct command *command, pid_t *ret_pid, struct command_pipes *ret_pipes,
                  char *problem, size_t problem_size, int *ret_exit_code)
{
    return spawn(command, NULL, ret_pid, ret_pipes, problem, problem_size, ret_exit_code);
}

int spawn_on_terminal(const struct command *command, const char *terminal, pid_t *ret_pid,
                      char *problem, size_t problem_size, int *ret_exit_code)
{
    return spawn(command, terminal, ret_pid, NULL, problem, problem_size, ret_exit_code);
}
