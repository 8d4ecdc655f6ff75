/* What the agent's files share. One thread, one event loop. The guest's own processes are not
 * trusted more than the host is: everything is bounded. */
#pragma once

#include "agent.pb-c.h"
#include "base/buf.h"
#include "base/id.h"
#include "base/list.h"
#include "base/map.h"
#include "guestagent/agent/spawn_command.h"
#include "guestagent/link.h"

#include <stdbool.h>

struct event;
struct event_base;
struct agent;
struct exec;
struct jobs;
struct scan_memory;
struct secrets;
struct redact_stream;

#define AGENT_UMASK 022

#define AGENT_EXECS_MAX 2048                 /* that run; fewer where descriptors are short */
#define AGENT_FINISHED_MAX 1024              /* the oldest finished give way */
#define AGENT_RING_MEMORY ((size_t)64 << 20) /* of finished execs together */

#define AGENT_DIALS_MAX 1024 /* connections to ports of the guest, at one time */

#define AGENT_SHELLS_MAX 64
#define AGENT_SHELLS_FINISHED_MAX 16            /* the oldest give way */
#define AGENT_SHELL_SIZE_MAX 1000               /* columns or rows */
#define AGENT_SHELL_INPUT_MAX ((size_t)1 << 20) /* that waits to be read, of one */

struct agent_options {
    const char *workspace; /* "/workspace" */
    int listen_fd;         /* -1: none */
    int connected_fd;      /* -1: none */
    int serial_fd;         /* a virtio-serial port; -1: none */
    bool pid1, no_new_privs, seccomp;
    bool machine;        /* the first process of a virtual machine */
    bool no_disk, warm;  /* a machine's: it has none; it is to be saved */
    bool greet;          /* a machine's: it tells its host over vsock that it listens */
    const char *network; /* a machine's: as machine_network takes it; NULL: it has none */
};

/* A call that something else than its handler answers, until then or until it is gone. */
struct awaited {
    struct list link;       // agent::awaited
    struct link_call *call; /* NULL: none, or it is gone */
};

enum stop_phase { STOP_NONE, STOP_ASKED, STOP_KILLED, STOP_DONE };

struct agent {
    struct event_base *base;
    struct agent_options options;
    struct jobs *jobs;
    int root_fd; /* the workspace */
    char boot_id[40];
    int64_t started_us;
    bool power_off;
    struct serial *serial; /* NULL: none */
    unsigned execs_max;    /* that run at one time */
    struct child_limits child_limits;
    struct list links;
    struct list awaited; // awaited::link
    struct {
        enum stop_phase phase;
        struct awaited awaited; /* the call that asked */
        struct event *timer;
        int64_t done_us; /* since when nothing runs any more */
    } stop;
    struct map execs;
    struct list running, finished; // exec::link; finished oldest first
    unsigned running_count, finished_count;
    size_t finished_memory;
    struct {
        struct map by_id;
        struct list running, finished; // shell::link; finished oldest first
        struct list killings;          // killing::link, while they wait
        unsigned running_count, finished_count;
    } shells;
    struct list services; // service::link
    unsigned service_count;
    uint64_t service_revision;       /* rises with each change of one */
    struct list service_watchers;    // service_calls.c's
    unsigned dial_count;             /* port.c's */
    struct secrets *secrets;         /* secrets.c's; NULL: none */
    struct scan_memory *scan_memory; /* tree_scan.c's; NULL before the first scan */
};

/* server.c */
/* Makes what every call needs; agent_end frees it, with all that runs. base, options and root_fd
 * are the caller's. 0 or a negative errno. */
