#include "api/call_internal.h"
#include "api/decode.h"
#include "api/problem.h"
#include "suite.h"

#include <check.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct nested {
    int64_t port;
};

struct input {
    const char *text, *choice, *blank;
    int64_t number;
    struct optional_integer maybe;
    bool flag;
    struct string_list words;
    struct pair_list pairs;
    struct object_list ports;
};

static const char *const choices[] = {"vm", "container", NULL};

/* Of the two codes problem.h has a hint for the first. */
static int no_x(const char *value, struct hearth_failure *failure)
{
    if (strchr(value, 'm'))
        return hearth_fail(failure, HEARTH_EINVALID, "bad_mode", "it has an m");
    return strchr(value, 'x') ? hearth_fail(failure, HEARTH_EINVALID, "bad_text", "it has an x")
                              : 0;
}

static const struct field port_fields[] = {
    {.name = "port",
     .type = FIELD_INTEGER,
     .flags = FIELD_REQUIRED,
     .minimum = 1,
     .maximum = 65535,
     .offset = offsetof(struct nested, port)},
    {0},
};

static const struct field fields[] = {
    {.name = "text",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED,
     .maximum = 8,
     .check = no_x,
     .description = "What it says.",
     .offset = offsetof(struct input, text)},
    {.name = "choice",
     .type = FIELD_STRING,
     .place = PLACE_QUERY,
     .choices = choices,
     .default_json = "\"vm\"",
     .offset = offsetof(struct input, choice)},
    {.name = "blank",
     .type = FIELD_STRING,
     .flags = FIELD_BLANK_OK,
     .offset = offsetof(struct input, blank)},
    {.name = "number",
     .type = FIELD_INTEGER,
     .place = PLACE_QUERY,
     .minimum = 1,
     .maximum = 9,
     .default_json = "3",
     .description = "How many.",
     .offset = offsetof(struct input, number)},
    {.name = "maybe",
     .type = FIELD_INTEGER,
     .flags = FIELD_OPTIONAL_VALUE,
     .maximum = 9,
     .offset = offsetof(struct input, maybe)},
    {.name = "flag",
     .type = FIELD_BOOLEAN,
     .place = PLACE_QUERY,
     .offset = offsetof(struct input, flag)},
    {.name = "words",
     .type = FIELD_STRING_LIST,
     .place = PLACE_QUERY,
     .maximum = 2,
     .offset = offsetof(struct input, words)},
    {.name = "pairs", .type = FIELD_MAP, .maximum = 2, .offset = offsetof(struct input, pairs)},
    {.name = "ports",
     .type = FIELD_OBJECT_LIST,
     .fields = port_fields,
     .nested_size = sizeof(struct nested),
     .offset = offsetof(struct input, ports)},
    {0},
};

static const struct operation_entry entry = {
    .name = "test", .input = fields, .input_size = sizeof(struct input)};

static struct call *call;
static struct input input;
static struct hearth_failure failure;

static void set_up(void)
{
    call = calloc(1, sizeof *call);
    list_init(&call->link);
    list_init(&call->key_link);
    memset(&input, 0, sizeof input);
    failure = HEARTH_FAILURE_NONE;
}

static void tear_down(void)
{
    call_free(call);
}

static int decode(const char *text)
{
    cJSON *object = cJSON_Parse(text);
    ck_assert_msg(object != NULL, "%s", text);
    int error = decode_input(call, &entry, object, &input, &failure);
    cJSON_Delete(object);
    return error;
}

START_TEST(every_kind_of_field_arrives)
{
    ck_assert_int_eq(decode("{\"text\":\"hi\",\"choice\":\"container\",\"blank\":\"\",\"number\":4,"
                            "\"maybe\":0,\"flag\":true,\"words\":[\"a\",\"\"],"
                            "\"pairs\":{\"k\":\"v\"},\"ports\":[{\"port\":80},{\"port\":443}]}"),
                     0);
    ck_assert_str_eq(input.text, "hi");
    ck_assert_str_eq(input.choice, "container");
    ck_assert_str_eq(input.blank, "");
    ck_assert_int_eq(input.number, 4);
    ck_assert(input.maybe.set && input.maybe.value == 0);
    ck_assert(input.flag);
    ck_assert_uint_eq(input.words.count, 2);
    ck_assert_str_eq(input.words.items[1], "");
    ck_assert_ptr_null(input.words.items[2]);
    ck_assert_uint_eq(input.pairs.count, 1);
    ck_assert_str_eq(input.pairs.items[0].value, "v");
    ck_assert_uint_eq(input.ports.count, 2);
    ck_assert_int_eq(((const struct nested *)input.ports.items)[1].port, 443);
}
END_TEST

