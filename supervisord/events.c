#include "supervisord/events.h"

#include "base/clock.h"
#include "base/log.h"
#include "supervisord/supervisor_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FACTS_SIZE 2048
#define SCAN_MAX 512u                /* rows looked at in one read */
#define PRUNE_EVERY 64               /* events of a tenant between two prunings */
#define REBOOT_JUMP UINT64_C(100000) /* more than the events that a power cut can cost */
#define DAY_US (INT64_C(24) * 3600 * US_PER_S)

/* Writing. */

/* Lines `name=text`, `name?0` or `name?1`, or `name#number`. What does not fit is left out whole.
 */
static void pack(char out[FACTS_SIZE], const struct event_fact *facts, size_t count)
{
    size_t used = 0;
    *out = '\0';
    for (size_t i = 0; i < count && i < EVENT_FACTS_MAX; i++) {
        size_t room = FACTS_SIZE - used;
        int length = facts[i].text
                         ? snprintf(out + used, room, "%s=%s\n", facts[i].name, facts[i].text)
                         : snprintf(out + used, room, "%s%c%" PRId64 "\n", facts[i].name,
                                    facts[i].is_boolean ? '?' : '#', facts[i].number);
        if (length < 0 || (size_t)length >= room) {
            out[used] = '\0';
            return;
        }
        for (char *at = out + used; at < out + used + length - 1; at++)
            if ((unsigned char)*at < ' ')
                *at = ' ';
        used += (size_t)length;
    }
}

static void prune(struct change *change, const struct tenant *tenant)
{
    const struct config *config = tenant->supervisor->config;
    uint64_t newest = tenant->event_sequence, keep = config->event_entries;
    change_prune_events(change, tenant->tenant_id, newest > keep ? newest - keep : 0,
                        clock_wall_us() - config->event_days * DAY_US);
}

uint64_t events_add(struct change *change, struct tenant *tenant, const char *kind,
                    const char *workspace_id, const struct event_fact *facts, size_t fact_count)
{
    char text[FACTS_SIZE];
    pack(text, facts, fact_count);
    struct row_event row = {
        .sequence = ++tenant->event_sequence,
        .at = clock_wall_us(),
        .tenant_id = tenant->tenant_id,
        .kind = kind,
        .workspace_id = workspace_id,
        .facts = text,
    };
    change_add_event(change, &row);
    if (row.sequence % PRUNE_EVERY == 0)
        prune(change, tenant);
    return row.sequence;
}

static void wake_all(void *arg)
{
    struct tenant *tenant = arg;
    tenant->waking = false;
    list_for_each(cursor, next, &tenant->followers)
    {
        struct event_follower *follower = container_of(cursor, struct event_follower, link);
        follower->wake(follower->arg);
    }
}

void events_written(struct tenant *tenant, uint64_t sequence)
{
    tenant->event_written = sequence;
    if (tenant->waking || list_empty(&tenant->followers))
        return;
    tenant->waking = true;
    loop_defer(tenant->supervisor->loop, wake_all, tenant);
}

struct emission {
    struct tenant *tenant;
    uint64_t sequence;
};

static void emitted(void *arg, int error, const struct hearth_failure *failure)
{
    auto_free struct emission *emission = arg;
    if (error)
        log_warning("event_not_written", "tenant=%s detail=\"%s\"", emission->tenant->tenant_id,
                    failure->detail);
    else
        events_written(emission->tenant, emission->sequence);
}

void events_emit(struct tenant *tenant, const char *kind, const char *workspace_id,
                 const struct event_fact *facts, size_t fact_count)
{
    struct emission *emission = malloc(sizeof *emission);
    struct change *change = change_new();
    if (!emission)
        abort();
    emission->tenant = tenant;
    emission->sequence = events_add(change, tenant, kind, workspace_id, facts, fact_count);
    change_commit(change, tenant->supervisor->history, emitted, emission);
}

/* Start-up, and once a day. */

static int load_last(void *arg, const struct row_event *row)
{
    struct tenant *tenant = arg;
    tenant->event_sequence = tenant->event_written = row->sequence;
    return 0;
}

static void prune_all(void *arg)
{
    struct supervisor *supervisor = arg;
    struct change *change = change_new();
    list_for_each(cursor, next, &supervisor->tenants)
        prune(change, container_of(cursor, struct tenant, link));
    change_commit(change, supervisor->history, NULL, NULL);
    timer_set(&supervisor->event_prune, clock_monotonic_us() + DAY_US);
}

