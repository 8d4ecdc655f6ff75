-- What has left a workspace: exports of its files and of its disk, as workspace_summary tells them.
CREATE TABLE export (
    export INTEGER PRIMARY KEY,
    workspace_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('files', 'disk')),
    path TEXT NOT NULL,
    entry_count INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
CREATE INDEX export_of_workspace ON export (workspace_id, export);