START_TEST(null_and_absent_mean_the_default)
{
    ck_assert_int_eq(decode("{\"text\":\"hi\",\"choice\":null,\"number\":null,\"maybe\":null,"
                            "\"blank\":null,\"words\":null,\"pairs\":null}"),
                     0);
    ck_assert_str_eq(input.choice, "vm");
    ck_assert_int_eq(input.number, 3);
    ck_assert(!input.maybe.set);
    ck_assert_ptr_null(input.blank);
    ck_assert(!input.pairs.set);
}
END_TEST

START_TEST(a_map_may_be_a_list_of_pairs)
{
    ck_assert_int_eq(decode("{\"text\":\"hi\",\"pairs\":[{\"name\":\"k\",\"value\":\"v\"},"
                            "{\"value\":\"2\",\"name\":\"l\"}]}"),
                     0);
    ck_assert_uint_eq(input.pairs.count, 2);
    ck_assert_str_eq(input.pairs.items[1].name, "l");
    ck_assert_str_eq(input.pairs.items[1].value, "2");
}
END_TEST

static const struct {
    const char *text, *code, *field;
} refused[] = {
    {"{}", "missing_argument", "/text"},
    {"{\"text\":null}", "missing_argument", "/text"},
    {"[]", "bad_type", ""},
    {"{\"text\":1}", "bad_type", "/text"},
    {"{\"text\":\"\"}", "blank_argument", "/text"},
    {"{\"text\":\"123456789\"}", "bad_length", "/text"},
    {"{\"text\":\"x\"}", "bad_text", "/text"},
    {"{\"text\":\"a\",\"Text\":\"b\"}", "unknown_argument", "/Text"},
    {"{\"text\":\"a\",\"a/b~\":1}", "unknown_argument", "/a~1b~0"},
    {"{\"text\":\"a\",\"choice\":\"VM\"}", "bad_choice", "/choice"},
    {"{\"text\":\"a\",\"number\":0}", "out_of_range", "/number"},
    {"{\"text\":\"a\",\"number\":10}", "out_of_range", "/number"},
    {"{\"text\":\"a\",\"number\":1.5}", "bad_type", "/number"},
    {"{\"text\":\"a\",\"number\":\"1\"}", "bad_type", "/number"},
    {"{\"text\":\"a\",\"number\":true}", "bad_type", "/number"},
    {"{\"text\":\"a\",\"flag\":1}", "bad_type", "/flag"},
    {"{\"text\":\"a\",\"words\":\"a\"}", "bad_type", "/words"},
    {"{\"text\":\"a\",\"words\":[\"a\",1]}", "bad_type", "/words/1"},
    {"{\"text\":\"a\",\"words\":[\"a\",null]}", "bad_type", "/words/1"},
    {"{\"text\":\"a\",\"words\":[\"a\",\"b\",\"c\"]}", "bad_length", "/words"},
    {"{\"text\":\"a\",\"pairs\":\"a\"}", "bad_type", "/pairs"},
    {"{\"text\":\"a\",\"pairs\":{\"k\":1}}", "bad_type", "/pairs/k"},
    {"{\"text\":\"a\",\"pairs\":[{\"name\":\"k\"}]}", "bad_type", "/pairs/0"},
    {"{\"text\":\"a\",\"pairs\":[{\"name\":\"k\",\"value\":\"v\",\"x\":1}]}", "bad_type",
     "/pairs/0"},
    {"{\"text\":\"a\",\"pairs\":[{\"name\":\"k\",\"value\":\"v\"},{\"name\":\"k\",\"value\":\"w\"}]"
     "}",
     "duplicate_name", "/pairs/1"},
    {"{\"text\":\"a\",\"ports\":[{\"port\":1},{\"port\":0}]}", "out_of_range", "/ports/1/port"},
    {"{\"text\":\"a\",\"ports\":[{}]}", "missing_argument", "/ports/0/port"},
    {"{\"text\":\"a\",\"ports\":[{\"port\":1,\"prt\":1}]}", "unknown_argument", "/ports/0/prt"},
};

