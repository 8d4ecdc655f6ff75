#include "supervisord/environment_kernel.h"

#include "supervisord/environment_job.h"
#include "supervisord/environment_sources.h"

#include "base/log.h"
#include "base/path_at.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SUITE "bookworm"
#define PACKAGE "linux-image-cloud-amd64"
#define CURRENT "kernels/current"
#define FETCH_TIMEOUT_MS (20 * 60 * 1000)
#define OUTPUT_KEPT ((size_t)64 << 10)

struct waiter {
    struct list link;
    environment_kernel_done done;
    void *arg;
};

void environments_want_kernel(struct environments *environments, bool want)
{
    environments->want_kernel = want;
}

bool environment_kernel_present(const struct environments *environments)
{
    char text[256], digest[ENVIRONMENT_VERSION_SIZE], path[128];
    if (path_read_small(environments->dir_fd, CURRENT, text, sizeof text) <= 0 ||
        sscanf(text, "%64[0-9a-f] ", digest) != 1 || !environment_version_valid(digest))
        return false;
    snprintf(path, sizeof path, "kernels/%s/tree/vmlinuz", digest);
    return faccessat(environments->dir_fd, path, R_OK, 0) == 0;
}

/* "$1" is the image directory, "$2" the directory to fill, "$3" the sources. The package that the
 * name stands for is the one with the kernel in it. Of its modules those go in that a machine's
 * agent loads before it has a root, numbered as they depend on each other. */
static const char script[] =
    "set -e; umask 022; work=$1/$2; lists=$work/lists; mkdir -p \"$lists/partial\" "
    "\"$work/unpacked\" \"$work/tree/modules\"\n"
    "printf '%s\\n' \"$3\" >\"$work/sources.list\"\n"
    "apt() { tool=$1; shift; \"apt-$tool\" -qq -o Dir::State::lists=\"$lists\" "
    "-o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User= "
    "-o Dir::Etc::sourcelist=\"$work/sources.list\" -o Dir::Etc::sourceparts=/dev/null "
    "-o Acquire::Retries=3 -o Acquire::Languages=none \"$@\"; }\n"
    "apt get update >&2\n"
    "package=$(apt cache depends " PACKAGE " | sed -n 's/^ *Depends: //p' | head -n 1)\n"
    "file=$(apt get --print-uris download \"$package\" | cut -d' ' -f2)\n"
    "cd \"$1/cache\"; [ -s \"$file\" ] || apt get download \"$package\" >&2\n"
    "cd \"$work\"; dpkg-deb --fsys-tarfile \"$1/cache/$file\" | tar -x -C unpacked --wildcards "
    "--no-same-owner './boot/vmlinuz-*' './lib/modules/*/kernel/drivers/*' "
    "'./lib/modules/*/kernel/net/*'\n"
    "mv unpacked/boot/vmlinuz-* tree/vmlinuz; number=0\n"
    "for name in virtio_ring virtio virtio_mmio virtio_blk virtio_console vsock "
    "vmw_vsock_virtio_transport_common vmw_vsock_virtio_transport failover net_failover "
    "virtio_net; do found=$(find unpacked/lib -name \"$name.ko\" | head -n 1)\n"
    "[ -z \"$found\" ] || mv \"$found\" \"$(printf 'tree/modules/%02d-%s.ko' $number $name)\"\n"
    "number=$((number + 1)); done; rm -rf unpacked lists sources.list\n"
    "version=${file#*_}; printf '%s %s\\n' \"$package\" \"${version%_*}\"";

static void on_fetched(void *arg, const struct child_result *result)
{
    struct environment_job *job = arg;
    char package[64], version[64], reason[256];
    int error = 0;
    if (result->exit_code != 0 || sscanf(result->output, "%63s %63s", package, version) != 2) {
        const char *text = *result->errors ? result->errors : "no reason is known";
        snprintf(reason, sizeof reason, "%.*s", (int)strcspn(text, "\n"), text);
        for (char *at = reason; *at; at++)
            if (*at < ' ' || *at > '~')
                *at = '?';
        error = hearth_fail(&job->failure, HEARTH_EUNAVAILABLE, "kernel_fetch_failed",
                            "the kernel of virtual machines (" PACKAGE ") cannot be fetched: %s",
                            result->timed_out ? "it took too long" : reason);
        hearth_failure_hint(&job->failure, "Can this host reach its Debian mirror? Or set `kernel` "
                                           "to the path of a bzImage.");
    } else {
        snprintf(job->record.description, sizeof job->record.description, "%s_%s", package,
                 version);
    }
    environment_job_next(job, error);
}

