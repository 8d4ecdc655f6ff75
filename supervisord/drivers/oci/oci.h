/* What the files of the container driver share: the driver, a guest's data, and the pieces of work
 * that they call in each other. Loop thread, but where a function says "blocking": those run on a
 * worker and touch nothing but their arguments. */
#pragma once

#include "supervisord/drivers/cgroup.h"
#include "supervisord/drivers/driver.h"
#include "supervisord/drivers/remains.h"
#include "supervisord/spawn.h"

#include <limits.h>

#define OCI_ID_RANGE 65536 /* IDs a guest has, as root */
#define OCI_VERSION_SIZE 64

struct oci_runtime {
    char path[PATH_MAX]; /* "": none */
    char version[OCI_VERSION_SIZE];
};

struct oci_driver {
    struct driver driver;
    struct driver_config config;
    struct cgroups cgroups;
    struct worker_pool *starters; /* own threads: a start does not queue behind other file work */
    struct worker_pool *socket_maker; /* of port_socket.c; NULL: none can be made */
    int network_fd;                   /* the host's, to come back to */
    uint64_t network_cookie;
    bool is_astray;           /* the thread of socket_maker, which alone looks at it */
    int state_fd, runtime_fd; /* state_dir/guests, runtime_dir/guests */
    bool as_root;
    char *launch_path, *agent_path;
    struct oci_runtime runtime; /* the one that guests are started with */
    struct driver_probe probe;  /* the last one's result */
    char *seccomp_program;      /* see bundle.h; NULL if it could not be made */
    char boot_id[40];
    struct list versions; /* runtime names in guests' facts, which must not move */
};

enum oci_phase {
    OCI_IDLE,
    OCI_PREPARING,
    OCI_STARTING,
    OCI_STOPPING,
    OCI_RESIZING,
    OCI_DESTROYING,
};

/* guest->driver_data */
struct oci_guest {
    struct oci_driver *driver;
    struct guest *guest;
    char guest_id[sizeof((struct guest *)0)->guest_id];
    uid_t owner; /* the guest's root, as the host sees it */
    enum oci_phase phase;
    guest_done done; /* of the phase */
    void *arg;
    guest_done destroy_done; /* of a destroy that waits for the end of the phase */
    void *destroy_arg;
    bool forgotten; /* to be freed at the end of the phase */
    struct watch exit_watch;
    struct timer timer;
    struct child *child;
    /* In and out of the work on a worker. */
    struct cgroup_limits limits;
    char hostname[65];
    enum network_policy network;
    char *tree_path;
    int listen_fd;
    int error;
    struct hearth_failure failure;
};

/* oci.c: the guest's data, made if it is not there yet; NULL when memory ran out. */
struct oci_guest *oci_guest_data(struct driver *driver, struct guest *guest);
void oci_guest_free(void *oci_guest);
/* A copy of text that stays as long as the driver. */
const char *oci_version(struct oci_driver *driver, const char *text);
void oci_fill_facts(struct oci_driver *driver, struct guest *guest);

/* lifecycle.c: the operations of struct driver_operations that take time. */
void oci_prepare(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
                 guest_done done, void *arg);
void oci_start(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
               guest_done done, void *arg);
void oci_stop(struct driver *driver, struct guest *guest, unsigned timeout_ms, guest_done done,
              void *arg);
void oci_destroy(struct driver *driver, struct guest *guest, guest_done done, void *arg);
void oci_resize(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
                guest_done done, void *arg);
/* Tells on_died when guest->process ends. */
int oci_watch_process(struct oci_guest *guest, struct hearth_failure *failure);

/* guest_files.c, blocking: a guest's directories.
 *   STATE/guests/ID/upper, work       its disk; all owned by the guest's root
 *   RUNTIME/guests/ID/agent.sock      ours
 *   RUNTIME/guests/ID/bundle          what hearth-launch shows the runtime as /tmp */
int guest_files_prepare(struct oci_guest *guest, struct hearth_failure *failure);
/* Gives the listening socket. */
int guest_files_start(struct oci_guest *guest, int *ret_listen_fd, struct hearth_failure *failure);
int guest_files_stop(struct oci_guest *guest, struct hearth_failure *failure);
/* Not blocking: the PID that the runtime has left, 0 if none. */
pid_t guest_files_pid(const struct oci_guest *guest);
/* Not blocking: what the runtime had to say when it failed, as printable text. */
void guest_files_log(const struct oci_guest *guest, char *out, size_t size);
void guest_files_each(const struct oci_driver *driver,
                      void (*visit)(void *arg, const char *guest_id), void *arg);

/* guest_state.c: guest->driver_state, the text that outlives the daemon. */
int guest_state_save(struct oci_driver *driver, struct guest *guest);
/* Fills process and facts. HEARTH_ENOTFOUND `guest_gone`. */
int guest_state_load(struct oci_driver *driver, struct guest *guest,
                     struct hearth_failure *failure);

/* launcher.c: hearth-launch as a child. done as spawn's. */
int oci_launch(struct oci_guest *guest, child_done done, struct hearth_failure *failure);
/* Gives the running guest its network. */
int oci_launch_network(struct oci_guest *guest, guest_done done, struct hearth_failure *failure);
/* Removes the guest's directories, in a process of its own: a hostile tree costs the daemon no
 * descriptors and no time. */
int oci_launch_remove(struct oci_guest *guest, child_done done, struct hearth_failure *failure);
/* Not blocking: struct driver_operations.disk. */
int oci_disk(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
             struct guest_disk *ret_disk, struct hearth_failure *failure);

/* port_socket.c: struct driver_operations.port_socket, and what it needs of the driver. */
void oci_port_socket(struct driver *driver, struct guest *guest, guest_connected done, void *arg);
void oci_sockets_open(struct oci_driver *driver);
void oci_sockets_close(struct oci_driver *driver);

/* probe.c */
void oci_probe(struct driver *driver, driver_probed done, void *arg);
/* The first runtime that is installed, tried or not; path "" if there is none. */
void oci_runtime_find(struct oci_runtime *ret_runtime, const char *configured);
bool oci_runtime_is_crun(const struct oci_runtime *runtime);
