-- root is empty where the tree is.
CREATE TABLE snapshot (
    workspace_id TEXT NOT NULL REFERENCES workspace ON DELETE CASCADE,
    name TEXT NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenant,
    kind TEXT NOT NULL CHECK (kind IN ('baseline', 'named')),
    root BLOB NOT NULL CHECK (length(root) IN (0, 32)),
    entry_count INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, name)
) STRICT, WITHOUT ROWID;
