/* What a kind of guest must be able to do, for microVMs (qemu) and containers (oci) alike. The
 * supervisor owns struct guest; a driver keeps what it needs behind guest->driver_data. Every call
 * that takes a completion calls it exactly once, from the loop, never before it returns. Guests
 * outlive the daemon: nothing here ties their life to it. A driver knows no SQLite and no HTTP;
 * what must survive a restart is in guest->driver_state, text the supervisor stores. */
#pragma once

#include "base/pidref.h"
#include "supervisord/loop.h"
#include "supervisord/worker.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct driver;
struct guest;
struct guest_copy;
struct driver_probe;

/* What drivers count for the metrics. */
struct driver_counters {
    uint64_t boots_retried;     /* machines whose first boot missed its deadline */
    uint64_t template_clones;   /* machines started from a template */
    uint64_t clone_failures;    /* machines that did not start from one: a cold boot each instead */
    uint64_t template_failures; /* templates that could not be made, or were given up */
};

enum network_policy {
    NETWORK_OFF,
    NETWORK_EGRESS,
    NETWORK_PUBLISHED_PORTS,
    NETWORK_EGRESS_AND_PUBLISHED_PORTS,
};
/* Else there is nothing but lo. */
static inline bool network_has_device(enum network_policy policy)
{
    return policy == NETWORK_EGRESS || policy == NETWORK_EGRESS_AND_PUBLISHED_PORTS;
}

/* What every driver is given when it is made. All borrowed for the driver's life. */
struct driver_config {
    struct loop *loop;
    struct worker_pool *workers;
    /* Durable, ours alone: guests' disks live in state_dir/guests/GUEST_ID (containers) and
     * state_dir/machines/GUEST_ID (virtual machines). */
    const char *state_dir;
    const char *runtime_dir; /* sockets and pid files, in the same way; may be a tmpfs */
    const char *image_dir;   /* IMAGE_DIR/kernels/current: the kernel of virtual machines */
    const char *agent_path;  /* the static hearth-agent */
    const char *transport;   /* "auto", or as in guest_spec */
    const char *runtime;     /* OCI runtime: "auto" (NULL too), or a path */
    uid_t uid_base;          /* as root: first uid of the ranges given to guests */
    /* Virtual machines. NULL is "auto" throughout. */
    const char *qemu;           /* a path to qemu-system-x86_64 */
    const char *kernel;         /* a path to a bzImage, instead of IMAGE_DIR's */
    const char *kernel_modules; /* its directory of NN-NAME.ko; NULL or "": none are needed */
    int64_t boot_timeout_us;    /* up to the agent's first answer */
    bool template_on;           /* start from templates */
    uint32_t reserve_mib;       /* of the host's memory, which copies of machines leave alone */
    const char *node_tag;       /* of the IDs of guests that are the driver's own */
    const char *vhost_vsock;    /* the device; for tests */
    bool try_early;             /* find out in the background what machines can do here */
    /* A probe's result has changed since it was told. May be NULL. */
    void (*on_probed)(void *arg, struct driver *driver, const struct driver_probe *probe);
    void *on_probed_arg;
    struct driver_counters *counters;
};

#define GUEST_STATE_KEY_SIZE 32

/* What a guest is to be. Strings are borrowed until prepare's completion. */
struct guest_spec {
    const char *environment_version; /* content digest, hex */
    const char *tree_path;           /* the environment as a directory, read-only, shared */
    const char *image_path;          /* the environment as an ext4 image, NULL if not built */
    uint32_t vcpu_count, mem_mib, disk_mib;
    uint32_t pids_max;
    enum network_policy network;
    const char *hostname;
    const char *template_owner;    /* who shares what it may be cloned from: a tenant, "" for all */
    const char *transport;         /* demanded: one that check_transport took; NULL: any */
    const struct guest_copy *copy; /* what prepare and start begin with, instead of an empty disk
                                      and a boot; borrowed until start's completion; NULL */
    bool resume; /* start goes on from what suspend has saved, and ends once that is loaded: it
                    runs nothing before carry_on. Without it, what was saved is removed. */
    const unsigned char *state_key; /* what suspend seals with, and a start that resumes opens with:
                                       GUEST_STATE_KEY_SIZE bytes, borrowed for the call */
    bool background; /* nobody waits for it yet: its start comes behind all others, and it has a low
                        priority until it is unpaused, or started otherwise */
};

