#include "supervisord/steps.h"

#include "base/clock.h"
#include "base/crash_point.h"
#include "supervisord/supervisor_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void row_of(const struct steps *steps, struct row_operation *ret_row)
{
    *ret_row = (struct row_operation){
        .operation_id = steps->operation_id,
        .tenant_id = steps->tenant_id,
        .subject_id = steps->subject_id,
        .kind = steps->kind->name,
        .request = steps->kind->request ? steps->kind->request(steps->subject) : "",
        .step = (uint32_t)steps->at,
        .undoing = steps->undoing,
        .created_at = clock_wall_us(),
    };
}

void steps_asker_format(char out[STEPS_ASKER_SIZE], const struct principal *principal,
                        const char *request_id)
{
    snprintf(out, STEPS_ASKER_SIZE, "%s %" PRIu64 " %s", principal->token_id, principal->intent,
             request_id);
}

void steps_asker_parse(const char *request, struct principal *principal, char ret_request_id[68])
{
    *ret_request_id = '\0';
    principal->intent = 0;
    sscanf(request, "%31s %" SCNu64 " %67s", principal->token_id, &principal->intent,
           ret_request_id);
}

/* Noted, not waited for: what a crash loses of it is only done once more. What can be undone is
 * undone from its last step (steps_resume), so of it no step is noted: each would be a sync that
 * the commit at the end waits behind. */
static void note(const struct steps *steps)
{
    struct row_operation row;
    row_of(steps, &row);
    struct change *change = change_new();
    change_put_operation(change, &row);
    change_commit(change, steps->supervisor->writer, NULL, NULL);
}

static void end(struct steps *steps)
{
    steps->kind->done(steps, steps->subject, (int)steps->failure.error, &steps->failure);
    free(steps);
}

static void pass(const struct steps *steps)
{
    char name[64];
    snprintf(name, sizeof name, "%s:%s%s", steps->kind->name, steps->undoing ? "undo-" : "",
             steps->at < steps->kind->count ? steps->kind->steps[steps->at].name : "end");
    crash_point(name);
}

static void advance(struct steps *steps)
{
    pass(steps);
    if (!steps->undoing) {
        if (steps->at == steps->kind->count) {
            end(steps);
            return;
        }
        steps->kind->steps[steps->at].run(steps, steps->subject);
        return;
    }
    while (!steps->kind->steps[steps->at].undo) {
        if (steps->at == 0) {
            end(steps);
            return;
        }
        steps->at--;
    }
    steps->kind->steps[steps->at].undo(steps, steps->subject);
}

void steps_next(struct steps *steps)
{
    if (steps->undoing && steps->at == 0) {
        end(steps);
        return;
    }
    if (steps->undoing)
        steps->at--;
    else if (++steps->at < steps->kind->count && steps->kind->forward_only)
        note(steps);
    advance(steps);
}

void steps_fail(struct steps *steps, const struct hearth_failure *failure)
{
    if (steps->kind->forward_only) { /* such steps have nothing to fail with: report and go on */
        steps_next(steps);
        return;
    }
    steps->failure = *failure;
    steps->undoing = true;
    advance(steps);
}

static void begun(void *arg, int error, const struct hearth_failure *failure)
{
    struct steps *steps = arg;
    if (error) {
        steps->failure = *failure;
        steps->at = 0;
        end(steps);
        return;
    }
    steps->begun = true;
    advance(steps);
}

static struct steps *make(struct supervisor *supervisor, const struct steps_kind *kind,
                          void *subject, const char *tenant_id, const char *subject_id)
{
    struct steps *steps = calloc(1, sizeof *steps);
    if (!steps)
        abort();
    steps->supervisor = supervisor;
    steps->kind = kind;
    steps->subject = subject;
    snprintf(steps->tenant_id, sizeof steps->tenant_id, "%s", tenant_id);
    snprintf(steps->subject_id, sizeof steps->subject_id, "%s", subject_id);
    return steps;
}

void steps_begin(struct supervisor *supervisor, const struct steps_kind *kind, void *subject,
                 const char *tenant_id, const char *subject_id, struct change *change,
                 struct steps **ret_steps)
{
    struct steps *steps = make(supervisor, kind, subject, tenant_id, subject_id);
    struct row_operation row;
    id_make(steps->operation_id, "op", supervisor->config->node_tag);
    row_of(steps, &row);
    change_put_operation(change, &row);
    *ret_steps = steps;
    change_commit(change, supervisor->writer, begun, steps);
}

static void resumed(void *arg)
{
    advance(arg);
}

struct steps *steps_resume(struct supervisor *supervisor, const struct steps_kind *kind,
                           void *subject, const struct row_operation *row)
{
    struct steps *steps = make(supervisor, kind, subject, row->tenant_id, row->subject_id);
    snprintf(steps->operation_id, sizeof steps->operation_id, "%s", row->operation_id);
    steps->at = row->step < kind->count ? row->step : kind->count - 1;
    steps->undoing = !kind->forward_only;
    steps->begun = true;
    /* Nobody noted how far it came: undo from the last step. */
    if (steps->undoing) {
        steps->at = kind->count - 1;
        hearth_fail(&steps->failure, HEARTH_EUNAVAILABLE, "interrupted",
                    "the daemon ended during %s", kind->name);
    }
    loop_defer(supervisor->loop, resumed, steps);
    return steps;
}

void steps_finish(const struct steps *steps, struct change *change)
{
    change_delete_operation(change, steps->operation_id);
}
