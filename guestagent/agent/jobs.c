#include "guestagent/agent/jobs.h"

#include "base/log.h"
#include "guestagent/agent/agent.h"

#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define STACK_BYTES ((size_t)1 << 20)

struct jobs {
    pthread_mutex_t lock; /* over all below */
    pthread_cond_t wake;
    struct list queued, done; // job::link
    pthread_t threads[JOB_THREADS_MAX];
    unsigned thread_count, idle_count;
    bool ending;
    int event_fd;
    struct event *event;
};

static void tell_loop(struct jobs *jobs)
{
    uint64_t one = 1;
    if (write(jobs->event_fd, &one, sizeof one) < 0)
        return; /* its counter is full: it is readable already */
}

static void *work(void *arg)
{
    struct jobs *jobs = arg;
    pthread_mutex_lock(&jobs->lock);
    for (;;) {
        while (list_empty(&jobs->queued) && !jobs->ending) {
            jobs->idle_count++;
            pthread_cond_wait(&jobs->wake, &jobs->lock);
            jobs->idle_count--;
        }
        if (list_empty(&jobs->queued))
            break;
        struct job *job = container_of(jobs->queued.next, struct job, link);
        list_remove(&job->link);
        pthread_mutex_unlock(&jobs->lock);
        job->run(job);
        pthread_mutex_lock(&jobs->lock);
        list_append(&jobs->done, &job->link);
        tell_loop(jobs);
    }
    pthread_mutex_unlock(&jobs->lock);
    return NULL;
}

/* Signals are the loop's. */
static bool add_thread(struct jobs *jobs)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool made = pthread_create(&jobs->threads[jobs->thread_count], &attributes, work, jobs) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    jobs->thread_count += made;
    return made;
}

static void finish(struct jobs *jobs)
{
    pthread_mutex_lock(&jobs->lock);
    while (!list_empty(&jobs->done)) {
        struct job *job = container_of(jobs->done.next, struct job, link);
        list_remove(&job->link);
        pthread_mutex_unlock(&jobs->lock);
        job->done(job);
        pthread_mutex_lock(&jobs->lock);
    }
    pthread_mutex_unlock(&jobs->lock);
}

static void on_done(evutil_socket_t fd, short what, void *arg)
{
    uint64_t count;
    (void)what;
    if (read(fd, &count, sizeof count) > 0)
        finish(arg);
}

struct jobs *jobs_new(struct agent *agent)
{
    struct jobs *jobs = calloc(1, sizeof *jobs);
    if (!jobs)
        return NULL;
    pthread_mutex_init(&jobs->lock, NULL);
    pthread_cond_init(&jobs->wake, NULL);
    list_init(&jobs->queued);
    list_init(&jobs->done);
    jobs->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    jobs->event = jobs->event_fd < 0
                      ? NULL
                      : event_new(agent->base, jobs->event_fd, EV_READ | EV_PERSIST, on_done, jobs);
    if (!jobs->event || event_add(jobs->event, NULL) < 0) {
        jobs_free(jobs);
        return NULL;
    }
    return jobs;
}

void jobs_submit(struct jobs *jobs, struct job *job)
{
    pthread_mutex_lock(&jobs->lock);
    list_init(&job->link);
    list_append(&jobs->queued, &job->link);
    if (!jobs->idle_count && jobs->thread_count < JOB_THREADS_MAX && !add_thread(jobs) &&
        !jobs->thread_count) {
        list_remove(&job->link);
        job->run(job);
        list_append(&jobs->done, &job->link);
        tell_loop(jobs);
    }
    pthread_cond_signal(&jobs->wake);
    pthread_mutex_unlock(&jobs->lock);
}

/* False where one still runs at the end of the time there is. */
static bool join_all(struct jobs *jobs)
{
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += JOBS_END_S;
    for (unsigned i = 0; i < jobs->thread_count; i++)
        if (pthread_clockjoin_np(jobs->threads[i], NULL, CLOCK_MONOTONIC, &deadline)) {
            log_warning("job_not_ended", "%s", "it is not waited for");
            return false;
        }
    return true;
}

void jobs_free(struct jobs *jobs)
{
    if (!jobs)
        return;
    pthread_mutex_lock(&jobs->lock);
    jobs->ending = true;
    pthread_cond_broadcast(&jobs->wake);
    pthread_mutex_unlock(&jobs->lock);
    if (!join_all(jobs))
        return; /* they still use it: the process is about to end */
    finish(jobs);
    if (jobs->event)
        event_free(jobs->event);
    if (jobs->event_fd >= 0)
        close(jobs->event_fd);
    pthread_cond_destroy(&jobs->wake);
    pthread_mutex_destroy(&jobs->lock);
    free(jobs);
}
