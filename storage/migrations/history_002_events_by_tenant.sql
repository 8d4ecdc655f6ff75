-- A tenant's events are numbered by themselves: its numbers say nothing of other tenants, and a hole
-- in them is a loss. Facts are lines `name=text` or `name#number`.
ALTER TABLE event RENAME TO event_of_all;
DROP INDEX event_of_tenant;
CREATE TABLE event (
    tenant_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    workspace_id TEXT,
    facts TEXT NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX event_by_age ON event (at);
INSERT INTO event (tenant_id, sequence, at, kind, workspace_id, facts)
    SELECT tenant_id, row_number() OVER (PARTITION BY tenant_id ORDER BY sequence), at, kind,
        workspace_id, ''
    FROM event_of_all;
DROP TABLE event_of_all;
