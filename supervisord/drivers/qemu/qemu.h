/* What the files of the microVM driver share: the driver, a guest's data, and the pieces of work
 * that they call in each other. Loop thread, but where a function says "blocking": those run on a
 * worker and touch nothing but their arguments.
 *   STATE/machines/ID/disk.qcow2            the disk: an overlay over the environment's image
 *   STATE/machines/boot/                    initramfs files, by kernel and agent; stubs of kernels
 *   RUNTIME/machines/ID/{agent,qmp,console} sockets on which QEMU listens; only we can reach them
 */
#pragma once

#include "supervisord/drivers/cgroup.h"
#include "supervisord/drivers/driver.h"
#include "supervisord/drivers/phase.h"
#include "supervisord/drivers/qemu/gate.h"
#include "supervisord/drivers/qemu/qmp.h"
#include "supervisord/drivers/qemu/tail.h"
#include "supervisord/drivers/qemu/timestamp.h"
#include "supervisord/drivers/qemu/transport.h"
#include "supervisord/spawn.h"

#include <limits.h>
#include <pthread.h>
#include <sys/stat.h>

#define QEMU_ID_RANGE                                                                              \
    65536 /* IDs that a guest's index stands for, as root; QEMU runs as the first */
#define QEMU_VERSION_SIZE 64
#define QEMU_PIDS_MAX 256         /* threads of one QEMU */
#define QEMU_PIPE_BYTES (1 << 20) /* of a pipe that a memory passes */
#define QEMU_DEVICES_MIB 64       /* what is saved besides the memory is far less */

/* Descriptors of QEMU, in the order in which they are passed. */
enum { QEMU_FD_QMP = 3, QEMU_FD_CONSOLE, QEMU_FD_AGENT, QEMU_FD_RAM, QEMU_FD_STATE, QEMU_FD_END };

struct qemu_kernel {
    char path[PATH_MAX];    /* bzImage */
    char modules[PATH_MAX]; /* directory of NN-NAME.ko; "": none are needed */
    char version[80];       /* what it is known by */
};

/* gate.h */
struct gate {
    struct list waiting, background; // qemu_guest::gate.link
    unsigned places, taken;
};

/* The initramfs that was last asked for, and what it was made of: any starter's thread. */
struct qemu_initramfs_known {
    pthread_mutex_t lock;
    struct stat agent;
    struct qemu_kernel kernel;
    char path[PATH_MAX]; /* "": none */
};

struct qemu_driver {
    struct driver driver;
    struct driver_config config;
    struct cgroups cgroups;
    struct worker_pool *starters; /* own threads: a start does not queue behind other file work */
    struct worker_pool *sealers, *openers; /* of what machines are suspended to */
    int state_fd, runtime_fd;              /* STATE/machines, RUNTIME/machines */
    bool as_root;
    char *launch_path, *agent_path;
    char program[PATH_MAX]; /* QEMU; "": not found */
    char version[QEMU_VERSION_SIZE];
    char boot_id[40];
    enum { ACCELERATOR_UNKNOWN, ACCELERATOR_TRYING, ACCELERATOR_KNOWN } accelerator_state;
    const char *accelerator; /* "kvm", "tcg"; "tcg" until it is known */
    struct list accelerator_waiters;
    struct gate gate;
    struct qemu_initramfs_known *initramfs;
    struct guest *trial;   /* of KVM, while it is made; NULL */
    struct list templates; // template::link
    struct list copies;    // copying::link, of fork.c
    struct timestamp made; /* when the driver was */
    struct driver_probe probe;
};

