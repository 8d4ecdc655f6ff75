#include "supervisord/disk_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define JOBS_MAX 8
#define VIEW_TIMEOUT_MS (30 * 1000)
#define EXPORT_TIMEOUT_MS (60 * 60 * 1000) /* the reader sets the pace */
#define LIST_MAX ((size_t)5 << 20)         /* over ANSWER_LIST_MAX: more is no listing */
#define PIECE ((size_t)64 << 10)

int disk_path_normalize(const char *path, char out[4096], struct hearth_failure *failure)
{
    static const char home[] = "/workspace";
    size_t used = path[0] == '/' ? 0 : strlen(home);
    const char *wrong = used + strlen(path) + 2 > 4096 ? "the path is too long" : NULL;
    memcpy(out, home, used);
    for (const char *at = path; !wrong && *at; at += strspn(at, "/")) {
        size_t length = strcspn(at, "/");
        if (length > 255)
            wrong = "a name in the path is longer than 255 bytes";
        else if (length == 2 && at[0] == '.' && at[1] == '.')
            wrong = "the path holds \"..\"";
        else if (length && !(length == 1 && at[0] == '.')) {
            out[used++] = '/';
            memcpy(out + used, at, length);
            used += length;
        }
        at += length;
    }
    if (wrong) {
        hearth_fail(failure, HEARTH_EINVALID, "bad_path", "%s", wrong);
        hearth_failure_field(failure, "/path");
        hearth_failure_hint(failure, "Give a path from the disk's root, or below /workspace, "
                                     "without \"..\".");
        return HEARTH_EINVALID;
    }
    if (!used)
        out[used++] = '/';
    out[used] = '\0';
    return 0;
}

static void tell_failure(struct disk_job *job)
{
    int error = (int)job->failure.error;
    switch (job->kind) {
    case DISK_LIST:
        job->done.listed(job->arg, error, &job->failure, NULL, NULL, 0, false);
        break;
    case DISK_READ:
        job->done.read(job->arg, error, &job->failure, NULL, 0, NULL, 0);
        break;
    case DISK_EXPORT:
        job->done.export->on_end(job->arg, error, &job->failure);
        break;
    }
}

/* Nothing is told after. */
static void leave(struct disk_job *job)
{
    list_remove(&job->link);
    job->workspace = NULL;
}

static void watch_output(struct disk_job *job, bool on);

static void job_free(void *arg)
{
    struct disk_job *job = arg;
    watch_output(job, false);
    cleanup_close(&job->fd);
    job->supervisor->disk_jobs--;
    free(job);
}

static void end_output(struct disk_job *job);

void disk_cancel(struct disk_job *job)
{
    leave(job);
    if (job->child) {
        child_kill(job->child);
    } else if (job->exited) { /* nothing else is to come */
        end_output(job);
        loop_defer(job->supervisor->loop, job_free, job);
    }
}

void disk_abort_all(struct workspace *workspace)
{
    list_for_each(cursor, next, &workspace->disk_jobs)
    {
        struct disk_job *job = container_of(cursor, struct disk_job, link);
        disk_cancel(job);
        hearth_fail(&job->failure, HEARTH_ENOTFOUND, "workspace_not_found",
                    "the workspace was deleted");
        tell_failure(job);
    }
}

/* --- listing and reading: the answer is captured whole --- */

static bool tell_answer(struct disk_job *job, const struct child_result *result)
{
    if (job->kind == DISK_LIST) {
        auto_free struct file_entry *entries = NULL;
        auto_free char *copy = malloc(result->output_length + 1);
        size_t count;
        bool more;
        if (!copy)
            return false;
        memcpy(copy, result->output, result->output_length + 1);
        if (!disk_parse_list(copy, result->output_length, &entries, &count, &more))
            return false;
        job->done.listed(job->arg, 0, NULL, job->path, entries, count, more);
        return true;
    }
    uint64_t size;
    const char *content;
    size_t length;
    if (!disk_parse_read(result->output, result->output_length, job->max_bytes, &size, &content,
                         &length))
        return false;
    job->done.read(job->arg, 0, NULL, job->path, size, content, length);
    return true;
}

static void explain(struct disk_job *job, const struct child_result *result)
{
    if (result->timed_out)
        hearth_fail(&job->failure, HEARTH_ETIMEDOUT, "disk_timed_out",
                    "reading the workspace's disk took too long");
    else
        disk_parse_refusal(result->exit_code ? result->output : "", result->errors, &job->failure);
}

static void on_viewed(void *arg, const struct child_result *result)
{
    struct disk_job *job = arg;
    if (job->workspace) {
        leave(job);
        if (result->exit_code != 0 || result->timed_out || !tell_answer(job, result)) {
            explain(job, result);
            tell_failure(job);
        }
    }
    job_free(job);
}

/* --- export: the image is passed on as it comes --- */