int agent_begin(struct agent *agent);
void agent_end(struct agent *agent);
/* From begin to end, with signals and the listener. */
int agent_serve(struct agent *agent);
/* Takes fd. closed (may be NULL) is called once, when its link is gone or could not be made. */
void agent_adopt_stream(struct agent *agent, int fd, void (*closed)(void *arg), void *arg);
/* Ends a call with a status and a short reason. */
void call_refuse(struct link_call *call, enum link_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The status that an errno is told as; the reason names what was done. */
enum link_status call_status_of(int errno_value);
/* What is said of it to a person. */
const char *call_refusal_text(int errno_value);
void call_refuse_errno(struct link_call *call, int errno_value, const char *what);
void awaited_add(struct agent *agent, struct awaited *awaited, struct link_call *call);
/* The call that may be answered now, or NULL where it is gone. */
struct link_call *awaited_take(struct awaited *awaited);

/* stop.c: begins the end; call (may be NULL) is answered when nothing runs any more. Once. */
void stop_begin(struct agent *agent, struct link_call *call);
/* A child was reaped, or the end of a command has been told. */
void stop_child_ended(struct agent *agent);
void stop_free(struct agent *agent);

/* configure.c */
void configure_handle(struct agent *agent, struct link_call *call,
                      const Hearth__Agent__V1__ConfigureRequest *request);
/* Writes names that are nobody's, so that in a clone of this machine their files are there and in
 * memory. */
void configure_rehearse(void);

/* exec.c: unary handlers get the unpacked request (borrowed) and answer now or later. */
void exec_handle_start(struct agent *agent, struct link_call *call,
                       const Hearth__Agent__V1__ExecStartRequest *request);
void exec_handle_read(struct agent *agent, struct link_call *call,
                      const Hearth__Agent__V1__ExecReadRequest *request);
void exec_handle_input(struct agent *agent, struct link_call *call,
                       const Hearth__Agent__V1__ExecInputRequest *request);
void exec_handle_cancel(struct agent *agent, struct link_call *call,
                        const Hearth__Agent__V1__ExecCancelRequest *request);
void exec_handle_list(struct agent *agent, struct link_call *call);
void exec_handle_forget(struct agent *agent, struct link_call *call,
                        const Hearth__Agent__V1__ExecForgetRequest *request);
/* The call ended before it was answered: drops what waits for it. */
void exec_call_gone(struct agent *agent, struct link_call *call);
/* Some child has ended: reaps all that have, PID 1's orphans too. */
void exec_reap(struct agent *agent);
/* Forgets all of them; what runs goes on. */
void exec_free_all(struct agent *agent);
/* To the process group of each that runs. */
void exec_signal_all(struct agent *agent, int signal);

/* shell.c, shell_answer.c */
void shell_begin(struct agent *agent);
void shell_free_all(struct agent *agent); /* forgets them; what runs goes on */
void shell_handle_open(struct agent *agent, struct link_call *call,
                       const Hearth__Agent__V1__ShellOpenRequest *request);
void shell_handle_read(struct agent *agent, struct link_call *call,
                       const Hearth__Agent__V1__ShellReadRequest *request);
void shell_handle_input(struct agent *agent, struct link_call *call,
                        const Hearth__Agent__V1__ShellInputRequest *request);
void shell_handle_signal(struct agent *agent, struct link_call *call,
                         const Hearth__Agent__V1__ShellSignalRequest *request);
void shell_handle_resize(struct agent *agent, struct link_call *call,
                         const Hearth__Agent__V1__ShellResizeRequest *request);
void shell_handle_close(struct agent *agent, struct link_call *call,
                        const Hearth__Agent__V1__ShellCloseRequest *request);
void shell_handle_list(struct agent *agent, struct link_call *call);
void shell_call_gone(struct agent *agent, struct link_call *call);
/* A child that is no exec's has ended. */
void shell_child_ended(struct agent *agent, pid_t pid, int status);
/* All of them: HUP to their groups, or with SIGKILL the end of their sessions. */
void shell_hang_up_all(struct agent *agent, int signal);
/* service_calls.c */
void service_handle_start(struct agent *agent, struct link_call *call,
                          const Hearth__Agent__V1__ServiceStartRequest *request);
void service_handle_stop(struct agent *agent, struct link_call *call,
                         const Hearth__Agent__V1__ServiceStopRequest *request);
void service_handle_watch(struct agent *agent, struct link_call *call,
                          const Hearth__Agent__V1__ServiceWatchRequest *request);
void service_handle_logs(struct agent *agent, struct link_call *call,
                         const Hearth__Agent__V1__ServiceLogsRequest *request);
void service_call_gone(struct agent *agent, struct link_call *call);
/* service.c: a child has ended. The first, before it is reaped, gives whether it is a service's and
 * takes its group along. */
bool service_reap_first(struct agent *agent, pid_t pid);
/* Something was reaped: it may have been the last that has left a service. */
void service_orphan_ended(struct agent *agent);
void service_reaped(struct agent *agent, pid_t pid, int status);
/* To the groups of all that run. */
void service_signal_all(struct agent *agent, int signal);
void service_free_all(struct agent *agent);

/* files.c, tree.c: streaming handlers take part in the call by link_call_accept. */
void file_handle_stat(struct agent *agent, struct link_call *call,
                      const Hearth__Agent__V1__FileStatRequest *request);
void file_handle_list(struct agent *agent, struct link_call *call,
                      const Hearth__Agent__V1__FileListRequest *request);
void file_handle_delete(struct agent *agent, struct link_call *call,
                        const Hearth__Agent__V1__FileDeleteRequest *request);
/* True: the call is taken over; false: it has been refused. */
bool file_stream_read(struct agent *agent, struct link_call *call,
                      const Hearth__Agent__V1__FileReadRequest *request);
void file_accept_write(struct agent *agent, struct link_call *call);
void tree_accept_apply(struct agent *agent, struct link_call *call);
/* tree_scan.c, tree_read.c */
/* Forgets what the latest scan saw. */
void tree_scan_free(struct agent *agent);
bool tree_stream_scan(struct agent *agent, struct link_call *call,
                      const Hearth__Agent__V1__TreeScanRequest *request);
void tree_accept_read(struct agent *agent, struct link_call *call);

/* rename.c */
void directory_handle_make(struct agent *agent, struct link_call *call,
                           const Hearth__Agent__V1__DirectoryMakeRequest *request);
void file_handle_move(struct agent *agent, struct link_call *call,
                      const Hearth__Agent__V1__FileMoveRequest *request);
/* search.c, export.c: as file_stream_read. */
bool file_stream_search(struct agent *agent, struct link_call *call,
                        const Hearth__Agent__V1__FileSearchRequest *request);
bool tree_stream_export(struct agent *agent, struct link_call *call,
                        const Hearth__Agent__V1__TreeExportRequest *request);
/* change.c */
void files_accept_change(struct agent *agent, struct link_call *call);
/* Finishes what a killed agent had begun to put in place: for stage_recover. */
struct stage;
void files_finish_staged(int root_fd, const struct stage *stage);

/* port.c */
void port_accept_dial(struct agent *agent, struct link_call *call);

/* An entry of what fd (opened O_PATH or not) is; link_target is filled for symlinks (from
 * parent_fd/name) into target. 0 or a negative errno. */
int file_entry_fill(int parent_fd, const char *name, Hearth__Agent__V1__FileEntry *entry,
                    char target[4096]);

/* serial.c: takes fd, unless it fails. 0 or a negative errno. */
int serial_serve(struct agent *agent, int fd);
void serial_free(struct agent *agent);

/* sandbox.c: for the agent and all its children, once at the start. 0 or a negative errno. */
int sandbox_enter(const struct agent_options *options);