/* guest->driver_data */
struct qemu_guest {
    struct phase phase;
    struct qemu_driver *driver;
    struct guest *guest;
    char guest_id[sizeof((struct guest *)0)->guest_id];
    uid_t owner; /* QEMU's user, as the host sees it */
    const struct vm_transport *transport;
    char transport_choice[24]; /* demanded, or the daemon's */
    const char *accelerator;
    char version[QEMU_VERSION_SIZE];
    struct watch exit_watch;
    struct timer timer;
    struct child *child;
    void (*network_connected)(struct qemu_guest *guest); /* while the child is hearth-net */
    struct tail console, errors;
    void *connecting;         /* by the transport; NULL: nothing under way */
    struct qemu_asked *asked; /* a connect of the driver's that waits for it; NULL */
    int ready_fd;             /* the first stream, until connect asks for it; -1 */
    int greeting_fd;          /* listening, until the transport's first connect takes it; -1 */
    bool trial;               /* of KVM: no disk, a short deadline */
    bool fresh;               /* prepared and never started: may be a clone */
    bool disk_used;           /* by a start from a template */
    bool making;              /* a template of it */
    bool standby;             /* what is under way is no more than that */
    bool background;          /* nobody waits for it yet */
    bool waiting;             /* QEMU is there, and waits for its template's state */
    bool network;             /* it has a device */
    bool linked;              /* the agent has answered since QEMU was started */
    unsigned boots;           /* of this start */
    struct {
        struct list link; // gate::waiting or ::background
        void (*go)(void *guest);
        bool inside;
    } gate;
    int64_t stop_until_us;  /* monotonic: then it is killed, whatever it does */
    const char *end_reason; /* why we ended it ourselves; NULL: we have not */
    struct qmp *qmp;        /* loads a template's state, grows the disk; NULL */
    void (*monitor_answered)(struct qemu_guest *guest, int error);
    struct qmp_command grow;   /* by this … */
    char grow_text[128];       /* … text */
    struct template *template; /* held: what is started, or of the pool, is its clone; NULL */
    bool resuming;             /* what is being started was saved by qemu_suspend, or is a copy */
    bool held;                 /* the former: it is loaded, and does not run before qemu_carry_on */
    bool launched;             /* QEMU was begun: it may have taken some of that */
    const struct guest_copy *copy; /* what it begins with (borrowed); NULL */
    struct saving *saving;         /* suspend.c; NULL */
    struct unsealing *unsealing;   /* load.c: what it begins with, not proved yet; NULL */
    bool all_loaded;               /* by QEMU */
    void (*loaded)(struct qemu_guest *guest);
    void (*copy_loaded)(struct qemu_guest *guest);
    char template_owner[64]; /* tenant, "" for all */
    /* In and out of the work on a worker. */
    uint32_t vcpu_count, mem_mib, disk_mib, pids_max;
    char *image_path;       /* the environment's */
    unsigned timestamp_khz; /* of the host's counter; 0: it has none */
    struct qemu_kernel kernel;
    char initrd[PATH_MAX], stub[PATH_MAX]; /* stub.c; "": there is none */
    int qmp_fd, console_fd, agent_fd;      /* listening, to be passed; -1 */
    int network_fds[2]; /* the device's stream: QEMU's end, and passt's or a template's own; -1 */
    int template_ram_fd, template_state_fd; /* the same; of a template that is made or used */
};

/* qemu.c: the guest's data, made if it is not there yet. */
struct qemu_guest *qemu_guest_data(struct driver *driver, struct guest *guest);
void qemu_fill_facts(struct qemu_guest *guest);
struct loop *qemu_loop(const struct qemu_guest *guest);

/* lifecycle.c */
void qemu_prepare(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
                  guest_done done, void *arg);
void qemu_stop(struct driver *driver, struct guest *guest, unsigned timeout_ms, guest_done done,
               void *arg);
void qemu_destroy(struct driver *driver, struct guest *guest, guest_done done, void *arg);
void qemu_destroy_begin(void *guest);
/* Copies what outlives the call. */
int qemu_take_spec(struct qemu_guest *guest, const struct guest_spec *spec);
/* Tells on_died when guest->process ends. */
int qemu_watch_process(struct qemu_guest *guest, struct hearth_failure *failure);
/* Calls fn(guest) then, instead; other than 0: out of memory. Until qemu_unwatch, or another watch.
 */
int qemu_watch_end(struct qemu_guest *guest, void (*fn)(void *guest));
void qemu_unwatch(struct qemu_guest *guest);
/* The end of a change of one that runs on, watched as it was before. phase.failure says why, if
 * anything was wrong. */
