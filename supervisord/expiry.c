/* Expiry: a workspace that is idle for its ttl is stopped, and deleted when its tenant's retention
 * has passed too; a one-shot machine is deleted at once. How long something has been idle is
 * counted by the clock that only goes on (CLOCK_BOOTTIME, which counts sleep too); the wall clock
 * serves over restarts alone. Where it is set by a step, the times of past activity move with it,
 * in memory and in the database, so that what was idle for an hour is still idle for an hour.
 *
 * One timer stands for all: a heap knows who is next. Activity only moves a deadline later, so it
 * is looked at when the old one comes. */
#include "base/clock.h"
#include "base/log.h"
#include "supervisord/supervisor_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define AT_ONCE_MAX 8u /* expiries under way: a long absence ends many */
#define BUSY_RETRY_US (5 * US_PER_S)
#define STEP_US (2 * US_PER_S) /* the wall clock may be slewed by less */

/* The heap: workspace::expiry_at ascending; a workspace knows its place, counted from 1. */

static void put(struct supervisor *supervisor, size_t place, struct workspace *workspace)
{
    supervisor->expiries[place - 1] = workspace;
    workspace->expiry_place = place;
}

static void sift(struct supervisor *supervisor, struct workspace *workspace, size_t place)
{
    size_t count = supervisor->expiry_count;
    while (place > 1 && supervisor->expiries[place / 2 - 1]->expiry_at > workspace->expiry_at) {
        put(supervisor, place, supervisor->expiries[place / 2 - 1]);
        place /= 2;
    }
    for (size_t child; (child = 2 * place) <= count; place = child) {
        if (child < count &&
            supervisor->expiries[child]->expiry_at < supervisor->expiries[child - 1]->expiry_at)
            child++;
        if (supervisor->expiries[child - 1]->expiry_at >= workspace->expiry_at)
            break;
        put(supervisor, place, supervisor->expiries[child - 1]);
    }
    put(supervisor, place, workspace);
}

