#include "supervisord/drivers/oci/bundle.h"

#include "base/failure.h"

#include <stddef.h>

/* What a root shell, a package manager and su need inside their own user namespace. None of it
 * reaches beyond; what could widen the kernel's surface (SYS_ADMIN, NET_ADMIN, SYS_PTRACE,
 * MKNOD, …) is left out. */
static const char *const capabilities[] = {
    "CAP_CHOWN",  "CAP_DAC_OVERRIDE", "CAP_FOWNER",  "CAP_FSETID",           "CAP_KILL",
    "CAP_SETGID", "CAP_SETUID",       "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT",
    "CAP_SETFCAP"};

/* The user and mount namespaces are hearth-launch's; the runtime adds these. A new network
 * namespace has lo alone. */
static const char *const namespaces[] = {"pid", "ipc", "uts", "mount", "network", "cgroup"};

/* Parts of /proc that tell of the host, whatever the host's own permissions. */
static const char *const masked_paths[] = {
    "/proc/acpi",       "/proc/asound",        "/proc/interrupts",  "/proc/kcore",
    "/proc/keys",       "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
    "/proc/timer_list", "/proc/timer_stats",
};
static const char *const readonly_paths[] = {
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

int bundle_string(struct buf *out, const char *text)
{
    int error = buf_char(out, '"');
    for (const unsigned char *at = (const unsigned char *)text; *at && !error; at++) {
        if (*at == '"' || *at == '\\')
            error = buf_printf(out, "\\%c", *at);
        else if (*at < 0x20 || *at == 0x7f)
            error = buf_printf(out, "\\u%04x", *at);
        else
            error = buf_char(out, (char)*at);
    }
    return error ? error : buf_char(out, '"');
}

static int append_list(struct buf *out, const char *key, const char *const *texts, size_t count)
{
    int error = buf_printf(out, ",\"%s\":[", key);
    for (size_t i = 0; i < count && !error; i++) {
        if (i)
            error = buf_char(out, ',');
        if (!error)
            error = bundle_string(out, texts[i]);
    }
    return error ? error : buf_char(out, ']');
}

#define LIST(array) array, sizeof(array) / sizeof((array)[0])

static int append_process(struct buf *out, const struct bundle *bundle)
{
    static const char *const sets[] = {"effective", "permitted"};
    int error = buf_text(
        out, "\"process\":{\"terminal\":false,\"user\":{\"uid\":0,\"gid\":0},\"cwd\":\"/\","
             "\"noNewPrivileges\":true,"
             "\"args\":[\"/run/hearth-agent\",\"--listen-fd\",\"3\",\"--pid1\"],"
             "\"env\":[\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\","
             "\"HOME=/root\",");
    if (!error)
        error = buf_printf(out, "\"HEARTH_GUEST_ID=%s\"],\"capabilities\":{\"inheritable\":[]",
                           bundle->guest_id);
    for (size_t i = 0; i < sizeof sets / sizeof sets[0] && !error; i++)
        error = append_list(out, sets[i], LIST(capabilities));
    if (!error)
        error = append_list(out, "bounding", LIST(capabilities));
    return error ? error : buf_text(out, "}}");
}

static int append_mount(struct buf *out, const char *target, const char *type, const char *source,
                        const char *options)
{
    return buf_printf(out,
                      "{\"destination\":\"%s\",\"type\":\"%s\",\"source\":\"%s\",\"options\":[%s]}",
                      target, type, source, options);
}

static int append_mounts(struct buf *out, const struct bundle *bundle)
{
    char shared_memory[128], run[128];
    snprintf(shared_memory, sizeof shared_memory, "\"nosuid\",\"nodev\",\"mode=1777\",\"size=%um\"",
             (unsigned)bundle->mem_mib / 2);
    snprintf(run, sizeof run, "\"nosuid\",\"nodev\",\"mode=755\",\"size=%um\"",
             (unsigned)bundle->mem_mib / 4);
    const struct {
        const char *target, *type, *source, *options;
    } mounts[] = {
        {"/proc", "proc", "proc", "\"nosuid\",\"noexec\",\"nodev\""},
        {"/dev", "tmpfs", "tmpfs", "\"nosuid\",\"noexec\",\"mode=755\",\"size=64k\""},
        {"/dev/pts", "devpts", "devpts",
         bundle->has_id_range
             ? "\"nosuid\",\"noexec\",\"newinstance\",\"ptmxmode=0666\",\"mode=0620\",\"gid=5\""
             : "\"nosuid\",\"noexec\",\"newinstance\",\"ptmxmode=0666\",\"mode=0620\""},
        {"/dev/shm", "tmpfs", "shm", shared_memory},
        {"/run", "tmpfs", "tmpfs", run},
        {"/run/hearth-agent", "bind", "/tmp/agent", "\"bind\",\"ro\",\"nosuid\",\"nodev\""},
    };
    int error = buf_text(out, "\"mounts\":[");
    for (size_t i = 0; i < sizeof mounts / sizeof mounts[0] && !error; i++) {
        if (i)
            error = buf_char(out, ',');
        if (!error)
            error = append_mount(out, mounts[i].target, mounts[i].type, mounts[i].source,
                                 mounts[i].options);
    }
    return error ? error : buf_char(out, ']');
}

static int append_linux(struct buf *out, const struct bundle *bundle)
{
    int error = buf_text(out, "\"linux\":{\"namespaces\":[");
    for (size_t i = 0; i < sizeof namespaces / sizeof namespaces[0] && !error; i++)
        error = buf_printf(out, "%s{\"type\":\"%s\"}", i ? "," : "", namespaces[i]);
    if (!error)
        error = buf_char(out, ']');
    if (!error)
        error = append_list(out, "maskedPaths", LIST(masked_paths));
    if (!error)
        error = append_list(out, "readonlyPaths", LIST(readonly_paths));
    if (!error && !bundle->seccomp_program) {
        error = buf_text(out, ",\"seccomp\":");
        if (!error)
            error = bundle_seccomp(out);
    }
    if (!error)
        error = buf_char(out, '}');
    if (!error && bundle->seccomp_program)
        error = buf_printf(out, ",\"annotations\":{\"run.oci.seccomp_bpf_data\":\"%s\"}",
                           bundle->seccomp_program);
    return error;
}

int bundle_config(struct buf *out, const struct bundle *bundle)
{
    int error = buf_text(out, "{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"rootfs\"},"
                              "\"hostname\":");
    if (!error)
        error = bundle_string(out, bundle->hostname);
    if (!error)
        error = buf_char(out, ',');
    if (!error)
        error = append_process(out, bundle);
    if (!error)
        error = buf_char(out, ',');
    if (!error)
        error = append_mounts(out, bundle);
    if (!error)
        error = buf_char(out, ',');
    if (!error)
        error = append_linux(out, bundle);
    return error ? error : buf_char(out, '}');
}