static void fetch(struct environment_job *job)
{
    auto_buf struct buf sources = {0};
    struct hearth_failure *failure = &job->failure;
    int error = environment_sources_read(&sources, "/etc/apt", SUITE)
                    ? hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory")
                    : 0;
    if (!error) {
        const char *const argv[] = {
            "sh",          "-c",         script, "sh", job->environments->image_dir,
            job->building, sources.data, NULL};
        struct spawn_spec spec = {.argv = argv,
                                  .stdin_fd = -1,
                                  .stdout_fd = -1,
                                  .stderr_fd = -1,
                                  .pass_fds = &job->lock_fd,
                                  .pass_count = 1,
                                  .capture_limit = OUTPUT_KEPT,
                                  .timeout_ms = FETCH_TIMEOUT_MS};
        environment_job_progress(job, "downloading", PACKAGE);
        error = spawn(&job->child, job->environments->loop, &spec, on_fetched, job, failure);
    }
    if (error)
        environment_job_next(job, error);
}

/* First what the name will stand for, then the name. */
static int publish(struct environment_job *job)
{
    char kernel[128], line[256];
    int dir_fd = job->dir_fd;
    if (mkdirat(dir_fd, "kernels", 0755) < 0 && errno != EEXIST)
        return -errno;
    snprintf(kernel, sizeof kernel, "kernels/%s", job->record.version);
    if (syncfs(dir_fd) < 0)
        return -errno;
    if (renameat(dir_fd, job->building, dir_fd, kernel) < 0 && errno != ENOTEMPTY &&
        errno != EEXIST)
        return -errno;
    int length =
        snprintf(line, sizeof line, "%s %s\n", job->record.version, job->record.description);
    return path_write_durable(dir_fd, CURRENT, line, (size_t)length, 0644);
}

static void run_publish(void *arg)
{
    struct environment_job *job = arg;
    job->step_errno = -publish(job);
}

static void publish_kernel(struct environment_job *job)
{
    environment_job_work(job, run_publish);
}

/* Whoever had the lock before may have fetched it. */
static void skip_if_present(struct environment_job *job)
{
    static const environment_step nothing[] = {NULL};
    if (environment_kernel_present(job->environments))
        job->steps = nothing;
    environment_job_next(job, 0);
}

static const environment_step steps[] = {environment_step_lock,
                                         skip_if_present,
                                         environment_step_sweep,
                                         environment_step_begin,
                                         fetch,
                                         environment_step_digest,
                                         publish_kernel,
                                         environment_step_sweep,
                                         NULL};

static void on_ended(void *arg, int error, const struct hearth_failure *failure)
{
    struct list *waiters = arg;
    while (!list_empty(waiters)) {
        struct waiter *waiter = container_of(waiters->next, struct waiter, link);
        list_remove(&waiter->link);
        waiter->done(waiter->arg, error, failure);
        free(waiter);
    }
    free(waiters);
}

static struct environment_job *find_job(struct environments *environments)
{
    list_for_each(cursor, following, &environments->jobs)
    {
        struct environment_job *job = container_of(cursor, struct environment_job, link);
        if (job->ended == on_ended && !job->failed)
            return job;
    }
    return NULL;
}

static struct environment_job *new_job(struct environments *environments)
{
    struct environment_job *job = environment_job_new(environments, "", steps);
    struct list *waiters = malloc(sizeof *waiters);
    if (!job || !waiters)
        abort();
    list_init(waiters);
    job->internal = true;
    job->ended = on_ended;
    job->ended_arg = waiters;
    return job;
}

void environment_ensure_kernel(struct environments *environments, environment_kernel_done done,
                               void *arg)
{
    struct environment_job *job = find_job(environments);
    struct waiter *waiter = malloc(sizeof *waiter);
    if (!waiter)
        abort();
    if (!job)
        job = new_job(environments);
    *waiter = (struct waiter){.done = done, .arg = arg};
    list_append(job->ended_arg, &waiter->link);
}

/* An environment is of use without it: a machine that needs it asks again, and is told why not. */
static void on_wanted(void *arg, int error, const struct hearth_failure *failure)
{
    if (error)
        log_warning("kernel_not_fetched", "detail=\"%s\"", failure->detail);
    environment_job_next(arg, 0);
}

void environment_step_kernel_if_wanted(struct environment_job *job)
{
    struct environments *environments = job->environments;
    if (!environments->want_kernel || environment_kernel_present(environments)) {
        environment_job_next(job, 0);
        return;
    }
    environment_job_progress(job, "downloading", PACKAGE);
    environment_ensure_kernel(environments, on_wanted, job);
}
