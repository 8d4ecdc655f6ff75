#include "supervisord/config.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/id.h"
#include "base/path_at.h"
#include "base/text.h"
#include "supervisord/drivers/network.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum setting_type { SETTING_TEXT, SETTING_U32, SETTING_U64, SETTING_SWITCH, SETTING_FLAG };

/* One key, the same in the file, the environment, --set and as a flag. */
struct setting {
    const char *key;
    enum setting_type type;
    size_t offset;
    const char *initial;
    uint64_t minimum, maximum;
    const char *help;
};

#define SETTING(key, type, initial, minimum, maximum, help)                                        \
    {                                                                                              \
#key, type, offsetof(struct config, key), initial, minimum, maximum, help                  \
    }
#define GIB (UINT64_C(1) << 30)

static const struct setting settings[] = {
    SETTING(state_dir, SETTING_TEXT, "", 0, 0, "durable state: databases, disks, the first token"),
    SETTING(runtime_dir, SETTING_TEXT, "", 0, 0, "sockets and pid files; may be a tmpfs"),
    SETTING(image_dir, SETTING_TEXT, "", 0, 0, "environments; may be shared by many daemons"),
    SETTING(listen, SETTING_TEXT, "", 0, 0,
            "ADDRESS:PORT on loopback besides the Unix socket; port 0 picks one"),
    SETTING(driver, SETTING_TEXT, "auto", 0, 0, "auto, oci or qemu"),
    SETTING(transport, SETTING_TEXT, "auto", 0, 0,
            "auto, vsock, vhost-vsock, vhost-user-vsock or serial (microVMs)"),
    {"config", SETTING_TEXT, offsetof(struct config, config_file), "", 0, 0,
     "a file of `key = value` lines"},
    SETTING(node_tag, SETTING_TEXT, "aa", 0, 0, "first two characters of every ID made here"),
    SETTING(runtime, SETTING_TEXT, "auto", 0, 0,
            "OCI runtime: auto, or a path to crun, runc, runsc"),
    SETTING(qemu, SETTING_TEXT, "auto", 0, 0, "auto, or a path to qemu-system-x86_64"),
    SETTING(kernel, SETTING_TEXT, "auto", 0, 0,
            "kernel of virtual machines: auto, or a path to a bzImage"),
    SETTING(kernel_modules, SETTING_TEXT, "", 0, 0,
            "a directory of NN-NAME.ko that it needs, where it is not auto"),
    SETTING(boot_timeout_seconds, SETTING_U32, "30", 1, 600,
            "time for a microVM's boot; one that misses it is tried again once"),
    SETTING(egress_allow, SETTING_TEXT, "", 0, 0,
            "IPv4 networks that guests with egress reach although they are private, with commas"),
    SETTING(allowed_hosts, SETTING_TEXT, "", 0, 0, "Host names taken besides localhost's own"),
    SETTING(allowed_origins, SETTING_TEXT, "", 0, 0, "web origins that may call"),
    SETTING(log_level, SETTING_TEXT, "info", 0, 0, "debug, info, warning or error"),
    {"template", SETTING_SWITCH, offsetof(struct config, template_on), "on", 0, 0,
     "start microVMs from a saved template"},
    SETTING(template_shared, SETTING_SWITCH, "off", 0, 0,
            "let tenants share templates (docs/security.md says what that tells them)"),
    SETTING(pool, SETTING_U32, "0", 0, 1024,
            "guests kept ready for creates: empty containers, QEMU processes that wait"),
    SETTING(pool_restored, SETTING_SWITCH, "off", 0, 0,
            "have the pool's microVMs wait restored, warmed and paused: some 60 MiB each"),
    SETTING(pool_spare_seconds, SETTING_U32, "600", 0, 86400 * 365,
            "without a pool, have a microVM of each kind that was asked for within so long wait as "
            "with pool_restored; 0: none"),
    SETTING(pool_reserve_mib, SETTING_U32, "512", 0, 1048576,
            "memory that the host must have available besides; else the pool is given up, and no "
            "running machine copied"),
    SETTING(idle_suspend_seconds, SETTING_U32, "0", 0, 86400 * 365,
            "save a microVM to disk that was idle for so long, until it is wanted again; 0: never"),
    SETTING(uid_base, SETTING_U32, "1879048192", 65536, 4000000000,
            "first uid of the ranges given to guests (as root)"),
    SETTING(history_entries, SETTING_U32, "1000", 1, 1000000, "commands kept for each workspace"),
    SETTING(event_entries, SETTING_U32, "100000", 64, 10000000, "events kept for each tenant"),
    SETTING(event_days, SETTING_U32, "7", 1, 3650, "days that events are kept"),
    SETTING(event_heartbeat_ms, SETTING_U32, "15000", 50, 600000,
            "pause after which a stream of events says that it is alive"),
    SETTING(idle_exit_seconds, SETTING_U32, "0", 0, 86400 * 365,
            "end after this long without request and guest; 0: never"),
    SETTING(max_connections, SETTING_U32, "4096", 8, 100000, "HTTP connections"),
    SETTING(max_connections_per_token, SETTING_U32, "1024", 1, 100000,
            "HTTP connections of one token or user"),
    SETTING(head_timeout_ms, SETTING_U32, "10000", 100, 3600000, "time for a request's head"),
    SETTING(body_timeout_ms, SETTING_U32, "60000", 100, 3600000,
            "time for a request's body; for a stream, its longest pause"),
    SETTING(request_timeout_ms, SETTING_U32, "300000", 1000, 86400000,
            "time for a whole request that declares no longer work"),
    SETTING(max_body_bytes, SETTING_U64, "8388608", 1024, GIB, "largest JSON body"),
    SETTING(max_upload_bytes, SETTING_U64, "4294967296", 1024, 1024 * GIB,
            "largest upload, as sent"),
    SETTING(max_upload_content_bytes, SETTING_U64, "17179869184", 1024, 1024 * GIB,
            "largest upload, unpacked"),
    SETTING(max_upload_entries, SETTING_U64, "1000000", 1, 100000000, "members in an upload"),
    SETTING(max_snapshots, SETTING_U32, "4096", 1, 1000000, "a workspace's named snapshots"),
    SETTING(max_store_bytes, SETTING_U64, "68719476736", 1048576, 1024 * GIB,
            "a tenant's content store, on the disk"),
    SETTING(max_workspaces, SETTING_U32, "4096", 1, 1000000, "a new tenant's workspaces"),
    SETTING(max_running_execs, SETTING_U32, "2048", 1, 1000000,
            "a new tenant's commands at one time"),
    SETTING(max_mem_mib, SETTING_U64, "4194304", 256, UINT64_C(1) << 40,
            "memory promised to a new tenant's workspaces"),
    SETTING(max_kept_upload_bytes, SETTING_U64, "68719476736", 1024, 1024 * 1024 * GIB,
            "uploads kept for a new tenant at one time"),
    SETTING(retention_seconds, SETTING_U32, "604800", 1, 3153600000,
            "time that a new tenant's expired workspaces are kept"),
    SETTING(stop_guests, SETTING_FLAG, NULL, 0, 0, "at SIGTERM stop the guests too"),
};
#define SETTING_COUNT (sizeof settings / sizeof *settings)

