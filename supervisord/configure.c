/* What a guest is told of itself once its agent is linked: identity, clock, entropy, secrets. One
 * that has begun with another's memory draws that one's random numbers until its kernel has taken
 * entropy: it is not used before it says so. */
#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/log.h"
#include "supervisord/secret_internal.h"
#include "supervisord/supervisor_internal.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define CONFIGURE_TIMEOUT_MS 10000
#define ENTROPY_BYTES 64

struct configuring {
    struct supervisor *supervisor;
    struct sandbox *sandbox;
    bool anew;
    struct hearth_failure failure;
    guest_done done; /* NULL: nobody waits */
    void *arg;
};

static void end(struct configuring *configuring, int error, const struct hearth_failure *failure)
{
    struct supervisor *supervisor = configuring->supervisor;
    if (configuring->done)
        configuring->done(configuring->arg, error, failure);
    free(configuring);
    supervisor->works--;
    supervisor_maybe_quiet(supervisor);
}

static bool is_machine(const struct sandbox *sandbox)
{
    const char *isolation = sandbox->guest.facts.isolation;
    return isolation && strcmp(isolation, "vm") == 0;
}

/* 0 where its random numbers are its own: a container has the host's. */
static int check_entropy(const struct configuring *configuring,
                         const Hearth__Agent__V1__ConfigureReply *reply,
                         struct hearth_failure *failure)
{
    struct guest *guest = &configuring->sandbox->guest;
    if (reply->entropy_added || !is_machine(configuring->sandbox))
        return 0;
    if (!configuring->anew || !guest->facts.cloned) {
        log_warning("entropy_not_added", "guest=%s", guest->guest_id);
        return 0;
    }
    int error = hearth_fail(failure, HEARTH_EUNAVAILABLE, "not_reseeded",
                            "the machine began with another's memory, and did not take entropy");
    guest->driver->operations->clone_refused(guest->driver, guest, failure->detail);
    return error;
}

static void configured(void *arg, enum link_status status, const struct hearth_failure *failure,
                       const ProtobufCMessage *reply)
{
    struct configuring *configuring = arg;
    int error = status == LINK_STATUS_OK ? 0 : (int)failure->error;
    if (!error) {
        failure = &configuring->failure;
        error = check_entropy(configuring, (const Hearth__Agent__V1__ConfigureReply *)reply,
                              &configuring->failure);
    }
    end(configuring, error, failure);
}

static void not_configured(void *arg)
{
    struct configuring *configuring = arg;
    end(configuring, (int)configuring->failure.error, &configuring->failure);
}

static void fill_identity(Hearth__Agent__V1__ConfigureRequest *request,
                          const struct sandbox *sandbox, char machine_id[33])
{
    unsigned char machine[16];
    /* Of its guest, whose start is none of another machine. */
    crypto_generichash(machine, sizeof machine, (const unsigned char *)sandbox->guest.guest_id,
                       strlen(sandbox->guest.guest_id), NULL, 0);
    request->machine_id = sodium_bin2hex(machine_id, 33, machine, sizeof machine);
    request->workspace_id = (char *)(uintptr_t)sandbox->identity;
    if (is_machine(sandbox))
        request->disk_bytes = (uint64_t)sandbox->disk_mib << 20;
}

void sandbox_configure(struct sandbox *sandbox, bool anew, guest_done done, void *arg)
{
    Hearth__Agent__V1__ConfigureRequest request = HEARTH__AGENT__V1__CONFIGURE_REQUEST__INIT;
    unsigned char entropy[ENTROPY_BYTES];
    char hostname[64], machine_id[33];
    struct guest_spec spec;
    struct secrets_open secrets;
    struct configuring *configuring = calloc(1, sizeof *configuring);
    if (!configuring)
        abort();
    *configuring = (struct configuring){.supervisor = sandbox->supervisor,
                                        .sandbox = sandbox,
                                        .anew = anew,
                                        .done = done,
                                        .arg = arg};
    sandbox->supervisor->works++;
    /* Nobody's, of one that waits in the pool. */
    const struct workspace *owner = supervisor_workspace(sandbox->supervisor, sandbox->identity);
    if (secrets_open(owner, &secrets, &configuring->failure)) {
        loop_defer(sandbox->supervisor->loop, not_configured, configuring);
        return;
    }
    sandbox_spec(sandbox, &spec, hostname);
    id_random_bytes(entropy, sizeof entropy);
    if (is_machine(sandbox)) /* a container has the host's clock */
        request.wall_clock_us = (uint64_t)clock_wall_us();
    if (anew) {
        fill_identity(&request, sandbox, machine_id);
        request.hostname = hostname;
    }
    request.entropy.data = entropy;
    request.entropy.len = sizeof entropy;
    for (size_t i = 0; i < secrets.count; i++)
        secrets.list[i] = &secrets.messages[i];
    request.secrets = secrets.list;
    request.n_secrets = secrets.count;
    agent_call(&sandbox->link, "Configure", &request.base,
               &hearth__agent__v1__configure_reply__descriptor, CONFIGURE_TIMEOUT_MS, configured,
               configuring);
    secrets_close(&secrets);
}
