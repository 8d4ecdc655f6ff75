/* Services of a guest: what service.c (their lives), service_probe.c (whether they are ready) and
 * service_calls.c (what is asked about them) share. */
#pragma once

#include "guestagent/agent/agent.h"
#include "guestagent/agent/ring.h"

#include <event2/event.h>
#include <sys/socket.h>
#include <sys/types.h>

#define SERVICES_MAX 64
#define SERVICE_VARIABLE "HEARTH_SERVICE" /* has the instance, in all that a service starts */

enum service_phase {
    SERVICE_RUNNING,
    SERVICE_EXITED,
    SERVICE_STOPPED,
    SERVICE_FAILED,
};

struct service_output {
    struct service *service;
    struct ring ring;             /* what may be shown */
    struct redact_stream *redact; /* NULL: nothing is to be redacted */
    int fd;                       /* -1 once ended or given up */
    struct event *event;
};

enum probe_kind { PROBE_NONE, PROBE_FILE, PROBE_TCP, PROBE_HTTP, PROBE_COMMAND };

/* One look after the other, until one says yes. */
struct probe {
    enum probe_kind kind;
    char *target; /* path, whole HTTP request, or shell command */
    struct sockaddr_storage address;
    int address_length;
    uint32_t timeout_ms, interval_ms;
    struct event *timer, *socket_event;
    int fd; /* -1: no connection under way */
    size_t received;
    char head[16]; /* of the answer */
    pid_t pid;     /* of a command under way, 0: none */
};

struct service {
    struct agent *agent;
    struct list link; // agent::services, oldest start first
    char name[65], instance[64];
    Hearth__Agent__V1__ServiceStartRequest *request;          /* as it was sent: for restarts */
    Hearth__Agent__V1__EnvironmentVariable mark, **variables; /* with it at the end */
    enum service_phase phase;
    const char *reason; /* a literal */
    bool ready, has_exit, late;
    bool strays_end;      /* it has ended, and what it has left was asked to */
    const char *stopping; /* why: a literal; NULL: it is not to end */
    int exit_code;
    pid_t pid;   /* 0: it does not run */
    pid_t group; /* of what runs of it, 0: nothing that is known of */
    unsigned restarts, failures;
    int64_t first_us, started_us, ready_us, ended_us;
    int64_t killed_us; /* since when the end of what was killed is awaited */
    uint64_t revision;
    struct service_output out, err;
    struct probe probe;
    struct event *deadline, *killer, *drainer, *restart;
};

struct service *service_find(struct agent *agent, const char *name);
/* Starts a checked request; takes it. NULL without memory. */
struct service *service_start(struct agent *agent, Hearth__Agent__V1__ServiceStartRequest *request);
/* reason: a literal, what its end is told with. */
void service_stop(struct service *service, uint32_t grace_ms, const char *reason);
/* It is as its probe wanted it. */
void service_is_ready(struct service *service);
/* Waits for no start, restart or end any more. */
bool service_settled(const struct service *service);
/* … and all that it has printed is there. */
bool service_silent(const struct service *service);

/* service_strays.c */
/* To all that it has started and that is not its first process; 0: to none. Gives how many there
 * are. */
size_t service_signal_strays(const struct service *service, int number);

/* service_probe.c */
/* Takes what is to be looked at from the request; false where it makes no sense. */
bool probe_parse(struct probe *probe, const Hearth__Agent__V1__ServiceStartRequest *request);
void probe_begin(struct service *service);
void probe_end(struct service *service);
/* The command of a probe has ended. */
void probe_exited(struct service *service, int status);

/* service_calls.c */
/* Something about it has changed: for those who watch or wait. */
void service_changed(struct service *service);
void service_logged(struct service *service);
void service_fell_silent(struct service *service);
/* Nobody may wait for it any more. */
void service_forgotten(struct service *service);
