/* Started, empty sandboxes kept ready for creates. The pool holds the environment that was asked
 * for last, without network, of the daemon's driver; it is refilled after each create, one at a
 * time, so that it never competes with more than one boot. */
#include "base/clock.h"
#include "base/log.h"
#include "supervisord/supervisor_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POOL_TENANT "pool"
#define POOL_VCPU_COUNT 1
#define POOL_MEM_MIB 1024
#define POOL_DISK_MIB 4096
#define RETRY_US (30 * US_PER_S)

static unsigned pool_size(const struct supervisor *supervisor)
{
    unsigned count = 0;
    list_for_each(cursor, next, &supervisor->pool) count++;
    return count;
}

struct sandbox *pool_claim(struct supervisor *supervisor, struct driver *driver,
                           const char *environment_version, enum network_policy network)
{
    if (!supervisor->config->pool || !driver->operations->resize)
        return NULL;
    if (strcmp(supervisor->pool_environment, environment_version) != 0)
        snprintf(supervisor->pool_environment, sizeof supervisor->pool_environment, "%s",
                 environment_version);
    list_for_each(cursor, next, &supervisor->pool)
    {
        struct sandbox *sandbox = container_of(cursor, struct sandbox, pool_link);
        if (sandbox->guest.driver != driver ||
            strcmp(sandbox->environment_version, environment_version) != 0 ||
            network_has_device(sandbox->network) != network_has_device(network) ||
            sandbox->link.state != AGENTLINK_UP)
            continue;
        list_remove(&sandbox->pool_link);
        return sandbox;
    }
    return NULL;
}

static void row_removed(void *arg, int error, const struct hearth_failure *failure)
{
    (void)failure;
    if (error)
        log_warning("pool_row_not_removed", "%s", "a guest's row stays until the next start");
    (void)arg;
}

static void discard(struct sandbox *sandbox)
{
    struct change *change = change_new();
    change_delete_guest(change, sandbox->guest.guest_id);
    change_commit(change, sandbox->supervisor->writer, row_removed, NULL);
    sandbox_destroy(sandbox, NULL, NULL);
}

static void booted(void *arg, int error, const struct hearth_failure *failure)
{
    struct sandbox *sandbox = arg;
    struct supervisor *supervisor = sandbox->supervisor;
    supervisor->pool_making--;
    if (error) {
        log_warning("pool_boot_failed", "code=%s detail=\"%s\"", failure->code, failure->detail);
        supervisor->pool_retry_at = clock_monotonic_us() + RETRY_US;
        discard(sandbox);
        return;
    }
    struct row_guest row;
    struct change *change = change_new();
    sandbox_row(sandbox, &row);
    change_put_guest(change, &row);
    change_commit(change, supervisor->writer, NULL, NULL);
    list_append(&supervisor->pool, &sandbox->pool_link);
    pool_refill(supervisor);
}

static void intended(void *arg, int error, const struct hearth_failure *failure)
{
    struct sandbox *sandbox = arg;
    if (error)
        booted(sandbox, error, failure);
    else
        sandbox_boot(sandbox, true, booted, sandbox);
}

void pool_empty(struct supervisor *supervisor)
{
    list_for_each(cursor, next, &supervisor->pool)
        discard(container_of(cursor, struct sandbox, pool_link));
}

static void drop_other_environments(struct supervisor *supervisor)
{
    list_for_each(cursor, next, &supervisor->pool)
    {
        struct sandbox *sandbox = container_of(cursor, struct sandbox, pool_link);
        if (strcmp(sandbox->environment_version, supervisor->pool_environment) != 0)
            discard(sandbox);
    }
}

void pool_refill(struct supervisor *supervisor)
{
    if (!supervisor->config->pool || supervisor->draining || !supervisor->chosen ||
        !*supervisor->pool_environment || supervisor->pool_making ||
        clock_monotonic_us() < supervisor->pool_retry_at)
        return;
    drop_other_environments(supervisor);
    if (pool_size(supervisor) >= supervisor->config->pool)
        return;
    struct hearth_failure failure;
    struct sandbox *sandbox = sandbox_new(supervisor, supervisor->chosen->driver, &failure);
    if (!sandbox)
        return;
    snprintf(sandbox->tenant_id, sizeof sandbox->tenant_id, "%s", POOL_TENANT);
    snprintf(sandbox->environment_version, sizeof sandbox->environment_version, "%s",
             supervisor->pool_environment);
    sandbox->vcpu_count = POOL_VCPU_COUNT;
    sandbox->mem_mib = POOL_MEM_MIB;
    sandbox->disk_mib = POOL_DISK_MIB;
    supervisor->pool_making++;
    struct row_guest row;
    struct change *change = change_new();
    sandbox_row(sandbox, &row);
    change_put_guest(change, &row);
    change_commit(change, supervisor->writer, intended, sandbox);
}
