/* Whether a workspace can be made as it is asked for, and by which driver. */
#include "supervisord/secret_internal.h"
#include "supervisord/snapshot_internal.h"
#include "supervisord/supervisor_internal.h"

#include <string.h>

/* Machines alone have a transport to be demanded. */
static const char *demanded_isolation(const struct workspace_spec *spec)
{
    return spec->isolation ? spec->isolation : spec->transport ? "vm" : NULL;
}

static int check_transport(struct driver *driver, const char *transport,
                           struct hearth_failure *failure)
{
    int error = 0;
    if (driver->operations->check_transport) {
        error = driver->operations->check_transport(driver, transport, failure);
    } else {
        error = hearth_fail(failure, HEARTH_EUNSUPPORTED, "transport_unavailable",
                            "a container has one link alone, and no transport to choose");
        hearth_failure_hint(failure, "Leave transport out, or demand isolation \"vm\".");
    }
    if (error)
        hearth_failure_field(failure, "/transport");
    return error;
}

static struct driver_slot *choose_driver(struct supervisor *supervisor,
                                         const struct workspace_spec *spec,
                                         struct hearth_failure *failure)
{
    struct driver_slot *oci = &supervisor->drivers[DRIVER_OCI],
                       *qemu = &supervisor->drivers[DRIVER_QEMU];
    struct driver_slot *slot = supervisor->chosen;
    const char *isolation = demanded_isolation(spec);
    if (isolation)
        slot = strcmp(isolation, "vm") == 0 ? qemu : oci;
    if (slot && slot->driver && slot->probe.usable)
        return slot;
    hearth_fail(failure, HEARTH_EUNAVAILABLE, isolation ? "isolation_unavailable" : "no_driver",
                "this host cannot run a %s: %s", isolation ? isolation : "guest",
                slot ? slot->probe.reason : "no driver works");
    failure->retryable = false;
    hearth_failure_hint(failure, "`hearth doctor` says what each driver needs%s%s",
                        slot && *slot->probe.install ? "; try: " : "",
                        slot ? slot->probe.install : "");
    if (isolation)
        hearth_failure_field(failure, spec->isolation ? "/isolation" : "/transport");
    return NULL;
}

static int check_environment(struct supervisor *supervisor, const char *name,
                             const struct environment **ret_environment,
                             struct hearth_failure *failure)
{
    const struct environment *environment =
        environment_name_valid(name) ? environment_find(supervisor->environments, name) : NULL;
    int error = 0;
    if (!environment) {
        error = hearth_fail(failure, HEARTH_EINVALID, "unknown_environment",
                            "there is no environment \"%.80s\"",
                            environment_name_valid(name) ? name : "?");
        hearth_failure_hint(failure, "`hearth env list` shows what there is.");
    } else if (!environment->version ||
               !environment_lease(supervisor->environments, environment->version)) {
        error = hearth_fail(failure, HEARTH_ECONFLICT, "environment_not_pulled",
                            "the environment \"%.80s\" has not been built here yet", name);
        hearth_failure_hint(failure, "Run `hearth env pull %.80s` first.", name);
    }
    if (error)
        hearth_failure_field(failure, "/environment");
    *ret_environment = environment;
    return error;
}

/* A fork begins where its origin did, whatever its environment's name means now. */
static int check_version(struct supervisor *supervisor, const char *version,
                         const struct environment **ret_environment, struct hearth_failure *failure)
{
    *ret_environment = environment_find_version(supervisor->environments, version);
    if (*ret_environment && environment_lease(supervisor->environments, version))
        return 0;
    return hearth_fail(failure, HEARTH_ECONFLICT, "environment_not_pulled",
                       "the environment's version %.12s is not here any more", version);
}

int workspace_check_spec(struct supervisor *supervisor, const struct principal *principal,
                         const struct workspace_spec *spec,
                         const struct environment **ret_environment,
                         struct driver_slot **ret_driver, struct hearth_failure *failure)
{
    if (supervisor->draining)
        return hearth_fail(failure, HEARTH_EUNAVAILABLE, "draining", "the daemon is shutting down");
    int error = spec->name ? workspace_name_check(spec->name, failure) : 0;
    if (!error)
        error = workspace_labels_check(spec->labels, spec->label_count, failure);
    if (!error)
        error = secrets_check(spec->secrets, spec->secret_count, failure);
    if (!error && spec->fork)
        error =
            check_version(supervisor, spec->fork->environment_version, ret_environment, failure);
    else if (!error)
        error = check_environment(supervisor, spec->environment, ret_environment, failure);
    if (!error && spec->seed_upload &&
        !upload_find(supervisor->uploads, principal->tenant->tenant_id, spec->seed_upload)) {
        error =
            hearth_fail(failure, HEARTH_ENOTFOUND, "upload_not_found", "there is no such upload");
        hearth_failure_field(failure, "/seed_upload");
        hearth_failure_hint(
            failure,
            "POST the tar to /v1/uploads first; it is kept for an hour after its last use.");
    }
    if (!error && !(*ret_driver = choose_driver(supervisor, spec, failure)))
        error = (int)failure->error;
    if (!error && spec->transport)
        error = check_transport((*ret_driver)->driver, spec->transport, failure);
    return error;
}
