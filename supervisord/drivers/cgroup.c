#include "supervisord/drivers/cgroup.h"

#include "base/cleanup.h"
#include "base/id.h"
#include "base/path_at.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

#define ROOT "/sys/fs/cgroup"
#define FILE_SIZE (CGROUP_PATH_SIZE + 64)
#define CPU_PERIOD_US 100000
#define CPU_SHARES 1024 /* of every group, unless it is told otherwise, with v1 … */
#define CPU_WEIGHT 100  /* … and v2 */
#define KILL_ROUNDS 1000
#define KILL_PAUSE_NS (2 * 1000 * 1000)

static const char *const controllers[CGROUP_CONTROLLERS_MAX] = {"memory", "pids", "cpu"};

static bool is_mounted(const char *path, unsigned long magic)
{
    struct statfs status;
    return statfs(path, &status) == 0 && (unsigned long)status.f_type == magic;
}

static int write_value(const char *directory, const char *file, const char *value)
{
    char path[FILE_SIZE];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

static int write_number(const char *directory, const char *file, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    return write_value(directory, file, text);
}

static ssize_t read_value(const char *directory, const char *file, char *out, size_t size)
{
    char path[FILE_SIZE];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    return path_read_small(AT_FDCWD, path, out, size);
}

/* Makes PARENT/NAME as the next base. */
static bool add_base(struct cgroups *cgroups, const char *parent, const char *name)
{
    char *base = cgroups->bases[cgroups->base_count];
    if (snprintf(base, CGROUP_PATH_SIZE, "%s/%s", parent, name) >= CGROUP_PATH_SIZE - ID_SIZE)
        return false;
    if ((mkdir(base, 0755) < 0 && errno != EEXIST) || access(base, W_OK) < 0)
        return false;
    cgroups->base_count++;
    return true;
}

static void find_v1(struct cgroups *cgroups, const char *name)
{
    bool *found[CGROUP_CONTROLLERS_MAX] = {&cgroups->memory, &cgroups->pids, &cgroups->cpu};
    for (size_t i = 0; i < CGROUP_CONTROLLERS_MAX; i++) {
        char mount[64];
        snprintf(mount, sizeof mount, ROOT "/%s", controllers[i]);
        *found[i] = is_mounted(mount, CGROUP_SUPER_MAGIC) && add_base(cgroups, mount, name);
    }
    if (cgroups->base_count)
        cgroups->kind = CGROUP_V1;
}

/* The highest group at or above our own that we may change: the root for root, the user manager's
 * for a user. Below our own service's, the guests would end with the service. */
static bool find_v2_parent(char parent[CGROUP_PATH_SIZE])
{
    char own[CGROUP_PATH_SIZE], path[CGROUP_PATH_SIZE + sizeof ROOT], procs[FILE_SIZE];
    if (path_read_small(AT_FDCWD, "/proc/self/cgroup", own, sizeof own) < 4 ||
        strncmp(own, "0::/", 4) != 0)
        return false;
    own[strcspn(own, "\n")] = '\0';
    snprintf(path, sizeof path, ROOT "%s", own + 3);
    bool found = false;
    for (char *slash; strlen(path) >= strlen(ROOT) && (slash = strrchr(path, '/')); *slash = '\0') {
        snprintf(procs, sizeof procs, "%s/cgroup.procs", path);
        if (access(path, W_OK) == 0 && access(procs, W_OK) == 0) {
            snprintf(parent, CGROUP_PATH_SIZE, "%s", path);
            found = true;
        }
    }
    return found;
}

static void find_v2(struct cgroups *cgroups, const char *name)
{
    char parent[CGROUP_PATH_SIZE], controller[16];
    if (!find_v2_parent(parent) || !add_base(cgroups, parent, name))
        return;
    cgroups->kind = CGROUP_V2;
    bool *found[CGROUP_CONTROLLERS_MAX] = {&cgroups->memory, &cgroups->pids, &cgroups->cpu};
    for (size_t i = 0; i < CGROUP_CONTROLLERS_MAX; i++) {
        snprintf(controller, sizeof controller, "+%s", controllers[i]);
        (void)write_value(parent, "cgroup.subtree_control", controller);
        *found[i] = write_value(cgroups->bases[0], "cgroup.subtree_control", controller) == 0;
    }
}

void cgroups_find(struct cgroups *ret_cgroups, const char *name)
{
    *ret_cgroups = (struct cgroups){.kind = CGROUP_NONE};
    if (is_mounted(ROOT, CGROUP2_SUPER_MAGIC))
        find_v2(ret_cgroups, name);
    else
        find_v1(ret_cgroups, name);
}

void cgroups_leave(const struct cgroups *cgroups)
{
    for (size_t i = 0; i < cgroups->base_count; i++)
        (void)rmdir(cgroups->bases[i]);
}

static void group_path(const struct cgroups *cgroups, size_t index, const char *guest_id,
                       char out[CGROUP_PATH_SIZE])
{
    snprintf(out, CGROUP_PATH_SIZE, "%.*s/%s", CGROUP_PATH_SIZE - ID_SIZE - 1,
             cgroups->bases[index], guest_id);
}

/* With v1, a thread that moves itself alone needs no lock over all threads of the host, which costs
 * milliseconds; who enters here has one thread. */
void cgroup_join_file(const struct cgroups *cgroups, size_t index, const char *guest_id,
                      char out[CGROUP_PATH_SIZE])
{
    snprintf(out, CGROUP_PATH_SIZE, "%.*s/%s/%s", CGROUP_PATH_SIZE - ID_SIZE - 16,
             cgroups->bases[index], guest_id,
             cgroups->kind == CGROUP_V1 ? "tasks" : "cgroup.procs");
}

/* With swap accounting the pair must be kept in order (memory <= memory and swap) at every step:
 * one of the first two is refused, according to the direction of the change. */
static int limit_memory_v1(const char *group, uint64_t bytes)
{
    (void)write_number(group, "memory.memsw.limit_in_bytes", bytes);
    int error = write_number(group, "memory.limit_in_bytes", bytes);
    if (!error)
        (void)write_number(group, "memory.memsw.limit_in_bytes", bytes);
    return error;
}

static int limit_memory_v2(const char *group, uint64_t bytes)
{
    (void)write_number(group, "memory.swap.max", 0);
    return write_number(group, "memory.max", bytes);
}

static int limit_cpu(const struct cgroups *cgroups, const char *group, uint32_t vcpu_count)
{
    uint64_t quota = (uint64_t)vcpu_count * CPU_PERIOD_US;
    if (cgroups->kind == CGROUP_V1) {
        int error = write_number(group, "cpu.cfs_period_us", CPU_PERIOD_US);
        return error ? error : write_number(group, "cpu.cfs_quota_us", quota);
    }
    char text[48];
    snprintf(text, sizeof text, "%llu %d", (unsigned long long)quota, CPU_PERIOD_US);
    return write_value(group, "cpu.max", text);
}

int cgroup_limit(const struct cgroups *cgroups, const char *guest_id,
                 const struct cgroup_limits *limits, struct hearth_failure *failure)
{
    char group[CGROUP_PATH_SIZE];
    size_t index = 0; /* with v1 each controller found has its own base, in this order */
    bool v1 = cgroups->kind == CGROUP_V1;
    int error = 0;
    if (cgroups->memory && !error) {
        uint64_t bytes = (uint64_t)limits->mem_mib << 20;
        group_path(cgroups, index, guest_id, group);
        error = v1 ? limit_memory_v1(group, bytes) : limit_memory_v2(group, bytes);
        index += v1;
    }
    if (cgroups->pids && !error) {
        group_path(cgroups, index, guest_id, group);
        error = write_number(group, "pids.max", limits->pids_max);
        index += v1;
    }
    if (cgroups->cpu && !error) {
        group_path(cgroups, index, guest_id, group);
        error = limit_cpu(cgroups, group, limits->vcpu_count);
    }
    if (error)
        return hearth_fail_errno(failure, -error, "limit_failed", "cannot set the limits in %s",
                                 group);
    return 0;
}

void cgroup_prioritise(const struct cgroups *cgroups, const char *guest_id, bool last)
{
    char group[CGROUP_PATH_SIZE];
    bool v1 = cgroups->kind == CGROUP_V1;
    if (!cgroups->cpu)
        return;
    group_path(cgroups, v1 ? cgroups->base_count - 1 : 0, guest_id, group);
    uint64_t most = v1 ? CPU_SHARES : CPU_WEIGHT;
    (void)write_number(group, v1 ? "cpu.shares" : "cpu.weight", last ? most / 10 : most);
}

int cgroup_make(const struct cgroups *cgroups, const char *guest_id,
                const struct cgroup_limits *limits, struct hearth_failure *failure)
{
    for (size_t i = 0; i < cgroups->base_count; i++) {
        char group[CGROUP_PATH_SIZE];
        group_path(cgroups, i, guest_id, group);
        if (mkdir(group, 0755) < 0 && errno != EEXIST)
            return hearth_fail_errno(failure, errno, "cgroup_failed", "cannot make %s", group);
    }
    return cgroup_limit(cgroups, guest_id, limits, failure);
}

/* Gives the number of processes that were there, or a negative errno. */
static int kill_members(const char *group)
{
    char path[FILE_SIZE];
    snprintf(path, sizeof path, "%s/cgroup.procs", group);
    auto_fclose FILE *members = fopen(path, "re");
    if (!members)
        return -errno;
    int count = 0, pid;
    while (fscanf(members, "%d", &pid) == 1) {
        count++;
        if (pid > 0) /* 0: one that our PID namespace does not show */
            kill(pid, SIGKILL);
    }
    return count;
}

/* To end takes processor time: thousands of processes that are held to a share of it do not end in
 * minutes. */
static void free_cpu(const struct cgroups *cgroups, const char *guest_id)
{
    char group[CGROUP_PATH_SIZE];
    bool v1 = cgroups->kind == CGROUP_V1;
    if (!cgroups->cpu)
        return;
    group_path(cgroups, v1 ? cgroups->base_count - 1 : 0, guest_id, group);
    (void)write_value(group, v1 ? "cpu.cfs_quota_us" : "cpu.max", v1 ? "-1" : "max");
}

void cgroup_kill(const struct cgroups *cgroups, const char *guest_id)
{
    free_cpu(cgroups, guest_id);
    for (size_t i = 0; i < cgroups->base_count; i++) {
        char group[CGROUP_PATH_SIZE];
        group_path(cgroups, i, guest_id, group);
        if (write_value(group, "cgroup.kill", "1") < 0)
            (void)kill_members(group);
    }
}

/* Without cgroup.kill a process may fork between the reading of the list and its death: go on
 * until the directory goes. */
static int destroy_group(const char *group)
{
    for (int round = 0; round < KILL_ROUNDS; round++) {
        if (rmdir(group) == 0 || errno == ENOENT)
            return 0;
        if (errno != EBUSY)
            return -errno;
        if (write_value(group, "cgroup.kill", "1") < 0)
            (void)kill_members(group);
        nanosleep(&(struct timespec){.tv_nsec = KILL_PAUSE_NS}, NULL);
    }
    return -EBUSY;
}

int cgroup_destroy(const struct cgroups *cgroups, const char *guest_id,
                   struct hearth_failure *failure)
{
    int result = 0;
    free_cpu(cgroups, guest_id);
    for (size_t i = 0; i < cgroups->base_count; i++) {
        char group[CGROUP_PATH_SIZE];
        group_path(cgroups, i, guest_id, group);
        int error = destroy_group(group);
        if (error)
            result = hearth_fail_errno(failure, -error, "cgroup_failed", "cannot remove %s", group);
    }
    return result;
}

bool cgroup_was_out_of_memory(const struct cgroups *cgroups, const char *guest_id)
{
    char group[CGROUP_PATH_SIZE], text[512];
    if (!cgroups->memory)
        return false;
    group_path(cgroups, 0, guest_id, group);
    if (read_value(group, cgroups->kind == CGROUP_V1 ? "memory.oom_control" : "memory.events", text,
                   sizeof text) <= 0)
        return false;
    const char *count = strstr(text, "oom_kill ");
    return count && strtoul(count + strlen("oom_kill "), NULL, 10) > 0;
}

void cgroup_each(const struct cgroups *cgroups, void (*visit)(void *arg, const char *guest_id),
                 void *arg)
{
    for (size_t i = 0; i < cgroups->base_count; i++) {
        auto_closedir DIR *base = opendir(cgroups->bases[i]);
        for (struct dirent *entry; base && (entry = readdir(base));)
            if (id_valid(entry->d_name, "gu"))
                visit(arg, entry->d_name);
    }
}