/* What became true of a guest, for STATUS. Strings are static. */
struct guest_facts {
    const char *isolation;      /* "vm" or "container" */
    const char *execution_mode; /* guest_vsock, guest_serial, guest_unix */
    const char *vm_accelerator; /* "kvm", "tcg" or NULL */
    const char *runtime;        /* "crun 1.8.1", "QEMU 7.2" … */
    bool rootless, memory_limited, pids_limited, cpu_limited, disk_limited;
    bool user_namespace, seccomp, network_namespace;
    bool cloned; /* it began with another's memory: until it is given entropy it draws the same
                    random numbers as any other that did */
};

struct guest {
    char guest_id[24]; /* "gu_" + 16 */
    struct driver *driver;
    void *driver_data;
    char *driver_state; /* owned; changed only in prepare and start */
    struct pidref
        process; /* PIDREF_NONE while not running: the container's init or the QEMU process */
    struct guest_facts facts;
    uint32_t index; /* unique among this daemon's guests, small: picks its uid range */
    /* Set by the supervisor: the guest's process has ended without being asked to. detail is
     * bounded text (serial log's tail, runtime's error), borrowed for the call. */
    void (*on_died)(struct guest *guest, const char *detail);
    /* … (or NULL): masks, in place, what of the guest's own words nobody may see. */
    void (*hide)(struct guest *guest, char *text, size_t length);
};

typedef void (*guest_done)(void *arg, int error, const struct hearth_failure *failure);
/* fd is a connected byte stream to the agent, given to the callee; -1 on error. */
typedef void (*guest_connected)(void *arg, int fd, const struct hearth_failure *failure);

/* Where the disk of a guest that does not run is, as hearth-disk is told it (DISK of its usage). */
#define GUEST_DISK_WORDS 6
struct guest_disk {
    uid_t owner; /* whom hearth-disk works as: root in the guest, as the host sees it */
    const char *words[GUEST_DISK_WORDS]; /* static, or in the texts below */
    size_t word_count;
    char base[PATH_MAX], disk[PATH_MAX], number[16];
};

struct driver_probe {
    bool usable;
    char version[96];  /* "crun 1.8.1 (cgroup v1, root)" */
    char reason[256];  /* why not, or what is weaker here; one sentence */
    char install[128]; /* packages that would help: "apt-get install crun" */
    int64_t took_us;
};
typedef void (*driver_probed)(void *arg, const struct driver_probe *probe);

