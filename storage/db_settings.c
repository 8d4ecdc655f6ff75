/* Settings, each read back: SQLite takes an unknown or refused one without a word. */
#include "storage/db_internal.h"

#include <stdio.h>
#include <string.h>

#define LENGTH_MAX (8 << 20)
#define SQL_LENGTH_MAX (64 << 10)
#define VARIABLES_MAX 64
#define JOURNAL_SIZE_MAX "67108864"

static int keep_text(void *arg, int count, char **values, char **names)
{
    (void)names;
    if (count > 0 && values[0])
        snprintf(arg, 32, "%s", values[0]);
    return 0;
}

static int refused(struct hearth_failure *failure, const char *name)
{
    return hearth_fail(failure, HEARTH_EIO, "database_setting",
                       "the SQLite library does not take the setting %s", name);
}

/* value NULL: only looked at. */
static int set_pragma(struct db *db, const char *name, const char *value, const char *expected,
                      struct hearth_failure *failure)
{
    char sql[96], found[32] = "";
    if (value) {
        snprintf(sql, sizeof sql, "PRAGMA %s=%s", name, value);
        int error = db_execute(db, sql, failure);
        if (error)
            return error;
    }
    snprintf(sql, sizeof sql, "PRAGMA %s", name);
    if (sqlite3_exec(db->handle, sql, keep_text, found, NULL) != SQLITE_OK)
        return db_error(db, failure);
    return strcmp(found, expected) == 0 ? 0 : refused(failure, name);
}

static int set_limits(struct db *db, struct hearth_failure *failure)
{
    static const struct {
        int id, value;
        const char *name;
    } limits[] = {
        {SQLITE_LIMIT_LENGTH, LENGTH_MAX, "length"},
        {SQLITE_LIMIT_SQL_LENGTH, SQL_LENGTH_MAX, "sql_length"},
        {SQLITE_LIMIT_VARIABLE_NUMBER, VARIABLES_MAX, "variable_number"},
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        sqlite3_limit(db->handle, limits[i].id, limits[i].value);
        if (sqlite3_limit(db->handle, limits[i].id, -1) != limits[i].value)
            return refused(failure, limits[i].name);
    }
    return 0;
}

static int set_guards(struct db *db, struct hearth_failure *failure)
{
    int defensive = 0, extensions = 1;
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, &defensive);
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, &extensions);
    return !defensive   ? refused(failure, "defensive")
           : extensions ? refused(failure, "load_extension")
                        : 0;
}

int db_configure(struct db *db, struct hearth_failure *failure)
{
    const bool full = db->kind == DB_STATE;
    const struct {
        const char *name, *value, *expected;
    } settings[] = {
        {"journal_mode", db->mode == DB_WRITER ? "WAL" : NULL, "wal"},
        {"synchronous", full ? "FULL" : "NORMAL", full ? "2" : "1"},
        {"foreign_keys", "ON", "1"},
        {"trusted_schema", "OFF", "0"},
        {"cell_size_check", "ON", "1"},
        {"temp_store", "MEMORY", "2"},
        {"mmap_size", "0", "0"},
        {"wal_autocheckpoint", "0", "0"},
        {"journal_size_limit", JOURNAL_SIZE_MAX, JOURNAL_SIZE_MAX},
    };
    int error = set_limits(db, failure);
    if (!error)
        error = set_guards(db, failure);
    for (size_t i = 0; !error && i < sizeof settings / sizeof *settings; i++)
        error = set_pragma(db, settings[i].name, settings[i].value, settings[i].expected, failure);
    return error;
}
