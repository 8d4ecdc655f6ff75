#include "supervisord/guest_network.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "supervisord/drivers/network.h"
#include "supervisord/supervisor_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int guest_network_text(char **ret_text, bool listed, const char *const *entries, size_t count,
                       struct hearth_failure *failure)
{
    auto_buf struct buf text = {0};
    auto_free struct net_policy *checked = calloc(1, sizeof *checked);
    int error = checked ? buf_text(&text, listed ? "listed\n" : "open\n") : HEARTH_ENOMEMORY;
    if (!error && count > TENANT_ENTRIES_MAX) {
        error = hearth_fail(failure, HEARTH_EINVALID, "bad_network_entry",
                            "a tenant's list may have %d entries", TENANT_ENTRIES_MAX);
        hearth_failure_field(failure, "/allow");
        return error;
    }
    for (size_t i = 0; !error && i < count; i++) {
        if (!net_policy_add(checked, entries[i])) {
            char field[32];
            error = hearth_fail(failure, HEARTH_EINVALID, "bad_network_entry",
                                "an entry is neither a name nor an IPv4 network");
            snprintf(field, sizeof field, "/allow/%zu", i);
            hearth_failure_field(failure, field);
            hearth_failure_hint(failure,
                                "Entries are such as packages.example, *.mirror.example, *, "
                                "192.0.2.7 or 10.1.0.0/16.");
            return error;
        }
        error = buf_printf(&text, "%s\n", entries[i]);
    }
    *ret_text = error ? NULL : buf_steal(&text);
    return *ret_text ? 0 : hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
}

static void paths_of(const struct sandbox *sandbox, char policy[PATH_MAX], char log[PATH_MAX])
{
    network_paths(sandbox->supervisor->config->state_dir, sandbox->guest.guest_id, policy, log);
}

/* In place, for who reads it holds it open: what is half written is no policy, and not taken. */
static int write_in_place(const char *path, const struct buf *text)
{
    auto_close int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    if (pwrite(fd, text->data, text->length, 0) != (ssize_t)text->length ||
        ftruncate(fd, (off_t)text->length) < 0)
        return errno ? -errno : -EIO;
    return 0;
}

/* The daemon's exceptions, for every tenant, after the tenant's own. */
static int compose(const struct sandbox *sandbox, struct buf *text)
{
    const struct tenant *tenant = tenant_by_id(sandbox->supervisor, sandbox->tenant_id);
    const char *allow = sandbox->supervisor->config->egress_allow;
    int error = buf_text(text, tenant ? tenant->network : "listed\n");
    while (!error && *allow) {
        size_t length = strcspn(allow, ",");
        error = buf_printf(text, "%.*s\n", (int)length, allow);
        allow += length + (allow[length] == ',');
    }
    return error ? error : buf_text(text, ".\n");
}

int guest_network_write(const struct sandbox *sandbox, struct hearth_failure *failure)
{
    char policy[PATH_MAX], log[PATH_MAX];
    auto_buf struct buf text = {0};
    paths_of(sandbox, policy, log);
    if (compose(sandbox, &text))
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    int error = write_in_place(policy, &text);
    return error ? hearth_fail_errno(failure, -error, "network_unavailable",
                                     "cannot write the guest's network policy")
                 : 0;
}

static void write_or_warn(const struct sandbox *sandbox)
{
    struct hearth_failure failure;
    if (network_has_device(sandbox->network) && guest_network_write(sandbox, &failure))
        log_error("network_policy_not_written", "guest=%s detail=\"%s\"", sandbox->guest.guest_id,
                  failure.detail);
}

void guest_network_changed(struct tenant *tenant)
{
    list_for_each(cursor, next, &tenant->supervisor->sandboxes)
    {
        const struct sandbox *sandbox = container_of(cursor, struct sandbox, all_link);
        if (strcmp(sandbox->tenant_id, tenant->tenant_id) == 0)
            write_or_warn(sandbox);
    }
}

static bool is_known(struct supervisor *supervisor, const char *file)
{
    list_for_each(cursor, next, &supervisor->sandboxes)
    {
        const char *guest_id = container_of(cursor, struct sandbox, all_link)->guest.guest_id;
        size_t length = strlen(guest_id);
        if (strncmp(file, guest_id, length) == 0 && file[length] == '.')
            return true;
    }
    return false;
}

static void remove_others(struct supervisor *supervisor, const char *directory)
{
    DIR *files = opendir(directory);
    for (const struct dirent *file; files && (file = readdir(files));)
        if (file->d_name[0] != '.' && !is_known(supervisor, file->d_name))
            (void)unlinkat(dirfd(files), file->d_name, 0);
    if (files)
        closedir(files);
}

void guest_network_recover(struct supervisor *supervisor)
{
    char directory[PATH_MAX];
    snprintf(directory, sizeof directory, "%s/network", supervisor->config->state_dir);
    if (mkdir(directory, 0700) < 0 && errno != EEXIST)
        log_error("network_directory_not_made", "detail=\"%s\"", strerror(errno));
    remove_others(supervisor, directory);
    list_for_each(cursor, next, &supervisor->sandboxes)
        write_or_warn(container_of(cursor, struct sandbox, all_link));
}

static int open_log(const struct sandbox *sandbox)
{
    char policy[PATH_MAX], log[PATH_MAX];
    paths_of(sandbox, policy, log);
    return open(log, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

void guest_network_forget(struct sandbox *sandbox)
{
    char policy[PATH_MAX], log[PATH_MAX];
    auto_close int fd = open_log(sandbox);
    if (fd >= 0)
        sandbox->supervisor->network_denied += net_log_read_denied(fd);
    paths_of(sandbox, policy, log);
    (void)unlink(policy);
    (void)unlink(log);
}

void guest_network_log(const struct workspace *workspace, struct net_log *ret_log,
                       size_t *ret_count)
{
    auto_close int fd = workspace->sandbox ? open_log(workspace->sandbox) : -1;
    if (fd < 0 || !net_log_read(fd, ret_log, ret_count)) {
        ret_log->denied = ret_log->forgotten = 0;
        *ret_count = 0;
    }
}

uint64_t guest_network_denied(struct supervisor *supervisor)
{
    uint64_t denied = supervisor->network_denied;
    list_for_each(cursor, next, &supervisor->sandboxes)
    {
        const struct sandbox *sandbox = container_of(cursor, struct sandbox, all_link);
        auto_close int fd = network_has_device(sandbox->network) ? open_log(sandbox) : -1;
        if (fd >= 0)
            denied += net_log_read_denied(fd);
    }
    return denied;
}
