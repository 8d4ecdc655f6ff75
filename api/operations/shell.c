#include "api/operations/shell.h"
#include "api/operations/families.h"
#include "api/operations/views.h"
#include "base/text.h"
#include "supervisord/secret.h"

#include <signal.h>
#include <string.h>

/* What a result is written from. */

#define SHELL_FIELDS                                                                               \
    {.name = "workspace_id", .type = FIELD_STRING, .description = "ID of the workspace."},         \
        {.name = "shell_id", .type = FIELD_STRING, .description = "ID of the shell."},             \
        {.name = "cwd", .type = FIELD_STRING, .description = "Directory it began in."},            \
        {.name = "cols", .type = FIELD_INTEGER, .description = "Columns of its terminal."},        \
        {.name = "rows", .type = FIELD_INTEGER, .description = "Rows of its terminal."},           \
        {.name = "state", .type = FIELD_STRING, .description = "running or stopped."},             \
        {.name = "started_at", .type = FIELD_NUMBER, .description = "When it was opened."},        \
        {.name = "ended_at",                                                                       \
         .type = FIELD_NUMBER,                                                                     \
         .flags = FIELD_NULLABLE,                                                                  \
         .description = "When it ended; null while it runs."},                                     \
        {.name = "exit_code",                                                                      \
         .type = FIELD_INTEGER,                                                                    \
         .flags = FIELD_NULLABLE,                                                                  \
         .description = "Its exit code, 128 + signal where one ended it; null while it runs, and " \
                        "where it ended with its guest."},                                         \
    {                                                                                              \
        .name = "execution_mode", .type = FIELD_STRING, .flags = FIELD_NULLABLE,                   \
        .description = "How the guest is talked to."                                               \
    }

const struct field shell_fields[] = {SHELL_FIELDS, {0}};

static const struct field read_output[] = {
    SHELL_FIELDS,
    {.name = "cursor",
     .type = FIELD_INTEGER,
     .description = "Where output begins, in characters since the shell's start."},
    {.name = "next_cursor",
     .type = FIELD_INTEGER,
     .description = "Pass it as cursor to read what comes after."},
    {.name = "output",
     .type = FIELD_STRING,
     .description = "What the terminal was sent; with plain what a person would see of it."},
    {.name = "truncated",
     .type = FIELD_BOOLEAN,
     .description = "There is more past next_cursor, or some before cursor is gone."},
    {.name = "lost_characters",
     .type = FIELD_INTEGER,
     .description = "Characters after the cursor that was passed that are not kept any more."},
    {.name = "total_characters",
     .type = FIELD_INTEGER,
     .description = "Characters that were written so far."},
    {.name = "plain", .type = FIELD_BOOLEAN, .description = "Whether output was rendered."},
    {.name = "idle",
     .type = FIELD_BOOLEAN,
     .description = "It was idle for wait_for_idle_ms, or has ended."},
    {0},
};

static const struct field write_output_fields[] = {
    SHELL_FIELDS,
    {.name = "input_length",
     .type = FIELD_INTEGER,
     .description = "Characters of input; the newline that append_newline adds is not counted."},
    {.name = "append_newline", .type = FIELD_BOOLEAN, .description = "Whether one was added."},
    {0},
};

static const struct field signal_output[] = {
    SHELL_FIELDS,
    {.name = "signal", .type = FIELD_STRING, .description = "The signal that was sent."},
    {0},
};

static const struct field close_output[] = {
    SHELL_FIELDS,
    {.name = "closed", .type = FIELD_BOOLEAN, .description = "Always true."},
    {0},
};

void write_shell(struct json_writer *json, const struct shell_status *status)
{
    json_string(json, "workspace_id", status->workspace_id);
    json_string(json, "shell_id", status->shell_id);
    json_string(json, "cwd", status->cwd);
    json_unsigned(json, "cols", status->cols);
    json_unsigned(json, "rows", status->rows);
    json_string(json, "state", status->running ? "running" : "stopped");
    json_time(json, "started_at", status->started_at);
    json_time(json, "ended_at", status->ended_at);
    if (status->exit_known)
        json_integer(json, "exit_code", status->exit_code);
    else
        json_null(json, "exit_code");
    json_string(json, "execution_mode", status->execution_mode);
}

/* A call that waits for the guest, with what its answer adds to the shell. */
struct waiting {
    struct call *call;
    size_t room; /* of a read's output */
    bool plain, append_newline;
    uint64_t input_length;
    const char *signal;
};

static struct waiting *waiting_new(struct call *call)
{
    struct waiting *waiting = call_allocate_or_fail(call, sizeof *waiting);
    if (waiting)
        waiting->call = call;
    return waiting;
}

