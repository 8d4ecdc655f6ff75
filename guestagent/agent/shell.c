/* Shells: each a terminal with a process group on it. They belong to the agent, so that they
 * outlive the daemon that opened them; what they wrote is read by any number of readers. */
#include "guestagent/agent/shell_internal.h"

#include "base/clock.h"
#include "guestagent/agent/jobs.h"
#include "guestagent/agent/secrets.h"
#include "guestagent/agent/spawn_command.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define RING_BYTES ((size_t)1 << 20)
#define CHUNK 4096 /* what a terminal gives at once */
#define CHUNKS_A_TURN 16
#define DRAIN_MS 500 /* after the exit, for what others still write to the terminal */
#define GRACE_MS 2000
#define KEPT_BACK_MS 30 /* what may begin a secret, and most often does not */

static struct shell *find(struct agent *agent, const char *shell_id)
{
    struct map_entry *entry = map_find(&agent->shells.by_id, shell_id);
    return entry ? container_of(entry, struct shell, entry) : NULL;
}

struct shell *shell_find_or_refuse(struct agent *agent, struct link_call *call,
                                   const char *shell_id)
{
    struct shell *shell = find(agent, shell_id);
    if (!shell)
        call_refuse(call, LINK_STATUS_NOT_FOUND, "there is no shell of this ID");
    return shell;
}

struct event *shell_timer(struct shell *shell, int64_t us, event_callback_fn fn, void *arg)
{
    if (us < 0)
        us = 0;
    struct timeval interval = {.tv_sec = us / 1000000, .tv_usec = us % 1000000};
    struct event *event = evtimer_new(shell->agent->base, fn, arg);
    if (event)
        event_add(event, &interval);
    return event;
}

void shell_free_event(struct event **event)
{
    if (*event)
        event_free(*event);
    *event = NULL;
}

/* Ends. */

static void close_master(struct shell *shell)
{
    shell_free_event(&shell->readable);
    shell_free_event(&shell->writable);
    if (shell->master >= 0)
        close(shell->master);
    shell->master = -1;
    free(shell->pending);
    shell->pending = NULL;
    shell->pending_length = shell->pending_at = 0;
}

static void shell_free(struct shell *shell)
{
    struct agent *agent = shell->agent;
    shell_drop_waiters(shell, NULL);
    close_master(shell);
    shell_free_event(&shell->drainer);
    shell_free_event(&shell->idler);
    if (shell->running)
        agent->shells.running_count--;
    else
        agent->shells.finished_count--;
    map_remove(&agent->shells.by_id, &shell->entry);
    list_remove(&shell->link);
    redact_stream_free(shell->redact);
    text_ring_free(&shell->text);
    free(shell->cwd);
    free(shell);
}

static void keep(void *arg, const char *text, size_t length)
{
    text_ring_append(arg, text, length);
}

/* Its process has ended and the terminal is empty, or was given up. */
static void finish(struct shell *shell)
{
    struct agent *agent = shell->agent;
    close_master(shell);
    shell_free_event(&shell->drainer);
    shell_free_event(&shell->idler);
    redact_stream_end(shell->redact, keep, &shell->text);
    shell->running = false;
    shell->ended_wall_us = clock_wall_us();
    agent->shells.running_count--;
    agent->shells.finished_count++;
    list_remove(&shell->link);
    list_append(&agent->shells.finished, &shell->link);
    bool forget = shell_answer_ended(shell);
    if (forget)
        shell_free(shell);
    while (agent->shells.finished_count > AGENT_SHELLS_FINISHED_MAX)
        shell_free(container_of(agent->shells.finished.next, struct shell, link));
}

static void drain_limit_passed(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    finish(arg);
}

/* False: nothing more will come. */
static bool take_output(struct shell *shell)
{
    char chunk[CHUNK];
    for (int i = 0; i < CHUNKS_A_TURN; i++) {
        ssize_t got = read(shell->master, chunk, sizeof chunk);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return true;
        if (got <= 0) /* EIO: nobody has the other end open */
            return false;
        shell->active_us = clock_monotonic_us();
        text_ring_mark(&shell->text, shell->active_us - shell->started_us, shell->cols,
                       shell->rows);
        redact_stream_put(shell->redact, chunk, (size_t)got, keep, &shell->text);
    }
    return true;
}

static void show_idle(evutil_socket_t fd, short what, void *arg)
{
    struct shell *shell = arg;
    (void)fd;
    (void)what;
    uint64_t before = shell->text.ring.total;
    redact_stream_idle(shell->redact, keep, &shell->text);
    if (shell->text.ring.total != before)
        shell_answer_output(shell);
}

