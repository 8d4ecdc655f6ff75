#include "supervisord/spawn.h"

#include "base/cleanup.h"
#include "base/pidref.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CAPTURE_DEFAULT ((size_t)64 << 10)
#define DRAIN_US (1 * US_PER_S)
#define PASS_MAX 16

struct capture {
    struct child *child;
    int fd; /* -1: not captured, or ended */
    struct watch watch;
    struct buf text;
};

struct child {
    struct loop *loop;
    struct pidref process;
    struct watch exit_watch;
    struct timer timer; /* the deadline while it runs, the drain limit after */
    struct capture output, errors;
    size_t capture_limit;
    bool exited, timed_out, secret_output;
    void (*on_output)(void *arg, const char *data, size_t length);
    child_done done;
    void *arg;
};

static void child_free(void *arg)
{
    struct child *child = arg;
    if (!child)
        return;
    struct capture *captures[] = {&child->output, &child->errors};
    for (size_t i = 0; i < 2; i++) {
        watch_free(&captures[i]->watch);
        cleanup_close(&captures[i]->fd);
        buf_free(&captures[i]->text);
    }
    watch_free(&child->exit_watch);
    timer_free(&child->timer);
    pidref_close(&child->process);
    free(child);
}

/* The zombie is kept until here, so that its PID names this process group for child_kill. */
static int reap(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return 255; /* somebody else reaped it: the status is lost */
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void finish(struct child *child)
{
    watch_free(&child->exit_watch);
    timer_unset(&child->timer);
    struct child_result result = {
        .exit_code = reap(child->process.pid),
        .timed_out = child->timed_out,
        .output = child->output.text.data ? child->output.text.data : "",
        .errors = child->errors.text.data ? child->errors.text.data : "",
        .output_length = child->output.text.length,
        .errors_length = child->errors.text.length,
    };
    child->done(child->arg, &result);
    loop_defer(child->loop, child_free, child);
}

static void finish_if_ended(struct child *child)
{
    if (child->exited && child->output.fd < 0 && child->errors.fd < 0)
        finish(child);
}

static void capture_end(struct capture *capture)
{
    watch_free(&capture->watch);
    cleanup_close(&capture->fd);
    capture->fd = -1;
}

static void on_readable(void *arg)
{
    struct capture *capture = arg;
    struct child *child = capture->child;
    char data[16384];
    ssize_t got = read(capture->fd, data, sizeof data);
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (got <= 0) {
        capture_end(capture);
        finish_if_ended(child);
        return;
    }
    bool secret = child->secret_output && capture == &child->output;
    size_t room = secret ? 0 : child->capture_limit - capture->text.length;
    size_t taken = (size_t)got < room ? (size_t)got : room;
    if (taken)
        (void)buf_append(&capture->text, data, taken);
    if (child->on_output && secret == child->secret_output)
        child->on_output(child->arg, data, (size_t)got);
    if (secret)
        explicit_bzero(data, (size_t)got);
}

static void on_exit_seen(void *arg)
{
    struct child *child = arg;
    watch_free(&child->exit_watch);
    child->exited = true;
    timer_set(&child->timer, clock_monotonic_us() + DRAIN_US);
    finish_if_ended(child);
}

static void on_timer(void *arg)
{
    struct child *child = arg;
    if (!child->exited) {
        child->timed_out = true;
        child_kill(child);
        return;
    }
    capture_end(&child->output);
    capture_end(&child->errors);
    finish(child);
}

void child_kill(struct child *child)
{
    kill(-child->process.pid, SIGKILL);
}

pid_t child_pid(const struct child *child)
{
    return child->process.pid;
}

/* What the child is given as descriptors 0, 1, 2, 3, …: numbers above all of those, so that no
 * dup2 of the list overwrites the source of a later one. */
struct child_fds {
    int source[3 + PASS_MAX];
    bool owned[3 + PASS_MAX];
    size_t count;
};

static void child_fds_free(struct child_fds *fds)
{
    for (size_t i = 0; i < fds->count; i++)
        if (fds->owned[i])
            close(fds->source[i]);
}

/* Takes fd if owned, also on failure. */
static int child_fds_add(struct child_fds *fds, int fd, bool owned, size_t total)
{
    if (fd < 0)
        return -errno;
    if (fd < (int)total) {
        int higher = fcntl(fd, F_DUPFD_CLOEXEC, (int)total);
        int error = higher < 0 ? -errno : 0;
        if (owned)
            close(fd);
        if (error)
            return error;
        fd = higher;
        owned = true;
    }
    fds->source[fds->count] = fd;
    fds->owned[fds->count++] = owned;
    return 0;
}

static int add_capture(struct child_fds *fds, struct capture *capture, size_t total)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    capture->fd = ends[0];
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    return child_fds_add(fds, ends[1], true, total);
}

static int collect_fds(struct child *child, const struct spawn_spec *spec, struct child_fds *fds)
{
    size_t total = 3 + spec->pass_count;
    int error = spec->stdin_fd >= 0
                    ? child_fds_add(fds, spec->stdin_fd, false, total)
                    : child_fds_add(fds, open("/dev/null", O_RDONLY | O_CLOEXEC), true, total);
    if (!error)
        error = spec->stdout_fd >= 0 ? child_fds_add(fds, spec->stdout_fd, false, total)
                                     : add_capture(fds, &child->output, total);
    if (!error)
        error = spec->stderr_fd >= 0 ? child_fds_add(fds, spec->stderr_fd, false, total)
                                     : add_capture(fds, &child->errors, total);
    for (size_t i = 0; !error && i < spec->pass_count; i++)
        error = child_fds_add(fds, spec->pass_fds[i], false, total);
    return error;
}

