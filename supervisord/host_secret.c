#include "supervisord/host_secret.h"

#include "base/secret_memory.h"
#include "base/text.h"
#include "supervisord/archive/read_small.h"
#include "supervisord/host_path_internal.h"
#include "supervisord/secret.h"
#include "supervisord/supervisor_internal.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(READ_SMALL_MAX > SECRET_VALUE_MAX + sizeof "\r\n" - 1,
               "an end of a line, and that there is more, still show");

struct reading {
    char *value; /* secret memory of READ_SMALL_MAX + 1 bytes */
    size_t length;
    struct hearth_failure failure;
    host_secret_done done;
    void *arg;
};

static void end(void *arg)
{
    struct reading *reading = arg;
    reading->done(reading->arg, (int)reading->failure.error, &reading->failure,
                  reading->failure.error ? NULL : reading->value);
    secret_memory_free(reading->value, READ_SMALL_MAX + 1);
    free(reading);
}

static void on_output(void *arg, const char *data, size_t length)
{
    struct reading *reading = arg;
    size_t room = READ_SMALL_MAX - reading->length, taken = length < room ? length : room;
    memcpy(reading->value + reading->length, data, taken);
    reading->length += taken;
}

static void check(struct reading *reading)
{
    if (strlen(reading->value) != reading->length || !utf8_valid(reading->value, reading->length)) {
        hearth_fail(&reading->failure, HEARTH_EINVALID, "bad_secret", "the file holds no text");
        return;
    }
    size_t length = text_without_end(reading->value, reading->length);
    reading->value[length] = '\0';
    if (!length || length > SECRET_VALUE_MAX)
        hearth_fail(&reading->failure, HEARTH_EINVALID, "bad_secret",
                    "the file has %s, where a secret's value has 1 to %d bytes",
                    length ? "more" : "none", SECRET_VALUE_MAX);
}

static void on_end(void *arg, const struct child_result *result)
{
    struct reading *reading = arg;
    if (!host_path_leads_out(result, &reading->failure)) {
        if (result->exit_code || result->timed_out)
            host_path_unreadable(result, &reading->failure);
        else
            check(reading);
    }
    end(reading);
}

void host_secret_read(struct supervisor *supervisor, const struct principal *principal,
                      const char *path, host_secret_done done, void *arg)
{
    char root[PATH_MAX];
    const char *below;
    struct child *child;
    const struct spawn_spec spec = {.stdin_fd = -1,
                                    .stdout_fd = -1,
                                    .stderr_fd = -1,
                                    .on_output = on_output,
                                    .secret_output = true};
    struct reading *reading = calloc(1, sizeof *reading);
    if (!reading)
        abort();
    *reading =
        (struct reading){.value = secret_memory_new(READ_SMALL_MAX + 1), .done = done, .arg = arg};
    if (!reading->value)
        hearth_fail(&reading->failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    else if (!host_roots_find(principal->tenant->host_roots, path, root, &below))
        hearth_fail(&reading->failure, HEARTH_EINVALID, "host_path_forbidden",
                    "no host_roots of the tenant allow the daemon to read %.100s", path);
    else if (!host_path_spawn(&child, supervisor->loop, &spec, "read-small", root, below, on_end,
                              reading, &reading->failure))
        return;
    loop_defer(supervisor->loop, end, reading);
}