static void set_timer(struct supervisor *supervisor)
{
    int64_t at = supervisor->expiry_count ? supervisor->expiries[0]->expiry_at : CLOCK_NEVER;
    if (!supervisor->expiry_started || supervisor->draining || supervisor->expiring >= AT_ONCE_MAX)
        at = CLOCK_NEVER;
    else if (at < 1)
        at = 1; /* zero would unset it */
    if (at == supervisor->expiry_armed)
        return;
    supervisor->expiry_armed = at;
    struct itimerspec when = {0};
    if (at != CLOCK_NEVER)
        when.it_value = (struct timespec){.tv_sec = at / US_PER_S, .tv_nsec = at % US_PER_S * 1000};
    timerfd_settime(supervisor->expiry_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void place_at(struct workspace *workspace, int64_t at)
{
    struct supervisor *supervisor = workspace->supervisor;
    if (!workspace->expiry_place) {
        if (supervisor->expiry_count == supervisor->expiry_size) {
            size_t size = supervisor->expiry_size ? 2 * supervisor->expiry_size : 64;
            struct workspace **grown = realloc(supervisor->expiries, size * sizeof *grown);
            if (!grown)
                abort(); /* a workspace that never expires would not be noticed */
            supervisor->expiries = grown;
            supervisor->expiry_size = size;
        }
        workspace->expiry_place = ++supervisor->expiry_count;
    }
    workspace->expiry_at = at;
    sift(supervisor, workspace, workspace->expiry_place);
    set_timer(supervisor);
}

void expiry_remove(struct workspace *workspace)
{
    struct supervisor *supervisor = workspace->supervisor;
    size_t place = workspace->expiry_place;
    if (!place)
        return;
    struct workspace *last = supervisor->expiries[--supervisor->expiry_count];
    workspace->expiry_place = 0;
    if (last != workspace)
        sift(supervisor, last, place);
}

/* Deadlines. */

/* That runs, or is saved: expiry stops it first, and deletes its workspace later. */
static bool has_guest(const struct workspace *workspace)
{
    return workspace->state == WORKSPACE_STARTED || workspace->state == WORKSPACE_SUSPENDED;
}

int64_t expiry_deadline(const struct workspace *workspace)
{
    if (workspace->state == WORKSPACE_CREATING || workspace->state == WORKSPACE_DELETING)
        return CLOCK_NEVER;
    int64_t idle = workspace->ttl_us;
    if (!has_guest(workspace) && !workspace->one_shot)
        idle += workspace->tenant->retention_us;
    return workspace->idle_since_us + idle;
}

void expiry_update(struct workspace *workspace)
{
    place_at(workspace, expiry_deadline(workspace));
}

void expiry_exec_ended(struct workspace *workspace)
{
    workspace->idle_since_us = clock_boot_us();
    if (workspace->expiry_at == CLOCK_NEVER && !workspace->steps)
        expiry_update(workspace);
}

void workspace_activity_begin(struct workspace *workspace)
{
    workspace->activities++;
}

void workspace_activity_end(struct supervisor *supervisor, const char *workspace_id)
{
    struct workspace *workspace = supervisor_workspace(supervisor, workspace_id);
    if (!workspace || --workspace->activities > 0 || workspace->expiry_at != CLOCK_NEVER)
        return;
    workspace_touch(workspace); /* its time came meanwhile: it begins again */
    expiry_exec_ended(workspace);
}

/* What comes due. */

struct expiring {
    struct supervisor *supervisor;
    char workspace_id[ID_SIZE];
};

static void expired(void *arg, int error, const struct hearth_failure *failure,
                    struct workspace *workspace)
{
    auto_free struct expiring *expiring = arg;
    struct supervisor *supervisor = expiring->supervisor;
    struct workspace *left = supervisor_workspace(supervisor, expiring->workspace_id);
    if (error)
        log_warning("expiry_failed", "workspace=%s detail=\"%s\"", expiring->workspace_id,
                    failure->detail);
    (void)workspace;
    supervisor->expiring--;
    if (left) {
        int64_t at = expiry_deadline(left), again = clock_boot_us() + BUSY_RETRY_US;
        place_at(left, at < again && error ? again : at);
    }
    set_timer(supervisor);
}

/* An orderly stop writes out what a suspended guest has in its memory alone. */
static void woken(void *arg)
{
    struct expiring *expiring = arg;
    struct supervisor *supervisor = expiring->supervisor;
    struct workspace *workspace = supervisor_workspace(supervisor, expiring->workspace_id);
    if (!workspace) {
        expired(expiring, 0, NULL, NULL);
        return;
    }
    struct principal principal = {.tenant = workspace->tenant, .token_id = EXPIRY_TOKEN};
    workspace_stop(workspace, &principal, NULL, expired, expiring);
}

static void expire(struct workspace *workspace)
{
    struct supervisor *supervisor = workspace->supervisor;
    struct principal principal = {.tenant = workspace->tenant, .token_id = EXPIRY_TOKEN};
    struct expiring *expiring = malloc(sizeof *expiring);
    if (!expiring)
        abort();
    expiring->supervisor = supervisor;
    memcpy(expiring->workspace_id, workspace->workspace_id, sizeof expiring->workspace_id);
    supervisor->expiring++;
    place_at(workspace, CLOCK_NEVER);
    bool stop = has_guest(workspace) && !workspace->one_shot;
    log_info("workspace_expired", "workspace=%s tenant=%s to=%s", workspace->workspace_id,
             workspace->tenant->tenant_id, stop ? "stop" : "delete");
    if (stop && workspace_wake(workspace, true, woken, expiring))
        return;
    if (stop)
        workspace_stop(workspace, &principal, NULL, expired, expiring);
    else
        workspace_delete(workspace, &principal, NULL, expired, expiring);
}

static void look_at(struct workspace *workspace, int64_t now)
{
    int64_t due = expiry_deadline(workspace);
    if (due > now)
        place_at(workspace, due);
    else if (workspace->steps)
        place_at(workspace, now + BUSY_RETRY_US);
    else if (!workspace->one_shot && (exec_any_runs(workspace) || workspace->activities))
        place_at(workspace, CLOCK_NEVER); /* it is not idle: expiry_exec_ended comes back to it */
    else
        expire(workspace);
}

static void on_timer(void *arg)
{
    struct supervisor *supervisor = arg;
    uint64_t count;
    ssize_t got = read(supervisor->expiry_fd, &count, sizeof count);
    (void)got;
    supervisor->expiry_armed = CLOCK_NEVER;
    expiry_check_clock(supervisor);
    int64_t now = clock_boot_us();
    while (supervisor->expiry_count && supervisor->expiries[0]->expiry_at <= now &&
           supervisor->expiring < AT_ONCE_MAX && !supervisor->draining)
        look_at(supervisor->expiries[0], now);
    set_timer(supervisor);
}

/* The wall clock. */

static void keep_clock(struct supervisor *supervisor, int64_t step_us)
{
    struct row_clock row = {.boot_id = supervisor->boot_id, .offset_us = supervisor->clock_offset};
    struct change *change = change_new();
    if (step_us)
        change_shift_activity(change, step_us);
    change_put_clock(change, &row);
    change_commit(change, supervisor->writer, NULL, NULL);
}

void expiry_check_clock(struct supervisor *supervisor)
{
    int64_t offset = clock_wall_us() - clock_boot_us(), step = offset - supervisor->clock_offset;
    if (step < STEP_US && step > -STEP_US)
        return;
    log_warning("clock_set", "seconds=%lld", (long long)(step / US_PER_S));
    supervisor->clock_offset = offset;
    for (size_t i = 0; i < supervisor->workspaces.bucket_count; i++)
        for (struct map_entry *entry = supervisor->workspaces.buckets[i]; entry;
             entry = entry->next)
            container_of(entry, struct workspace, entry)->last_activity_at += step;
    keep_clock(supervisor, step);
}

static int visit_clock(void *arg, const struct row_clock *row)
{
    struct supervisor *supervisor = arg;
    /* Of another boot its offset says nothing. */
    if (strcmp(row->boot_id, supervisor->boot_id) == 0)
        supervisor->clock_offset = row->offset_us;
    return 0;
}

int expiry_load(struct supervisor *supervisor, struct hearth_failure *failure)
{
    int64_t offset = clock_wall_us() - clock_boot_us();
    supervisor->clock_offset = offset;
    int error = rows_find_clock(supervisor->state_reader, visit_clock, supervisor, failure);
    if (error)
        return error;
    supervisor->expiry_armed = CLOCK_NEVER;
    supervisor->expiry_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (supervisor->expiry_fd < 0 || watch_init(&supervisor->expiry_watch, supervisor->loop,
                                                supervisor->expiry_fd, on_timer, supervisor))
        return hearth_fail_errno(failure, errno, NULL, "cannot make a timer");
    return 0;
}

void expiry_start(struct supervisor *supervisor)
{
    int64_t boot = clock_boot_us();
    expiry_check_clock(supervisor); /* set while the daemon was away: the rows are moved first */
    keep_clock(supervisor, 0);
    int64_t wall = clock_wall_us();
    for (size_t i = 0; i < supervisor->workspaces.bucket_count; i++)
        for (struct map_entry *entry = supervisor->workspaces.buckets[i]; entry;
             entry = entry->next) {
            struct workspace *workspace = container_of(entry, struct workspace, entry);
            int64_t idle = wall - workspace->last_activity_at;
            workspace->idle_since_us = boot - (idle > 0 ? idle : 0);
            expiry_update(workspace);
        }
    supervisor->expiry_started = true;
    set_timer(supervisor);
}

void expiry_free(struct supervisor *supervisor)
{
    watch_free(&supervisor->expiry_watch);
    if (supervisor->expiry_fd >= 0)
        close(supervisor->expiry_fd);
    free(supervisor->expiries);
}
