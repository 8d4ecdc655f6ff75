/* What service.c, service_watch.c and service_logs.c share. */
#pragma once

#include "agent.pb-c.h"
#include "supervisord/service.h"
#include "supervisord/supervisor_internal.h"

struct service {
    struct list link; // services::list, oldest start first
    struct workspace *workspace;
    char name[65], instance[ID_SIZE];
    char *command, *cwd, *target;
    const char *readiness, *restart, *execution_mode, *state; /* literals */
    char stop_reason[48];
    int64_t started_at, ready_at, ended_at;
    bool has_exit, starting; /* its start is not with the agent yet */
    int exit_code;
    uint32_t pid, restarts;
    uint64_t revision;           /* of the agent, of what was taken in last */
    struct published *published; /* NULL: no ports are open for it */
};

/* A workspace's services, made with the first. */
struct services {
    struct workspace *workspace;
    struct list list; // service::link
    unsigned count;
    struct agent_call *watch;
    struct timer again;
    int64_t asked_us;
    uint64_t revision; /* what is known up to */
};

struct services *services_of(struct workspace *workspace); /* makes them */
struct service *service_find(struct workspace *workspace, const char *name);
/* After a wait, in which workspace, service or start may have become others; instance NULL: of
 * whichever start. NULL where there is none any more. */
struct service *service_find_again(struct supervisor *supervisor, const char *workspace_id,
                                   const char *name, const char *instance);
/* Runs, or is to run again in a while. */
bool service_active(const struct service *service);
void service_describe(const struct service *service, struct service_status *ret_status);
struct service *service_new(struct services *services, const char *name, const char *command,
                            const char *cwd, const char *target);
void service_free(struct service *service);
void service_put(const struct service *service, struct change *change);
int service_not_found(struct hearth_failure *failure);

/* service_watch.c: takes in what the agent says; false where it is of another start or old. */
bool service_take(struct service *service, const Hearth__Agent__V1__ServiceState *state);
/* The literal of a state that a guest or a row names; "failed" for any other text. */
const char *service_state_named(const char *text);
void service_settle(struct service *service, const char *state, const char *reason);
void services_watch(struct services *services);
