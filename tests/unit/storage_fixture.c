#include "storage_fixture.h"

#include "base/cleanup.h"
#include "base/path_at.h"

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char directory[64], path[96];
int results[512], result_count;
char codes[512][48];

/* The loop's stand-in: completions are queued and run by the test's thread. */
struct posted {
    struct posted *next;
    void (*fn)(void *arg);
    void *arg;
};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static struct posted *first, **last = &first;

static void post(void *post_arg, void (*fn)(void *arg), void *arg)
{
    (void)post_arg;
    struct posted *posted = malloc(sizeof *posted);
    *posted = (struct posted){.fn = fn, .arg = arg};
    pthread_mutex_lock(&lock);
    *last = posted;
    last = &posted->next;
    pthread_cond_signal(&wake);
    pthread_mutex_unlock(&lock);
}

void run_one(void)
{
    pthread_mutex_lock(&lock);
    while (!first)
        pthread_cond_wait(&wake, &lock);
    struct posted *posted = first;
    first = posted->next;
    if (!first)
        last = &first;
    pthread_mutex_unlock(&lock);
    posted->fn(posted->arg);
    free(posted);
}

void note(void *arg, int error, const struct hearth_failure *failure)
{
    (void)arg;
    snprintf(codes[result_count], sizeof codes[0], "%s", error ? failure->code : "");
    results[result_count++] = error;
}

void run(int count)
{
    while (result_count < count)
        run_one();
}

void setup(void)
{
    snprintf(directory, sizeof directory, "/tmp/hearth-storage-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/test.db", directory);
    result_count = 0;
}

void teardown(void)
{
    auto_close int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    path_remove_tree(tmp, directory + strlen("/tmp/"));
}

struct writer *start(enum db_kind kind)
{
    struct writer *writer;
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    ck_assert_msg(writer_start(&writer, path, kind, post, NULL, &failure) == 0, "%s",
                  failure.detail);
    return writer;
}

struct db *open_reader(enum db_kind kind)
{
    struct db *db;
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    ck_assert_msg(db_open(&db, path, kind, DB_READER, &failure) == 0, "%s", failure.detail);
    return db;
}

const struct row_tenant tenant = {.tenant_id = "t",
                                  .name = "tenant",
                                  .created_at = 1,
                                  .max_workspaces = 2,
                                  .max_running_execs = 3,
                                  .max_mem_mib = 4,
                                  .retention_us = 5,
                                  .host_roots = "",
                                  .network = "open\n"};
