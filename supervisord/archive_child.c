#include "supervisord/archive_child.h"

#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_MAX ((size_t)4096)
#define CHECK_TIMEOUT_MS (15 * 60 * 1000)
#define TREE_TIMEOUT_MS (60 * 60 * 1000) /* the guest sets the pace */

struct archive_child {
    bool to_stdout; /* where the verdict is */
    archive_done done;
    void *arg;
};

static bool is_code(const char *text)
{
    size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyz_");
    return length > 8 && length < 48 && !text[length] && text_starts_with(text, "archive_");
}

/* What callers tell apart; the detail says the rest. */
static void fail_as(struct hearth_failure *failure, const char *code, const char *detail)
{
    static const struct {
        const char *told, *code;
        enum hearth_error error;
    } kinds[] = {
        {"archive_truncated", "archive_truncated", HEARTH_EINVALID},
        {"archive_too_large", "archive_too_large", HEARTH_ETOOLARGE},
        {"archive_too_many_entries", "archive_too_large", HEARTH_ETOOLARGE},
        {"archive_ratio", "archive_too_large", HEARTH_ETOOLARGE},
        {NULL, "archive_refused", HEARTH_EINVALID},
    };
    size_t i = 0;
    while (kinds[i].told && strcmp(kinds[i].told, code) != 0)
        i++;
    hearth_fail(failure, kinds[i].error, kinds[i].code, "the archive is refused: %.400s", detail);
    hearth_failure_hint(failure,
                        "Nothing of it was applied: make the archive anew without what the "
                        "detail names (a tar, plain, gzip or zstd, with relative names).");
}

/* "refused CODE DETAIL" */
static bool parse_refusal(char *line, struct hearth_failure *failure)
{
    if (!text_starts_with(line, "refused "))
        return false;
    char *code = line + strlen("refused "), *detail = strchr(code, ' ');
    if (!detail)
        return false;
    *detail++ = '\0';
    if (!is_code(code) || !utf8_valid(detail, strlen(detail)))
        return false;
    for (char *at = detail; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = '?';
    fail_as(failure, code, detail);
    return true;
}

static void on_child_end(void *arg, const struct child_result *result)
{
    struct archive_child *state = arg;
    struct archive_verdict verdict = {0};
    struct hearth_failure failure;
    char line[ANSWER_MAX];
    snprintf(line, sizeof line, "%s", state->to_stdout ? result->output : result->errors);
    line[strcspn(line, "\n")] = '\0';
    int error = 0;
    if (result->timed_out)
        error = hearth_fail(&failure, HEARTH_ETIMEDOUT, "archive_timed_out",
                            "reading the archive took too long");
    else if (result->exit_code != 0 ||
             sscanf(line, "good %" SCNu64 " %" SCNu64 " %7s", &verdict.entry_count,
                    &verdict.content_bytes, verdict.compression) != 3)
        error = parse_refusal(line, &failure)
                    ? (int)failure.error
                    : hearth_fail(&failure, HEARTH_EINTERNAL, "archive_reader_failed",
                                  "the program that reads archives ended with status %d",
                                  result->exit_code);
    state->done(state->arg, error, error ? &failure : NULL, error ? NULL : &verdict);
    free(state);
}

/* words[0], the program's own name, is set here. */
static int start(struct child **ret_child, struct loop *loop, struct spawn_spec *spec,
                 const char *words[], bool to_stdout, archive_done done, void *arg,
                 struct hearth_failure *failure)
{
    auto_free char *program = spawn_sibling("hearth-archive");
    struct archive_child *state = malloc(sizeof *state);
    if (!program || !state) {
        free(state);
        return hearth_fail(failure, HEARTH_EUNSUPPORTED, "program_missing",
                           "hearth-archive is not installed");
    }
    *state = (struct archive_child){.to_stdout = to_stdout, .done = done, .arg = arg};
    words[0] = program;
    spec->capture_limit = ANSWER_MAX - 1;
    struct child *child;
    int error = spawn(&child, loop, spec, on_child_end, state, failure);
    if (error)
        free(state);
    else if (ret_child)
        *ret_child = child;
    return error;
}

struct limit_texts {
    char entries[32], bytes[32];
};

static void print_limits(struct limit_texts *texts, const struct archive_limits *limits)
{
    snprintf(texts->entries, sizeof texts->entries, "%" PRIu64, limits->max_entries);
    snprintf(texts->bytes, sizeof texts->bytes, "%" PRIu64, limits->max_bytes);
}

int archive_child_start(struct child **ret_child, struct loop *loop, int fd, int out_fd,
                        const struct archive_limits *limits, archive_done done, void *arg,
                        struct hearth_failure *failure)
{
    struct limit_texts texts;
    print_limits(&texts, limits);
    const char *words[] = {
        NULL, out_fd < 0 ? "check" : "tree", "--entries", texts.entries, "--bytes", texts.bytes,
        NULL};
    struct spawn_spec spec = {.argv = words,
                              .stdin_fd = fd,
                              .stdout_fd = out_fd,
                              .stderr_fd = -1,
                              .timeout_ms = out_fd < 0 ? CHECK_TIMEOUT_MS : TREE_TIMEOUT_MS};
    return start(ret_child, loop, &spec, words, out_fd < 0, done, arg, failure);
}

int archive_child_unpack(struct child **ret_child, struct loop *loop, int fd, int lock_fd,
                         const char *format, const char *directory,
                         const struct archive_limits *limits, archive_done done, void *arg,
                         struct hearth_failure *failure)
{
    struct limit_texts texts;
    print_limits(&texts, limits);
    const char *words[] = {NULL,        "unpack", "--entries", texts.entries, "--bytes",
                           texts.bytes, format,   directory,   NULL};
    struct spawn_spec spec = {.argv = words,
                              .stdin_fd = fd,
                              .stdout_fd = -1,
                              .stderr_fd = -1,
                              .pass_fds = &lock_fd,
                              .pass_count = 1,
                              .timeout_ms = TREE_TIMEOUT_MS};
    return start(ret_child, loop, &spec, words, true, done, arg, failure);
}
