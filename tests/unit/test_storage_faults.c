/* What becomes of a database that is older, damaged, or on a disk that fails. */
#include "storage_fixture.h"

#include "base/cleanup.h"
#include "storage/db_internal.h"
#include "suite.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static sqlite3 *open_raw(const char *name)
{
    sqlite3 *raw;
    ck_assert_int_eq(sqlite3_open(name, &raw), SQLITE_OK);
    return raw;
}

static void execute(sqlite3 *raw, const char *sql)
{
    char *message = NULL;
    ck_assert_msg(sqlite3_exec(raw, sql, NULL, NULL, &message) == SQLITE_OK, "%s", message);
}

/* One value, as text. */
static const char *ask(const char *name, const char *sql)
{
    static char answer[128];
    sqlite3 *raw = open_raw(name);
    sqlite3_stmt *statement;
    ck_assert_msg(sqlite3_prepare_v2(raw, sql, -1, &statement, NULL) == SQLITE_OK, "%s",
                  sqlite3_errmsg(raw));
    ck_assert_int_eq(sqlite3_step(statement), SQLITE_ROW);
    const char *text = column_text(statement, 0);
    snprintf(answer, sizeof answer, "%s", text ? text : "NULL");
    sqlite3_finalize(statement);
    sqlite3_close(raw);
    return answer;
}

/* Migrations. */

/* A file as the first hearth made it. */
static void make_first(enum db_kind kind, const char *rows)
{
    struct hearth_failure failure;
    const struct migration begin[] = {db_migrations(kind)[0], {NULL}};
    struct db db = {.handle = open_raw(path), .kind = kind, .path = path};
    ck_assert_int_eq(db_migrate(&db, begin, &failure), 0);
    execute(db.handle, rows);
    sqlite3_close(db.handle);
}

static const char *copy_path(void)
{
    static char copy[128];
    snprintf(copy, sizeof copy, "%s.before-2", path);
    return copy;
}

static void check_newest(enum db_kind kind)
{
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    struct db *db;
    char version[16];
    ck_assert_msg(db_open(&db, path, kind, DB_WRITER, &failure) == 0, "%s", failure.detail);
    db_close(db);
    snprintf(version, sizeof version, "%d", db_schema_version(kind));
    ck_assert_int_gt(db_schema_version(kind), 1);
    ck_assert_str_eq(ask(path, "PRAGMA user_version"), version);
    ck_assert_str_eq(ask(path, "PRAGMA integrity_check"), "ok");
    ck_assert_str_eq(ask(copy_path(), "PRAGMA user_version"), "1");
    struct stat status;
    ck_assert_int_eq(stat(copy_path(), &status), 0);
    ck_assert_int_eq(status.st_mode & 0777, 0600);
}

START_TEST(a_state_database_of_the_first_hearth_is_brought_up_to_date)
{
    make_first(DB_STATE,
               "INSERT INTO tenant VALUES ('t', 'tenant', 1, 2, 3, 4, 5, '');"
               "INSERT INTO idempotency VALUES ('t', 'k', zeroblob(32), 201, 'text', x'6100', 9);"
               "INSERT INTO audit (at, tenant_id, operation, outcome) VALUES (1, 't', 'create', "
               "'ok')");
    check_newest(DB_STATE);
    ck_assert_str_eq(ask(path, "SELECT name FROM tenant"), "tenant");
    ck_assert_str_eq(ask(path, "SELECT hex(body) || status || intent FROM idempotency"),
                     "61002010");
    ck_assert_str_eq(ask(path, "SELECT outcome || intent FROM audit"), "ok0");
    ck_assert_str_eq(ask(copy_path(), "SELECT name FROM tenant"), "tenant");
}
END_TEST

