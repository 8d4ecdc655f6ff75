#include "supervisord/drivers/phase.h"

#include <stdlib.h>

struct refusal {
    guest_done done;
    void *arg;
    struct hearth_failure failure;
};

static void tell_refusal(void *arg)
{
    struct refusal *refusal = arg;
    refusal->done(refusal->arg, refusal->failure.error, &refusal->failure);
    free(refusal);
}

static void refuse(struct loop *loop, guest_done done, void *arg, const char *why)
{
    struct refusal *refusal = malloc(sizeof *refusal);
    if (!refusal)
        abort();
    *refusal = (struct refusal){.done = done, .arg = arg};
    hearth_fail(&refusal->failure, HEARTH_EINTERNAL, "guest_busy", "%s", why);
    loop_defer(loop, tell_refusal, refusal);
}

bool phase_begin(struct phase *phase, enum phase_kind kind, guest_done done, void *arg)
{
    if (phase->kind != PHASE_IDLE) {
        refuse(phase->loop, done, arg, "another operation on the guest is under way");
        return false;
    }
    phase->kind = kind;
    phase->done = done;
    phase->arg = arg;
    phase->error = 0;
    phase->failure = HEARTH_FAILURE_NONE;
    return true;
}

void phase_begin_destroy(struct phase *phase, guest_done done, void *arg)
{
    if (phase->kind == PHASE_DESTROYING || phase->destroy_done) {
        refuse(phase->loop, done, arg, "the guest is being destroyed already");
    } else if (phase->kind == PHASE_IDLE) {
        phase_begin(phase, PHASE_DESTROYING, done, arg);
        phase->destroy(phase->owner);
    } else {
        phase->destroy_done = done;
        phase->destroy_arg = arg;
    }
}

static void destroy_now(void *arg)
{
    struct phase *phase = arg;
    phase->error = 0;
    phase->failure = HEARTH_FAILURE_NONE;
    phase->destroy(phase->owner);
}

void phase_finish(struct phase *phase, int error, const struct hearth_failure *failure)
{
    guest_done done = phase->done;
    void *arg = phase->arg;
    struct hearth_failure cancelled;
    bool forgotten = phase->forgotten;
    phase->kind = PHASE_IDLE;
    phase->done = NULL;
    if (phase->destroy_done) {
        phase->kind = PHASE_DESTROYING;
        phase->done = phase->destroy_done;
        phase->arg = phase->destroy_arg;
        phase->destroy_done = NULL;
        loop_defer(phase->loop, destroy_now, phase);
        if (!error) {
            error = hearth_fail(&cancelled, HEARTH_ECANCELLED, "guest_destroyed",
                                "the guest is being destroyed");
            failure = &cancelled;
        }
    } else if (forgotten) {
        loop_defer(phase->loop, phase->free, phase->owner);
    }
    if (!forgotten)
        done(arg, error, error ? failure : NULL);
}

void phase_finish_now(void *arg)
{
    struct phase *phase = arg;
    phase_finish(phase, phase->error, &phase->failure);
}

void phase_finish_later(struct phase *phase, int error)
{
    phase->error = error;
    loop_defer(phase->loop, phase_finish_now, phase);
}

void phase_forget(struct phase *phase)
{
    if (phase->kind == PHASE_IDLE)
        phase->free(phase->owner);
    else
        phase->forgotten = true;
}

bool phase_unwanted(const struct phase *phase)
{
    return phase->destroy_done || phase->forgotten;
}
