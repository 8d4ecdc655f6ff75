-- What services had printed when their workspace was stopped: the agent has it only as long as its guest runs.
CREATE TABLE service_log (
    workspace_id TEXT NOT NULL,
    name TEXT NOT NULL,
    instance TEXT NOT NULL,
    stdout_from INTEGER NOT NULL,
    stdout BLOB NOT NULL,
    stderr_from INTEGER NOT NULL,
    stderr BLOB NOT NULL,
    PRIMARY KEY (workspace_id, name)
) STRICT, WITHOUT ROWID;
