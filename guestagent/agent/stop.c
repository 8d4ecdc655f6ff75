/* The orderly end: what runs is asked to end (TERM, and HUP for shells), has a bounded time for it,
 * and is then killed; files are flushed; how commands ended is told; only then the call is answered
 * and the loop ends: who asked looks at nothing that comes later. */
#include "base/clock.h"
#include "guestagent/agent/agent.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define GRACE_MS 2000
#define KILLED_MS 500 /* for the killed to be reaped */
#define SENT_MS 2000  /* for what was answered before to go out */
#define SENT_LOOK_MS 2
#define ANSWER_MS 10 /* in which the answer goes out */

static void after(struct agent *agent, unsigned ms, event_callback_fn fn)
{
    struct timeval interval = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    if (agent->stop.timer)
        event_free(agent->stop.timer);
    agent->stop.timer = evtimer_new(agent->base, fn, agent);
    if (!agent->stop.timer || event_add(agent->stop.timer, &interval) < 0)
        event_base_loopbreak(agent->base);
}

static void leave(evutil_socket_t fd, short what, void *arg)
{
    struct agent *agent = arg;
    (void)fd;
    (void)what;
    event_base_loopbreak(agent->base);
}

static void answer(evutil_socket_t fd, short what, void *arg)
{
    struct agent *agent = arg;
    struct link_call *call = agent->stop.awaited.call;
    Hearth__Agent__V1__Empty empty = HEARTH__AGENT__V1__EMPTY__INIT;
    (void)fd;
    (void)what;
    if (call && !link_answers_sent(link_call_link(call)) &&
        clock_monotonic_us() < agent->stop.done_us + SENT_MS * US_PER_MS) {
        after(agent, SENT_LOOK_MS, answer);
        return;
    }
    if (awaited_take(&agent->stop.awaited))
        link_call_reply(call, &empty.base);
    after(agent, ANSWER_MS, leave);
}

static void finish(struct agent *agent)
{
    agent->stop.phase = STOP_DONE;
    agent->stop.done_us = clock_monotonic_us();
    sync();
    answer(-1, 0, agent);
}

static void not_waited_for(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    finish(arg);
}

/* As the first process of its guest it means every other one, whatever group it has moved to. */
static void signal_all(struct agent *agent, int signal)
{
    if (signal != SIGCONT)
        shell_hang_up_all(agent, signal);
    if (getpid() == 1) {
        kill(-1, signal);
        return;
    }
    exec_signal_all(agent, signal);
    service_signal_all(agent, signal);
}

static void kill_all(evutil_socket_t fd, short what, void *arg)
{
    struct agent *agent = arg;
    (void)fd;
    (void)what;
    agent->stop.phase = STOP_KILLED;
    signal_all(agent, SIGKILL);
    after(agent, KILLED_MS, not_waited_for);
}

/* Neither of processes nor of commands whose end is yet to be told. */
static bool nothing_left(const struct agent *agent)
{
    siginfo_t child = {0};
    return list_empty(&agent->running) &&
           waitid(P_ALL, 0, &child, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
}

void stop_child_ended(struct agent *agent)
{
    if ((agent->stop.phase == STOP_ASKED || agent->stop.phase == STOP_KILLED) &&
        nothing_left(agent))
        finish(agent);
}

void stop_begin(struct agent *agent, struct link_call *call)
{
    if (call)
        awaited_add(agent, &agent->stop.awaited, call);
    agent->stop.phase = STOP_ASKED;
    signal_all(agent, SIGTERM);
    signal_all(agent, SIGCONT);
    if (nothing_left(agent))
        finish(agent);
    else
        after(agent, GRACE_MS, kill_all);
}

void stop_free(struct agent *agent)
{
    if (agent->stop.timer)
        event_free(agent->stop.timer);
    agent->stop.timer = NULL;
}