static void on_output(evutil_socket_t fd, short what, void *arg)
{
    struct shell *shell = arg;
    (void)fd;
    (void)what;
    bool more = take_output(shell);
    shell_answer_output(shell);
    if (redact_stream_held(shell->redact)) {
        shell_free_event(&shell->idler);
        shell->idler = shell_timer(shell, KEPT_BACK_MS * US_PER_MS, show_idle, shell);
    }
    if (more)
        return;
    /* Before the exit is known a terminal that nobody has open may be opened again: by name, or by
     * the shell that is just starting. Then the exit, or the next output, is what is waited for. */
    if (shell->exited)
        finish(shell);
    else
        event_del(shell->readable);
}

void shell_child_ended(struct agent *agent, pid_t pid, int status)
{
    list_for_each(cursor, next, &agent->shells.running)
    {
        struct shell *shell = container_of(cursor, struct shell, link);
        if (shell->pid != pid)
            continue;
        shell->exited = true;
        shell->pid = 0;
        shell->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        shell->exit_code = WIFSIGNALED(status) ? 128 + shell->signal : WEXITSTATUS(status);
        if (shell->master < 0 || !take_output(shell)) {
            finish(shell);
            return;
        }
        shell->drainer = shell_timer(shell, DRAIN_MS * US_PER_MS, drain_limit_passed, shell);
        event_add(shell->readable, NULL);
        return;
    }
}

/* Input. */

static void write_input(struct shell *shell)
{
    while (shell->pending_at < shell->pending_length) {
        ssize_t put = write(shell->master, shell->pending + shell->pending_at,
                            shell->pending_length - shell->pending_at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0) {
            if (errno == EAGAIN)
                event_add(shell->writable, NULL);
            else
                shell->pending_at = shell->pending_length; /* nobody is there to read it */
            break;
        }
        shell->pending_at += (size_t)put;
    }
    if (shell->pending_at == shell->pending_length)
        shell->pending_at = shell->pending_length = 0;
}

static void on_room(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    write_input(arg);
}

static bool runs_or_refuse(const struct shell *shell, struct link_call *call)
{
    if (shell->running && !shell->exited && shell->master >= 0)
        return true;
    call_refuse(call, LINK_STATUS_FAILED_PRECONDITION, "the shell has ended");
    return false;
}

void shell_handle_input(struct agent *agent, struct link_call *call,
                        const Hearth__Agent__V1__ShellInputRequest *request)
{
    struct shell *shell = shell_find_or_refuse(agent, call, request->shell_id);
    size_t length = request->data.len;
    if (!shell || !runs_or_refuse(shell, call))
        return;
    size_t waiting = shell->pending_length - shell->pending_at;
    char *pending = waiting + length > AGENT_SHELL_INPUT_MAX ? NULL : malloc(waiting + length + 1);
    if (!pending) {
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED, "%zu bytes of input are not read yet",
                    waiting);
        return;
    }
    if (waiting)
        memcpy(pending, shell->pending + shell->pending_at, waiting);
    if (length)
        memcpy(pending + waiting, request->data.data, length);
    free(shell->pending);
    shell->pending = pending;
    shell->pending_at = 0;
    shell->pending_length = waiting + length;
    shell->active_us = clock_monotonic_us();
    if (!waiting)
        write_input(shell);
    shell_reply_state(shell, call);
}

/* What has the terminal now, and where nothing has, the shell itself. */
static void signal_foreground(const struct shell *shell, int signal)
{
    pid_t group = shell->master >= 0 ? pty_foreground(shell->master) : 0;
    if (group || shell->pid > 1)
        kill(-(group ? group : shell->pid), signal);
}

void shell_handle_signal(struct agent *agent, struct link_call *call,
                         const Hearth__Agent__V1__ShellSignalRequest *request)
{
    struct shell *shell = shell_find_or_refuse(agent, call, request->shell_id);
    if (!shell || !runs_or_refuse(shell, call))
        return;
    switch (request->signal) {
    case SIGHUP:
    case SIGINT:
    case SIGQUIT:
    case SIGTERM:
    case SIGKILL:
        signal_foreground(shell, (int)request->signal);
        shell->active_us = clock_monotonic_us();
        shell_reply_state(shell, call);
        return;
    default:
        call_refuse(call, LINK_STATUS_INVALID_ARGUMENT, "not a signal for a shell");
    }
}

static bool good_size(uint32_t cols, uint32_t rows)
{
    return cols >= 1 && cols <= AGENT_SHELL_SIZE_MAX && rows >= 1 && rows <= AGENT_SHELL_SIZE_MAX;
}

void shell_handle_resize(struct agent *agent, struct link_call *call,
                         const Hearth__Agent__V1__ShellResizeRequest *request)
{
    struct shell *shell = shell_find_or_refuse(agent, call, request->shell_id);
    if (!shell || !runs_or_refuse(shell, call))
        return;
    int error = good_size(request->cols, request->rows)
                    ? pty_resize(shell->master, request->cols, request->rows)
                    : -EINVAL;
    if (error) {
        call_refuse_errno(call, -error, "resize");
        return;
    }
    shell->cols = request->cols;
    shell->rows = request->rows;
    text_ring_mark(&shell->text, clock_monotonic_us() - shell->started_us, shell->cols,
                   shell->rows);
    shell_reply_state(shell, call);
}

