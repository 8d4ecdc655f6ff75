/* What hearthd was told: defaults, then the config file, then HEARTHD_* variables, then --set and
 * flags, the later one winning. Keys are the same everywhere: `state_dir` is --state-dir,
 * HEARTHD_STATE_DIR, `state_dir = …` in the file, and --set state_dir=…. Read once at start;
 * immutable after. */
#pragma once

#include "base/failure.h"

#include <stdbool.h>
#include <stdint.h>

struct config {
    char *state_dir, *runtime_dir, *image_dir;
    char *listen; /* "127.0.0.1:PORT", "" for the Unix socket alone */
    char *driver; /* auto, oci, qemu */
    char *transport;
    char *config_file;
    char *node_tag;
    char *runtime;                         /* OCI runtime: "auto" or a path */
    char *qemu, *kernel, *kernel_modules;  /* virtual machines: "auto" or paths */
    uint32_t boot_timeout_seconds;         /* of a virtual machine's boot, which is tried twice */
    char *allowed_hosts, *allowed_origins; /* comma-separated, besides localhost's names */
    char *log_level;
    bool template_shared; /* one template for all tenants */
    bool template_on;     /* template */
    uint32_t pool;        /* guests kept ready, of each kind that was asked for last */
    bool pool_restored;   /* its machines wait with their state loaded, paused */
    uint32_t
        pool_spare_seconds; /* where pool is 0: one such machine of each kind in use; 0: none */
    uint32_t idle_suspend_seconds; /* 0: never */
    uint32_t pool_reserve_mib;     /* of the host's memory, that pool and copies leave alone */
    const char *egress_allow;      /* networks that guests reach although they are private */
    uint32_t uid_base;             /* first uid of the guests' ranges, as root */
    uint32_t history_entries;      /* kept for each workspace */
    uint32_t event_entries;        /* kept for each tenant … */
    uint32_t event_days;           /* … for so long */
    uint32_t event_heartbeat_ms;
    uint32_t idle_exit_seconds; /* 0: never. A private daemon ends after this long without a request
                                   or guest */
    uint32_t max_connections, max_connections_per_token;
    uint32_t head_timeout_ms, body_timeout_ms, request_timeout_ms;
    uint64_t max_body_bytes; /* JSON bodies */
    uint64_t max_upload_bytes, max_upload_content_bytes, max_upload_entries;
    uint32_t max_snapshots;   /* named ones, of a workspace */
    uint64_t max_store_bytes; /* of a tenant's snapshots, baselines and uploads, on the disk */
    uint32_t max_workspaces, max_running_execs; /* a new tenant's quota */
    uint64_t max_mem_mib, max_kept_upload_bytes;
    uint32_t retention_seconds;   /* a new tenant's: from a workspace's expiry to its deletion */
    bool stop_guests;             /* at SIGTERM */
    bool help, version, describe; /* what the command line asks for instead of serving */
    char *describe_format;        /* text, markdown, json */
};

/* Gives a config; on error the failure's field is "/KEY". */
int config_load(struct config **ret_config, int argc, char **argv, struct hearth_failure *failure);
void config_free(struct config *config);
/* --help's text, made from the same table. */
void config_print_help(void);