static const struct setting *find(const char *name, size_t length)
{
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        const char *key = settings[i].key;
        size_t j = 0;
        while (j < length && key[j] && (key[j] == name[j] || (key[j] == '_' && name[j] == '-')))
            j++;
        if (j == length && !key[j])
            return &settings[i];
    }
    return NULL;
}

static int bad_value(const struct setting *setting, const char *value, const char *expected,
                     struct hearth_failure *failure)
{
    char field[64];
    snprintf(field, sizeof field, "/%s", setting->key);
    int error = hearth_fail(failure, HEARTH_EINVALID, "bad_setting", "%s: \"%.64s\" is not %s",
                            setting->key, value, expected);
    hearth_failure_field(failure, field);
    return error;
}

static int parse_switch(const char *value, bool *ret_on)
{
    static const char *const on[] = {"on", "true", "yes", "1"}, *const off[] = {"off", "false",
                                                                                "no", "0"};
    for (size_t i = 0; i < 4; i++)
        if (strcmp(value, on[i]) == 0 || strcmp(value, off[i]) == 0) {
            *ret_on = strcmp(value, on[i]) == 0;
            return 0;
        }
    return -EINVAL;
}

static int apply(struct config *config, const struct setting *setting, const char *value,
                 struct hearth_failure *failure)
{
    char *member = (char *)config + setting->offset;
    if (setting->type == SETTING_TEXT) {
        char *copy = text_copy(value);
        if (!copy)
            return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        free(*(char **)(void *)member);
        *(char **)(void *)member = copy;
        return 0;
    }
    if (setting->type == SETTING_SWITCH || setting->type == SETTING_FLAG)
        return parse_switch(value, (bool *)member) ? bad_value(setting, value, "on or off", failure)
                                                   : 0;
    char *end, expected[96];
    errno = 0;
    unsigned long long number = strtoull(value, &end, 10);
    if (errno || *end || !isdigit((unsigned char)value[0]) || number < setting->minimum ||
        number > setting->maximum) {
        snprintf(expected, sizeof expected, "a number from %llu to %llu",
                 (unsigned long long)setting->minimum, (unsigned long long)setting->maximum);
        return bad_value(setting, value, expected, failure);
    }
    if (setting->type == SETTING_U32)
        *(uint32_t *)(void *)member = (uint32_t)number;
    else
        *(uint64_t *)(void *)member = number;
    return 0;
}

