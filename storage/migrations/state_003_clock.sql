-- How far the wall clock was ahead of the time since the host's boot when last looked at: a step of
-- it while the daemon was away is seen by that.
CREATE TABLE clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    boot_id TEXT NOT NULL,
    offset_us INTEGER NOT NULL
) STRICT;
