#include "supervisord/host_output.h"

#include "base/text.h"
#include "supervisord/feed.h"
#include "supervisord/host_path_internal.h"
#include "supervisord/supervisor_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FULL ((size_t)1 << 20)

struct host_output {
    const struct host_output_events *events;
    void *arg;
    struct feed feed;              /* the child's descriptor 0 */
    struct hearth_failure failure; /* the first */
};

static void on_room(void *arg)
{
    const struct host_output *output = arg;
    output->events->on_room(output->arg);
}

/* result is NULL where it has failed. */
static void tell(struct host_output *output, const struct host_output_result *result)
{
    output->events->done(output->arg, (int)output->failure.error, &output->failure, result);
    feed_close(&output->feed);
    free(output);
}

static void tell_failure(void *arg)
{
    tell(arg, NULL);
}

/* "refused CODE DETAIL" */
static void explain(struct host_output *output, const char *line)
{
    size_t length = strcspn(line, "\n");
    const char *exists = "refused output_exists ", *detail = "no reason told";
    char shown[320];
    if (text_starts_with(line, exists)) {
        hearth_fail(&output->failure, HEARTH_ECONFLICT, "output_exists",
                    "there is something at the host path already");
        hearth_failure_hint(&output->failure,
                            "Nothing is overwritten: name a path where nothing is.");
        return;
    }
    if (text_starts_with(line, "refused cannot_write ") && utf8_valid(line, length))
        detail = line + strlen("refused cannot_write ");
    snprintf(shown, sizeof shown, "%.*s", (int)strcspn(detail, "\n"), detail);
    hearth_fail(&output->failure, HEARTH_EINVALID, "host_path_unwritable",
                "the host path cannot be written: %s", shown);
}

static void on_child_end(void *arg, const struct child_result *result)
{
    struct host_output *output = arg;
    struct host_output_result told = {0};
    bool good = result->exit_code == 0 && !result->timed_out &&
                sscanf(result->output, "good %" SCNu64 " %" SCNu64 " %15[a-z]", &told.entry_count,
                       &told.bytes_written, told.artifact_type) == 3;
    if (!output->failure.error && !host_path_leads_out(result, &output->failure) && !good)
        explain(output, result->output);
    tell(output, output->failure.error ? NULL : &told);
}

static int start(struct host_output *output, enum host_output_kind kind, const char *root,
                 const char *below)
{
    int ends[2];
    struct child *child;
    auto_free char *name = strndup(below, host_path_length(below));
    if (!name)
        return hearth_fail(&output->failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    if (pipe2(ends, O_CLOEXEC) < 0)
        return hearth_fail_errno(&output->failure, errno, NULL, "cannot make a pipe");
    auto_close int theirs = ends[0];
    output->feed.fd = ends[1];
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    const struct spawn_spec spec = {.stdin_fd = theirs, .stdout_fd = -1, .stderr_fd = -1};
    return host_path_spawn(&child, output->feed.loop, &spec,
                           kind == HOST_OUTPUT_FILE ? "put-file" : "put", root, name, on_child_end,
                           output, &output->failure);
}

void host_output_open(struct host_output **ret_output, struct supervisor *supervisor,
                      const struct principal *principal, const char *path,
                      enum host_output_kind kind, const struct host_output_events *events,
                      void *arg)
{
    char root[PATH_MAX];
    const char *below = ".";
    struct host_output *output = calloc(1, sizeof *output);
    if (!output)
        abort();
    *output = (struct host_output){.events = events,
                                   .arg = arg,
                                   .feed = {.loop = supervisor->loop,
                                            .fd = -1,
                                            .full_at = FULL,
                                            .on_room = on_room,
                                            .arg = output}};
    *ret_output = output;
    if (!(principal->rights & (RIGHT_OPERATE | RIGHT_ADMIN))) {
        hearth_fail(&output->failure, HEARTH_EFORBIDDEN, "forbidden",
                    "the token may not have anything written to the host");
        hearth_failure_hint(&output->failure, "An operator can issue a token with operate rights.");
    } else if (!host_roots_find(principal->tenant->host_roots, path, root, &below)) {
        hearth_fail(&output->failure, HEARTH_EINVALID, "host_path_forbidden",
                    "no host_roots of the tenant allow the daemon to write %.100s", path);
    }
    if (output->failure.error || start(output, kind, root, below))
        loop_defer(supervisor->loop, tell_failure, output);
}

bool host_output_write(struct host_output *output, const void *data, size_t length)
{
    struct hearth_failure failure;
    int room = feed_write(&output->feed, data, length);
    if (room < 0) {
        hearth_fail(&failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        host_output_give_up(output, &failure);
    }
    return room != 0;
}

void host_output_size(struct host_output *output, uint64_t size)
{
    char line[24];
    (void)host_output_write(output, line,
                            (size_t)snprintf(line, sizeof line, "%" PRIu64 "\n", size));
}

void host_output_end(struct host_output *output)
{
    feed_end(&output->feed);
}

void host_output_give_up(struct host_output *output, const struct hearth_failure *failure)
{
    if (!output->failure.error)
        output->failure = *failure;
    feed_close(&output->feed); /* cut short: it takes away what it has made */
}
