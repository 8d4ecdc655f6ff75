/* Real SQLite files in a directory of the test's own. */
#include "storage_fixture.h"

#include "base/cleanup.h"
#include "suite.h"

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static struct row_workspace a_workspace(const char *workspace_id, const struct row_label *labels,
                                        size_t count)
{
    return (struct row_workspace){.workspace_id = workspace_id,
                                  .tenant_id = "t",
                                  .kind = "workspace",
                                  .labels = labels,
                                  .label_count = count,
                                  .environment = "debian:12",
                                  .environment_version = "v",
                                  .network_policy = "off",
                                  .state = "started",
                                  .created_at = 7,
                                  .seed_mode = "empty"};
}

static int count_workspace(void *arg, const struct row_workspace *row)
{
    (void)row;
    ++*(int *)arg;
    return 0;
}

static int workspaces(void)
{
    struct hearth_failure failure;
    struct db *db = open_reader(DB_STATE);
    int count = 0;
    ck_assert_int_eq(rows_each_workspace(db, count_workspace, &count, &failure), 0);
    db_close(db);
    return count;
}

START_TEST(a_newer_database_is_refused_by_name)
{
    struct hearth_failure failure;
    struct db *db;
    writer_stop(start(DB_STATE));
    sqlite3 *raw;
    ck_assert_int_eq(sqlite3_open(path, &raw), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(raw, "PRAGMA user_version=999", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(raw);
    ck_assert_int_eq(db_open(&db, path, DB_STATE, DB_WRITER, &failure), HEARTH_ECONFLICT);
    ck_assert_str_eq(failure.code, "database_newer");
}
END_TEST

START_TEST(a_foreign_or_damaged_file_is_refused)
{
    struct hearth_failure failure;
    struct db *db;
    auto_fclose FILE *file = fopen(path, "w");
    for (int i = 0; i < 4096; i++)
        fputs("not a database ", file);
    fflush(file);
    ck_assert_int_eq(db_open(&db, path, DB_STATE, DB_WRITER, &failure), HEARTH_EIO);
    ck_assert_str_eq(failure.code, "database_corrupt");
}
END_TEST

START_TEST(a_symlink_is_not_followed)
{
    struct hearth_failure failure;
    struct db *db;
    ck_assert_int_eq(symlink("/etc/passwd", path), 0);
    ck_assert_int_lt(db_open(&db, path, DB_STATE, DB_WRITER, &failure), 0);
}
END_TEST

struct seen {
    int count;
    char name[32], label[32];
    bool name_null;
    size_t labels;
    int64_t last_activity_at;
};

static int see(void *arg, const struct row_workspace *row)
{
    struct seen *seen = arg;
    seen->count++;
    seen->name_null = row->name == NULL;
    seen->labels = row->label_count;
    seen->last_activity_at = row->last_activity_at;
    if (row->label_count)
        snprintf(seen->label, sizeof seen->label, "%s=%s", row->labels[0].key,
                 row->labels[0].value);
    return 0;
}

START_TEST(a_workspace_comes_back_with_its_labels_and_nulls)
{
    struct writer *writer = start(DB_STATE);
    struct row_label labels[] = {{"a", "1"}, {"b", "2"}};
    struct row_workspace row = a_workspace("ws_1", labels, 2);
    struct change *change = change_new();
    change_put_tenant(change, &tenant);
    change_put_workspace(change, &row);
    row.label_count = 1; /* replaced, not added to */
    change_put_workspace(change, &row);
    change_touch_workspace(change, "ws_1", 99, 3);
    change_commit(change, writer, note, NULL);
    run(1);
    ck_assert_int_eq(results[0], 0);
    struct hearth_failure failure;
    struct db *db = open_reader(DB_STATE);
    struct seen seen = {0};
    ck_assert_int_eq(rows_each_workspace(db, see, &seen, &failure), 0);
    ck_assert_int_eq(seen.count, 1);
    ck_assert(seen.name_null);
    ck_assert_uint_eq(seen.labels, 1);
    ck_assert_str_eq(seen.label, "a=1");
    ck_assert_int_eq(seen.last_activity_at, 99);
    db_close(db);
    writer_stop(writer);
}
END_TEST

static int see_tenant(void *arg, const struct row_tenant *row)
{
    char *out = arg;
    snprintf(out, 256, "%s %u %s %s", row->name, row->max_workspaces, row->host_roots,
             row->network);
    return 0;
}

START_TEST(a_tenants_settings_are_changed_one_by_one)
{
    struct writer *writer = start(DB_STATE);
    const struct row_tenant roots = {.tenant_id = tenant.tenant_id, .host_roots = "/srv"};
    const struct row_tenant network = {.tenant_id = tenant.tenant_id, .network = "listed\n"};
    struct change *change = change_new();
    change_put_tenant(change, &tenant);
    change_set_tenant(change, &roots);
    change_set_tenant(change, &network);
    change_commit(change, writer, note, NULL);
    run(1);
    ck_assert_int_eq(results[0], 0);
    struct hearth_failure failure;
    struct db *db = open_reader(DB_STATE);
    char seen[256], wanted[256];
    ck_assert_int_eq(rows_each_tenant(db, see_tenant, seen, &failure), 0);
    snprintf(wanted, sizeof wanted, "%s %u /srv listed\n", tenant.name, tenant.max_workspaces);
    ck_assert_str_eq(seen, wanted);
    db_close(db);
    writer_stop(writer);
}
END_TEST

START_TEST(a_failing_change_does_not_undo_its_neighbours)
{
    struct writer *writer = start(DB_STATE);
    struct change *change = change_new();
    change_put_tenant(change, &tenant);
    change_commit(change, writer, note, NULL);
    for (int i = 0; i < 9; i++) {
        char workspace_id[16];
        snprintf(workspace_id, sizeof workspace_id, "ws_%d", i);
        struct row_workspace row = a_workspace(workspace_id, NULL, 0);
        if (i % 3 == 0)
            row.state = "nonsense"; /* the schema's CHECK refuses it */
        change = change_new();
        change_put_workspace(change, &row);
        change_commit(change, writer, note, NULL);
    }
    run(10);
    for (int i = 0; i < 9; i++)
        ck_assert_int_eq(results[1 + i], i % 3 == 0 ? HEARTH_ECONFLICT : 0);
    ck_assert_int_eq(workspaces(), 6);
    writer_stop(writer);
}
END_TEST

static int wait_for_stats(struct db *db, void *arg, struct hearth_failure *failure)
{
    (void)db;
    (void)arg;
    (void)failure;
    return 0;
}

START_TEST(many_changes_share_few_commits)
{
    struct writer *writer = start(DB_STATE);
    struct change *change = change_new();
    change_put_tenant(change, &tenant);
    change_commit(change, writer, note, NULL);
    for (int i = 0; i < 400; i++) {
        change = change_new();
        change_touch_workspace(change, "ws_none", i, 0);
        change_commit(change, writer, note, NULL);
    }
    run(401);
    writer_submit(writer, wait_for_stats, NULL, note);
    run(402); /* the thread counts a batch after it was told */
    struct writer_stats stats;
    writer_get_stats(writer, &stats);
    ck_assert_uint_ge(stats.changes, 401);
    ck_assert_uint_lt(stats.commits, 200);
    writer_stop(writer);
}
END_TEST

static int told[2], told_count, holding;

static int hold(struct db *db, void *arg, struct hearth_failure *failure)
{
    char byte;
    (void)db;
    (void)arg;
    (void)failure;
    return read(holding, &byte, 1) == 1 ? 0 : HEARTH_EIO;
}

static void note_turn(void *arg, int error, const struct hearth_failure *failure)
{
    (void)failure;
    told[told_count++] = error ? error : (int)(intptr_t)arg;
    note(NULL, 0, NULL);
}

/* Who has submitted two changes of one thing may let it go with the second. */
START_TEST(what_a_full_queue_refuses_is_told_in_its_turn)
{
    int ends[2];
    struct change *change;
    struct writer *writer = start(DB_STATE);
    ck_assert_int_eq(pipe(ends), 0);
    holding = ends[0];
    told_count = 0;
    ck_assert(writer_submit(writer, hold, NULL, note));
    for (int i = 0; i < WRITER_QUEUE_MAX - 2; i++) {
        change = change_new();
        change_touch_workspace(change, "ws_none", i, 0);
        change_commit(change, writer, NULL, NULL);
    }
    change = change_new();
    change_touch_workspace(change, "ws_none", 1, 0);
    change_commit(change, writer, note_turn, (void *)(intptr_t)1);
    change = change_new();
    change_touch_workspace(change, "ws_none", 2, 0);
    change_commit(change, writer, note_turn, (void *)(intptr_t)2);
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    run(3);
    ck_assert_int_eq(told[0], 1);
    ck_assert_int_eq(told[1], HEARTH_EUNAVAILABLE);
    writer_stop(writer);
    close(ends[0]);
    close(ends[1]);
}
END_TEST

/* A child acknowledges through a pipe what its writer has committed, and is killed in the middle.
 */
static int acknowledge_fd;

static void acknowledge(void *arg, int error, const struct hearth_failure *failure)
{
    (void)failure;
    int number = (int)(intptr_t)arg;
    if (!error && write(acknowledge_fd, &number, sizeof number) != sizeof number)
        _exit(1);
}

static void write_for_ever(void)
{
    struct writer *writer = start(DB_STATE);
    struct change *change = change_new();
    change_put_tenant(change, &tenant);
    change_commit(change, writer, NULL, NULL);
    for (int i = 0;; i++) {
        char workspace_id[24];
        snprintf(workspace_id, sizeof workspace_id, "ws_%d", i);
        struct row_workspace row = a_workspace(workspace_id, NULL, 0);
        change = change_new();
        change_put_workspace(change, &row);
        change_commit(change, writer, acknowledge, (void *)(intptr_t)i);
        if (i > 8)
            run_one();
    }
}

START_TEST(what_was_acknowledged_survives_a_kill)
{
    int ends[2], number, newest = -1;
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    pid_t child = fork();
    if (child == 0) {
        acknowledge_fd = ends[1];
        write_for_ever();
    }
    close(ends[1]);
    while (newest < 300 && read(ends[0], &number, sizeof number) == sizeof number)
        newest = number;
    kill(child, SIGKILL);
    while (read(ends[0], &number, sizeof number) == sizeof number)
        newest = number;
    waitpid(child, NULL, 0);
    close(ends[0]);
    writer_stop(start(DB_STATE));
    ck_assert_int_ge(workspaces(), newest + 1);
}
END_TEST

START_TEST(a_full_disk_fails_what_does_not_fit_and_nothing_else)
{
    struct writer *writer = start(DB_HISTORY);
    static char big[4 << 20];
    struct row_exec row = {.exec_id = "ex_1",
                           .workspace_id = "ws_1",
                           .tenant_id = "t",
                           .sequence = 1,
                           .command = "c",
                           .cwd = "/",
                           .state = "exited",
                           .execution_mode = "guest_unix",
                           .stdout_data = big,
                           .stdout_length = sizeof big,
                           .stdout_bytes = sizeof big};
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit before, small;
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 1 << 20;
    setrlimit(RLIMIT_FSIZE, &small);
    struct change *change = change_new();
    change_put_exec(change, &row);
    change_commit(change, writer, note, NULL);
    run(1);
    setrlimit(RLIMIT_FSIZE, &before);
    ck_assert_int_lt(results[0], 0);
    row.stdout_length = 10;
    change = change_new();
    change_put_exec(change, &row);
    change_commit(change, writer, note, NULL);
    run(2);
    ck_assert_msg(results[1] == 0, "%s", codes[1]);
    writer_stop(writer);
}
END_TEST

static int count_exec(void *arg, const struct row_exec *row)
{
    int *numbers = arg;
    numbers[++numbers[0]] = (int)row->sequence;
    return numbers[0] == 3 ? HEARTH_ECANCELLED : 0;
}

START_TEST(history_is_paged_pruned_and_found)
{
    struct writer *writer = start(DB_HISTORY);
    struct change *change = change_new();
    for (int i = 1; i <= 9; i++) {
        char exec_id[16];
        snprintf(exec_id, sizeof exec_id, "ex_%d", i);
        struct row_exec row = {.exec_id = exec_id,
                               .workspace_id = "ws_1",
                               .tenant_id = "t",
                               .sequence = (uint64_t)i,
                               .command = "c",
                               .cwd = "/",
                               .state = i == 1 ? "running" : "exited",
                               .execution_mode = "guest_unix"};
        change_put_exec(change, &row);
    }
    change_prune_execs(change, "ws_1", 6);
    change_commit(change, writer, note, NULL);
    run(1);
    ck_assert_msg(results[0] == 0, "%s", codes[0]);
    struct hearth_failure failure;
    struct db *db = open_reader(DB_HISTORY);
    int page[8] = {0};
    ck_assert_int_eq(rows_page_execs(db, "ws_1", 1, 9, count_exec, page, &failure),
                     HEARTH_ECANCELLED);
    ck_assert_int_eq(page[1], 4); /* 2 and 3 were pruned */
    int newest[8] = {0}, running[8] = {0}, found[8] = {0};
    ck_assert_int_eq(rows_last_exec(db, "ws_1", count_exec, newest, &failure), 0);
    ck_assert_int_eq(newest[1], 9);
    ck_assert_int_eq(rows_each_running_exec(db, count_exec, running, &failure), 0);
    ck_assert_int_eq(running[0], 1);
    ck_assert_int_eq(rows_find_exec(db, "ws_2", "ex_9", count_exec, found, &failure), 0);
    ck_assert_int_eq(found[0], 0);
    db_close(db);
    writer_stop(writer);
}
END_TEST

static int keep_answer(void *arg, const struct row_idempotency *row)
{
    ck_assert_uint_eq(row->body_length, 3);
    ck_assert(memcmp(row->body, "a\0b", 3) == 0);
    ck_assert_int_eq(row->fingerprint[31], 9);
    ++*(int *)arg;
    return 0;
}

static int keep_intent(void *arg, const struct row_idempotency *row)
{
    struct row_idempotency *kept = arg;
    *kept = *row;
    return 0;
}

static int keep_outcome(void *arg, const struct row_audit *row)
{
    snprintf(arg, 32, "%s %s", row->subject_id, row->outcome);
    return 0;
}

START_TEST(an_intent_is_found_and_leads_to_its_last_effect)
{
    struct writer *writer = start(DB_STATE);
    struct row_idempotency row = {.tenant_id = "t",
                                  .key = "k",
                                  .intent = INT64_MAX,
                                  .has_content = true,
                                  .content_type = "",
                                  .created_at = 50},
                           found = {0};
    struct row_audit audit = {.tenant_id = "t",
                              .operation = "create",
                              .subject_id = "ws_1",
                              .outcome = "begun",
                              .intent = INT64_MAX};
    row.content_hash[31] = 7;
    struct change *change = change_new();
    change_put_idempotency(change, &row);
    change_add_audit(change, &audit);
    audit.outcome = "ok";
    change_add_audit(change, &audit);
    audit.intent = 0;
    audit.subject_id = "ws_2";
    change_add_audit(change, &audit);
    change_commit(change, writer, note, NULL);
    run(1);
    struct hearth_failure failure;
    struct db *db = open_reader(DB_STATE);
    char outcome[32] = "";
    ck_assert_int_eq(rows_find_idempotency(db, "t", "k", keep_intent, &found, &failure), 0);
    ck_assert(found.intent == INT64_MAX && found.has_content && found.content_hash[31] == 7);
    ck_assert_int_eq(found.status, 0);
    ck_assert_int_eq(rows_find_effect(db, INT64_MAX, keep_outcome, outcome, &failure), 0);
    ck_assert_str_eq(outcome, "ws_1 ok");
    *outcome = '\0';
    ck_assert_int_eq(rows_find_effect(db, 0, keep_outcome, outcome, &failure), 0);
    ck_assert_str_eq(outcome, "");
    /* Another intent under the key is another's: it stays. */
    row.intent = 5;
    change = change_new();
    change_delete_idempotency(change, &row);
    change_commit(change, writer, note, NULL);
    run(2);
    found.intent = 0;
    ck_assert_int_eq(rows_find_idempotency(db, "t", "k", keep_intent, &found, &failure), 0);
    ck_assert(found.intent == INT64_MAX);
    row.intent = INT64_MAX;
    change = change_new();
    change_delete_idempotency(change, &row);
    change_commit(change, writer, note, NULL);
    run(3);
    found.intent = 0;
    ck_assert_int_eq(rows_find_idempotency(db, "t", "k", keep_intent, &found, &failure), 0);
    ck_assert(found.intent == 0);
    db_close(db);
    writer_stop(writer);
}
END_TEST

START_TEST(an_answer_is_kept_byte_for_byte_until_it_is_old)
{
    struct writer *writer = start(DB_STATE);
    struct row_idempotency row = {.tenant_id = "t",
                                  .key = "k",
                                  .status = 201,
                                  .content_type = "application/json",
                                  .body = "a\0b",
                                  .body_length = 3,
                                  .created_at = 50};
    row.fingerprint[31] = 9;
    struct change *change = change_new();
    change_put_idempotency(change, &row);
    change_prune_idempotency(change, 50);
    change_commit(change, writer, note, NULL);
    run(1);
    struct hearth_failure failure;
    struct db *db = open_reader(DB_STATE);
    int count = 0;
    ck_assert_int_eq(rows_find_idempotency(db, "t", "k", keep_answer, &count, &failure), 0);
    ck_assert_int_eq(count, 1);
    change = change_new();
    change_prune_idempotency(change, 51);
    change_commit(change, writer, note, NULL);
    run(2);
    ck_assert_int_eq(rows_find_idempotency(db, "t", "k", keep_answer, &count, &failure), 0);
    ck_assert_int_eq(count, 1);
    db_close(db);
    writer_stop(writer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("storage");
    TCase *test_case = tcase_create("storage");
    tcase_set_timeout(test_case, 60);
    tcase_add_checked_fixture(test_case, setup, teardown);
    tcase_add_test(test_case, a_newer_database_is_refused_by_name);
    tcase_add_test(test_case, a_foreign_or_damaged_file_is_refused);
    tcase_add_test(test_case, a_symlink_is_not_followed);
    tcase_add_test(test_case, a_workspace_comes_back_with_its_labels_and_nulls);
    tcase_add_test(test_case, a_tenants_settings_are_changed_one_by_one);
    tcase_add_test(test_case, a_failing_change_does_not_undo_its_neighbours);
    tcase_add_test(test_case, many_changes_share_few_commits);
    tcase_add_test(test_case, what_a_full_queue_refuses_is_told_in_its_turn);
    tcase_add_test(test_case, what_was_acknowledged_survives_a_kill);
    tcase_add_test(test_case, a_full_disk_fails_what_does_not_fit_and_nothing_else);
    tcase_add_test(test_case, history_is_paged_pruned_and_found);
    tcase_add_test(test_case, an_intent_is_found_and_leads_to_its_last_effect);
    tcase_add_test(test_case, an_answer_is_kept_byte_for_byte_until_it_is_old);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
