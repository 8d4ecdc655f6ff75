/* What waits for creates: started, empty containers, and machines that need only load their
 * template's state, or have loaded it and are paused. It holds the kinds of guest that were asked
 * for last; it is refilled after each create and once a second, one at a time, so that it never
 * competes with more than one boot, and while the host has memory for it; where memory is short it
 * goes first. Where no pool was asked for it holds a spare machine of each kind, paused, for as
 * long as the kind is in use. */
#include "base/clock.h"
#include "base/log.h"
#include "supervisord/memory.h"
#include "supervisord/supervisor_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POOL_TENANT "pool" /* of containers, which are anybody's */
#define POOL_VCPU_COUNT 1
#define POOL_MEM_MIB 1024
#define POOL_DISK_MIB 4096
#define MACHINE_KINDS_MAX 4
#define QEMU_MIB 80     /* what QEMU takes besides the machine's memory */
#define PRESSURE_MAX 20 /* percent of the time in which somebody waits for memory */
#define TICK_US US_PER_S
#define QUIET_US US_PER_S /* since the last create, before machines are made for later ones */
#define RETRY_US (30 * US_PER_S)

/* A kind of guest that is kept. Containers are made to measure when they are taken, machines must
 * have been made so, and for their tenant. */
struct pool_kind {
    struct list link; // supervisor::pool_kinds, the last asked for first
    struct driver *driver;
    char tenant_id[64];
    char environment_version[72];
    uint32_t vcpu_count, mem_mib, disk_mib;
    int64_t asked_at;
};

static bool of_machines(const struct driver *driver)
{
    return driver->operations->standby != NULL;
}

/* How many are kept of a driver's kinds. */
static unsigned most_of(const struct supervisor *supervisor, const struct driver *driver)
{
    const struct config *config = supervisor->config;
    return config->pool ? config->pool : of_machines(driver) && config->pool_spare_seconds;
}

static bool waits_restored(const struct supervisor *supervisor)
{
    return supervisor->config->pool_restored || !supervisor->config->pool;
}

static bool equal(const struct pool_kind *kind, const struct pool_kind *other)
{
    return kind->driver == other->driver && strcmp(kind->tenant_id, other->tenant_id) == 0 &&
           strcmp(kind->environment_version, other->environment_version) == 0 &&
           kind->vcpu_count == other->vcpu_count && kind->mem_mib == other->mem_mib &&
           kind->disk_mib == other->disk_mib;
}

static struct pool_kind kind_of(const struct sandbox *sandbox)
{
    struct pool_kind kind = {.driver = sandbox->guest.driver,
                             .vcpu_count = sandbox->vcpu_count,
                             .mem_mib = sandbox->mem_mib,
                             .disk_mib = sandbox->disk_mib};
    snprintf(kind.tenant_id, sizeof kind.tenant_id, "%s", sandbox->tenant_id);
    snprintf(kind.environment_version, sizeof kind.environment_version, "%s",
             sandbox->environment_version);
    return kind;
}

static struct pool_kind kind_wanted(const struct supervisor *supervisor, struct driver *driver,
                                    const struct workspace *workspace)
{
    bool machine = of_machines(driver);
    struct pool_kind kind = {
        .driver = driver,
        .vcpu_count = machine ? workspace->vcpu_count : POOL_VCPU_COUNT,
        .mem_mib = machine ? workspace->mem_mib : POOL_MEM_MIB,
        .disk_mib = machine ? workspace->disk_mib : POOL_DISK_MIB,
    };
    snprintf(kind.tenant_id, sizeof kind.tenant_id, "%s",
             machine && !supervisor->config->template_shared ? workspace->tenant->tenant_id
                                                             : POOL_TENANT);
    snprintf(kind.environment_version, sizeof kind.environment_version, "%s",
             workspace->environment_version);
    return kind;
}

/* Puts it first; those that it drives out are left to drop_unwanted. */
static void want(struct supervisor *supervisor, const struct pool_kind *wanted)
{
    unsigned kept = 1, most = of_machines(wanted->driver) ? MACHINE_KINDS_MAX : 1;
    struct pool_kind *found = NULL;
    list_for_each(cursor, next, &supervisor->pool_kinds)
    {
        struct pool_kind *kind = container_of(cursor, struct pool_kind, link);
        if (equal(kind, wanted)) {
            found = kind;
            list_remove(&kind->link);
        } else if (kind->driver == wanted->driver && ++kept > most) {
            list_remove(&kind->link);
            free(kind);
        }
    }
    if (!found && (found = malloc(sizeof *found))) {
        *found = *wanted;
        list_init(&found->link);
    }
    if (found) {
        found->asked_at = supervisor->pool_asked_at;
        list_prepend(&supervisor->pool_kinds, &found->link);
    }
}