START_TEST(a_history_database_of_the_first_hearth_is_brought_up_to_date)
{
    make_first(DB_HISTORY,
               "INSERT INTO event (at, tenant_id, kind, workspace_id, data) VALUES "
               "(1, 'one', 'a', NULL, '{}'), (2, 'two', 'b', 'ws_1', '{}'), (3, 'one', 'c', NULL, "
               "'{}')");
    check_newest(DB_HISTORY);
    ck_assert_str_eq(ask(path, "SELECT group_concat(tenant_id || sequence || kind || at, ' ') FROM "
                               "(SELECT * FROM event ORDER BY tenant_id, sequence)"),
                     "one1a1 one2c3 two1b2");
}
END_TEST

START_TEST(a_migration_that_fails_leaves_the_version_before_it)
{
    struct hearth_failure failure;
    make_first(DB_STATE, "INSERT INTO tenant VALUES ('t', 'tenant', 1, 2, 3, 4, 5, '')");
    const struct migration failing[] = {
        db_migrations(DB_STATE)[0], {"CREATE TABLE second (x) STRICT, WITHOUT ROWID"}, {NULL}};
    const struct migration half[] = {db_migrations(DB_STATE)[0],
                                     {"CREATE TABLE second (x)"},
                                     {"CREATE TABLE third (x); INSERT INTO nowhere VALUES (1)"},
                                     {NULL}};
    struct db db = {.handle = open_raw(path), .kind = DB_STATE, .path = path};
    ck_assert_int_ne(db_migrate(&db, failing, &failure), 0);
    ck_assert_ptr_nonnull(strstr(failure.detail, "migration to version 2"));
    ck_assert_str_eq(ask(path, "PRAGMA user_version"), "1");
    ck_assert_str_eq(ask(copy_path(), "SELECT name FROM tenant"), "tenant");
    ck_assert_int_ne(db_migrate(&db, half, &failure), 0);
    ck_assert_ptr_nonnull(strstr(failure.detail, "migration to version 3"));
    sqlite3_close(db.handle);
    ck_assert_str_eq(ask(path, "PRAGMA user_version"), "2");
    ck_assert_str_eq(ask(path, "SELECT group_concat(name, ' ') FROM sqlite_schema WHERE name IN "
                               "('second', 'third')"),
                     "second");
    ck_assert_str_eq(ask(path, "SELECT name FROM tenant"), "tenant");
}
END_TEST

/* A disk whose sync fails: SQLite's own files, but for that. */

static bool syncs_fail;

struct faulty_file {
    sqlite3_file base;
    sqlite3_file *real; /* behind it in the same memory */
};

static sqlite3_vfs *real_vfs, faulty_vfs;
static sqlite3_io_methods faulty_methods;

static sqlite3_file *real_of(sqlite3_file *file)
{
    return ((struct faulty_file *)file)->real;
}

#define PASS_ON(name, parameters, arguments)                                                       \
    static int faulty_##name parameters                                                            \
    {                                                                                              \
        return real_of(file)->pMethods->name arguments;                                            \
    }
PASS_ON(xClose, (sqlite3_file * file), (real_of(file)))
PASS_ON(xRead, (sqlite3_file * file, void *to, int length, sqlite3_int64 at),
        (real_of(file), to, length, at))
PASS_ON(xWrite, (sqlite3_file * file, const void *from, int length, sqlite3_int64 at),
        (real_of(file), from, length, at))
PASS_ON(xTruncate, (sqlite3_file * file, sqlite3_int64 size), (real_of(file), size))
PASS_ON(xFileSize, (sqlite3_file * file, sqlite3_int64 *size), (real_of(file), size))
PASS_ON(xLock, (sqlite3_file * file, int level), (real_of(file), level))
PASS_ON(xUnlock, (sqlite3_file * file, int level), (real_of(file), level))
PASS_ON(xCheckReservedLock, (sqlite3_file * file, int *ret), (real_of(file), ret))
PASS_ON(xFileControl, (sqlite3_file * file, int operation, void *arg),
        (real_of(file), operation, arg))
PASS_ON(xSectorSize, (sqlite3_file * file), (real_of(file)))
PASS_ON(xDeviceCharacteristics, (sqlite3_file * file), (real_of(file)))
PASS_ON(xShmMap, (sqlite3_file * file, int page, int size, int extend, void volatile **ret),
        (real_of(file), page, size, extend, ret))