struct driver_operations {
    const char *name;
    bool wants_image; /* its guests start from spec.image_path and the kernel in image_dir */
    /* Finds out by doing, with a deadline, whether guests can run here. */
    void (*probe)(struct driver *driver, driver_probed done, void *arg);
    /* Can guests be reached here by what is demanded? NULL: they have no choice of one.
     * HEARTH_EUNSUPPORTED `transport_unavailable`. */
    int (*check_transport)(struct driver *driver, const char *transport,
                           struct hearth_failure *failure);
    /* Makes disk and directories; nothing runs yet. Undone by destroy. */
    void (*prepare)(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
                    guest_done done, void *arg);
    /* Boots a prepared or stopped guest. Done when connect may be called (the agent may still be on
     * its way up). */
    void (*start)(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
                  guest_done done, void *arg);
    /* One more connection to the agent; may take until timeout_ms. */
    void (*connect)(struct driver *driver, struct guest *guest, unsigned timeout_ms,
                    guest_connected done, void *arg);
    /* A TCP socket (IPv4, not connected, non-blocking) in the running guest's own network, where
     * the host can make one: the shortest way to what listens on the guest's loopback. NULL, or an
     * error: there is none, the agent has to be asked. */
    void (*port_socket)(struct driver *driver, struct guest *guest, guest_connected done,
                        void *arg);
    /* Saves a running guest, memory and devices, beside its disk, sealed, and ends it; a start that
     * resumes goes on from there, or refuses what is not whole (HEARTH_EIO `suspend_unreadable`).
     * What was saved is there until the guest is about to run again, and not
     * any more then: none is ever gone on from twice. Where it fails it runs on. NULL: such guests
     * cannot be. Only where may_suspend says so. */
    void (*suspend)(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
                    guest_done done, void *arg);
    bool (*may_suspend)(struct driver *driver, struct guest *guest);
    /* Is there what a guest was saved to? Looks at a directory. */
    bool (*saved)(struct driver *driver, struct guest *guest);
    /* Copies a running guest as it is at one moment, memory, devices and disk, for so many others
     * to begin with. Whatever comes of it, it does nothing until carry_on. *ret_copy is given
     * before done, for copy_free, and is in memory but for the disk. NULL: such guests cannot be
     * copied. HEARTH_EUNAVAILABLE `memory_short`, `fork_failed`. */
    void (*copy)(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
                 unsigned count, struct guest_copy **ret_copy, guest_done done, void *arg);
    void (*copy_free)(struct guest_copy *copy); /* NULL is fine */
    /* A daemon ended within a suspend, a copy was made, or it was started to be resumed: the guest
     * goes on. HEARTH_ENOTFOUND `guest_gone`. */
    void (*carry_on)(struct driver *driver, struct guest *guest, guest_done done, void *arg);
    /* Waits for the orderly end that the agent was asked for, longer where it still writes out what
     * it has, then kills what is left. The disk stays. on_died is not called. */
    void (*stop)(struct driver *driver, struct guest *guest, unsigned timeout_ms, guest_done done,
                 void *arg);
    /* Kills at once whatever runs and removes every trace: processes, cgroups, mounts, sockets,
     * directories. May be called in any state and again after a crash; a guest that was never there
     * is no error. */
    void (*destroy)(struct driver *driver, struct guest *guest, guest_done done, void *arg);
    /* Changes limits of a running guest (a claim from the pool). NULL where it cannot: such guests
     * are not pooled. */
    void (*resize)(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
                   guest_done done, void *arg);
    /* Is there something from which a guest would start by standby? NULL where guests of the pool
     * wait started. */
    bool (*may_standby)(struct driver *driver, const struct guest_spec *spec);
    /* Does of a prepared guest's start what needs nobody to want it yet, behind all starts that
     * somebody waits for; start goes on from there. HEARTH_ENOTFOUND `no_template`. */
    void (*standby)(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
                    guest_done done, void *arg);
    /* Of a guest that was started or stands by in the background: would one that is made now be
     * another? Looks at small files. NULL: never. */
    bool (*outdated)(struct driver *driver, struct guest *guest);
    /* A guest that start has cloned is not going to be used, for this reason: what it was cloned
     * from makes no more. Counted and logged. NULL where none are. */
    void (*clone_refused)(struct driver *driver, struct guest *guest, const char *why);
    /* Holds a running guest as it is, so that it uses no processor; its link stays, and says
     * nothing. NULL where it cannot. */
    void (*pause)(struct driver *driver, struct guest *guest, guest_done done, void *arg);
    void (*unpause)(struct driver *driver, struct guest *guest, guest_done done, void *arg);
    /* Tells where a guest's disk is. */
    int (*disk)(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
                struct guest_disk *ret_disk, struct hearth_failure *failure);
    /* After a daemon restart: finds the guest from guest_id, index and driver_state. Fills process
     * and facts. HEARTH_ENOTFOUND `guest_gone`: it does not run any more (its disk may be there).
     * Never kills. */
    void (*adopt)(struct driver *driver, struct guest *guest, guest_done done, void *arg);
    /* Start-up: names every guest of which a trace is left, wherever the driver would leave one, so
     * that what no row knows can be destroyed. */
    void (*each_trace)(struct driver *driver, void (*visit)(void *arg, const char *guest_id),
                       void *arg);
    /* Frees the driver and driver_data of no guest; guests go on running. */
    void (*free)(struct driver *driver);
    /* Frees driver_data of a guest without touching what runs. */
    void (*forget)(struct driver *driver, struct guest *guest);
};

struct driver {
    const struct driver_operations *operations;
};

/* Makers; a driver that cannot run here is still made, its probe says so. */
int oci_driver_new(struct driver **ret_driver, const struct driver_config *config,
                   struct hearth_failure *failure);
int qemu_driver_new(struct driver **ret_driver, const struct driver_config *config,
                    struct hearth_failure *failure);