/* Of a pool that was asked for the kinds stay until others drive them out. */
static void forget_unused(struct supervisor *supervisor)
{
    const struct config *config = supervisor->config;
    int64_t oldest = clock_monotonic_us() - config->pool_spare_seconds * US_PER_S;
    list_for_each(cursor, next, &supervisor->pool_kinds)
    {
        struct pool_kind *kind = container_of(cursor, struct pool_kind, link);
        if (config->pool || kind->asked_at > oldest)
            continue;
        list_remove(&kind->link);
        free(kind);
    }
}

struct sandbox *pool_claim(struct supervisor *supervisor, struct driver *driver,
                           const struct workspace *workspace)
{
    if (!most_of(supervisor, driver) || network_has_device(workspace->network))
        return NULL;
    struct pool_kind wanted = kind_wanted(supervisor, driver, workspace);
    supervisor->pool_asked_at = clock_monotonic_us();
    want(supervisor, &wanted);
    list_for_each(cursor, next, &supervisor->pool)
    {
        struct sandbox *sandbox = container_of(cursor, struct sandbox, pool_link);
        struct pool_kind kind = kind_of(sandbox);
        if (!equal(&kind, &wanted) || (sandbox->running && sandbox->link.state != AGENTLINK_UP))
            continue;
        list_remove(&sandbox->pool_link);
        supervisor->totals.pool_claims_total++;
        return sandbox;
    }
    return NULL;
}

struct sandbox *pool_replace(struct sandbox *failed, const struct hearth_failure *failure)
{
    struct hearth_failure own;
    struct sandbox *fresh = sandbox_new(failed->supervisor, failed->guest.driver, &own);
    if (!fresh)
        return NULL;
    log_warning("pool_claim_failed", "guest=%s code=%s detail=\"%s\"", failed->guest.guest_id,
                failure->code, failure->detail);
    failed->workspace = NULL;
    sandbox_discard(failed, NULL, NULL);
    return fresh;
}

static void booted(void *arg, int error, const struct hearth_failure *failure)
{
    struct sandbox *sandbox = arg;
    struct supervisor *supervisor = sandbox->supervisor;
    supervisor->pool_making--;
    if (!error && supervisor->draining) {
        sandbox_discard(sandbox, NULL, NULL);
        return;
    }
    if (error) {
        if (error != HEARTH_ENOTFOUND) { /* else its template is another's, or being made anew */
            log_warning("pool_boot_failed", "code=%s detail=\"%s\"", failure->code,
                        failure->detail);
            supervisor->pool_retry_at = clock_monotonic_us() + RETRY_US;
        }
        sandbox_discard(sandbox, NULL, NULL);
        return;
    }
    sandbox_record(sandbox, NULL, NULL);
    list_append(&supervisor->pool, &sandbox->pool_link);
    pool_refill(supervisor);
}

static void stands_by(void *arg, int error, const struct hearth_failure *failure)
{
    struct sandbox *sandbox = arg;
    if (error || !waits_restored(sandbox->supervisor))
        booted(sandbox, error, failure);
    else
        sandbox_restore(sandbox, booted, sandbox);
}

static void intended(void *arg, int error, const struct hearth_failure *failure)
{
    struct sandbox *sandbox = arg;
    if (error)
        booted(sandbox, error, failure);
    else if (of_machines(sandbox->guest.driver))
        sandbox_standby(sandbox, stands_by, sandbox);
    else
        sandbox_boot(sandbox, true, booted, sandbox);
}

void pool_empty(struct supervisor *supervisor)
{
    list_for_each(cursor, next, &supervisor->pool)
        sandbox_discard(container_of(cursor, struct sandbox, pool_link), NULL, NULL);
}

void pool_free(struct supervisor *supervisor)
{
    timer_free(&supervisor->pool_tick);
    list_for_each(cursor, next, &supervisor->pool_kinds)
        free(container_of(cursor, struct pool_kind, link));
    list_init(&supervisor->pool_kinds);
}

size_t pool_versions(const struct supervisor *supervisor, const char **ret_versions)
{
    size_t count = 0;
    list_for_each(cursor, next, &supervisor->pool_kinds)
    {
        if (count < POOL_KINDS_MAX)
            ret_versions[count++] =
                container_of(cursor, struct pool_kind, link)->environment_version;
    }
    return count;
}

static unsigned count_of(const struct supervisor *supervisor, const struct pool_kind *kind)
{
    unsigned count = 0;
    list_for_each(cursor, next, &supervisor->pool)
    {
        struct pool_kind other = kind_of(container_of(cursor, struct sandbox, pool_link));
        count += equal(&other, kind);
    }
    return count;
}

/* What they were made from may have been replaced. */
static void drop_outdated(struct supervisor *supervisor)
{
    list_for_each(cursor, next, &supervisor->pool)
    {
        struct sandbox *sandbox = container_of(cursor, struct sandbox, pool_link);
        struct driver *driver = sandbox->guest.driver;
        if (driver->operations->outdated && driver->operations->outdated(driver, &sandbox->guest))
            sandbox_discard(sandbox, NULL, NULL);
    }
}

