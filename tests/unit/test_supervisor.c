/* The supervisor's pure parts: settings, the workspace's table, output and cursors, paths. */
#include "suite.h"
#include "supervisord/config.h"
#include "supervisord/exec_internal.h"
#include "supervisord/steps.h"
#include "supervisord/workspace_state.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Settings. */

static struct config *load(int argc, const char *const *argv, struct hearth_failure *failure)
{
    struct config *config = NULL;
    return config_load(&config, argc, (char **)(uintptr_t)argv, failure) ? NULL : config;
}

START_TEST(a_flag_wins_over_the_environment_and_that_over_the_file)
{
    char path[] = "/tmp/hearth-config-XXXXXX";
    int fd = mkstemp(path);
    const char text[] = "# settings\npool = 3\nnode_tag=bb\nmax_workspaces = 7\n";
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    setenv("HEARTHD_NODE_TAG", "cc", 1);
    setenv("HEARTHD_POOL", "4", 1);
    const char *argv[] = {"hearthd", "--config",         path, "--pool=5",
                          "--set",   "max-workspaces=9", NULL};
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    struct config *config = load(6, argv, &failure);
    unlink(path);
    ck_assert_msg(config != NULL, "%s", failure.detail);
    ck_assert_uint_eq(config->pool, 5);
    ck_assert_str_eq(config->node_tag, "cc");
    ck_assert_uint_eq(config->max_workspaces, 9);
    config_free(config);
    unsetenv("HEARTHD_NODE_TAG");
    unsetenv("HEARTHD_POOL");
}
END_TEST

