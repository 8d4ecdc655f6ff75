#include "supervisord/loop.h"

#include "base/cleanup.h"

#include <event2/event.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define TICK_US (100 * US_PER_MS)

struct task {
    struct task *next;
    void (*fn)(void *arg);
    void *arg;
};

struct tasks {
    struct task *first, **last;
};

struct loop {
    struct event_base *base;
    bool stopping;
    uint64_t turns;
    struct tasks deferred;
    _Atomic unsigned owed;
    /* From other threads: under the lock, announced by the eventfd. */
    pthread_mutex_t lock;
    struct tasks posted;
    bool announced;
    int posted_fd;
    struct event *posted_event;
    struct timer tick;
    uint64_t tick_turn;
    int64_t longest_lag_us;
};

static void tasks_add(struct tasks *tasks, void (*fn)(void *arg), void *arg)
{
    struct task *task = malloc(sizeof *task);
    if (!task)
        abort();
    *task = (struct task){.fn = fn, .arg = arg};
    if (!tasks->first)
        tasks->last = &tasks->first;
    *tasks->last = task;
    tasks->last = &task->next;
}

static void tasks_run(struct tasks *tasks)
{
    while (tasks->first) {
        struct task *task = tasks->first;
        tasks->first = task->next;
        if (!tasks->first)
            tasks->last = &tasks->first;
        task->fn(task->arg);
        free(task);
    }
}

static void run_posted(evutil_socket_t fd, short what, void *arg)
{
    struct loop *loop = arg;
    uint64_t count;
    ssize_t got = read(fd, &count, sizeof count);
    (void)got;
    (void)what;
    pthread_mutex_lock(&loop->lock);
    struct tasks taken = loop->posted;
    loop->posted = (struct tasks){0};
    loop->announced = false;
    pthread_mutex_unlock(&loop->lock);
    tasks_run(&taken);
}

/* How late a regular timer comes is how long something else kept the loop. There is none while the
 * loop has nothing to do: an idle daemon sleeps. */
static void on_tick(void *arg)
{
    struct loop *loop = arg;
    int64_t now = clock_monotonic_us(), lag = now - loop->tick.deadline_us;
    if (lag > loop->longest_lag_us)
        loop->longest_lag_us = lag;
    bool idle = loop->turns <= loop->tick_turn + 1;
    loop->tick_turn = loop->turns;
    if (!idle)
        timer_set(&loop->tick, now + TICK_US);
}

static void wake_tick(struct loop *loop)
{
    bool was_tick = loop->turns <= loop->tick_turn + 1;
    if (!was_tick && !timer_pending(&loop->tick))
        timer_set(&loop->tick, clock_monotonic_us() + TICK_US);
}

int loop_new(struct loop **ret_loop, struct hearth_failure *failure)
{
    struct loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "cannot allocate the event loop");
    loop->posted_fd = -1;
    pthread_mutex_init(&loop->lock, NULL);
    struct event_config *config = event_config_new();
    if (config) {
        event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
        loop->base = event_base_new_with_config(config);
        event_config_free(config);
    }
    loop->posted_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->base && loop->posted_fd >= 0)
        loop->posted_event =
            event_new(loop->base, loop->posted_fd, EV_READ | EV_PERSIST, run_posted, loop);
    if (!loop->posted_event || event_add(loop->posted_event, NULL) < 0) {
        loop_free(loop);
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "cannot make the event loop");
    }
    timer_init(&loop->tick, loop, on_tick, loop);
    timer_set(&loop->tick, clock_monotonic_us() + TICK_US);
    *ret_loop = loop;
    return 0;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    tasks_run(&loop->posted);
    tasks_run(&loop->deferred);
    timer_free(&loop->tick);
    if (loop->posted_event)
        event_free(loop->posted_event);
    if (loop->posted_fd >= 0)
        close(loop->posted_fd);
    if (loop->base)
        event_base_free(loop->base);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

void loop_run(struct loop *loop)
{
    loop->stopping = false;
    while (!loop->stopping) {
        tasks_run(&loop->deferred);
        if (loop->stopping) /* one of them said so: an event may be long in coming */
            break;
        if (event_base_loop(loop->base, EVLOOP_ONCE) < 0)
            abort();
        loop->turns++;
        wake_tick(loop);
    }
    tasks_run(&loop->deferred);
}

