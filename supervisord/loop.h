/* The one event loop: a thin face over libevent, so that a room above or beside it names timers and
 * watches, not events. All of it belongs to the loop thread but loop_post. Nothing run from here
 * may block. */
#pragma once

#include "base/clock.h"
#include "base/failure.h"
#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>

struct event_base;
struct event;
struct loop;

int loop_new(struct loop **ret_loop, struct hearth_failure *failure);
void loop_free(struct loop *loop);
/* Runs until loop_stop. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);
struct event_base *loop_base(struct loop *loop);

/* Runs fn(arg) on the loop, soon and in order. The one call that any thread may make. Never fails
 * (aborts when the few bytes it needs cannot be had). */
void loop_post(void *loop, void (*fn)(void *arg), void *arg);

/* Runs fn(arg) at the end of this turn, after every callback now pending: the place where things
 * are freed. */
void loop_defer(struct loop *loop, void (*fn)(void *arg), void *arg);

/* A completion that will yet be posted is owed (loop_owe, any thread) until it was run (loop_pay).
 * loop_settle runs what is posted and deferred, and no event at all, until nothing is owed and
 * nothing is left: at the end, while those whom the completions speak to are still there. It may
 * block for as long as the owed work takes. */
void loop_owe(struct loop *loop);
void loop_pay(struct loop *loop);
void loop_settle(struct loop *loop);

/* Turns made so far and the longest one in microseconds since last asked: for /livez, the watchdog
 * and metrics. */
uint64_t loop_turns(const struct loop *loop);
int64_t loop_longest_turn_us(struct loop *loop);

/* A one-shot timer at an absolute monotonic time. Embed it; zero-initialised it is unset. */
struct timer {
    struct loop *loop;
    struct event *event;
    void (*fn)(void *arg);
    void *arg;
    int64_t deadline_us;
};
void timer_init(struct timer *timer, struct loop *loop, void (*fn)(void *arg), void *arg);
void timer_set(struct timer *timer, int64_t deadline_us); /* CLOCK_NEVER unsets */
void timer_unset(struct timer *timer);
bool timer_pending(const struct timer *timer); /* it is set, and has not come */
void timer_free(struct timer *timer);

/* Watches a descriptor (borrowed) for reading (level-triggered, persistent) until watch_free. */
struct watch {
    struct event *event;
    void (*fn)(void *arg);
    void *arg;
};
int watch_init(struct watch *watch, struct loop *loop, int fd, void (*fn)(void *arg), void *arg);
/* The same for writing: fn is called again and again while there is room. */
int watch_init_writable(struct watch *watch, struct loop *loop, int fd, void (*fn)(void *arg),
                        void *arg);
void watch_free(struct watch *watch);