START_TEST(what_is_wrong_is_named)
{
    static const struct {
        const char *argument;
        const char *code, *field;
    } cases[] = {
        {"--pool=many", "bad_setting", "/pool"},
        {"--pool=-1", "bad_setting", "/pool"},
        {"--pool=99999999", "bad_setting", "/pool"},
        {"--driver=docker", "bad_setting", "/driver"},
        {"--node-tag=AA", "bad_setting", "/node_tag"},
        {"--set=nonsense=1", "unknown_setting", ""},
        {"--nonsense", "usage", ""},
        {"--listen", "usage", ""},
        {"stray", "usage", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *argv[] = {"hearthd", cases[i].argument, NULL};
        struct hearth_failure failure = HEARTH_FAILURE_NONE;
        ck_assert_ptr_null(load(2, argv, &failure));
        ck_assert_str_eq(failure.code, cases[i].code);
        ck_assert_str_eq(failure.field, cases[i].field);
    }
}
END_TEST

/* The table: every cell is what its state allows. */

START_TEST(every_cell_of_the_workspace_table_is_sound)
{
    for (int state = 0; state < WORKSPACE_STATE_MAX; state++)
        for (int event = 0; event < WORKSPACE_EVENT_MAX; event++) {
            struct workspace_cell cell =
                workspace_state_cell((enum workspace_state)state, (enum workspace_event)event);
            ck_assert_int_le(cell.policy, WORKSPACE_POLICY_BUG);
            ck_assert_int_lt(cell.next, WORKSPACE_STATE_MAX);
            if (cell.policy != WORKSPACE_POLICY_MOVE)
                continue;
            ck_assert_int_ne(cell.next, WORKSPACE_CREATING);
            ck_assert_int_ne(state, WORKSPACE_DELETING);
            ck_assert((event == WORKSPACE_EVENT_DELETE) == (cell.next == WORKSPACE_DELETING));
            ck_assert((event == WORKSPACE_EVENT_SUSPENDED) == (cell.next == WORKSPACE_SUSPENDED));
        }
    ck_assert_int_eq(workspace_state_cell(WORKSPACE_STARTED, WORKSPACE_EVENT_GUEST_DIED).next,
                     WORKSPACE_FAILED);
}
END_TEST

/* Output. */

static void put_segment(Hearth__Agent__V1__ExecSegment *segment, uint64_t offset, const char *text)
{
    hearth__agent__v1__exec_segment__init(segment);
    segment->offset = offset;
    segment->data.data = (uint8_t *)(uintptr_t)text;
    segment->data.len = strlen(text);
}

static void make_output(struct exec_output *output, const char *head, uint64_t tail_offset,
                        const char *tail)
{
    Hearth__Agent__V1__ExecOutput from = HEARTH__AGENT__V1__EXEC_OUTPUT__INIT;
    Hearth__Agent__V1__ExecSegment segments[2], *list[] = {&segments[0], &segments[1]};
    put_segment(&segments[0], 0, head);
    put_segment(&segments[1], tail_offset, tail);
    from.n_segments = *tail ? 2 : 1;
    from.segments = list;
    from.total = from.next_offset = *tail ? tail_offset + strlen(tail) : strlen(head);
    ck_assert_int_eq(exec_output_set(output, &from, 1024), 0);
}

START_TEST(a_hole_in_the_output_is_told_with_its_size_and_place)
{
    struct exec_output output = {0}, errors = {0};
    struct exec_status status = {0};
    make_output(&output, "head", 100, "tail");
    exec_slice(&status, &output, &errors, 0, 0);
    ck_assert_uint_eq(status.stdout_length, 8);
    ck_assert_uint_eq(status.stdout_head, 4);
    ck_assert_uint_eq(status.stdout_omitted, 96);
    ck_assert_uint_eq(status.stdout_bytes, 104);
    ck_assert(status.truncated);
    ck_assert_str_eq(status.cursor, "104.0");
    exec_output_free(&output);
}
END_TEST

START_TEST(a_cursor_takes_what_lies_past_it)
{
    static const struct {
        uint64_t offset;
        const char *data;
        size_t head;
        uint64_t omitted;
    } cases[] = {
        {0, "headtail", 4, 96}, {2, "adtail", 2, 96}, {4, "tail", 0, 96}, {50, "tail", 0, 50},
        {100, "tail", 4, 0},    {102, "il", 2, 0},    {104, "", 0, 0},    {900, "", 0, 0},
    };
    struct exec_output output = {0}, errors = {0};
    make_output(&output, "head", 100, "tail");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct exec_status status = {0};
        exec_slice(&status, &output, &errors, cases[i].offset, 0);
        ck_assert_uint_eq(status.stdout_length, strlen(cases[i].data));
        ck_assert(memcmp(status.stdout_data, cases[i].data, status.stdout_length) == 0);
        ck_assert_uint_eq(status.stdout_head, cases[i].head);
        ck_assert_uint_eq(status.stdout_omitted, cases[i].omitted);
    }
    exec_output_free(&output);
}
END_TEST

START_TEST(an_agent_cannot_hand_out_more_than_was_asked_for)
{
    struct exec_output output = {0};
    Hearth__Agent__V1__ExecOutput from = HEARTH__AGENT__V1__EXEC_OUTPUT__INIT;
    Hearth__Agent__V1__ExecSegment segment, *list[] = {&segment};
    put_segment(&segment, 0, "0123456789");
    from.n_segments = 1;
    from.segments = list;
    ck_assert_int_eq(exec_output_set(&output, &from, 4), 0);
    ck_assert_uint_eq(output.data.length, 4);
    exec_output_free(&output);
}
END_TEST

START_TEST(a_foreign_cursor_is_refused)
{
    static const char *const wrong[] = {
        "x", "1", "1.", "1.2.3", "-1.2", "1.2 ", "99999999999999999999999999999999999999.1"};
    uint64_t out, err;
    struct hearth_failure failure;
    ck_assert_int_eq(exec_cursor_parse(NULL, &out, &err, &failure), 0);
    ck_assert_int_eq(exec_cursor_parse("12.34", &out, &err, &failure), 0);
    ck_assert_uint_eq(out, 12);
    ck_assert_uint_eq(err, 34);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_int_eq(exec_cursor_parse(wrong[i], &out, &err, &failure), HEARTH_EINVALID);
}
END_TEST