typedef void (*write_more)(struct json_writer *json, const struct waiting *waiting,
                           const struct shell_status *status);

static void answer(struct waiting *waiting, int error, const struct hearth_failure *failure,
                   const struct shell_status *status, write_more more)
{
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    if (error) {
        call_fail(waiting->call, failure);
        return;
    }
    json_object_begin(&json, NULL);
    write_shell(&json, status);
    if (more)
        more(&json, waiting, status);
    json_object_end(&json);
    reply_with(waiting->call, &body, &json);
}

/* open */

struct open_input {
    const char *workspace_id, *cwd, *term;
    int64_t cols, rows;
    struct pair_list secret_env;
};

static int check_term(const char *term, struct hearth_failure *failure)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-._";
    return strspn(term, good) == strlen(term)
               ? 0
               : hearth_fail(failure, HEARTH_EINVALID, "bad_term",
                             "a terminal's name is letters, digits and + - . _");
}

#define SIZE_FIELDS(input_struct, cols_default, rows_default, field_flags)                         \
    {.name = "cols",                                                                               \
     .type = FIELD_INTEGER,                                                                        \
     .flags = (field_flags),                                                                       \
     .minimum = SHELL_COLS_MIN,                                                                    \
     .maximum = SHELL_COLS_MAX,                                                                    \
     .default_json = (cols_default),                                                               \
     .description = "Columns of the terminal.",                                                    \
     .offset = offsetof(struct input_struct, cols)},                                               \
    {                                                                                              \
        .name = "rows", .type = FIELD_INTEGER, .flags = (field_flags), .minimum = SHELL_ROWS_MIN,  \
        .maximum = SHELL_ROWS_MAX, .default_json = (rows_default),                                 \
        .description = "Rows of the terminal.", .offset = offsetof(struct input_struct, rows)      \
    }

static const struct field secret_parts[] = {
    {.name = "name",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED,
     .description = "Name of the secret."},
    {.name = "value",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED,
     .description = "Name of the variable."},
    {0},
};

static const struct field open_input[] = {
    WORKSPACE_ID_FIELD(open_input),
    {.name = "cwd",
     .type = FIELD_STRING,
     .maximum = 4095,
     .default_json = "\"/workspace\"",
     .description = "Directory to begin in.",
     .offset = offsetof(struct open_input, cwd)},
    SIZE_FIELDS(open_input, "120", "30", 0),
    {.name = "term",
     .type = FIELD_STRING,
     .maximum = 64,
     .default_json = "\"xterm-256color\"",
     .check = check_term,
     .description = "Kind of the terminal, the variable TERM.",
     .offset = offsetof(struct open_input, term)},
    {.name = "secret_env",
     .type = FIELD_MAP,
     .maximum = SECRETS_MAX,
     .fields = secret_parts,
     .description = "Secrets to give as variables: secret name to variable name.",
     .offset = offsetof(struct open_input, secret_env)},
    {0},
};

static void told_plainly(void *arg, int error, const struct hearth_failure *failure,
                         const struct shell_status *status)
{
    answer(arg, error, failure, status, NULL);
}

static void open_(struct call *call, const void *arg)
{
    const struct open_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    struct waiting *waiting = workspace ? waiting_new(call) : NULL;
    if (!waiting)
        return;
    const struct secret_variable *secrets = secret_variables_of(call, &input->secret_env);
    if (!secrets)
        return;
    struct shell_spec spec = {.cwd = input->cwd,
                              .cols = (unsigned)input->cols,
                              .rows = (unsigned)input->rows,
                              .term = input->term,
                              .secrets = secrets,
                              .secret_count = input->secret_env.count,
                              .request_id = call_request_id(call)};
    shell_open(workspace, call_principal(call), &spec, told_plainly, waiting);
}

/* read */

struct read_input {
    const char *workspace_id, *shell_id;
    int64_t cursor, max_chars;
    struct optional_integer wait_for_idle_ms;
    bool plain;
};

