CREATE TABLE tenant (
    tenant_id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    max_workspaces INTEGER NOT NULL,
    max_running_execs INTEGER NOT NULL,
    max_mem_mib INTEGER NOT NULL,
    retention_us INTEGER NOT NULL,
    host_roots TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE token (
    token_id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL REFERENCES tenant,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    rights INTEGER NOT NULL CHECK (rights BETWEEN 1 AND 7),
    note TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE workspace (
    workspace_id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL REFERENCES tenant,
    kind TEXT NOT NULL CHECK (kind IN ('workspace', 'vm')),
    name TEXT,
    environment TEXT NOT NULL,
    environment_version TEXT NOT NULL,
    vcpu_count INTEGER NOT NULL,
    mem_mib INTEGER NOT NULL,
    disk_mib INTEGER NOT NULL,
    ttl_us INTEGER NOT NULL,
    network_policy TEXT NOT NULL
        CHECK (network_policy IN ('off', 'egress', 'published-ports', 'egress+published-ports')),
    isolation TEXT CHECK (isolation IN ('vm', 'container')),
    allow_host_compat INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    last_activity_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('creating', 'started', 'stopped', 'failed', 'deleting')),
    failure_code TEXT,
    failure_detail TEXT,
    guest_id TEXT,
    seed_mode TEXT,
    seed_path TEXT,
    seed_destination TEXT,
    seed_entry_count INTEGER NOT NULL,
    seed_bytes INTEGER NOT NULL,
    command_count INTEGER NOT NULL,
    exec_sequence INTEGER NOT NULL,
    reset_count INTEGER NOT NULL,
    last_reset_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE workspace_label (
    workspace_id TEXT NOT NULL REFERENCES workspace ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (workspace_id, key)
) STRICT, WITHOUT ROWID;

-- tenant_id is no reference here: a guest that waits in the pool belongs to none.
CREATE TABLE guest (
    guest_id TEXT PRIMARY KEY,
    guest_index INTEGER NOT NULL,
    workspace_id TEXT,
    tenant_id TEXT NOT NULL,
    driver TEXT NOT NULL,
    environment_version TEXT NOT NULL,
    driver_state TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX guest_of_workspace ON guest (workspace_id);

CREATE TABLE operation (
    operation_id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    request TEXT NOT NULL,
    step INTEGER NOT NULL,
    undoing INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE upload (
    upload_id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL REFERENCES tenant,
    size_bytes INTEGER NOT NULL,
    entry_count INTEGER NOT NULL,
    content_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    compression TEXT,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    tenant_id TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32),
    status INTEGER NOT NULL,
    content_type TEXT NOT NULL,
    body BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_by_age ON idempotency (created_at);

CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    tenant_id TEXT NOT NULL,
    token_id TEXT,
    request_id TEXT,
    operation TEXT NOT NULL,
    subject_id TEXT,
    outcome TEXT NOT NULL
) STRICT;
CREATE INDEX audit_of_tenant ON audit (tenant_id, at);