void loop_stop(struct loop *loop)
{
    loop->stopping = true;
    event_base_loopbreak(loop->base);
}

struct event_base *loop_base(struct loop *loop)
{
    return loop->base;
}

void loop_post(void *arg, void (*fn)(void *arg), void *fn_arg)
{
    struct loop *loop = arg;
    pthread_mutex_lock(&loop->lock);
    tasks_add(&loop->posted, fn, fn_arg);
    bool announce = !loop->announced;
    loop->announced = true;
    pthread_mutex_unlock(&loop->lock);
    if (announce) {
        uint64_t one = 1;
        ssize_t put = write(loop->posted_fd, &one, sizeof one);
        (void)put;
    }
}

void loop_owe(struct loop *loop)
{
    loop->owed++;
}

void loop_pay(struct loop *loop)
{
    loop->owed--;
}

void loop_settle(struct loop *loop)
{
    for (;;) {
        tasks_run(&loop->deferred);
        bool posts_may_come = loop->owed > 0; /* asked first: who pays has posted by then */
        run_posted(loop->posted_fd, EV_READ, loop);
        if (loop->deferred.first)
            continue;
        if (!posts_may_come)
            return;
        if (loop->owed)
            poll(&(struct pollfd){.fd = loop->posted_fd, .events = POLLIN}, 1, -1);
    }
}

void loop_defer(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    tasks_add(&loop->deferred, fn, arg);
}

uint64_t loop_turns(const struct loop *loop)
{
    return loop->turns;
}

int64_t loop_longest_turn_us(struct loop *loop)
{
    int64_t lag = loop->longest_lag_us;
    loop->longest_lag_us = 0;
    return lag;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct timer *timer = arg;
    /* libevent's clock is coarser than ours: never early. */
    if (clock_monotonic_us() < timer->deadline_us) {
        timer_set(timer, timer->deadline_us);
        return;
    }
    timer->fn(timer->arg);
}

void timer_init(struct timer *timer, struct loop *loop, void (*fn)(void *arg), void *arg)
{
    *timer = (struct timer){.loop = loop, .fn = fn, .arg = arg, .deadline_us = CLOCK_NEVER};
}

void timer_set(struct timer *timer, int64_t deadline_us)
{
    timer->deadline_us = deadline_us;
    if (deadline_us == CLOCK_NEVER) {
        timer_unset(timer);
        return;
    }
    if (!timer->event && !(timer->event = evtimer_new(timer->loop->base, on_timer, timer)))
        abort();
    int64_t wait = deadline_us - clock_monotonic_us();
    if (wait < 0)
        wait = 0;
    struct timeval interval = {.tv_sec = wait / US_PER_S, .tv_usec = wait % US_PER_S};
    event_add(timer->event, &interval);
}

void timer_unset(struct timer *timer)
{
    timer->deadline_us = CLOCK_NEVER;
    if (timer->event)
        event_del(timer->event);
}

bool timer_pending(const struct timer *timer)
{
    return timer->event && evtimer_pending(timer->event, NULL);
}

void timer_free(struct timer *timer)
{
    if (timer->event)
        event_free(timer->event);
    timer->event = NULL;
}

static void on_watch(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct watch *watch = arg;
    watch->fn(watch->arg);
}

static int watch_for(struct watch *watch, struct loop *loop, int fd, short what,
                     void (*fn)(void *arg), void *arg)
{
    *watch = (struct watch){.fn = fn, .arg = arg};
    watch->event = event_new(loop->base, fd, what | EV_PERSIST, on_watch, watch);
    if (!watch->event || event_add(watch->event, NULL) < 0) {
        watch_free(watch);
        return HEARTH_ENOMEMORY;
    }
    return 0;
}

int watch_init(struct watch *watch, struct loop *loop, int fd, void (*fn)(void *arg), void *arg)
{
    return watch_for(watch, loop, fd, EV_READ, fn, arg);
}

int watch_init_writable(struct watch *watch, struct loop *loop, int fd, void (*fn)(void *arg),
                        void *arg)
{
    return watch_for(watch, loop, fd, EV_WRITE, fn, arg);
}

void watch_free(struct watch *watch)
{
    if (watch->event)
        event_free(watch->event);
    watch->event = NULL;
}