static const struct field read_input[] = {
    WORKSPACE_ID_FIELD(read_input),
    SHELL_ID_FIELD(read_input),
    {.name = "cursor",
     .type = FIELD_INTEGER,
     .place = PLACE_QUERY,
     .minimum = 0,
     .maximum = INT64_C(9007199254740991),
     .default_json = "0",
     .description = "Output from this character on; 0 is the shell's start.",
     .offset = offsetof(struct read_input, cursor)},
    {.name = "max_chars",
     .type = FIELD_INTEGER,
     .place = PLACE_QUERY,
     .minimum = 1,
     .maximum = SHELL_CHARACTERS_MAX,
     .default_json = "65536",
     .description = "At most so many characters.",
     .offset = offsetof(struct read_input, max_chars)},
    {.name = "plain",
     .type = FIELD_BOOLEAN,
     .place = PLACE_QUERY,
     .default_json = "false",
     .description = "Rendered as a person would see it, without control characters; of a program "
                    "that has the screen to itself, all of its screen.",
     .offset = offsetof(struct read_input, plain)},
    {.name = "wait_for_idle_ms",
     .type = FIELD_INTEGER,
     .place = PLACE_QUERY,
     .flags = FIELD_OPTIONAL_VALUE,
     .minimum = 1,
     .maximum = 10000,
     .description =
         "Answer once nothing was written or typed for so long; at the latest after 30 s.",
     .offset = offsetof(struct read_input, wait_for_idle_ms)},
    {0},
};

static void write_read(struct json_writer *json, const struct waiting *waiting,
                       const struct shell_status *status)
{
    size_t length = status->output_length;
    uint64_t next = status->next_cursor;
    size_t told = waiting->plain ? length : text_that_fits(status->output, length, waiting->room);
    if (told < length)
        next = status->cursor + utf8_length(status->output, told);
    json_unsigned(json, "cursor", status->cursor);
    json_unsigned(json, "next_cursor", next);
    json_bytes(json, "output", status->output, told);
    json_boolean(json, "truncated", status->lost || next < status->total);
    json_unsigned(json, "lost_characters", status->lost);
    json_unsigned(json, "total_characters", status->total);
    json_boolean(json, "plain", waiting->plain);
    json_boolean(json, "idle", status->idle);
}

static void was_read(void *arg, int error, const struct hearth_failure *failure,
                     const struct shell_status *status)
{
    answer(arg, error, failure, status, write_read);
}

static void read_(struct call *call, const void *arg)
{
    const struct read_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    struct waiting *waiting = workspace ? waiting_new(call) : NULL;
    if (!waiting)
        return;
    waiting->plain = input->plain;
    waiting->room = call_text_room(call);
    struct shell_read_spec spec = {
        .cursor = (uint64_t)input->cursor,
        .max_characters = (unsigned)input->max_chars,
        .idle_ms = input->wait_for_idle_ms.set ? (unsigned)input->wait_for_idle_ms.value : 0,
        .plain = input->plain,
    };
    shell_read(workspace, input->shell_id, &spec, was_read, waiting);
}

/* write */

struct write_input {
    const char *workspace_id, *shell_id, *input;
    bool append_newline;
};

static const struct field write_input[] = {
    WORKSPACE_ID_FIELD(write_input),
    SHELL_ID_FIELD(write_input),
    {.name = "input",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED | FIELD_BLANK_OK,
     .maximum = SHELL_INPUT_MAX,
     .description = "What to type.",
     .offset = offsetof(struct write_input, input)},
    {.name = "append_newline",
     .type = FIELD_BOOLEAN,
     .default_json = "true",
     .description = "Press return after it.",
     .offset = offsetof(struct write_input, append_newline)},
    {0},
};

static void write_written(struct json_writer *json, const struct waiting *waiting,
                          const struct shell_status *status)
{
    (void)status;
    json_unsigned(json, "input_length", waiting->input_length);
    json_boolean(json, "append_newline", waiting->append_newline);
}

static void was_written(void *arg, int error, const struct hearth_failure *failure,
                        const struct shell_status *status)
{
    answer(arg, error, failure, status, write_written);
}

static uint64_t characters(const char *text)
{
    uint64_t count = 0;
    for (; *text; text++)
        count += ((unsigned char)*text & 0xc0) != 0x80;
    return count;
}

static void write_(struct call *call, const void *arg)
{
    const struct write_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    struct waiting *waiting = workspace ? waiting_new(call) : NULL;
    size_t length = waiting ? strlen(input->input) : 0; /* it goes with a call that failed */
    char *typed = waiting ? call_allocate_or_fail(call, length + 2) : NULL;
    if (!typed)
        return;
    memcpy(typed, input->input, length);
    waiting->input_length = characters(typed);
    if (input->append_newline)
        typed[length++] = '\n';
    waiting->append_newline = input->append_newline;
    shell_write(workspace, input->shell_id, typed, length, was_written, waiting);
}

/* signal */

struct signal_input {
    const char *workspace_id, *shell_id, *signal_name;
};

static const char *const signal_names[] = {"HUP", "INT", "QUIT", "TERM", "KILL", NULL};
static const int signal_numbers[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGKILL};

