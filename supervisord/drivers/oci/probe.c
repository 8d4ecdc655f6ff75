/* The probe: each runtime that is installed starts a real container with the agent as all its
 * content; the first whose agent answers is used. */
#include "supervisord/drivers/oci/oci.h"

#include "base/cleanup.h"
#include "base/id.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define VERSION_TIMEOUT_MS 30000 /* a program that is not in memory, on a busy host */
#define ANSWER_TIMEOUT_US (20 * US_PER_S)
#define INSTALL "apt-get install crun"

static const char *const candidates[] = {"crun", "runc", "runsc"};
#define CANDIDATES (sizeof candidates / sizeof candidates[0])

struct probe {
    struct oci_driver *driver;
    driver_probed done;
    void *arg;
    int64_t began;
    size_t next; /* of candidates */
    struct guest guest;
    struct guest_spec spec;
    char *tree_path;
    struct child *child;
    int fd;
    struct watch answer;
    struct timer deadline;
    bool answered;
    char why[sizeof((struct hearth_failure *)0)->detail]; /* of the candidate that failed last */
};

/* --- finding --- */

static bool is_auto(const char *configured)
{
    return !configured || !*configured || strcmp(configured, "auto") == 0;
}

void oci_runtime_find(struct oci_runtime *ret_runtime, const char *configured)
{
    *ret_runtime = (struct oci_runtime){.version = "OCI runtime"};
    if (!is_auto(configured)) {
        snprintf(ret_runtime->path, sizeof ret_runtime->path, "%s", configured);
        return;
    }
    for (size_t i = 0; i < CANDIDATES; i++)
        if (spawn_find(candidates[i], ret_runtime->path))
            return;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool oci_runtime_is_crun(const struct oci_runtime *runtime)
{
    return strcmp(base_name(runtime->path), "crun") == 0;
}

/* --- telling --- */

static void probe_free(void *arg)
{
    struct probe *probe = arg;
    watch_free(&probe->answer);
    timer_free(&probe->deadline);
    cleanup_close(&probe->fd);
    free(probe->tree_path);
    free(probe);
}

static const char *cgroup_text(enum cgroup_kind kind)
{
    return kind == CGROUP_V2 ? "cgroup v2" : kind == CGROUP_V1 ? "cgroup v1" : "no cgroups";
}

/* What works, but is weaker than it could be. */
static void describe_weakness(const struct oci_driver *driver, char *out, size_t size)
{
    const struct cgroups *cgroups = &driver->cgroups;
    *out = '\0';
    if (!cgroups->memory || !cgroups->pids || !cgroups->cpu)
        snprintf(out, size, "not limited here, for want of cgroup access:%s%s%s",
                 cgroups->memory ? "" : " memory", cgroups->pids ? "" : " processes",
                 cgroups->cpu ? "" : " CPU");
}

static void finish(struct probe *probe)
{
    struct oci_driver *driver = probe->driver;
    struct driver_probe *result = &driver->probe;
    *result = (struct driver_probe){
        .usable = probe->answered,
        .took_us = clock_monotonic_us() - probe->began,
    };
    if (probe->answered) {
        snprintf(result->version, sizeof result->version, "%s (%s, %s)", driver->runtime.version,
                 cgroup_text(driver->cgroups.kind), driver->as_root ? "root" : "rootless");
        describe_weakness(driver, result->reason, sizeof result->reason);
    } else {
        snprintf(result->reason, sizeof result->reason, "%.250s", probe->why);
        snprintf(result->install, sizeof result->install, INSTALL);
        *driver->runtime.path = '\0';
    }
    probe->done(probe->arg, result);
    loop_defer(driver->config.loop, probe_free, probe);
}

/* --- one candidate --- */

static void try_next(struct probe *probe);

static void blame(struct probe *probe, const char *what)
{
    snprintf(probe->why, sizeof probe->why, "%.64s: %.400s", base_name(probe->driver->runtime.path),
             what);
}

static void on_destroyed(void *arg, int error, const struct hearth_failure *failure)
{
    struct probe *probe = arg;
    struct driver *driver = &probe->driver->driver;
    driver->operations->forget(driver, &probe->guest);
    free(probe->guest.driver_state);
    probe->guest.driver_state = NULL;
    if (probe->answered)
        finish(probe);
    else
        try_next(probe);
}

static void end_candidate(struct probe *probe)
{
    struct driver *driver = &probe->driver->driver;
    watch_free(&probe->answer);
    timer_unset(&probe->deadline);
    cleanup_close(&probe->fd);
    probe->fd = -1;
    probe->guest.on_died = NULL;
    driver->operations->destroy(driver, &probe->guest, on_destroyed, probe);
}

/* An HTTP/2 server speaks first. */
static void on_answer(void *arg)
{
    struct probe *probe = arg;
    char byte;
    probe->answered = recv(probe->fd, &byte, 1, MSG_DONTWAIT) == 1;
    if (!probe->answered)
        blame(probe, "the container's agent closed the connection");
    end_candidate(probe);
}

static void on_deadline(void *arg)
{
    struct probe *probe = arg;
    blame(probe, "the container's agent did not answer in time");
    end_candidate(probe);
}

static void on_connected(void *arg, int fd, const struct hearth_failure *failure)
{
    struct probe *probe = arg;
    probe->fd = fd;
    if (fd < 0)
        blame(probe, failure->detail);
    else if (watch_init(&probe->answer, probe->driver->config.loop, fd, on_answer, probe))
        blame(probe, "out of memory");
    else {
        timer_set(&probe->deadline, clock_monotonic_us() + ANSWER_TIMEOUT_US);
        return;
    }
    end_candidate(probe);
}

static void on_started(void *arg, int error, const struct hearth_failure *failure)
{
    struct probe *probe = arg;
    struct driver *driver = &probe->driver->driver;
    if (error) {
        blame(probe, failure->detail);
        end_candidate(probe);
        return;
    }
    driver->operations->connect(driver, &probe->guest, 0, on_connected, probe);
}

static void on_prepared(void *arg, int error, const struct hearth_failure *failure)
{
    struct probe *probe = arg;
    struct driver *driver = &probe->driver->driver;
    if (error) {
        blame(probe, failure->detail);
        end_candidate(probe);
        return;
    }
    driver->operations->start(driver, &probe->guest, &probe->spec, on_started, probe);
}

/* "crun version 1.8.1\n…" becomes "crun 1.8.1". */
static void take_version(struct oci_runtime *runtime, const char *text)
{
    const char *number = strstr(text, "version ");
    number = number ? number + strlen("version ") : "";
    int length = (int)strspn(number, "abcdefghijklmnopqrstuvwxyz0123456789.+-_~");
    snprintf(runtime->version, sizeof runtime->version, "%.24s %.*s", base_name(runtime->path),
             length > 36 ? 36 : length, number);
}

static void on_version(void *arg, const struct child_result *result)
{
    struct probe *probe = arg;
    struct driver *driver = &probe->driver->driver;
    if (result->exit_code) {
        blame(probe, "--version fails");
        try_next(probe);
        return;
    }
    take_version(&probe->driver->runtime, result->output);
    probe->guest = (struct guest){
        .driver = driver,
        .process = PIDREF_NONE,
        .index = (UINT32_MAX - probe->driver->config.uid_base) / OCI_ID_RANGE - 1, /* the last */
    };
    id_make(probe->guest.guest_id, "gu", "aa");
    driver->operations->prepare(driver, &probe->guest, &probe->spec, on_prepared, probe);
}

static bool choose(struct probe *probe, struct oci_runtime *runtime)
{
    const char *configured = probe->driver->config.runtime;
    *runtime = (struct oci_runtime){.version = "OCI runtime"};
    if (!is_auto(configured)) {
        if (probe->next++)
            return false;
        oci_runtime_find(runtime, configured);
        return true;
    }
    while (probe->next < CANDIDATES)
        if (spawn_find(candidates[probe->next++], runtime->path))
            return true;
    return false;
}

static void try_next(struct probe *probe)
{
    struct oci_runtime *runtime = &probe->driver->runtime;
    if (!choose(probe, runtime)) {
        finish(probe);
        return;
    }
    const char *const argv[] = {runtime->path, "--version", NULL};
    const struct spawn_spec spec = {
        .argv = argv,
        .stdin_fd = -1,
        .stdout_fd = -1,
        .stderr_fd = -1,
        .timeout_ms = VERSION_TIMEOUT_MS,
    };
    struct hearth_failure failure;
    if (spawn(&probe->child, probe->driver->config.loop, &spec, on_version, probe, &failure)) {
        blame(probe, failure.detail);
        try_next(probe);
    }
}

/* --- the whole --- */

/* An environment of nothing: the mount points are made in the guest's own layer. */
static int make_empty_tree(struct probe *probe)
{
    if (asprintf(&probe->tree_path, "%s/empty", probe->driver->config.state_dir) < 0) {
        probe->tree_path = NULL;
        return -ENOMEM;
    }
    return mkdir(probe->tree_path, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

static void begin(void *arg)
{
    struct probe *probe = arg;
    struct oci_driver *driver = probe->driver;
    if (driver->probe.usable) {
        probe->done(probe->arg, &driver->probe);
        probe_free(probe);
        return;
    }
    snprintf(probe->why, sizeof probe->why,
             "no OCI runtime (crun, runc or runsc) is installed where PATH looks");
    int error = make_empty_tree(probe);
    probe->spec = (struct guest_spec){
        .tree_path = probe->tree_path,
        .vcpu_count = 1,
        .mem_mib = 64,
        .hostname = "probe",
    };
    if (error || !driver->launch_path || !driver->agent_path ||
        access(driver->agent_path, X_OK) < 0) {
        snprintf(probe->why, sizeof probe->why,
                 error                 ? "the state directory cannot be written"
                 : driver->launch_path ? "hearth-agent is not where it should be"
                                       : "hearth-launch is not where it should be");
        finish(probe);
        return;
    }
    try_next(probe);
}

void oci_probe(struct driver *driver, driver_probed done, void *arg)
{
    struct probe *probe = calloc(1, sizeof *probe);
    if (!probe)
        abort();
    probe->driver = container_of(driver, struct oci_driver, driver);
    probe->done = done;
    probe->arg = arg;
    probe->fd = -1;
    probe->began = clock_monotonic_us();
    timer_init(&probe->deadline, probe->driver->config.loop, on_deadline, probe);
    loop_defer(probe->driver->config.loop, begin, probe);
}
