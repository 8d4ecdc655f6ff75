/* Tenants, tokens and quotas. A token reads `hth_<public id>_<secret>`: the public part finds the
 * row, the secret's SHA-256 is compared in constant time. Kept in memory, written through the state
 * writer. Loop thread. */
#pragma once

#include "base/failure.h"
#include "base/list.h"
#include "storage/rows.h"

struct supervisor;

struct tenant {
    struct supervisor *supervisor;
    char tenant_id[64];
    char *name;
    int64_t created_at;
    uint32_t max_workspaces, max_running_execs;
    uint64_t max_mem_mib, max_kept_upload_bytes;
    int64_t retention_us;
    char *host_roots;
    char *network; /* what its guests may reach, as guest_network_text makes it */
    /* In use now. */
    uint32_t workspace_count, running_execs;
    uint64_t mem_mib;
    uint64_t upload_bytes;  /* kept or on their way in */
    struct list link;       // supervisor::tenants
    struct list workspaces; // workspace::link, last_activity_at descending
    uint64_t order;         // another one whenever that list has changed
    size_t snapshot_ids;    /* workspace_list.c: in the orders that are kept for its cursors */
    /* events.c: the last number given, the last one that can be read. */
    uint64_t event_sequence, event_written;
    struct list followers; // event_follower::link
    bool waking;
};

/* Who asks. Copied by value; the tenant lives as long as the supervisor. */
struct principal {
    struct tenant *tenant;
    unsigned rights;    /* enum token_rights */
    uint64_t intent;    /* the idempotent request it asks by, 0 for none: all that is audited for
                           it says so, by which a retry after a crash finds what was done */
    char token_id[32];  /* "local" for the daemon's own user on the Unix socket */
    int64_t expires_at; /* the token's; 0: never */
};

#define TENANT_TOKEN_SIZE 96

/* HEARTH_EUNAUTHENTICATED `unauthenticated`, the same for every reason. Sub-microsecond: no
 * database. */
int tenant_authenticate(struct supervisor *supervisor, const char *token,
                        struct principal *ret_principal, struct hearth_failure *failure);
/* The peer of the Unix socket: the daemon's own user (and root) is admin; others need a token. */
int tenant_authenticate_peer(struct supervisor *supervisor, uid_t uid,
                             struct principal *ret_principal, struct hearth_failure *failure);

/* May be told of all tenants at once: the operator's own tenant, and administrators. */
bool principal_sees_all(const struct principal *principal);

struct tenant *tenant_find(struct supervisor *supervisor, const char *name_or_id);

typedef void (*tenant_done)(void *arg, int error, const struct hearth_failure *failure,
                            struct tenant *tenant,
                            const char *token /* once, never stored; NULL where none was made */,
                            const char *token_id);

struct tenant_spec {
    const char *name;                           /* [a-z0-9][a-z0-9-]{0,62} */
    uint32_t max_workspaces, max_running_execs; /* 0: the default */
    uint64_t max_mem_mib, max_kept_upload_bytes;
    int64_t retention_us;   /* 0: the default */
    const char *host_roots; /* as host_roots_join gives them; NULL: none */
};
/* Who asks for a change and by which request: its audit row is written with it. */
struct tenant_asker {
    const struct principal *principal;
    const char *request_id;
};
void tenant_create(struct supervisor *supervisor, const struct tenant_asker *asker,
                   const struct tenant_spec *spec, tenant_done done, void *arg);
/* Takes effect for requests that come after. host_roots: as host_roots_join gives them; taken. */
void tenant_set_host_roots(struct tenant *tenant, const struct tenant_asker *asker,
                           char *host_roots, tenant_done done, void *arg);
/* network: as guest_network_text makes it; taken. */
void tenant_set_network(struct tenant *tenant, const struct tenant_asker *asker, char *network,
                        tenant_done done, void *arg);
void tenant_issue_token(struct tenant *tenant, const struct tenant_asker *asker, unsigned rights,
                        int64_t expires_at, const char *note, tenant_done done, void *arg);
void tenant_revoke_token(struct tenant *tenant, const struct tenant_asker *asker,
                         const char *token_id, tenant_done done, void *arg);
void tenant_each(struct supervisor *supervisor, int (*visit)(void *arg, struct tenant *tenant),
                 void *arg);
struct token_info {
    const char *token_id, *note;
    unsigned rights;
    int64_t created_at, expires_at, revoked_at;
};
void tenant_each_token(struct supervisor *supervisor, struct tenant *tenant,
                       int (*visit)(void *arg, const struct token_info *token), void *arg);