PASS_ON(xShmLock, (sqlite3_file * file, int offset, int count, int flags),
        (real_of(file), offset, count, flags))
PASS_ON(xShmUnmap, (sqlite3_file * file, int remove), (real_of(file), remove))

static void faulty_xShmBarrier(sqlite3_file *file)
{
    real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int faulty_xSync(sqlite3_file *file, int flags)
{
    return __atomic_load_n(&syncs_fail, __ATOMIC_RELAXED)
               ? SQLITE_IOERR_FSYNC
               : real_of(file)->pMethods->xSync(real_of(file), flags);
}

static int faulty_xOpen(sqlite3_vfs *vfs, const char *name, sqlite3_file *base, int flags,
                        int *ret_flags)
{
    (void)vfs;
    struct faulty_file *file = (struct faulty_file *)base;
    file->real = (sqlite3_file *)(void *)(file + 1);
    int code = real_vfs->xOpen(real_vfs, name, file->real, flags, ret_flags);
    file->base.pMethods = file->real->pMethods ? &faulty_methods : NULL;
    return code;
}

static void use_faulty_disk(void)
{
    faulty_methods = (sqlite3_io_methods){.iVersion = 2,
                                          .xClose = faulty_xClose,
                                          .xRead = faulty_xRead,
                                          .xWrite = faulty_xWrite,
                                          .xTruncate = faulty_xTruncate,
                                          .xSync = faulty_xSync,
                                          .xFileSize = faulty_xFileSize,
                                          .xLock = faulty_xLock,
                                          .xUnlock = faulty_xUnlock,
                                          .xCheckReservedLock = faulty_xCheckReservedLock,
                                          .xFileControl = faulty_xFileControl,
                                          .xSectorSize = faulty_xSectorSize,
                                          .xDeviceCharacteristics = faulty_xDeviceCharacteristics,
                                          .xShmMap = faulty_xShmMap,
                                          .xShmLock = faulty_xShmLock,
                                          .xShmBarrier = faulty_xShmBarrier,
                                          .xShmUnmap = faulty_xShmUnmap};
    real_vfs = sqlite3_vfs_find(NULL);
    faulty_vfs = *real_vfs;
    faulty_vfs.zName = "faulty";
    faulty_vfs.szOsFile = (int)sizeof(struct faulty_file) + real_vfs->szOsFile;
    faulty_vfs.xOpen = faulty_xOpen;
    ck_assert_int_eq(sqlite3_vfs_register(&faulty_vfs, 1), SQLITE_OK);
}

static void put_tenant(struct writer *writer, const char *tenant_id)
{
    struct row_tenant row = tenant;
    row.tenant_id = row.name = tenant_id;
    struct change *change = change_new();
    change_put_tenant(change, &row);
    change_commit(change, writer, note, NULL);
}

static int count_tenant(void *arg, const struct row_tenant *row)
{
    (void)row;
    ++*(int *)arg;
    return 0;
}

static int tenants(struct db *db)
{
    struct hearth_failure failure;
    int count = 0;
    ck_assert_int_eq(rows_each_tenant(db, count_tenant, &count, &failure), 0);
    return count;
}

START_TEST(a_sync_that_fails_stops_writing_and_acknowledges_nothing)
{
    struct writer_stats stats;
    use_faulty_disk();
    struct writer *writer = start(DB_STATE);
    put_tenant(writer, "kept");
    run(1);
    ck_assert_int_eq(results[0], 0);
    struct db *reader = open_reader(DB_STATE);
    ck_assert_int_eq(tenants(reader), 1);

    __atomic_store_n(&syncs_fail, true, __ATOMIC_RELAXED);
    put_tenant(writer, "lost");
    run(2);
    ck_assert_int_eq(results[1], HEARTH_EIO);
    writer_get_stats(writer, &stats);
    ck_assert(stats.broken);

    /* A sync that works again proves nothing of what the failed one lost. */
    __atomic_store_n(&syncs_fail, false, __ATOMIC_RELAXED);
    put_tenant(writer, "refused");
    run(3);
    ck_assert_int_eq(results[2], HEARTH_EIO);
    ck_assert_str_eq(codes[2], "storage_stopped");
    ck_assert_int_eq(tenants(reader), 1);
    db_close(reader);
    writer_stop(writer);

    writer = start(DB_STATE);
    put_tenant(writer, "again");
    run(4);
    ck_assert_int_eq(results[3], 0);
    reader = open_reader(DB_STATE);
    ck_assert_int_ge(tenants(reader), 2);
    db_close(reader);
    writer_stop(writer);
}
END_TEST

/* Damage. */

/* Leaves a WAL behind, as a killed daemon does. */
static void stop_unclean(void)
{
    pid_t child = fork();
    if (child == 0) {
        sqlite3 *raw;
        _exit(sqlite3_open(path, &raw) != SQLITE_OK ||
              sqlite3_exec(raw, "PRAGMA wal_autocheckpoint=0; UPDATE tenant SET created_at = 3",
                           NULL, NULL, NULL) != SQLITE_OK);
    }
    int status;
    waitpid(child, &status, 0);
    ck_assert_int_eq(status, 0);
}

static void fill_and_stop(void)
{
    struct writer *writer = start(DB_STATE);
    struct change *change = change_new();
    change_put_tenant(change, &tenant);
    for (int i = 0; i < 2000; i++) {
        struct row_audit row = {
            .at = i, .tenant_id = "t", .operation = "something longer", .outcome = "ok"};
        change_add_audit(change, &row);
    }
    change_commit(change, writer, note, NULL);
    run(1);
    writer_stop(writer);
}

/* Rows of the audit, which nothing reads at a start. */
static void damage(void)
{
    sqlite3_int64 page =
        atoll(ask(path, "SELECT max(pageno) FROM dbstat WHERE name = 'audit' AND pagetype = "
                        "'leaf'"));
    auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);
    char nonsense[512];
    memset(nonsense, 0xa5, sizeof nonsense);
    ck_assert_int_eq(pwrite(fd, nonsense, sizeof nonsense, (page - 1) * 4096), sizeof nonsense);
}

