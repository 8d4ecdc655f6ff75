/* Environments: the read-only systems that guests start from (debian:12, debian:12-base,
 * debian:12-build, imports). Each is content-addressed in the image directory and kept as a tree
 * (and as an ext4 image where a driver asks):
 *
 *   IMAGE_DIR/environments/NAME.ref      what NAME stands for: a record (environment_record.h)
 *   IMAGE_DIR/versions/DIGEST/tree       the root directory (files owned by root; by the user, all
 *                                        of them, where rootless)
 *   IMAGE_DIR/versions/DIGEST/image.ext4 the same as a file system, where a microVM has asked for
 * it IMAGE_DIR/versions/DIGEST/manifest   one line a file: what the digest is of
 *   IMAGE_DIR/versions/DIGEST/about      the record it was made with
 *   IMAGE_DIR/cache/                     downloaded packages; a killed build goes on from here
 *   IMAGE_DIR/leases/ID/VERSION          the state directory with this ID needs the version
 *   IMAGE_DIR/lock                       held while something is built (one build at a time, over
 *                                        all daemons)
 *
 * The directory may be shared, read-only, by many daemons; builds need it writable. Loop thread;
 * the work is done by child programs (mmdebstrap, tar, hearth-archive, hearth-disk) and workers. */
#pragma once

#include "supervisord/loop.h"
#include "supervisord/worker.h"

#include <stddef.h>

struct environments;

struct environment {
    const char *name;    /* "debian:12" */
    const char *version; /* hex digest, 64 characters; NULL while it is known but not built */
    const char *description;
    const char *tree_path;  /* NULL while not built */
    const char *image_path; /* NULL while there is none */
    uint64_t size_bytes;
    int64_t built_at;
    bool builtin; /* one that `pull` can build */
    bool building;
    const char *source; /* "debian packages", "oci layout", … */
};

int environments_new(struct environments **ret_environments, struct loop *loop,
                     struct worker_pool *workers, const char *image_dir,
                     struct hearth_failure *failure);
void environments_free(struct environments *environments);

/* Lets other daemons on the image directory know what this one needs: from here on versions are
 * leased for state_dir (open as state_fd), until it is removed. Where the image directory cannot be
 * written to there are no leases. For the start: it waits for the disk. */
void environments_lease_open(struct environments *environments, const char *state_dir,
                             int state_fd);
/* Leases version, before something is made of it. False where the version is not there (any more):
 * once this is true no daemon's prune takes it away. */
bool environment_lease(struct environments *environments, const char *version);

/* Re-reads what other processes may have added; cheap. Gives the environment or NULL; borrowed
 * until the next call into this module. */
const struct environment *environment_find(struct environments *environments, const char *name);
/* The same by version, for workspaces made earlier. */
const struct environment *environment_find_version(struct environments *environments,
                                                   const char *version);
void environment_each(struct environments *environments,
                      int (*visit)(void *arg, const struct environment *environment), void *arg);

/* A Debian package that is installed in an environment. All texts are printable ASCII. */
struct environment_package {
    const char *name, *version, *architecture;
};
/* Reads from the tree of a version what dpkg has installed in it, on a worker. done gets the
 * packages in the order of their names, then architectures, for as long as it runs; none where the
 * tree is not of Debian packages, or what stands there cannot be read. */
void environment_packages(struct environments *environments, const char *version,
                          void (*done)(void *arg, const struct environment_package *packages,
                                       size_t count),
                          void *arg);

/* Long work with progress. `stage` is a short word, done/total are in its unit (total 0: unknown).
 */
struct environment_progress {
    const char *stage; /* "waiting", "downloading", "unpacking", "configuring", "hashing",
                          "imaging", "done" */
    const char *detail;
    uint64_t done, total;
};
typedef void (*environment_on_progress)(void *arg, const struct environment_progress *progress);
typedef void (*environment_done)(void *arg, int error, const struct hearth_failure *failure,
                                 const struct environment *environment);

struct environment_job;

/* Builds name (a builtin) unless it is there and force is off; joins a build of it that is under
 * way. Gives a job, borrowed until done; HEARTH_ENOTFOUND `unknown_environment`. */
int environment_pull(struct environment_job **ret_job, struct environments *environments,
                     const char *name, bool force, environment_on_progress on_progress,
                     environment_done done, void *arg, struct hearth_failure *failure);

enum environment_format {
    ENVIRONMENT_ROOTFS_TAR,
    ENVIRONMENT_OCI_LAYOUT,
    ENVIRONMENT_DOCKER_ARCHIVE
};

/* Makes an environment called name of the file at path (a tar; an OCI layout as a tar or a
 * directory). */
int environment_import(struct environment_job **ret_job, struct environments *environments,
                       const char *name, enum environment_format format, const char *path,
                       environment_on_progress on_progress, environment_done done, void *arg,
                       struct hearth_failure *failure);
/* Makes the ext4 image of a version (image_path) unless it is there; joins the making of it that is
 * under way, here or in another daemon. The image is shared: read-only, a sparse file a little
 * larger than the tree, with a journal, and room in its tables to be grown online. HEARTH_ENOTFOUND
 * `unknown_environment`; HEARTH_EUNSUPPORTED `image_dir_read_only`. */
int environment_ensure_image(struct environment_job **ret_job, struct environments *environments,
                             const char *version, environment_on_progress on_progress,
                             environment_done done, void *arg, struct hearth_failure *failure);
/* Whether what is pulled or imported from now on gets its image at once. Off at first. */
void environments_want_images(struct environments *environments, bool want);
/* Whether a pull fetches the kernel of virtual machines too, where it is not there. Off at first.
 */
void environments_want_kernel(struct environments *environments, bool want);

/* Stops listening; the job itself goes on if another listens, else it is ended. done is not called.
 */
void environment_job_leave(struct environment_job *job, void *arg);

/* Removes versions that no name refers to, that are not among these in use, and that no other
 * daemon on the directory has leased. */
void environment_prune(struct environments *environments, const char *const *versions_in_use,
                       size_t count,
                       void (*done)(void *arg, int error, const struct hearth_failure *failure,
                                    uint64_t removed, uint64_t bytes_freed),
                       void *arg);

/* "debian:12" and such: [a-z0-9][a-z0-9._-]{0,63}(:[A-Za-z0-9][A-Za-z0-9._-]{0,63})? */
bool environment_name_valid(const char *name);
