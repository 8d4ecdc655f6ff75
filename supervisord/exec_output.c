#include "supervisord/exec_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int exec_output_set(struct exec_output *output, const Hearth__Agent__V1__ExecOutput *from,
                    uint64_t limit)
{
    exec_output_free(output);
    if (!from)
        return 0;
    output->total = from->total;
    output->next = from->next_offset;
    output->data.limit = (size_t)limit + 1;
    bool first = true, hole = false;
    uint64_t expected = 0;
    for (size_t i = 0; i < from->n_segments; i++) {
        const Hearth__Agent__V1__ExecSegment *segment = from->segments[i];
        size_t length = segment->data.len, room = (size_t)limit - output->data.length;
        if (first)
            output->start = segment->offset;
        else if (segment->offset < expected)
            continue; /* nonsense from a guest: order is not ours to mend */
        else if (segment->offset > expected && !hole) {
            output->head = output->data.length;
            output->omitted = segment->offset - expected;
            hole = true;
        }
        if (buf_append(&output->data, segment->data.data, length < room ? length : room))
            return HEARTH_ENOMEMORY;
        expected = segment->offset + length;
        first = false;
    }
    if (!hole)
        output->head = output->data.length;
    return 0;
}

void exec_output_free(struct exec_output *output)
{
    buf_free(&output->data);
    *output = (struct exec_output){0};
}

int exec_cursor_parse(const char *cursor, uint64_t *ret_stdout, uint64_t *ret_stderr,
                      struct hearth_failure *failure)
{
    unsigned long long out = 0, err = 0;
    int used = 0;
    if (cursor && *cursor &&
        (strspn(cursor, "0123456789.") != strlen(cursor) || strlen(cursor) > 41 ||
         sscanf(cursor, "%20llu.%20llu%n", &out, &err, &used) != 2 || cursor[used]))
        return supervisor_bad_cursor(failure);
    *ret_stdout = out;
    *ret_stderr = err;
    return 0;
}

void exec_cursor_format(char out[48], uint64_t stdout_offset, uint64_t stderr_offset)
{
    snprintf(out, 48, "%" PRIu64 ".%" PRIu64, stdout_offset, stderr_offset);
}

static int append_word(struct buf *text, const char *word)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,@%+";
    if (*word && word[strspn(word, plain)] == '\0')
        return buf_text(text, word);
    int error = buf_char(text, '\'');
    for (; !error && *word; word++)
        error = *word == '\'' ? buf_text(text, "'\\''") : buf_char(text, *word);
    return error ? error : buf_char(text, '\'');
}

char *exec_command_text(const struct exec_spec *spec)
{
    struct buf text = {0};
    int error = spec->command ? buf_text(&text, spec->command) : 0;
    for (size_t i = 0; !error && !spec->command && i < spec->argv_count; i++) {
        if (i)
            error = buf_char(&text, ' ');
        if (!error)
            error = append_word(&text, spec->argv[i]);
    }
    if (error) {
        buf_free(&text);
        return NULL;
    }
    return buf_steal(&text);
}

/* What of an output (head, hole, tail) lies past offset: as pointer, length, head and omitted. */
static void slice(const char *data, size_t length, size_t head, uint64_t start, uint64_t omitted,
                  uint64_t offset, const char **ret_data, size_t *ret_length, size_t *ret_head,
                  uint64_t *ret_omitted)
{
    uint64_t head_end = start + head, tail_start = head_end + omitted,
             tail_end = tail_start + (length - head);
    size_t skip;
    *ret_omitted = 0;
    if (offset < start) { /* what lay between is gone: the hole is before all of it */
        *ret_data = data;
        *ret_length = length;
        *ret_head = 0;
        *ret_omitted = start - offset + omitted;
        return;
    }
    if (offset == start) {
        skip = 0;
        *ret_omitted = omitted;
    } else if (offset <= head_end) {
        skip = (size_t)(offset - start);
        *ret_omitted = omitted;
    } else if (offset <= tail_start) {
        skip = head;
        *ret_omitted = tail_start - offset;
    } else {
        skip = offset >= tail_end ? length : head + (size_t)(offset - tail_start);
    }
    *ret_data = length ? data + skip : "";
    *ret_length = length - skip;
    *ret_head = skip >= head ? 0 : head - skip;
    if (!*ret_omitted)
        *ret_head = *ret_length;
}

void exec_slice(struct exec_status *status, const struct exec_output *output,
                const struct exec_output *errors, uint64_t stdout_offset, uint64_t stderr_offset)
{
    slice(output->data.data, output->data.length, output->head, output->start, output->omitted,
          stdout_offset, &status->stdout_data, &status->stdout_length, &status->stdout_head,
          &status->stdout_omitted);
    slice(errors->data.data, errors->data.length, errors->head, errors->start, errors->omitted,
          stderr_offset, &status->stderr_data, &status->stderr_length, &status->stderr_head,
          &status->stderr_omitted);
    status->stdout_bytes = output->total;
    status->stderr_bytes = errors->total;
    status->truncated = status->stdout_omitted || status->stderr_omitted;
    exec_cursor_format(status->cursor, output->next > stdout_offset ? output->next : stdout_offset,
                       errors->next > stderr_offset ? errors->next : stderr_offset);
}

/* A stored output that is shorter than its total was cut in its middle: half from the start, half
 * from the end. */
static struct exec_output stored(const void *data, size_t length, uint64_t total)
{
    struct exec_output output = {.total = total, .next = total};
    output.data.data = (char *)(uintptr_t)data;
    output.data.length = length;
    output.head = total > length ? length / 2 : length;
    output.omitted = total > length ? total - length : 0;
    return output;
}

void exec_status_from_row(const struct row_exec *row, uint64_t stdout_offset,
                          uint64_t stderr_offset, struct exec_status *ret_status)
{
    struct exec_output output = stored(row->stdout_data, row->stdout_length, row->stdout_bytes);
    struct exec_output errors = stored(row->stderr_data, row->stderr_length, row->stderr_bytes);
    *ret_status = (struct exec_status){
        .exec_id = row->exec_id,
        .workspace_id = row->workspace_id,
        .sequence = row->sequence,
        .command = row->command,
        .cwd = row->cwd,
        .execution_mode = row->execution_mode,
        .running = strcmp(row->state, "running") == 0,
        .started = row->started,
        .timed_out = row->timed_out,
        .cancelled = row->cancelled,
        .drained = row->drained,
        .lost = strcmp(row->state, "lost") == 0,
        .exit_code = row->exit_code,
        .signal = row->signal,
        .problem = row->problem && *row->problem ? row->problem : NULL,
        .started_at = row->started_at,
        .ended_at = row->ended_at,
        .duration_us = row->duration_us,
    };
    exec_slice(ret_status, &output, &errors, stdout_offset, stderr_offset);
    ret_status->truncated = row->truncated;
}
