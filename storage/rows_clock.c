#include "storage/db_internal.h"

int rows_put_clock(struct db *db, const struct row_clock *row, struct hearth_failure *failure)
{
    static const char sql[] = "REPLACE INTO clock (id, boot_id, offset_us) VALUES (1, ?1, ?2)";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, row->boot_id);
    bind_integer(statement, 2, row->offset_us);
    return db_run(db, statement, failure);
}

int rows_shift_activity(struct db *db, int64_t step_us, struct hearth_failure *failure)
{
    static const char sql[] = "UPDATE workspace SET last_activity_at = last_activity_at + ?1";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    if (!statement)
        return db->error;
    bind_integer(statement, 1, step_us);
    return db_run(db, statement, failure);
}

struct clock_visit {
    row_clock_visit visit;
    void *arg;
};

static int visit_clock(void *arg, sqlite3_stmt *columns)
{
    const struct clock_visit *visitor = arg;
    struct row_clock row = {.boot_id = column_text(columns, 0),
                            .offset_us = sqlite3_column_int64(columns, 1)};
    return visitor->visit(visitor->arg, &row);
}

int rows_find_clock(struct db *db, row_clock_visit visit, void *arg, struct hearth_failure *failure)
{
    sqlite3_stmt *statement = db_prepare(db, "SELECT boot_id, offset_us FROM clock", failure);
    struct clock_visit visitor = {visit, arg};
    return statement ? db_each(db, statement, visit_clock, &visitor, failure) : db->error;
}
