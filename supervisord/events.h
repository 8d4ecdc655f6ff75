/* Events: what has happened to a tenant's things, each told once it is so. They are numbered by
 * tenant from 1 without holes, written to the history database (a power cut may cost the last ones;
 * the numbers then jump, so that none stands for two), and kept for config.event_days, at most
 * config.event_entries of a tenant. Followers read at their own pace from the database and are only
 * woken: nothing is queued for a slow one. Loop thread. */
#pragma once

#include "supervisord/tenant.h"

/* A fact of an event: a text, or (text NULL) a number. Names are [a-z_]; the control characters of
 * a text become blanks. Only what a token with read rights may see. */
/* A text, a yes or no, else a number. */
struct event_fact {
    const char *name, *text;
    int64_t number;
    bool is_boolean; /* number is 0 or 1 */
};
#define EVENT_FACTS_MAX 16

/* kind is "THING.happened". workspace_id NULL: of none. facts NULL: none; all borrowed. */
void events_emit(struct tenant *tenant, const char *kind, const char *workspace_id,
                 const struct event_fact *facts, size_t fact_count);

/* The same as a part of a change of the history database that is committed anyway: the number goes
 * to events_written in its completion. */
struct change;
uint64_t events_add(struct change *change, struct tenant *tenant, const char *kind,
                    const char *workspace_id, const struct event_fact *facts, size_t fact_count);
void events_written(struct tenant *tenant, uint64_t sequence);

struct event_record {
    uint64_t sequence;
    int64_t at;
    const char *kind, *workspace_id; /* workspace_id may be NULL */
    struct event_fact facts[EVENT_FACTS_MAX];
    size_t fact_count;
};

struct event_filter {
    const char *const *kinds; /* "exec.ended", or "exec" for all of a thing; count 0: all */
    size_t kind_count;
    const char *workspace_id; /* NULL: all */
};

/* fn(arg) once all that has happened to the tenant until now is written, so that whoever was told
 * of it elsewhere reads it. Never before this returns. */
void events_when_written(struct tenant *tenant, void (*fn)(void *arg), void *arg);

struct event_reader {
    void (*on_event)(void *arg, const struct event_record *event);
    /* Events from first to last are gone: pruned, or lost with the host's power. */
    void (*on_gap)(void *arg, uint64_t first, uint64_t last);
    void *arg;
};

/* Reads on after *after, which moves past all that was looked at; at most a few hundred at a time.
 * Gives 1 where there may be more at once, 0 at the end, or a negative error. */
int events_read(struct tenant *tenant, const struct event_filter *filter, uint64_t *after,
                unsigned limit, const struct event_reader *reader, struct hearth_failure *failure);
/* The number of the newest event, which may still be on its way to the database: what follows from
 * there on is not told of what had happened before. */
uint64_t events_newest(const struct tenant *tenant);

/* wake(arg) at the end of a turn in which there were new events of the tenant. */
struct event_follower {
    void (*wake)(void *arg);
    void *arg;
    struct list link; // tenant::followers
};
void events_follow(struct event_follower *follower, struct tenant *tenant);
void events_unfollow(struct event_follower *follower);