static void drop_unwanted(struct supervisor *supervisor)
{
    list_for_each(cursor, next, &supervisor->pool)
    {
        struct sandbox *sandbox = container_of(cursor, struct sandbox, pool_link);
        struct pool_kind kind = kind_of(sandbox);
        bool wanted = false;
        list_for_each(place, following, &supervisor->pool_kinds)
        {
            wanted = wanted || equal(container_of(place, struct pool_kind, link), &kind);
        }
        if (!wanted)
            sandbox_discard(sandbox, NULL, NULL);
    }
}

/* Memory. What waits is counted as what it will have when it is taken, less what it has already:
 * that the host has no more. */

static uint64_t promised_mib(const struct supervisor *supervisor)
{
    uint64_t sum = 0;
    list_for_each(cursor, next, &supervisor->pool)
    {
        const struct sandbox *sandbox = container_of(cursor, struct sandbox, pool_link);
        if (!of_machines(sandbox->guest.driver))
            continue;
        uint64_t most = sandbox->mem_mib + QEMU_MIB;
        uint64_t has = memory_of_process_mib(sandbox->guest.process.pid);
        sum += most > has ? most - has : 0;
    }
    return sum;
}

static bool has_room(const struct supervisor *supervisor, const struct pool_kind *kind)
{
    uint64_t more = of_machines(kind->driver) ? kind->mem_mib + QEMU_MIB : 0;
    return memory_look().available_mib >=
           supervisor->config->pool_reserve_mib + promised_mib(supervisor) + more;
}

/* True where the pool has been given up for it. */
static bool give_way(struct supervisor *supervisor)
{
    struct memory_now now = memory_look();
    if (now.available_mib >= supervisor->config->pool_reserve_mib && now.pressure < PRESSURE_MAX)
        return false;
    unsigned count = 0;
    list_for_each(cursor, next, &supervisor->pool) count++;
    if (count)
        log_warning("pool_gives_way", "guests=%u available_mib=%llu pressure=%u%%", count,
                    (unsigned long long)now.available_mib, now.pressure);
    supervisor->totals.pool_evictions_total += count;
    pool_empty(supervisor);
    return true;
}

/* Making. */

/* A QEMU that comes up takes the processor from the machine that was just made. */
static bool is_time(const struct supervisor *supervisor, const struct pool_kind *kind)
{
    return !of_machines(kind->driver) ||
           clock_monotonic_us() - supervisor->pool_asked_at >= QUIET_US;
}

static void make(struct supervisor *supervisor, const struct pool_kind *kind)
{
    struct hearth_failure failure;
    struct sandbox *sandbox = sandbox_new(supervisor, kind->driver, &failure);
    if (!sandbox)
        return;
    snprintf(sandbox->tenant_id, sizeof sandbox->tenant_id, "%s", kind->tenant_id);
    snprintf(sandbox->environment_version, sizeof sandbox->environment_version, "%s",
             kind->environment_version);
    sandbox->vcpu_count = kind->vcpu_count;
    sandbox->mem_mib = kind->mem_mib;
    sandbox->disk_mib = kind->disk_mib;
    sandbox->background = of_machines(kind->driver);
    struct guest_spec spec;
    char hostname[64];
    sandbox_spec(sandbox, &spec, hostname);
    if (of_machines(kind->driver) && !kind->driver->operations->may_standby(kind->driver, &spec)) {
        sandbox_free(sandbox);
        return;
    }
    supervisor->pool_making++;
    sandbox_record(sandbox, intended, sandbox);
}

static void tick(void *arg);

/* While there is something to keep. */
static void tick_later(struct supervisor *supervisor)
{
    if (timer_pending(&supervisor->pool_tick) || supervisor->draining ||
        list_empty(&supervisor->pool_kinds))
        return;
    if (!supervisor->pool_tick.fn)
        timer_init(&supervisor->pool_tick, supervisor->loop, tick, supervisor);
    timer_set(&supervisor->pool_tick, clock_monotonic_us() + TICK_US);
}

static void tick(void *arg)
{
    struct supervisor *supervisor = arg;
    drop_outdated(supervisor);
    forget_unused(supervisor);
    drop_unwanted(supervisor);
    if (!give_way(supervisor))
        pool_refill(supervisor);
    tick_later(supervisor);
}

void pool_refill(struct supervisor *supervisor)
{
    if (supervisor->draining)
        return;
    drop_unwanted(supervisor); /* what has come up may be of a kind that is not kept any more */
    if (list_empty(&supervisor->pool_kinds))
        return;
    tick_later(supervisor);
    if (supervisor->pool_making || clock_monotonic_us() < supervisor->pool_retry_at)
        return;
    list_for_each(cursor, next, &supervisor->pool_kinds)
    {
        const struct pool_kind *kind = container_of(cursor, struct pool_kind, link);
        if (!supervisor->pool_making &&
            count_of(supervisor, kind) < most_of(supervisor, kind->driver) &&
            is_time(supervisor, kind) && has_room(supervisor, kind))
            make(supervisor, kind);
    }
}
