-- sealed: the key's ID, a nonce, and the value encrypted and bound to tenant, workspace and name.
CREATE TABLE secret (
    workspace_id TEXT NOT NULL REFERENCES workspace ON DELETE CASCADE,
    name TEXT NOT NULL,
    source_kind TEXT NOT NULL CHECK (source_kind IN ('literal', 'file')),
    sealed BLOB NOT NULL,
    PRIMARY KEY (workspace_id, name)
) STRICT, WITHOUT ROWID;