/* Closing: HUP, and after a while KILL to all that is left of its session, whether the shell itself
 * has ended by then or not. */

struct killing {
    struct job job;
    struct agent *agent;
    struct list link; // agent::shells.killings
    struct event *timer;
    pid_t session;
    uint64_t began; /* ticks since boot */
};

static void kill_run(struct job *job)
{
    const struct killing *killing = container_of(job, struct killing, job);
    pty_kill_session(killing->session, killing->began);
}

static void killing_free(struct killing *killing)
{
    list_remove(&killing->link);
    shell_free_event(&killing->timer);
    free(killing);
}

static void kill_done(struct job *job)
{
    killing_free(container_of(job, struct killing, job));
}

static void kill_now(evutil_socket_t fd, short what, void *arg)
{
    struct killing *killing = arg;
    (void)fd;
    (void)what;
    killing->job = (struct job){.run = kill_run, .done = kill_done};
    list_remove(&killing->link); /* the job's from here on */
    jobs_submit(killing->agent->jobs, &killing->job);
}

static void kill_later(struct shell *shell, uint32_t ms)
{
    struct killing *killing = shell->session > 1 ? calloc(1, sizeof *killing) : NULL;
    if (!killing)
        return;
    killing->agent = shell->agent;
    killing->session = shell->session;
    killing->began = pty_ticks();
    list_init(&killing->link);
    list_append(&shell->agent->shells.killings, &killing->link);
    killing->timer = shell_timer(shell, ms * US_PER_MS, kill_now, killing);
    if (!killing->timer)
        kill_now(-1, 0, killing);
}

/* As when a terminal's window is closed: who reads from it next gets an error, so that none waits
 * on for a key that will never come. */
static void hang_up(struct shell *shell)
{
    pid_t group = shell->master >= 0 ? pty_foreground(shell->master) : 0;
    if (group && group != shell->pid) {
        kill(-group, SIGHUP);
        kill(-group, SIGCONT);
    }
    if (shell->pid > 1) {
        kill(-shell->pid, SIGHUP);
        kill(-shell->pid, SIGCONT);
    }
    close_master(shell);
}

void shell_hang_up_all(struct agent *agent, int signal)
{
    list_for_each(cursor, next, &agent->shells.running)
    {
        struct shell *shell = container_of(cursor, struct shell, link);
        if (signal == SIGKILL)
            kill_later(shell, 0);
        else
            hang_up(shell);
    }
}

void shell_handle_close(struct agent *agent, struct link_call *call,
                        const Hearth__Agent__V1__ShellCloseRequest *request)
{
    struct shell *shell = shell_find_or_refuse(agent, call, request->shell_id);
    if (!shell)
        return;
    if (!shell->running) {
        shell_reply_state(shell, call);
        shell_free(shell);
        return;
    }
    shell_wait_for_close(shell, call);
    if (shell->closing)
        return; /* another has asked before */
    shell->closing = true;
    hang_up(shell);
    kill_later(shell, request->kill_grace_ms ? request->kill_grace_ms : GRACE_MS);
}

/* Opening. */

static struct shell *shell_new(struct agent *agent,
                               const Hearth__Agent__V1__ShellOpenRequest *request)
{
    struct shell *shell = calloc(1, sizeof *shell);
    char *cwd = shell ? strdup(*request->cwd ? request->cwd : "/") : NULL;
    if (!cwd) {
        free(shell);
        return NULL;
    }
    shell->agent = agent;
    shell->cwd = cwd;
    shell->master = -1;
    shell->running = true;
    shell->cols = request->cols;
    shell->rows = request->rows;
    shell->started_us = shell->active_us = clock_monotonic_us();
    shell->started_wall_us = clock_wall_us();
    snprintf(shell->shell_id, sizeof shell->shell_id, "%s", request->shell_id);
    list_init(&shell->link);
    list_init(&shell->waiters);
    text_ring_init(&shell->text, RING_BYTES);
    shell->redact = secrets_stream(agent);
    if (map_insert(&agent->shells.by_id, &shell->entry, shell->shell_id)) {
        redact_stream_free(shell->redact);
        free(cwd);
        free(shell);
        return NULL;
    }
    list_append(&agent->shells.running, &shell->link);
    agent->shells.running_count++;
    return shell;
}