static void end_export(struct disk_job *job)
{
    if (job->fd >= 0 || !job->exited)
        return;
    if (job->workspace) {
        leave(job);
        if (!job->failure.error && (!job->sized || job->left))
            disk_parse_refusal(job->head, "the image ended early", &job->failure);
        tell_failure(job);
    }
    job_free(job);
}

static void end_output(struct disk_job *job)
{
    watch_output(job, false);
    cleanup_close(&job->fd);
    job->fd = -1;
}

/* Before the last byte goes: whoever has it all may go away at once. */
static void note_export(struct disk_job *job)
{
    struct row_export row = {.workspace_id = job->workspace->workspace_id,
                             .kind = "disk",
                             .path = "",
                             .bytes = job->size};
    workspace_exported(job->supervisor, &row, NULL, NULL);
}

static void pass_on(struct disk_job *job, const char *data, size_t length)
{
    if (length > job->left) { /* more than it has told */
        hearth_fail(&job->failure, HEARTH_EIO, "disk_unreadable", "the image is not what it was");
        child_kill(job->child);
        end_output(job);
        return;
    }
    job->left -= length;
    if (length && !job->left && job->workspace)
        note_export(job);
    if (length && job->workspace)
        job->done.export->on_data(job->arg, data, length);
}

/* The first line, and what has come behind it. */
static void take_head(struct disk_job *job, const char *data, size_t length)
{
    uint64_t size;
    const char *end = memchr(data, '\n', length);
    size_t take = end ? (size_t)(end - data) + 1 : length;
    if (take > sizeof job->head - 1 - job->head_length)
        take = sizeof job->head - 1 - job->head_length;
    memcpy(job->head + job->head_length, data, take);
    job->head_length += take;
    if (!end || !disk_parse_size(job->head, &size))
        return; /* a refusal: told when the child has ended */
    job->sized = true;
    job->size = job->left = size;
    if (job->workspace)
        job->done.export->on_size(job->arg, size);
    pass_on(job, data + take, length - take);
}

static void on_output(void *arg)
{
    struct disk_job *job = arg;
    char data[PIECE];
    ssize_t got = read(job->fd, data, sizeof data);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        end_output(job);
        end_export(job);
    } else if (job->sized) {
        pass_on(job, data, (size_t)got);
    } else {
        take_head(job, data, (size_t)got);
    }
}

static void watch_output(struct disk_job *job, bool on)
{
    if (on == job->watching || (on && job->fd < 0))
        return;
    if (on)
        job->watching =
            watch_init(&job->watch, job->supervisor->loop, job->fd, on_output, job) == 0;
    else {
        watch_free(&job->watch);
        job->watching = false;
    }
}

void disk_pause(struct disk_job *job, bool paused)
{
    job->paused = paused;
    watch_output(job, !paused);
}

static void on_exported(void *arg, const struct child_result *result)
{
    struct disk_job *job = arg;
    job->exited = true;
    job->child = NULL;
    if (result->timed_out || (result->exit_code && !job->head_length))
        explain(job, result);
    else if (result->exit_code && job->sized)
        hearth_fail(&job->failure, HEARTH_EIO, "disk_unreadable", "the image ended early");
    if (!job->workspace)
        end_output(job);
    end_export(job);
}

/* --- starting --- */

static void fail_later(void *arg)
{
    struct disk_job *job = arg;
    if (job->workspace) {
        leave(job);
        tell_failure(job);
    }
    job_free(job);
}

static struct disk_job *job_new(struct workspace *workspace, enum disk_kind kind, void *arg)
{
    struct disk_job *job = calloc(1, sizeof *job);
    if (!job)
        abort();
    job->workspace = workspace;
    job->supervisor = workspace->supervisor;
    job->kind = kind;
    job->arg = arg;
    job->fd = -1;
    list_append(&workspace->disk_jobs, &job->link);
    job->supervisor->disk_jobs++;
    return job;
}

static int check(const struct disk_job *job, struct hearth_failure *failure)
{
    const struct workspace *workspace = job->workspace;
    if (job->supervisor->disk_jobs > JOBS_MAX)
        return hearth_fail(failure, HEARTH_EUNAVAILABLE, "too_many_disk_jobs",
                           "too many disks are being read just now");
    if (workspace->steps) {
        int error = hearth_fail(failure, HEARTH_ECONFLICT, "workspace_busy",
                                "a %s of the workspace is under way", workspace->steps->kind->name);
        failure->retryable = true;
        return error;
    }
    if (workspace->state == WORKSPACE_STOPPED && workspace->sandbox)
        return 0;
    int error = hearth_fail(failure, HEARTH_ECONFLICT, "workspace_not_stopped",
                            "the workspace is %s", workspace_state_name(workspace->state));
    hearth_failure_hint(failure, "Stop it with workspace_stop: its disk stays.");
    return error;
}

#define WORDS_MAX 24