int events_load(struct supervisor *supervisor, bool rebooted, struct hearth_failure *failure)
{
    int error = 0;
    list_for_each(cursor, next, &supervisor->tenants)
    {
        struct tenant *tenant = container_of(cursor, struct tenant, link);
        if (!error)
            error = rows_last_event(supervisor->history_reader, tenant->tenant_id, load_last,
                                    tenant, failure);
        if (rebooted && tenant->event_sequence)
            tenant->event_sequence += REBOOT_JUMP;
    }
    timer_init(&supervisor->event_prune, supervisor->loop, prune_all, supervisor);
    prune_all(supervisor);
    return error;
}

/* Reading. */

static bool kind_fits(const char *kind, const struct event_filter *filter)
{
    for (size_t i = 0; i < filter->kind_count; i++) {
        size_t length = strlen(filter->kinds[i]);
        if (strncmp(kind, filter->kinds[i], length) == 0 && (!kind[length] || kind[length] == '.'))
            return true;
    }
    return !filter->kind_count;
}

static bool fits(const struct row_event *row, const struct event_filter *filter)
{
    return kind_fits(row->kind, filter) &&
           (!filter->workspace_id ||
            (row->workspace_id && strcmp(row->workspace_id, filter->workspace_id) == 0));
}

/* Cuts text up in place. */
static void unpack(char *text, struct event_record *event)
{
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) && event->fact_count < EVENT_FACTS_MAX;) {
        size_t length = strcspn(line, "=?#");
        if (!line[length])
            continue;
        struct event_fact *fact = &event->facts[event->fact_count++];
        fact->name = line;
        if (line[length] == '=')
            fact->text = line + length + 1;
        else
            fact->number = strtoll(line + length + 1, NULL, 10);
        fact->is_boolean = line[length] == '?';
        line[length] = '\0';
    }
}

struct scan {
    const struct event_filter *filter;
    const struct event_reader *reader;
    uint64_t after;
    unsigned looked_at, told, limit;
};

enum { SCAN_FULL = HEARTH_ECANCELLED };

static int visit(void *arg, const struct row_event *row)
{
    struct scan *scan = arg;
    if (scan->told == scan->limit)
        return SCAN_FULL;
    if (row->sequence > scan->after + 1)
        scan->reader->on_gap(scan->reader->arg, scan->after + 1, row->sequence - 1);
    scan->after = row->sequence;
    scan->looked_at++;
    if (!fits(row, scan->filter))
        return 0;
    char text[FACTS_SIZE];
    snprintf(text, sizeof text, "%s", row->facts);
    struct event_record event = {.sequence = row->sequence,
                                 .at = row->at,
                                 .kind = row->kind,
                                 .workspace_id = row->workspace_id};
    unpack(text, &event);
    scan->told++;
    scan->reader->on_event(scan->reader->arg, &event);
    return 0;
}

int events_read(struct tenant *tenant, const struct event_filter *filter, uint64_t *after,
                unsigned limit, const struct event_reader *reader, struct hearth_failure *failure)
{
    struct scan scan = {.filter = filter, .reader = reader, .after = *after, .limit = limit};
    if (*after > tenant->event_sequence) { /* of another life of this tenant's history */
        reader->on_gap(reader->arg, tenant->event_written + 1, *after);
        *after = tenant->event_written;
        return 1;
    }
    if (*after >= tenant->event_written)
        return 0;
    int error = rows_page_events(tenant->supervisor->history_reader, tenant->tenant_id, *after,
                                 SCAN_MAX, visit, &scan, failure);
    /* Pruned to the last one. */
    if (!error && !scan.looked_at) {
        reader->on_gap(reader->arg, scan.after + 1, tenant->event_written);
        scan.after = tenant->event_written;
    }
    *after = scan.after;
    if (error && error != SCAN_FULL)
        return error;
    return *after < tenant->event_written;
}

void events_when_written(struct tenant *tenant, void (*fn)(void *arg), void *arg)
{
    if (tenant->event_written < tenant->event_sequence)
        supervisor_when_written(tenant->supervisor, fn, arg);
    else
        loop_defer(tenant->supervisor->loop, fn, arg);
}

uint64_t events_newest(const struct tenant *tenant)
{
    return tenant->event_sequence;
}

void events_follow(struct event_follower *follower, struct tenant *tenant)
{
    list_init(&follower->link);
    list_append(&tenant->followers, &follower->link);
}

void events_unfollow(struct event_follower *follower)
{
    list_remove(&follower->link);
}