START_TEST(what_is_wrong_is_named)
{
    ck_assert_int_eq(decode(refused[_i].text), HEARTH_EINVALID);
    ck_assert_str_eq(failure.code, refused[_i].code);
    ck_assert_str_eq(failure.field, refused[_i].field);
}
END_TEST

START_TEST(an_argument_like_no_other_is_told_which_there_are)
{
    ck_assert_int_eq(decode("{\"text\": \"a\", \"environment\": 1}"), HEARTH_EINVALID);
    ck_assert_str_eq(failure.code, "unknown_argument");
    ck_assert_ptr_nonnull(strstr(failure.hint, "The arguments are: text, choice, "));
}
END_TEST

START_TEST(a_wrong_argument_is_told_what_the_table_says_of_it)
{
    ck_assert_int_eq(decode("{\"text\": \"a\", \"number\": 77}"), HEARTH_EINVALID);
    ck_assert_str_eq(failure.code, "out_of_range");
    ck_assert_str_eq(failure.hint, "number, by default 3: How many.");
}
END_TEST

START_TEST(the_hint_of_a_code_is_better_than_what_the_table_says)
{
    ck_assert_int_eq(decode("{\"text\": \"x\"}"), HEARTH_EINVALID);
    ck_assert_str_eq(problem_hint(&failure), "text: What it says.");
    ck_assert_int_eq(decode("{\"text\": \"m\"}"), HEARTH_EINVALID);
    ck_assert_str_eq(problem_hint(&failure), problem_hint_of_code("bad_mode"));
}
END_TEST

START_TEST(an_unknown_argument_hints_at_the_nearest)
{
    decode("{\"text\":\"a\",\"numbr\":1}");
    ck_assert_str_eq(failure.hint, "Did you mean \"number\"?");
}
END_TEST

static int query(const struct http_pair *pairs, size_t count)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "text", "a");
    int error = decode_query(&entry, pairs, count, object, &failure);
    if (!error)
        error = decode_input(call, &entry, object, &input, &failure);
    cJSON_Delete(object);
    return error;
}

START_TEST(query_values_are_typed_by_their_fields)
{
    static const struct http_pair pairs[] = {
        {"number", "7"}, {"flag", "True"}, {"words", "a"}, {"words", "b"}};
    ck_assert_int_eq(query(pairs, 4), 0);
    ck_assert_int_eq(input.number, 7);
    ck_assert(input.flag);
    ck_assert_uint_eq(input.words.count, 2);
}
END_TEST

static const struct {
    struct http_pair pairs[2];
    size_t count;
    const char *code;
} bad_queries[] = {
    {{{"number", ""}}, 1, "bad_type"},
    {{{"number", "0x7"}}, 1, "bad_type"},
    {{{"number", " 7"}}, 1, "bad_type"},
    {{{"number", "inf"}}, 1, "bad_type"},
    {{{"number", "7"}, {"number", "8"}}, 2, "duplicate_parameter"},
    {{{"flag", "yes"}}, 1, "bad_type"},
    {{{"choice", ""}}, 1, "blank_argument"},
    {{{"nothing", "1"}}, 1, "unknown_argument"},
};

START_TEST(a_bad_query_is_refused)
{
    ck_assert_int_ne(query(bad_queries[_i].pairs, bad_queries[_i].count), 0);
    ck_assert_str_eq(failure.code, bad_queries[_i].code);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("decode");
    TCase *test_case = tcase_create("decode");
    tcase_add_checked_fixture(test_case, set_up, tear_down);
    tcase_add_test(test_case, every_kind_of_field_arrives);
    tcase_add_test(test_case, null_and_absent_mean_the_default);
    tcase_add_test(test_case, a_map_may_be_a_list_of_pairs);
    tcase_add_loop_test(test_case, what_is_wrong_is_named, 0, sizeof refused / sizeof *refused);
    tcase_add_test(test_case, an_unknown_argument_hints_at_the_nearest);
    tcase_add_test(test_case, the_hint_of_a_code_is_better_than_what_the_table_says);
    tcase_add_test(test_case, an_argument_like_no_other_is_told_which_there_are);
    tcase_add_test(test_case, a_wrong_argument_is_told_what_the_table_says_of_it);
    tcase_add_test(test_case, query_values_are_typed_by_their_fields);
    tcase_add_loop_test(test_case, a_bad_query_is_refused, 0,
                        sizeof bad_queries / sizeof *bad_queries);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