/* NAME=VALUE of what every child may know, into lines; the strings live in text. */
static void plain_environment(struct buf *text, const char *lines[4])
{
    static const struct {
        const char *name, *otherwise;
    } known[] = {
        {"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        {"HOME", "/"},
        {"LANG", "C.UTF-8"},
    };
    size_t offsets[3];
    for (size_t i = 0; i < 3; i++) {
        const char *value = getenv(known[i].name);
        offsets[i] = text->length;
        (void)buf_printf(text, "%s=%s", known[i].name, value ? value : known[i].otherwise);
        (void)buf_append(text, "", 1);
    }
    for (size_t i = 0; i < 3; i++)
        lines[i] = text->data ? text->data + offsets[i] : NULL;
    lines[3] = NULL;
}

/* Gives 0 or a positive errno, as posix_spawn does. */
static int run(pid_t *ret_pid, const struct spawn_spec *spec, const struct child_fds *fds)
{
    auto_buf struct buf text = {0};
    const char *plain[4];
    plain_environment(&text, plain);
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t every, none;
    sigfillset(&every);
    sigemptyset(&none);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigdefault(&attributes, &every);
    posix_spawnattr_setsigmask(&attributes, &none);
    int error = 0;
    for (size_t i = 0; !error && i < fds->count; i++)
        error = posix_spawn_file_actions_adddup2(&actions, fds->source[i], (int)i);
    if (!error)
        error = posix_spawn_file_actions_addclosefrom_np(&actions, (int)fds->count);
    if (!error)
        error =
            posix_spawnp(ret_pid, spec->argv[0], &actions, &attributes, (char *const *)spec->argv,
                         (char *const *)(spec->environment ? spec->environment : plain));
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

/* From here on the process is there: what fails now kills it. */
static int observe(struct child *child, pid_t pid)
{
    int error = pidref_open(&child->process, pid);
    if (!error)
        error = watch_init(&child->exit_watch, child->loop, child->process.fd, on_exit_seen, child);
    struct capture *captures[] = {&child->output, &child->errors};
    for (size_t i = 0; !error && i < 2; i++)
        if (captures[i]->fd >= 0)
            error = watch_init(&captures[i]->watch, child->loop, captures[i]->fd, on_readable,
                               captures[i]);
    if (error) {
        kill(pid, SIGKILL);
        reap(pid);
    }
    return error;
}

int spawn(struct child **ret_child, struct loop *loop, const struct spawn_spec *spec,
          child_done done, void *arg, struct hearth_failure *failure)
{
    const char *program = spec->argv[0];
    if (spec->pass_count > PASS_MAX)
        return hearth_fail(failure, HEARTH_EINTERNAL, "spawn_failed", "too many descriptors");
    struct child *child = calloc(1, sizeof *child);
    if (!child)
        return hearth_fail(failure, HEARTH_ENOMEMORY, "spawn_failed", "cannot start %s", program);
    *child = (struct child){
        .loop = loop,
        .process = PIDREF_NONE,
        .output = {.child = child, .fd = -1},
        .errors = {.child = child, .fd = -1},
        .capture_limit = spec->capture_limit ? spec->capture_limit : CAPTURE_DEFAULT,
        .on_output = spec->on_output,
        .secret_output = spec->secret_output,
        .done = done,
        .arg = arg,
    };
    timer_init(&child->timer, loop, on_timer, child);
    struct child_fds fds = {0};
    pid_t pid = 0;
    int error = -collect_fds(child, spec, &fds);
    if (!error)
        error = run(&pid, spec, &fds);
    child_fds_free(&fds);
    if (error) {
        child_free(child);
        if (error == ENOENT || error == EACCES)
            return hearth_fail(failure, HEARTH_EUNSUPPORTED, "program_missing",
                               "%s is not installed or may not be run", program);
        return hearth_fail_errno(failure, error, "spawn_failed", "cannot start %s", program);
    }
    if (observe(child, pid)) {
        child_free(child);
        return hearth_fail(failure, HEARTH_ENOMEMORY, "spawn_failed", "cannot watch %s", program);
    }
    if (spec->timeout_ms)
        timer_set(&child->timer, clock_monotonic_us() + spec->timeout_ms * US_PER_MS);
    *ret_child = child;
    return 0;
}

bool spawn_find(const char *name, char out[PATH_MAX])
{
    const char *path = getenv("PATH");
    if (!path)
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    while (*path) {
        size_t length = strcspn(path, ":");
        if (*path == '/' &&
            snprintf(out, PATH_MAX, "%.*s/%s", (int)length, path, name) < PATH_MAX &&
            access(out, X_OK) == 0)
            return true;
        path += length + (path[length] == ':');
    }
    *out = '\0';
    return false;
}

static char *program_in(const char *directory, const char *name)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", directory, name) < 0)
        return NULL;
    if (access(path, X_OK) == 0)
        return path;
    free(path);
    return NULL;
}

char *spawn_sibling(const char *name)
{
    const char *configured = getenv("HEARTH_LIBEXEC_DIR");
    if (configured && *configured == '/')
        return program_in(configured, name);
    char own[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
    if (length > 0) {
        own[length] = '\0';
        char *slash = strrchr(own, '/');
        if (slash)
            *slash = '\0';
        char *path = program_in(own, name);
        if (path)
            return path;
    }
    return program_in(LIBEXECDIR, name);
}
