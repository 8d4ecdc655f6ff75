#include "api/call_internal.h"
#include "suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct route route;
static char allow[64];
static struct hearth_failure failure;

static int find(const char *method, const char *path)
{
    return route_find(method, path, &route, allow, &failure);
}

START_TEST(every_operation_is_found_by_its_own_path)
{
    size_t count;
    const struct operation_entry *const *table = optable(&count);
    ck_assert_uint_gt(count, 10);
    for (size_t i = 0; i < count; i++) {
        char path[256] = "";
        unsigned parameters = 0;
        if (!(table[i]->surfaces & SURFACE_REST))
            continue;
        for (const char *at = table[i]->path; *at; at++) {
            if (*at == '{') {
                snprintf(path + strlen(path), sizeof path - strlen(path), "zz%u", parameters++);
                at = strchr(at, '}');
            } else {
                snprintf(path + strlen(path), sizeof path - strlen(path), "%c", *at);
            }
        }
        ck_assert_int_eq(find(table[i]->method, path), 0);
        ck_assert_ptr_eq(route.entry, table[i]);
        ck_assert_uint_eq(route.parameter_count, parameters);
        for (unsigned j = 0; j < parameters; j++) {
            char value[16];
            snprintf(value, sizeof value, "zz%u", j);
            ck_assert_str_eq(route.parameters[j].value, value);
        }
    }
}
END_TEST

START_TEST(the_rest_of_a_path_may_be_the_guests)
{
    static const char *const rests[][2] = {{"", ""}, {"/", ""}, {"/a/b/c", "a/b/c"}};
    for (size_t i = 0; i < sizeof rests / sizeof *rests; i++) {
        char path[64];
        snprintf(path, sizeof path, "/v1/workspaces/ws/ports/80%s", rests[i][0]);
        ck_assert_int_eq(find("OTHER", path), 0);
        ck_assert_str_eq(route.entry->name, "port_request");
        ck_assert_str_eq(route.parameters[1].value, "80");
        ck_assert_str_eq(route.parameters[2].value, rests[i][1]);
    }
    ck_assert_int_eq(find("GET", "/v1/workspaces/ws/ports"), HEARTH_ENOTFOUND);
}
END_TEST

START_TEST(every_path_parameter_is_a_field)
{
    size_t count;
    const struct operation_entry *const *table = optable(&count);
    for (size_t i = 0; i < count; i++) {
        unsigned braces = 0, fields = 0;
        for (const char *at = table[i]->path; (at = strchr(at, '{')); at++)
            braces++;
        for (const struct field *field = table[i]->input; field->name; field++) {
            char parameter[80];
            snprintf(parameter, sizeof parameter, "{%s}", field->name);
            fields += field->place == PLACE_PATH && strstr(table[i]->path, parameter);
        }
        ck_assert_msg(braces == fields, "%s", table[i]->name);
    }
}
END_TEST

START_TEST(a_head_is_a_get)
{
    ck_assert_int_eq(find("HEAD", "/v1/workspaces"), 0);
    ck_assert_str_eq(route.entry->name, "workspace_list");
}
END_TEST

START_TEST(another_method_is_told_which_there_are)
{
    ck_assert_int_ne(find("PUT", "/v1/workspaces"), 0);
    ck_assert_str_eq(failure.code, "method_not_allowed");
    ck_assert_ptr_nonnull(strstr(allow, "POST"));
    ck_assert_ptr_nonnull(strstr(allow, "GET, HEAD"));
    ck_assert_int_ne(find("OTHER", "/v1/tools/workspace_exec/call"), 0);
    ck_assert_str_eq(allow, "POST");
    ck_assert_int_ne(find("DELETE", "/livez"), 0);
    ck_assert_str_eq(allow, "GET, HEAD");
}
END_TEST

static const char *const absent[] = {
    "/",
    "/v2",
    "/v1/",
    "/v1/workspace",
    "/v1/workspaces/",
    "/v1/workspaces//exec",
    "/v1/workspaces/a/exec/b",
    "/V1/workspaces",
    "/livez/",
    "/v1/tools//call",
};

START_TEST(what_is_not_there_is_not_found)
{
    ck_assert_int_eq(find("GET", absent[_i]), HEARTH_ENOTFOUND);
    ck_assert_str_eq(failure.code, "route_not_found");
    ck_assert_str_eq(allow, "");
}
END_TEST

START_TEST(a_segment_is_bounded)
{
    char path[400] = "/v1/workspaces/";
    size_t used = strlen(path);
    memset(path + used, 'a', 255);
    ck_assert_int_eq(find("GET", path), 0);
    memset(path + used, 'a', 256);
    ck_assert_int_eq(find("GET", path), HEARTH_ENOTFOUND);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("route");
    TCase *test_case = tcase_create("route");
    tcase_add_test(test_case, every_operation_is_found_by_its_own_path);
    tcase_add_test(test_case, the_rest_of_a_path_may_be_the_guests);
    tcase_add_test(test_case, every_path_parameter_is_a_field);
    tcase_add_test(test_case, a_head_is_a_get);
    tcase_add_test(test_case, another_method_is_told_which_there_are);
    tcase_add_loop_test(test_case, what_is_not_there_is_not_found, 0,
                        sizeof absent / sizeof *absent);
    tcase_add_test(test_case, a_segment_is_bounded);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