/* bash, and where the guest has none, sh. */
static int spawn(struct shell *shell, const Hearth__Agent__V1__ShellOpenRequest *request,
                 const char *terminal, char *problem, size_t problem_size)
{
    static char bash[] = "bash", no_profile[] = "--noprofile", no_rc[] = "--norc",
                interactive[] = "-i", sh[] = "sh";
    char *with_bash[] = {bash, no_profile, no_rc, interactive}, *with_sh[] = {sh, interactive};
    int exit_code;
    struct command command = {.arguments = request->argv,
                              .argument_count = request->n_argv,
                              .cwd = request->cwd,
                              .variables = request->environment,
                              .variable_count = request->n_environment,
                              .secrets = shell->agent->secrets,
                              .secret_variables = request->secret_environment,
                              .secret_variable_count = request->n_secret_environment,
                              .limits = &shell->agent->child_limits};
    if (!request->n_argv) {
        command.arguments = with_bash;
        command.argument_count = sizeof with_bash / sizeof *with_bash;
    }
    int error =
        spawn_on_terminal(&command, terminal, &shell->pid, problem, problem_size, &exit_code);
    if (error == -ENOENT && !request->n_argv) {
        command.arguments = with_sh;
        command.argument_count = sizeof with_sh / sizeof *with_sh;
        error =
            spawn_on_terminal(&command, terminal, &shell->pid, problem, problem_size, &exit_code);
    }
    shell->session = error ? 0 : shell->pid;
    return error;
}

static int launch(struct shell *shell, const Hearth__Agent__V1__ShellOpenRequest *request,
                  char *problem, size_t problem_size)
{
    struct pty pty;
    int error = pty_open(&pty, shell->cols, shell->rows);
    if (error) {
        snprintf(problem, problem_size, "the guest gives no terminal: %s", strerror(-error));
        return error;
    }
    shell->master = pty.master;
    shell->readable =
        event_new(shell->agent->base, pty.master, EV_READ | EV_PERSIST, on_output, shell);
    shell->writable = event_new(shell->agent->base, pty.master, EV_WRITE, on_room, shell);
    if (!shell->readable || !shell->writable) {
        snprintf(problem, problem_size, "the agent is out of memory");
        return -ENOMEM;
    }
    error = spawn(shell, request, pty.path, problem, problem_size);
    if (!error)
        event_add(shell->readable, NULL);
    return error;
}

static bool may_open(struct agent *agent, struct link_call *call,
                     const Hearth__Agent__V1__ShellOpenRequest *request)
{
    size_t length = strlen(request->shell_id);
    if (!length || length >= sizeof((struct shell *)0)->shell_id ||
        !good_size(request->cols, request->rows))
        call_refuse(call, LINK_STATUS_INVALID_ARGUMENT, "shell_id, cols and rows are needed");
    else if (find(agent, request->shell_id))
        call_refuse(call, LINK_STATUS_ALREADY_EXISTS, "there is a shell of this ID");
    else if (agent->stop.phase != STOP_NONE)
        call_refuse(call, LINK_STATUS_UNAVAILABLE, "the guest is stopping");
    else if (agent->shells.running_count >= AGENT_SHELLS_MAX)
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED,
                    "%u shells are open in this guest, as many as can be",
                    agent->shells.running_count);
    else
        return true;
    return false;
}

void shell_handle_open(struct agent *agent, struct link_call *call,
                       const Hearth__Agent__V1__ShellOpenRequest *request)
{
    char problem[160] = "the agent is out of memory";
    if (!may_open(agent, call, request))
        return;
    if (!secrets_known_or_refuse(agent, call, request->secret_environment,
                                 request->n_secret_environment))
        return;
    struct shell *shell = shell_new(agent, request);
    int error = shell ? launch(shell, request, problem, sizeof problem) : -ENOMEM;
    if (!error) {
        if (request->n_argv)
            shell_reply_state(shell, call);
        else
            shell_wait_for_prompt(shell, call);
        return;
    }
    if (shell)
        shell_free(shell);
    secrets_clean(agent, problem, sizeof problem);
    call_refuse(call, call_status_of(-error), "%s", problem);
}

void shell_call_gone(struct agent *agent, struct link_call *call)
{
    list_for_each(cursor, next, &agent->shells.running)
        shell_drop_waiters(container_of(cursor, struct shell, link), call);
}

void shell_begin(struct agent *agent)
{
    list_init(&agent->shells.running);
    list_init(&agent->shells.finished);
    list_init(&agent->shells.killings);
}

void shell_free_all(struct agent *agent)
{
    while (!list_empty(&agent->shells.running))
        shell_free(container_of(agent->shells.running.next, struct shell, link));
    while (!list_empty(&agent->shells.finished))
        shell_free(container_of(agent->shells.finished.next, struct shell, link));
    while (!list_empty(&agent->shells.killings))
        killing_free(container_of(agent->shells.killings.next, struct killing, link));
    map_free(&agent->shells.by_id);
}
