#include "supervisord/worker.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#define THREADS_MAX 8

struct job {
    struct job *next;
    struct loop *loop;
    void (*run)(void *arg);
    void (*done)(void *arg);
    void *arg;
};

struct worker_pool {
    struct loop *loop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct job *first, **last;
    bool stopping;
    unsigned thread_count;
    pthread_t threads[THREADS_MAX];
};

static void finish(void *arg)
{
    struct job *job = arg;
    if (job->done)
        job->done(job->arg);
    loop_pay(job->loop);
    free(job);
}

static void *work(void *arg)
{
    struct worker_pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (!pool->first && !pool->stopping)
            pthread_cond_wait(&pool->wake, &pool->lock);
        struct job *job = pool->first;
        if (!job)
            break;
        pool->first = job->next;
        if (!pool->first)
            pool->last = &pool->first;
        pthread_mutex_unlock(&pool->lock);
        job->run(job->arg);
        loop_post(pool->loop, finish, job);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

int worker_pool_new(struct worker_pool **ret_pool, struct loop *loop, unsigned threads,
                    struct hearth_failure *failure)
{
    struct worker_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "cannot allocate the worker pool");
    pool->loop = loop;
    pool->last = &pool->first;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    /* Signals are the loop's business. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool->thread_count < threads && pool->thread_count < THREADS_MAX &&
           pthread_create(&pool->threads[pool->thread_count], NULL, work, pool) == 0)
        pool->thread_count++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!pool->thread_count) {
        worker_pool_free(pool);
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "cannot start a worker thread");
    }
    *ret_pool = pool;
    return 0;
}

void worker_pool_free(struct worker_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->thread_count; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

void worker_submit(struct worker_pool *pool, void (*run)(void *arg), void (*done)(void *arg),
                   void *arg)
{
    struct job *job = malloc(sizeof *job);
    if (!job)
        abort();
    *job = (struct job){.loop = pool->loop, .run = run, .done = done, .arg = arg};
    loop_owe(pool->loop);
    pthread_mutex_lock(&pool->lock);
    *pool->last = job;
    pool->last = &job->next;
    pthread_cond_signal(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}