void qemu_runs_on(void *guest);
void qemu_kill(struct qemu_guest *guest);
/* Kills, waits for the end, clears the runtime directory, and finishes the phase. */
void qemu_end_for_good(struct qemu_guest *guest);
/* Hangs up whatever is connected or being connected. */
void qemu_disconnect(struct qemu_guest *guest);
/* Blocking, as a worker's job with the guest: groups, runtime directory. */
void qemu_clear_runtime(void *guest);
/* Blocking, when the daemon ends: one of the driver's own that nobody will wait for. */
void qemu_end_now(struct qemu_guest *guest);
#define CONSOLE_TOLD 300 /* characters of a console in a failure */
/* The last of the machine's console that fits, without what nobody may see. */
void qemu_console(const struct qemu_guest *guest, char *out, size_t size);
/* Why the machine ended, as far as its console and QEMU tell, bounded. */
void qemu_describe_end(struct qemu_guest *guest, char *out, size_t size);

/* boot.c */
void qemu_start(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
                guest_done done, void *arg);
void qemu_standby(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
                  guest_done done, void *arg);

/* suspend.c */
bool qemu_may_suspend(struct driver *driver, struct guest *guest);
void qemu_suspend(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
                  guest_done done, void *arg);
bool qemu_saved(struct driver *driver, struct guest *guest);
void qemu_carry_on(struct driver *driver, struct guest *guest, guest_done done, void *arg);
/* Blocking: what the guest was saved to, to be read, or a negative errno; and its end, durably, or
 * one. None is no error of the latter. */
int qemu_saved_open(const struct qemu_guest *guest);
int qemu_saved_remove(const struct qemu_guest *guest);

/* monitor.c: qmp_run by a connection of its own, within so long. NULL with a failure:
 * HEARTH_EUNAVAILABLE `monitor_failed`. */
struct qmp *qemu_monitor_run(const struct qemu_guest *guest, const struct qmp_command *commands,
                             size_t count, bool migration, int64_t within_us, qmp_done done,
                             void *arg, struct hearth_failure *failure);

/* standby.c */
bool qemu_may_standby(struct driver *driver, const struct guest_spec *spec);
/* QEMU has been started, as a clone: waits until its monitor answers, then done(guest, error). The
 * failure is phase.failure. */
void qemu_await_monitor(struct qemu_guest *guest,
                        void (*done)(struct qemu_guest *guest, int error));
/* A clone has its template's disk; the agent is told how large it is to be, and grows the rest. */
void qemu_grow_disk(struct qemu_guest *guest, void (*done)(struct qemu_guest *guest, int error));
/* Has QEMU load the template's state; what becomes of it is seen by the agent's answer. */
void qemu_load_state(struct qemu_guest *guest);

/* template.c */
void qemu_clone_refused(struct driver *driver, struct guest *guest, const char *why);

/* pause.c */
void qemu_pause(struct driver *driver, struct guest *guest, guest_done done, void *arg);
void qemu_unpause(struct driver *driver, struct guest *guest, guest_done done, void *arg);
bool qemu_outdated(struct driver *driver, struct guest *guest);
/* Somebody wants it now. */
void qemu_in_foreground(struct qemu_guest *guest);
/* What was held for as long as it waited. */
void qemu_let_template_go(struct qemu_guest *guest);

/* A machine without a disk under KVM. Ended by destroy. */
void qemu_boot_trial(struct driver *driver, struct guest *guest, uint32_t mem_mib, guest_done done,
                     void *arg);

/* Another machine like `like`, with this memory (borrowed), up to the agent's readiness: the agent
 * has said that it is there, but has no link. Ended by destroy. */
void qemu_boot_template(struct driver *driver, struct guest *guest, const struct qemu_guest *like,
                        int ram_fd, guest_done done, void *arg);

/* accelerator.c: takes up what was found before, or begins to find out. Reads small files. */
void qemu_accelerator_begin(struct qemu_driver *driver);
/* Calls done, never before this returns, once driver->accelerator is known. */
void qemu_accelerator_when_known(struct qemu_driver *driver, void (*done)(void *arg), void *arg);