START_TEST(an_argv_is_shown_as_a_shell_would_need_it)
{
    const char *const argv[] = {"printf", "%s\n", "it's", "", "a-b"};
    struct exec_spec spec = {.argv = argv, .argv_count = 5};
    char *text = exec_command_text(&spec);
    ck_assert_str_eq(text, "printf '%s\n' 'it'\\''s' '' a-b");
    free(text);
}
END_TEST

/* Paths. */

START_TEST(a_path_is_made_relative_to_the_workspace)
{
    static const struct {
        const char *in, *out;
    } good[] = {{"/workspace", ""},
                {"/workspace/", ""},
                {"", ""},
                {".", ""},
                {"a", "a"},
                {"./a//b/./c/", "a/b/c"},
                {"/workspace/a/b", "a/b"},
                {"...", "..."},
                {"a..b", "a..b"}};
    static const char *const bad[] = {"/",  "/etc/passwd", "/workspaces/x",
                                      "..", "a/../b",      "/workspace/../etc"};
    char out[4096];
    struct hearth_failure failure;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ck_assert_int_eq(files_normalize(good[i].in, out, &failure), 0);
        ck_assert_str_eq(out, good[i].out);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(files_normalize(bad[i], out, &failure), HEARTH_EINVALID);
        ck_assert_str_eq(failure.code, "path_outside_workspace");
        ck_assert_str_eq(failure.field, "/path");
    }
}
END_TEST

START_TEST(names_and_labels_have_their_bounds)
{
    char long_name[WORKSPACE_NAME_MAX + 2];
    struct hearth_failure failure;
    memset(long_name, 'n', sizeof long_name);
    long_name[sizeof long_name - 1] = '\0';
    ck_assert_int_eq(workspace_name_check("fix bug 7 – ä", &failure), 0);
    ck_assert_int_eq(workspace_name_check(long_name, &failure), HEARTH_EINVALID);
    ck_assert_int_eq(workspace_name_check("", &failure), HEARTH_EINVALID);
    ck_assert_int_eq(workspace_name_check("a\nb", &failure), HEARTH_EINVALID);
    ck_assert_int_eq(workspace_name_check("\xff", &failure), HEARTH_EINVALID);
    struct row_label good = {"team/ci", "x=y z"}, bad = {"-x", "y"};
    ck_assert_int_eq(workspace_labels_check(&good, 1, &failure), 0);
    ck_assert_int_eq(workspace_labels_check(&bad, 1, &failure), HEARTH_EINVALID);
    ck_assert_str_eq(failure.field, "/labels/-x");
}
END_TEST

/* Expiry: whoever is next stands first, whatever came, went and changed. */

#define EXPIRIES 200

static bool heap_sound(const struct supervisor *supervisor, size_t expected)
{
    bool sound = supervisor->expiry_count == expected;
    for (size_t place = 1; sound && place <= supervisor->expiry_count; place++) {
        const struct workspace *workspace = supervisor->expiries[place - 1];
        const struct workspace *parent = supervisor->expiries[place / 2 ? place / 2 - 1 : 0];
        sound = workspace->expiry_place == place && parent->expiry_at <= workspace->expiry_at;
    }
    return sound;
}

START_TEST(the_next_to_expire_stands_first)
{
    static struct tenant tenant = {.retention_us = 1000};
    static struct supervisor supervisor = {.expiry_fd = -1, .expiry_armed = CLOCK_NEVER};
    static struct workspace workspaces[EXPIRIES];
    size_t there = 0;
    srandom(1);
    for (int turn = 0; turn < 20 * EXPIRIES; turn++) {
        struct workspace *workspace = &workspaces[random() % EXPIRIES];
        workspace->supervisor = &supervisor;
        workspace->tenant = &tenant;
        if (workspace->expiry_place && random() % 4 == 0) {
            expiry_remove(workspace);
            there--;
        } else {
            there += !workspace->expiry_place;
            workspace->state = (enum workspace_state)(random() % WORKSPACE_STATE_MAX);
            workspace->ttl_us = random() % 100000;
            expiry_update(workspace);
        }
        ck_assert(heap_sound(&supervisor, there));
    }
    for (size_t i = 0; i < EXPIRIES; i++)
        expiry_remove(&workspaces[i]);
    ck_assert(heap_sound(&supervisor, 0));
    free(supervisor.expiries);
}
END_TEST