/* "key=value", blanks around either allowed. */
static int apply_line(struct config *config, char *line, const char *where,
                      struct hearth_failure *failure)
{
    char *equals = strchr(line, '=');
    if (!equals)
        return hearth_fail(failure, HEARTH_EINVALID, "bad_setting",
                           "%s: \"%.64s\" is not KEY=VALUE", where, line);
    char *key = line, *key_end = equals, *value = equals + 1, *end = value + strlen(value);
    while (isspace((unsigned char)*key))
        key++;
    while (key_end > key && isspace((unsigned char)key_end[-1]))
        key_end--;
    while (isspace((unsigned char)*value))
        value++;
    while (end > value && isspace((unsigned char)end[-1]))
        *--end = '\0';
    const struct setting *setting = find(key, (size_t)(key_end - key));
    if (!setting)
        return hearth_fail(failure, HEARTH_EINVALID, "unknown_setting",
                           "%s: there is no setting \"%.*s\"", where, (int)(key_end - key), key);
    return apply(config, setting, value, failure);
}

static int apply_file(struct config *config, const char *path, struct hearth_failure *failure)
{
    auto_fclose FILE *file = fopen(path, "re");
    if (!file)
        return hearth_fail_errno(failure, errno, "bad_config_file", "cannot read %s", path);
    char line[4096], where[4200];
    for (unsigned number = 1; fgets(line, sizeof line, file); number++) {
        char *start = line + strspn(line, " \t\r\n");
        if (!*start || *start == '#')
            continue;
        snprintf(where, sizeof where, "%s:%u", path, number);
        int error = apply_line(config, start, where, failure);
        if (error)
            return error;
    }
    return 0;
}

static int apply_environment(struct config *config, struct hearth_failure *failure)
{
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        char name[64] = "HEARTHD_";
        size_t used = strlen(name);
        for (const char *key = settings[i].key; *key && used + 1 < sizeof name; key++)
            name[used++] = (char)toupper((unsigned char)*key);
        name[used] = '\0';
        const char *value = getenv(name);
        int error = value ? apply(config, &settings[i], value, failure) : 0;
        if (error)
            return error;
    }
    return 0;
}

/* Two passes: the first only looks for --config, so that the file yields to the environment and the
 * flags. */
static int apply_arguments(struct config *config, int argc, char **argv, bool only_config_file,
                           struct hearth_failure *failure)
{
    for (int i = 1; i < argc; i++) {
        const char *argument = argv[i];
        if (!text_starts_with(argument, "--"))
            return hearth_fail(failure, HEARTH_EINVALID, "usage", "unexpected argument \"%.64s\"",
                               argument);
        const char *name = argument + 2, *equals = strchr(name, '=');
        size_t length = equals ? (size_t)(equals - name) : strlen(name);
        if (!equals && strcmp(name, "help") == 0)
            config->help = true;
        else if (!equals && strcmp(name, "version") == 0)
            config->version = true;
        else if (length == 8 && strncmp(name, "describe", 8) == 0) {
            config->describe = true;
            free(config->describe_format);
            config->describe_format = text_copy(equals ? equals + 1 : "text");
        } else {
            const struct setting *setting = find(name, length);
            bool set = length == 3 && strncmp(name, "set", 3) == 0;
            if (!setting && !set)
                return hearth_fail(failure, HEARTH_EINVALID, "usage", "unknown option \"%.64s\"",
                                   argument);
            const char *value = equals ? equals + 1 : NULL;
            if (!value && setting && setting->type == SETTING_FLAG)
                value = "on";
            if (!value && !(value = i + 1 < argc ? argv[++i] : NULL))
                return hearth_fail(failure, HEARTH_EINVALID, "usage", "%s wants a value", argument);
            bool names_file = setting && setting->offset == offsetof(struct config, config_file);
            if (only_config_file != names_file)
                continue;
            auto_free char *line = text_copy(value);
            int error = !line ? HEARTH_ENOMEMORY
                        : set ? apply_line(config, line, "--set", failure)
                              : apply(config, setting, value, failure);
            if (error)
                return error;
        }
    }
    return 0;
}