/* command.c: hearth-launch and QEMU with all their arguments. */
void qemu_command(const struct qemu_guest *guest, struct arguments *arguments);
/* Of all that a template of this guest's kind is told: what was made by other words is another. */
#define QEMU_DIGEST_SIZE 17
void qemu_command_digest(const struct qemu_guest *guest, char out[QEMU_DIGEST_SIZE]);

/* network.c: the stream between the machine's device and hearth-net. */
/* QEMU's first descriptor after those named above, and how many it is passed from there on. */
int qemu_network_fd(const struct qemu_guest *guest);
int qemu_network_fd_count(const struct qemu_guest *guest);
void qemu_network_command(const struct qemu_guest *guest, struct arguments *arguments);
/* Before QEMU is there: makes the stream, and has hearth-net hold its other end. Calls done, at
 * once where there is nothing to wait for; phase.failure says what went wrong. */
void qemu_network_connect(struct qemu_guest *guest, void (*done)(struct qemu_guest *guest));

/* files.c, blocking. */
int qemu_files_prepare(struct qemu_guest *guest, struct hearth_failure *failure);
int qemu_files_start(struct qemu_guest *guest, struct hearth_failure *failure);
int qemu_files_stop(struct qemu_guest *guest, struct hearth_failure *failure);
int qemu_files_remove(struct qemu_guest *guest, struct hearth_failure *failure);
void qemu_files_each(const struct qemu_driver *driver,
                     void (*visit)(void *arg, const char *guest_id), void *arg);
/* Not blocking: struct driver_operations.disk. */
int qemu_disk(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
              struct guest_disk *ret_disk, struct hearth_failure *failure);
/* The disk's file, emptied or as it is; or a negative errno. */
int qemu_files_open_disk(const struct qemu_guest *guest, bool empty);
/* Not blocking: has its disk been written to since then (wall clock)? */
bool qemu_files_written_since(const struct qemu_guest *guest, int64_t wall_us);
/* A listening socket RUNTIME/machines/ID/NAME; or a negative errno. */
int qemu_files_listen(const struct qemu_guest *guest, const char *name);
/* Not blocking: a stream to it, connected at once; or a negative errno. */
int qemu_files_connect(const struct qemu_guest *guest, const char *name);

/* kernel.c: the one that was configured, or that IMAGE_DIR has. HEARTH_ENOTFOUND `kernel_missing`.
 * Reads a small file. */
int qemu_kernel_find(const struct qemu_driver *driver, struct qemu_kernel *ret_kernel,
                     struct hearth_failure *failure);
/* initramfs.c, blocking: the path of the file for this kernel and agent, made if it is not there.
 */
int qemu_initramfs(const struct qemu_driver *driver, const struct qemu_kernel *kernel,
                   char ret_path[PATH_MAX], struct hearth_failure *failure);
/* Not blocking: would it give this path still? True where one is just being made. */
bool qemu_initramfs_same(const struct qemu_driver *driver, const struct qemu_kernel *kernel,
                         const char *path);
/* Blocking, of what machines are shown at their start: its directory, or a negative errno; a file
 * of it, whole or not at all, by a name that tells what is in it. */
int qemu_boot_directory(const struct qemu_driver *driver);
int qemu_boot_write(int directory, const char *name, const void *data, size_t length);
/* stub.c, blocking: the path of a small file that does for the kernel and the initramfs of a
 * machine that is not booted; "" where this kernel is not cut. */
int qemu_stub(const struct qemu_driver *driver, const struct qemu_kernel *kernel,
              char ret_path[PATH_MAX], struct hearth_failure *failure);

/* adopt.c: guest->driver_state, the text that outlives the daemon. */
int qemu_state_save(struct qemu_guest *guest);
/* Fills process and facts. HEARTH_ENOTFOUND `guest_gone`. */
int qemu_state_load(struct qemu_guest *guest, struct hearth_failure *failure);
void qemu_adopt(struct driver *driver, struct guest *guest, guest_done done, void *arg);

/* probe.c */
void qemu_probe(struct driver *driver, driver_probed done, void *arg);
void qemu_program_find(struct qemu_driver *driver);