START_TEST(a_deadline_is_of_the_state)
{
    struct tenant tenant = {.retention_us = 1000};
    struct workspace workspace = {
        .tenant = &tenant, .ttl_us = 10, .idle_since_us = 5, .state = WORKSPACE_STARTED};
    ck_assert_int_eq(expiry_deadline(&workspace), 15);
    workspace.state = WORKSPACE_STOPPED;
    ck_assert_int_eq(expiry_deadline(&workspace), 1015);
    workspace.state = WORKSPACE_FAILED;
    ck_assert_int_eq(expiry_deadline(&workspace), 1015);
    workspace.one_shot = true;
    ck_assert_int_eq(expiry_deadline(&workspace), 15);
    workspace.state = WORKSPACE_DELETING;
    ck_assert_int_eq(expiry_deadline(&workspace), CLOCK_NEVER);
}
END_TEST

/* Who is told to start it while it is being started would be refused that. */
START_TEST(what_is_under_way_is_waited_for_and_what_is_stopped_started)
{
    static const struct steps_kind kind = {.name = "start"};
    struct steps steps = {.kind = &kind};
    struct workspace workspace = {.state = WORKSPACE_STOPPED};
    struct hearth_failure failure;
    list_init(&workspace.disk_jobs);
    ck_assert_int_eq(workspace_ready(&workspace, &failure), HEARTH_ECONFLICT);
    ck_assert_str_eq(failure.code, "workspace_not_started");
    ck_assert(!failure.retryable);
    workspace.steps = &steps;
    for (int state = WORKSPACE_CREATING; state < WORKSPACE_STATE_MAX; state++) {
        workspace.state = (enum workspace_state)state;
        if (state == WORKSPACE_DELETING)
            continue;
        ck_assert_int_eq(workspace_ready(&workspace, &failure), HEARTH_ECONFLICT);
        ck_assert_str_eq(failure.code, "workspace_busy");
        ck_assert_str_eq(failure.detail, "a start of the workspace is under way");
        ck_assert(failure.retryable);
    }
    workspace.state = WORKSPACE_DELETING;
    ck_assert_int_eq(workspace_ready(&workspace, &failure), HEARTH_ENOTFOUND);
    ck_assert_str_eq(failure.code, "workspace_not_found");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("supervisor");
    TCase *test_case = tcase_create("supervisor");
    tcase_add_test(test_case, a_flag_wins_over_the_environment_and_that_over_the_file);
    tcase_add_test(test_case, what_is_wrong_is_named);
    tcase_add_test(test_case, every_cell_of_the_workspace_table_is_sound);
    tcase_add_test(test_case, the_next_to_expire_stands_first);
    tcase_add_test(test_case, a_deadline_is_of_the_state);
    tcase_add_test(test_case, what_is_under_way_is_waited_for_and_what_is_stopped_started);
    tcase_add_test(test_case, a_hole_in_the_output_is_told_with_its_size_and_place);
    tcase_add_test(test_case, a_cursor_takes_what_lies_past_it);
    tcase_add_test(test_case, an_agent_cannot_hand_out_more_than_was_asked_for);
    tcase_add_test(test_case, a_foreign_cursor_is_refused);
    tcase_add_test(test_case, an_argv_is_shown_as_a_shell_would_need_it);
    tcase_add_test(test_case, a_path_is_made_relative_to_the_workspace);
    tcase_add_test(test_case, names_and_labels_have_their_bounds);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
