-- What a workspace's services were started with, and what has become of each. instance tells one
-- start of a name from the next.
CREATE TABLE service (
    workspace_id TEXT NOT NULL REFERENCES workspace ON DELETE CASCADE,
    name TEXT NOT NULL,
    instance TEXT NOT NULL,
    command TEXT NOT NULL,
    cwd TEXT NOT NULL,
    execution_mode TEXT NOT NULL,
    readiness TEXT NOT NULL CHECK (readiness IN ('none', 'file', 'tcp', 'http', 'command')),
    target TEXT NOT NULL,
    restart TEXT NOT NULL CHECK (restart IN ('never', 'on-failure')),
    state TEXT NOT NULL CHECK (state IN ('running', 'exited', 'stopped', 'failed')),
    stop_reason TEXT,
    started_at INTEGER NOT NULL,
    ready_at INTEGER NOT NULL,
    ended_at INTEGER NOT NULL,
    has_exit INTEGER NOT NULL,
    exit_code INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    restarts INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, name)
) STRICT;
