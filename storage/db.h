/* One SQLite database file, opened the one way we open databases (docs/architecture.md, "Storage"):
 * WAL, foreign_keys, trusted_schema off, defensive, every setting read back. The state database
 * runs with synchronous=FULL and holds what we promised to keep; the history database runs with
 * NORMAL and holds what may lose its last moments at a power cut (exec history, events). A struct
 * db belongs to one thread at a time. Only storage/ sees sqlite3.h.
 *
 * One connection in the process owns all writes and checkpoints of a file (SQLite before 3.51.3 can
 * corrupt a WAL otherwise, https://sqlite.org/wal.html): that is the writer's. Readers are opened
 * read-only and never checkpoint. */
#pragma once

#include "base/cleanup.h"
#include "base/failure.h"

#include <stdbool.h>
#include <stdint.h>

struct db;

enum db_kind { DB_STATE, DB_HISTORY };
enum db_mode { DB_WRITER, DB_READER };

/* Opens or makes the file; a writer also migrates it. Gives a db. Errors: HEARTH_ECONFLICT
 * `database_newer` where the file was written by a newer hearth, HEARTH_EIO `database_corrupt`,
 * HEARTH_ENOSPACE. */
int db_open(struct db **ret_db, const char *path, enum db_kind kind, enum db_mode mode,
            struct hearth_failure *failure) must_check;
void db_close(struct db *db);

/* A no-op write-ahead check for readiness and the watchdog: SELECT 1. */
int db_ping(struct db *db, struct hearth_failure *failure) must_check;

/* Schema version (PRAGMA user_version) that this build writes. */
int db_schema_version(enum db_kind kind);