static void default_directory(char **member, const char *system, const char *variable,
                              const char *below_home, const char *suffix)
{
    char path[4096];
    const char *base = getenv(variable), *home = getenv("HOME");
    if (**member)
        return;
    if (geteuid() == 0)
        snprintf(path, sizeof path, "%s", system);
    else if (base && *base)
        snprintf(path, sizeof path, "%s/hearth%s", base, suffix);
    else if (below_home)
        snprintf(path, sizeof path, "%s/%s/hearth%s", home ? home : "", below_home, suffix);
    else
        snprintf(path, sizeof path, "/tmp/hearth-%u", (unsigned)geteuid());
    free(*member);
    *member = text_copy(path);
}

static int choice(const char *key, const char *value, const char *const *choices,
                  struct hearth_failure *failure)
{
    for (const char *const *entry = choices; *entry; entry++)
        if (strcmp(*entry, value) == 0)
            return 0;
    const struct setting *setting = find(key, strlen(key));
    return bad_value(setting, value, "one of its choices (--help lists them)", failure);
}

static int check(struct config *config, struct hearth_failure *failure)
{
    static const char *const drivers[] = {"auto", "oci", "qemu", NULL};
    static const char *const transports[] = {"auto",   "vsock", "vhost-vsock", "vhost-user-vsock",
                                             "serial", NULL};
    static const char *const levels[] = {"debug", "info", "warning", "error", NULL};
    int error = choice("driver", config->driver, drivers, failure);
    if (!error)
        error = choice("transport", config->transport, transports, failure);
    if (!error)
        error = choice("log_level", config->log_level, levels, failure);
    if (!error && !id_node_tag_valid(config->node_tag))
        error =
            bad_value(find("node_tag", 8), config->node_tag, "two characters of a-z, 2-7", failure);
    if (!error && !network_allow_valid(config->egress_allow))
        error = bad_value(find("egress_allow", 12), config->egress_allow,
                          "networks such as 192.168.1.0/24,10.1.2.3", failure);
    return error;
}

int config_load(struct config **ret_config, int argc, char **argv, struct hearth_failure *failure)
{
    struct config *config = calloc(1, sizeof *config);
    int error = config ? 0 : hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    for (size_t i = 0; !error && i < SETTING_COUNT; i++)
        if (settings[i].initial)
            error = apply(config, &settings[i], settings[i].initial, failure);
    const char *file = getenv("HEARTHD_CONFIG");
    if (!error && file)
        error = apply(config, find("config", 6), file, failure);
    if (!error)
        error = apply_arguments(config, argc, argv, true, failure);
    if (!error && *config->config_file)
        error = apply_file(config, config->config_file, failure);
    if (!error)
        error = apply_environment(config, failure);
    if (!error)
        error = apply_arguments(config, argc, argv, false, failure);
    if (!error)
        error = check(config, failure);
    if (error) {
        config_free(config);
        return error;
    }
    default_directory(&config->state_dir, "/var/lib/hearth", "XDG_STATE_HOME", ".local/state", "");
    default_directory(&config->runtime_dir, "/run/hearth", "XDG_RUNTIME_DIR", NULL, "");
    default_directory(&config->image_dir, "/var/lib/hearth/images", "XDG_DATA_HOME", ".local/share",
                      "/images");
    *ret_config = config;
    return 0;
}

void config_free(struct config *config)
{
    if (!config)
        return;
    for (size_t i = 0; i < SETTING_COUNT; i++)
        if (settings[i].type == SETTING_TEXT)
            free(*(char **)(void *)((char *)config + settings[i].offset));
    free(config->describe_format);
    free(config);
}

void config_print_help(void)
{
    puts("usage: hearthd [--KEY VALUE | --set KEY=VALUE]…\n\n"
         "Runs in the foreground, prints `ready URL` when it serves, drains at SIGTERM.\n"
         "Every key may also stand in the file named by --config, or in HEARTHD_KEY.\n\n"
         "  --help, --version\n"
         "  --describe[=text|markdown|json]  print the operation table\n");
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        char name[40];
        snprintf(name, sizeof name, "%s", settings[i].key);
        for (char *cursor = name; *cursor; cursor++)
            if (*cursor == '_')
                *cursor = '-';
        printf("  --%-28s %s%s%s%s\n", name, settings[i].help,
               settings[i].initial && *settings[i].initial ? " (" : "",
               settings[i].initial ? settings[i].initial : "",
               settings[i].initial && *settings[i].initial ? ")" : "");
    }
}
