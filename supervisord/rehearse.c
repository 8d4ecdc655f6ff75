/* A machine whose processor is emulated runs everything slowly that it has not run before: what a
 * claim and a first command run is run once in one that is to wait, and then it is paused. */
#include "agent.pb-c.h"
#include "supervisord/exec_internal.h"
#include "supervisord/supervisor_internal.h"

#include <stdlib.h>

#define CALL_TIMEOUT_MS 30000
#define ROUNDS 2 /* the second finds what the first has left behind */

struct rehearsal {
    struct sandbox *sandbox;
    unsigned rounds;
    guest_done done;
    void *arg;
};

static char exec_id[] = "rehearsal";

static struct rehearsal *rehearsal_new(struct sandbox *sandbox, guest_done done, void *arg)
{
    struct rehearsal *rehearsal = calloc(1, sizeof *rehearsal);
    if (!rehearsal)
        abort();
    *rehearsal = (struct rehearsal){.sandbox = sandbox, .done = done, .arg = arg};
    sandbox->supervisor->works++;
    return rehearsal;
}

static void end(struct rehearsal *rehearsal, int error, const struct hearth_failure *failure)
{
    struct supervisor *supervisor = rehearsal->sandbox->supervisor;
    guest_done done = rehearsal->done;
    void *arg = rehearsal->arg;
    free(rehearsal);
    done(arg, error, failure);
    supervisor->works--;
    supervisor_maybe_quiet(supervisor);
}

static void paused(void *arg, int error, const struct hearth_failure *failure)
{
    struct rehearsal *rehearsal = arg;
    struct sandbox *sandbox = rehearsal->sandbox;
    sandbox->paused = !error;
    end(rehearsal, error, failure);
}

static void run_command(struct rehearsal *rehearsal);

static void configured(void *arg, int error, const struct hearth_failure *failure)
{
    if (error)
        end(arg, error, failure);
    else
        run_command(arg);
}

static void forgotten(void *arg, enum link_status status, const struct hearth_failure *failure,
                      const ProtobufCMessage *reply)
{
    struct rehearsal *rehearsal = arg;
    struct sandbox *sandbox = rehearsal->sandbox;
    struct guest *guest = &sandbox->guest;
    (void)reply;
    if (status != LINK_STATUS_OK) {
        end(rehearsal, (int)failure->error, failure);
    } else if (++rehearsal->rounds < ROUNDS) {
        sandbox_configure(sandbox, true, configured, rehearsal);
    } else {
        agentlink_pause(&sandbox->link, true);
        guest->driver->operations->pause(guest->driver, guest, paused, rehearsal);
    }
}

static void ran(void *arg, enum link_status status, const struct hearth_failure *failure,
                const ProtobufCMessage *reply)
{
    struct rehearsal *rehearsal = arg;
    Hearth__Agent__V1__ExecForgetRequest request = HEARTH__AGENT__V1__EXEC_FORGET_REQUEST__INIT;
    (void)reply;
    if (status != LINK_STATUS_OK) {
        end(rehearsal, (int)failure->error, failure);
        return;
    }
    request.exec_id = exec_id;
    agent_call(&rehearsal->sandbox->link, "ExecForget", &request.base,
               &hearth__agent__v1__empty__descriptor, CALL_TIMEOUT_MS, forgotten, rehearsal);
}

/* As workspace_exec asks for it. */
static void run_command(struct rehearsal *rehearsal)
{
    static char shell[] = "/bin/sh", flags[] = "-lc", command[] = "true", cwd[] = "/workspace";
    char *argv[] = {shell, flags, command};
    Hearth__Agent__V1__ExecStartRequest request = HEARTH__AGENT__V1__EXEC_START_REQUEST__INIT;
    Hearth__Agent__V1__ExecReadRequest read = HEARTH__AGENT__V1__EXEC_READ_REQUEST__INIT;
    struct exec_environment environment;
    struct hearth_failure failure;
    if (exec_environment_make(&environment, NULL, 0)) {
        hearth_fail(&failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        end(rehearsal, (int)failure.error, &failure);
        return;
    }
    request.exec_id = exec_id;
    request.argv = argv;
    request.n_argv = sizeof argv / sizeof *argv;
    request.cwd = cwd;
    request.environment = environment.list;
    request.n_environment = environment.count;
    read.wait_ms = CALL_TIMEOUT_MS;
    read.until_end = true;
    request.read = &read;
    agent_call(&rehearsal->sandbox->link, "ExecStart", &request.base,
               &hearth__agent__v1__exec_state__descriptor, CALL_TIMEOUT_MS, ran, rehearsal);
    exec_environment_free(&environment);
}

void sandbox_restore(struct sandbox *sandbox, guest_done done, void *arg)
{
    sandbox_boot(sandbox, false, configured, rehearsal_new(sandbox, done, arg));
}
