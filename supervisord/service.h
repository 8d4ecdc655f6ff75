/* Services of a workspace: commands with a name, that outlive whoever started them and the daemon.
 * What is told of one is what its guest's agent said last; it learns of every change at once. Rows
 * are durable before they are told. Loop thread; completions exactly once, never before the call
 * returns. */
#pragma once

#include "base/id.h"
#include "supervisord/workspace.h"

#define SERVICES_MAX 64 /* of a workspace, known; the oldest that does not run gives way */
#define SERVICE_PORTS_MAX 16
#define SERVICE_LOG_BYTES ((uint64_t)256 << 10) /* kept of each stream: its newest part */

struct port_pair {
    uint16_t guest_port, host_port; /* host_port 0, in a spec: any */
};

struct service_spec {
    const char *name, *command;
    const char *cwd;                /* NULL: /workspace */
    const char *readiness, *target; /* "file", "tcp", "http", "command"; "none" and NULL */
    uint32_t ready_timeout_ms, ready_interval_ms;
    bool restart_on_failure;
    const struct secret_variable *secrets;
    size_t secret_count;
    const struct port_pair *ports;
    size_t port_count; /* at most SERVICE_PORTS_MAX */
    const char *request_id;
};

/* What is known of a service now. Pointers are borrowed for the call they are given to. */
struct service_status {
    const char *workspace_id, *name, *command, *cwd, *execution_mode;
    const char *readiness, *target, *restart;
    const char *state; /* "running", "exited", "stopped", "failed" */
    const char *stop_reason;
    int64_t started_at, ready_at, ended_at; /* 0: not */
    bool has_exit;
    int exit_code;
    uint32_t pid, restarts;        /* pid 0: none; it is the guest's number */
    const struct port_pair *ports; /* that are open for it */
    size_t port_count;
};

typedef void (*service_done)(void *arg, int error, const struct hearth_failure *failure,
                             const struct service_status *status);

/* Starts; done comes when it is ready, has ended or is late (state "failed", no error). A name that
 * runs is HEARTH_ECONFLICT `service_running`; what it is to be ready by and makes no sense
 * HEARTH_EINVALID `bad_readiness`; a port of the host that is not free HEARTH_ECONFLICT
 * `port_taken`; ports where the network policy has none HEARTH_EINVALID `ports_not_allowed`. */
void service_start(struct workspace *workspace, const struct principal *principal,
                   const struct service_spec *spec, service_done done, void *arg);
/* Ends its whole process group; done when it is gone. One that does not run is told as it is. */
void service_stop(struct workspace *workspace, const struct principal *principal, const char *name,
                  const char *request_id, service_done done, void *arg);

/* HEARTH_ENOTFOUND `service_not_found`. */
int service_status(struct workspace *workspace, const char *name, struct service_status *ret_status,
                   struct hearth_failure *failure);
/* By name. */
void service_each(struct workspace *workspace,
                  void (*visit)(void *arg, const struct service_status *status), void *arg);

/* How far a service's logs were read: of which start of it, and so many bytes of each stream. */
struct service_log_place {
    char instance[ID_SIZE]; /* "": nothing was read yet */
    uint64_t output, errors;
};

/* What a service has printed, past a place. Data is borrowed for the call; raw bytes. */
struct service_logs {
    struct service_status status;
    struct service_log {
        const char *data;
        size_t length;
        uint64_t missed; /* bytes between the place and data that are not kept any more */
    } output, errors;
    bool started_since;            /* the place was of an earlier start, whose rest is gone */
    struct service_log_place next; /* ask from here next */
};
typedef void (*service_logs_done)(void *arg, int error, const struct hearth_failure *failure,
                                  const struct service_logs *logs);
/* Waits up to wait_ms for something past from, or the service's end. What was printed since it was
 * started is told from its beginning where from is of an earlier start. Where its guest does not
 * run any more there is what was kept when it was stopped. */
void service_logs(struct workspace *workspace, const char *name,
                  const struct service_log_place *from, unsigned wait_ms, service_logs_done done,
                  void *arg);

/* Before the guest is stopped: ends its services, in an orderly way, and stores what they have
 * printed. done comes once, at once or later, at the latest after some seconds; what could not be
 * had is logged and left out. */
void services_end(struct workspace *workspace, void (*done)(void *arg), void *arg);