static const struct field signal_input[] = {
    WORKSPACE_ID_FIELD(signal_input),
    SHELL_ID_FIELD(signal_input),
    {.name = "signal_name",
     .type = FIELD_STRING,
     .choices = signal_names,
     .default_json = "\"INT\"",
     .description = "Signal to send.",
     .offset = offsetof(struct signal_input, signal_name)},
    {0},
};

static void write_signalled(struct json_writer *json, const struct waiting *waiting,
                            const struct shell_status *status)
{
    (void)status;
    json_string(json, "signal", waiting->signal);
}

static void was_signalled(void *arg, int error, const struct hearth_failure *failure,
                          const struct shell_status *status)
{
    answer(arg, error, failure, status, write_signalled);
}

static void signal_(struct call *call, const void *arg)
{
    const struct signal_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    struct waiting *waiting = workspace ? waiting_new(call) : NULL;
    int number = 0;
    if (!waiting)
        return;
    for (size_t i = 0; signal_names[i]; i++)
        if (strcmp(signal_names[i], input->signal_name) == 0) {
            number = signal_numbers[i];
            waiting->signal = signal_names[i];
        }
    shell_signal(workspace, input->shell_id, number, was_signalled, waiting);
}

/* resize */

struct resize_input {
    const char *workspace_id, *shell_id;
    int64_t cols, rows;
};

static const struct field resize_input[] = {
    WORKSPACE_ID_FIELD(resize_input),
    SHELL_ID_FIELD(resize_input),
    SIZE_FIELDS(resize_input, NULL, NULL, FIELD_REQUIRED),
    {0},
};

static void resize(struct call *call, const void *arg)
{
    const struct resize_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    struct waiting *waiting = workspace ? waiting_new(call) : NULL;
    if (waiting)
        shell_resize(workspace, input->shell_id, (unsigned)input->cols, (unsigned)input->rows,
                     told_plainly, waiting);
}

/* close */

struct close_input {
    const char *workspace_id, *shell_id;
};

static const struct field close_input[] = {
    WORKSPACE_ID_FIELD(close_input), SHELL_ID_FIELD(close_input), {0}};

static void write_closed(struct json_writer *json, const struct waiting *waiting,
                         const struct shell_status *status)
{
    (void)waiting;
    (void)status;
    json_boolean(json, "closed", true);
}

static void was_closed(void *arg, int error, const struct hearth_failure *failure,
                       const struct shell_status *status)
{
    answer(arg, error, failure, status, write_closed);
}

static void close_(struct call *call, const void *arg)
{
    const struct close_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    struct waiting *waiting = workspace ? waiting_new(call) : NULL;
    if (waiting)
        shell_close(workspace, call_principal(call), input->shell_id, call_request_id(call),
                    was_closed, waiting);
}

static const char *const open_errors[] = {GUEST_ERRORS,     "bad_cwd",         "bad_term",
                                          "unknown_secret", "too_many_shells", NULL};
static const char *const read_errors[] = {GUEST_ERRORS, "shell_not_found", "shell_not_renderable",
                                          NULL};
static const char *const one_errors[] = {GUEST_ERRORS, "shell_not_found", "shell_ended", NULL};
static const char *const write_errors[] = {GUEST_ERRORS, "shell_not_found", "shell_ended",
                                           "shell_input_full", NULL};
static const char *const close_errors[] = {GUEST_ERRORS, "shell_not_found", NULL};
static const char *const list_errors[] = {"workspace_not_found", "bad_cursor", NULL};

#define SHELL_OPERATION                                                                            \
    .family = "shell", .profile = PROFILE_FULL, .surfaces = SURFACE_REST | SURFACE_TOOL
#define SHELLS "/v1/workspaces/{workspace_id}/shells"