/* words: hearth-disk's verb and what follows the disk; NULL-terminated. */
static int run(struct disk_job *job, const char *const *words, struct spawn_spec *spec,
               child_done done)
{
    struct sandbox *sandbox = job->workspace->sandbox;
    const struct driver_operations *operations = sandbox->guest.driver->operations;
    auto_free char *program = spawn_sibling("hearth-disk");
    struct guest_spec guest_spec;
    struct guest_disk disk;
    char hostname[64];
    const char *argv[WORDS_MAX] = {program, words[0]};
    size_t count = 2;
    if (!program)
        return hearth_fail(&job->failure, HEARTH_EUNSUPPORTED, "program_missing",
                           "hearth-disk is not installed");
    if (!operations->disk)
        return hearth_fail(&job->failure, HEARTH_EUNSUPPORTED, "disk_unsupported",
                           "disks of this kind of guest cannot be read");
    sandbox_spec(sandbox, &guest_spec, hostname);
    int error =
        operations->disk(sandbox->guest.driver, &sandbox->guest, &guest_spec, &disk, &job->failure);
    if (error)
        return error;
    for (size_t i = 0; i < disk.word_count; i++)
        argv[count++] = disk.words[i];
    for (size_t i = 1; words[i]; i++)
        argv[count++] = words[i];
    if (job->kind == DISK_EXPORT && fchown(spec->pass_fds[0], disk.owner, disk.owner) < 0)
        return hearth_fail_errno(&job->failure, errno, "disk_unreadable",
                                 "cannot make a file for the image");
    spec->argv = argv;
    spec->stdin_fd = spec->stderr_fd = -1;
    return spawn(&job->child, job->supervisor->loop, spec, done, job, &job->failure);
}

static void view(struct disk_job *job, const char *path, const char *const *words, size_t limit)
{
    struct spawn_spec spec = {
        .stdout_fd = -1, .capture_limit = limit, .timeout_ms = VIEW_TIMEOUT_MS};
    int error = disk_path_normalize(path, job->path, &job->failure);
    if (!error)
        error = check(job, &job->failure);
    if (!error)
        error = run(job, words, &spec, on_viewed);
    if (error)
        loop_defer(job->supervisor->loop, fail_later, job);
}

void disk_list(struct workspace *workspace, const char *path, bool recursive, unsigned limit,
               disk_listed done, void *arg, struct disk_job **ret_job)
{
    struct disk_job *job = job_new(workspace, DISK_LIST, arg);
    char number[16];
    snprintf(number, sizeof number, "%u", limit < DISK_ENTRIES_MAX ? limit : DISK_ENTRIES_MAX);
    const char *words[8] = {"list", "--limit", number};
    size_t count = 3;
    if (recursive)
        words[count++] = "--recursive";
    words[count++] = "--";
    words[count] = job->path;
    job->done.listed = done;
    *ret_job = job;
    view(job, path, words, LIST_MAX);
}

void disk_read(struct workspace *workspace, const char *path, uint64_t offset, size_t max_bytes,
               disk_read_done done, void *arg, struct disk_job **ret_job)
{
    struct disk_job *job = job_new(workspace, DISK_READ, arg);
    char first[24], most[24];
    snprintf(first, sizeof first, "%" PRIu64, offset);
    snprintf(most, sizeof most, "%zu", max_bytes);
    const char *const words[] = {"read", "--offset", first, "--limit", most, "--", job->path, NULL};
    job->done.read = done;
    job->max_bytes = max_bytes;
    *ret_job = job;
    view(job, path, words, max_bytes + sizeof job->head);
}

static int begin_export(struct disk_job *job)
{
    const struct supervisor *supervisor = job->supervisor;
    const char *const words[] = {"export", "--seed", job->workspace->environment_version, NULL};
    auto_close int file = open(supervisor->config->state_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    int ends[2];
    if (file < 0 || pipe2(ends, O_CLOEXEC) < 0)
        return hearth_fail_errno(&job->failure, errno, "disk_unreadable",
                                 "cannot make a file for the image");
    auto_close int output = ends[1];
    job->fd = ends[0];
    fcntl(job->fd, F_SETFL, O_NONBLOCK);
    struct spawn_spec spec = {
        .stdout_fd = output, .pass_fds = &file, .pass_count = 1, .timeout_ms = EXPORT_TIMEOUT_MS};
    return run(job, words, &spec, on_exported);
}

void disk_export(struct workspace *workspace, const struct disk_export_events *events, void *arg,
                 struct disk_job **ret_job)
{
    struct disk_job *job = job_new(workspace, DISK_EXPORT, arg);
    job->done.export = events;
    *ret_job = job;
    int error = check(job, &job->failure);
    if (!error)
        error = begin_export(job);
    if (error)
        loop_defer(job->supervisor->loop, fail_later, job);
    else
        watch_output(job, true);
}
