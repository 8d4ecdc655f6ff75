/* What the files environment*.c share: the image directory, its names as last read, and the work
 * under way. Loop thread, except for what runs in a struct environment_task. */
#pragma once

#include "supervisord/environment.h"
#include "supervisord/environment_record.h"

#include "base/list.h"

#include <limits.h>

#define REFERENCE_SUFFIX ".ref"
#define ENVIRONMENT_IMAGE "image.ext4"

/* One environment as told to others; the public part points into the rest. */
struct environment_entry {
    struct list link; /* environments::entries */
    struct environment public;
    struct environment_record record;
    char tree_path[PATH_MAX], image_path[PATH_MAX];
};

struct environments {
    struct loop *loop;
    struct worker_pool *workers;
    char *image_dir;
    int dir_fd;
    int lease_fd, owner_fd; /* environment_lease.c; -1: none */
    bool want_images, want_kernel;
    struct list entries; /* environment_entry::link */
    struct list jobs;    /* environment_job::link */
};

/* What `pull` can build. */
struct builtin {
    const char *name, *description;
    const char *packages; /* beyond minbase; comma-separated */
};
extern const struct builtin environment_builtins[];
extern const size_t environment_builtin_count;
const struct builtin *environment_builtin(const char *name);

/* Is there a job of this name? */
bool environment_job_running(const struct environments *environments, const char *name);
/* Starts to remove what killed builds have left, if anything. */
void environments_sweep(struct environments *environments);
/* Whether a daemon's state directory has leased the version: 1, 0 or a negative errno. Any thread.
 */
int environment_leased(int dir_fd, const char *version);
/* Removes the leases of state directories that are gone. Any thread. */
void environment_leases_sweep(int dir_fd);
/* Gives up what this daemon has leased beyond these. */
void environment_lease_only(struct environments *environments, const char *const *versions,
                            size_t count);
/* Can the directory be written to? HEARTH_EUNSUPPORTED `image_dir_read_only`. */
int environment_check_writable(struct environments *environments, struct hearth_failure *failure);
/* Ends all jobs, calling nobody. */
void environment_jobs_free(struct environments *environments);