START_TEST(after_an_unclean_stop_a_damaged_file_is_found_and_refused)
{
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    struct db *db;
    fill_and_stop();
    damage();
    stop_unclean();
    ck_assert_int_eq(db_open(&db, path, DB_STATE, DB_WRITER, &failure), HEARTH_EIO);
    ck_assert_str_eq(failure.code, "database_corrupt");
}
END_TEST

START_TEST(after_an_unclean_stop_a_sound_file_is_used_with_all_that_was_written)
{
    fill_and_stop();
    stop_unclean();
    writer_stop(start(DB_STATE));
    ck_assert_str_eq(ask(path, "SELECT created_at FROM tenant"), "3");
}
END_TEST

START_TEST(after_a_clean_stop_the_file_is_not_looked_through)
{
    fill_and_stop();
    damage();
    writer_stop(start(DB_STATE)); /* what is damaged is found by whoever reads it */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("storage_faults");
    TCase *test_case = tcase_create("storage_faults");
    tcase_set_timeout(test_case, 60);
    tcase_add_checked_fixture(test_case, setup, teardown);
    tcase_add_test(test_case, a_state_database_of_the_first_hearth_is_brought_up_to_date);
    tcase_add_test(test_case, a_history_database_of_the_first_hearth_is_brought_up_to_date);
    tcase_add_test(test_case, a_migration_that_fails_leaves_the_version_before_it);
    tcase_add_test(test_case, a_sync_that_fails_stops_writing_and_acknowledges_nothing);
    tcase_add_test(test_case, after_an_unclean_stop_a_damaged_file_is_found_and_refused);
    tcase_add_test(test_case, after_an_unclean_stop_a_sound_file_is_used_with_all_that_was_written);
    tcase_add_test(test_case, after_a_clean_stop_the_file_is_not_looked_through);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