const struct operation_entry shell_operations[] = {
    {
        .name = "shell_open",
        SHELL_OPERATION,
        .title = "Open a shell",
        .summary = "Opens an interactive shell on a terminal of its own.",
        .description =
            "Opens an interactive bash (or sh) on a terminal in the workspace, prompt \"hearth$ "
            "\". "
            "Use it for what needs a terminal or state between commands: a REPL, a debugger, a "
            "password prompt; for one command workspace_exec is simpler. Type with shell_write, "
            "look with shell_read. It outlives this connection; close it with shell_close.",
        .method = "POST",
        .path = SHELLS,
        .flags = OPERATION_WAKES | OPERATION_LONG | OPERATION_ACTIVITY | OPERATION_OPEN_WORLD,
        .status = 201,
        .input = open_input,
        .input_size = sizeof(struct open_input),
        .output = shell_fields,
        .errors = open_errors,
        .handler = open_,
    },
    {
        .name = "shell_list",
        SHELL_OPERATION,
        .title = "List shells",
        .summary = "Lists a workspace's shells, those that have ended too.",
        .description = "Lists the shells of a workspace with their state, oldest first. A shell "
                       "ends with its guest; its output is gone then.",
        .method = "GET",
        .path = SHELLS,
        .flags = OPERATION_WAKES | OPERATION_READ_ONLY | OPERATION_IDEMPOTENT | OPERATION_LONG,
        .status = 200,
        .input = shell_list_input,
        .input_size = sizeof(struct shell_list_input),
        .output = shell_list_output,
        .errors = list_errors,
        .handler = shell_list_handler,
    },
    {
        .name = "shell_read",
        SHELL_OPERATION,
        .title = "Read a shell",
        .summary = "Reads a shell's output from a cursor on, as it is or as a person would see it.",
        .description =
            "Reads what a shell wrote, from cursor on; nothing is consumed. Pass next_cursor to go "
            "on. Use plain=true to get readable text, and wait_for_idle_ms (300 or so) after "
            "shell_write to wait until the output has come to rest. About the newest million "
            "bytes are kept; lost_characters tells what is gone.",
        .method = "GET",
        .path = SHELLS "/{shell_id}",
        .flags = OPERATION_WAKES | OPERATION_READ_ONLY | OPERATION_IDEMPOTENT | OPERATION_LONG,
        .status = 200,
        .input = read_input,
        .input_size = sizeof(struct read_input),
        .output = read_output,
        .errors = read_errors,
        .handler = read_,
    },
    {
        .name = "shell_write",
        SHELL_OPERATION,
        .title = "Type into a shell",
        .summary = "Types text into a shell, with a newline after it unless told otherwise.",
        .description = "Types into a shell as a keyboard would; a newline follows unless "
                       "append_newline is false. Control characters may be typed too: \\u0003 is "
                       "Ctrl-C, \\u0004 Ctrl-D, \\u001b Escape.",
        .method = "POST",
        .path = SHELLS "/{shell_id}/input",
        .flags = OPERATION_WAKES | OPERATION_DESTRUCTIVE | OPERATION_LONG | OPERATION_ACTIVITY |
                 OPERATION_OPEN_WORLD,
        .status = 200,
        .input = write_input,
        .input_size = sizeof(struct write_input),
        .output = write_output_fields,
        .errors = write_errors,
        .handler = write_,
    },
    {
        .name = "shell_signal",
        SHELL_OPERATION,
        .title = "Signal a shell",
        .summary = "Sends a signal to what runs in a shell's foreground.",
        .description = "Sends HUP, INT, QUIT, TERM or KILL to the process group in the shell's "
                       "foreground: the command that runs, or the shell itself at its prompt.",
        .method = "POST",
        .path = SHELLS "/{shell_id}/signal",
        .flags = OPERATION_WAKES | OPERATION_DESTRUCTIVE | OPERATION_LONG | OPERATION_ACTIVITY,
        .status = 200,
        .input = signal_input,
        .input_size = sizeof(struct signal_input),
        .output = signal_output,
        .errors = one_errors,
        .handler = signal_,
    },
    {
        .name = "shell_resize",
        SHELL_OPERATION,
        .title = "Resize a shell",
        .summary = "Sets the size of a shell's terminal.",
        .description = "Sets columns and rows of a shell's terminal; what runs in it is told.",
        .method = "POST",
        .path = SHELLS "/{shell_id}/resize",
        .flags = OPERATION_WAKES | OPERATION_IDEMPOTENT | OPERATION_LONG,
        .status = 200,
        .input = resize_input,
        .input_size = sizeof(struct resize_input),
        .output = shell_fields,
        .errors = one_errors,
        .handler = resize,
    },
    {
        .name = "shell_close",
        SHELL_OPERATION,
        .title = "Close a shell",
        .summary = "Ends a shell and all that runs in it; answers when it has ended.",
        .description = "Hangs a shell up; what has not ended after two seconds is killed. Its "
                       "output is gone then.",
        .method = "DELETE",
        .path = SHELLS "/{shell_id}",
        .flags = OPERATION_WAKES | OPERATION_DESTRUCTIVE | OPERATION_LONG | OPERATION_ACTIVITY,
        .status = 200,
        .input = close_input,
        .input_size = sizeof(struct close_input),
        .output = close_output,
        .errors = close_errors,
        .handler = close_,
    },
    {0},
};
