CREATE TABLE exec (
    exec_id TEXT NOT NULL UNIQUE,
    workspace_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    command TEXT NOT NULL,
    cwd TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'exited', 'failed', 'lost')),
    execution_mode TEXT NOT NULL,
    problem TEXT,
    started INTEGER NOT NULL,
    timed_out INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    drained INTEGER NOT NULL,
    truncated INTEGER NOT NULL,
    signalled INTEGER NOT NULL,
    exit_code INTEGER NOT NULL,
    signal INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    stdout_bytes INTEGER NOT NULL,
    stderr_bytes INTEGER NOT NULL,
    stdout_data BLOB,
    stderr_data BLOB,
    PRIMARY KEY (workspace_id, sequence)
) STRICT;
CREATE INDEX exec_running ON exec (state) WHERE state = 'running';

CREATE TABLE event (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    tenant_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    workspace_id TEXT,
    data TEXT NOT NULL
) STRICT;
CREATE INDEX event_of_tenant ON event (tenant_id, sequence);
