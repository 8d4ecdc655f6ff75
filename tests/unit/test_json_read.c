#include "api/json_read.h"
#include "base/buf.h"
#include "suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int check(const char *text)
{
    return json_check(text, strlen(text), NULL);
}

static const char *const good[] = {
    "{}",
    "[]",
    " null ",
    "\t\r\n1\n",
    "0",
    "-0",
    "-1.5e+10",
    "1E5",
    "1e-400",
    "\"\"",
    "\"\\u00e4\\n\\/\"",
    "\"\\ud83d\\ude00\"",
    "\"\xc3\xa4\xf0\x9f\x98\x80\"",
    "{\"a\":1,\"A\":2,\"b\":[true,false,null,{}]}",
    "[[],[[]],\"x\"]",
    "{\"\\u00e4\":1,\"\\u00e5\":2,\"a\":3,\"a\\u0062\":4}",
};

START_TEST(what_the_grammar_allows_passes)
{
    cJSON *tree = NULL;
    ck_assert_int_eq(check(good[_i]), 0);
    ck_assert_int_eq(json_parse(&tree, good[_i], strlen(good[_i]), NULL), 0);
    ck_assert_ptr_nonnull(tree);
    cJSON_Delete(tree);
}
END_TEST

static const char *const bad[] = {
    "",
    " ",
    "{",
    "[",
    "}",
    "nul",
    "True",
    "NaN",
    "Infinity",
    "+1",
    "01",
    "-",
    "1.",
    ".5",
    "1e",
    "1e+",
    "0x10",
    "1e999",
    "-1e999",
    "[1,]",
    "[,1]",
    "[1 2]",
    "{\"a\"}",
    "{\"a\":}",
    "{a:1}",
    "{'a':1}",
    "{\"a\":1,}",
    "{1:2}",
    "{} {}",
    "1 2",
    "{}x",
    "\"",
    "\"\\\"",
    "\"\\x41\"",
    "\"\\u12\"",
    "\"\\u12g4\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\udc00\"",
    "\"\\ud800\\u0041\"",
    "\"\\ud800x\"",
    "\"a\nb\"",
    "\"\x01\"",
    "\"\xff\"",
    "\"\xc3\"",
    "\"\xc0\x80\"",
    "\"\xed\xa0\x80\"",
    "\"\xf5\x80\x80\x80\"",
    "\xef\xbb\xbf{}",
    "// x\n{}",
    "/* */1",
    "{\"a\":1,\"a\":2}",
    "{\"x\":{\"b\":1,\"c\":2,\"b\":3}}",
    "{\"\\u0061\":1,\"a\":2}",
    "{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":2}",
    "{\"\\t\":1,\"\\u0009\":2}",
    "{\"\\u00e4\":1,\"b\":2,\"\xc3\xa4\":3}",
    "{\"\\/\":1,\"/\":2}",
    "{\"\\u20ac\":1,\"\xe2\x82\xac\":2}",
    /* More digits than a number can need. */
    "1000000000000000000000000000000000000000000000000000000000000000000000",
};

START_TEST(what_it_does_not_allow_is_refused)
{
    struct hearth_failure failure;
    ck_assert_int_eq(json_check(bad[_i], strlen(bad[_i]), &failure), HEARTH_EMALFORMED);
    ck_assert_str_eq(failure.code, "malformed_json");
}
END_TEST

START_TEST(a_nul_byte_is_refused_wherever_it_stands)
{
    ck_assert_int_ne(json_check("{}\0", 3, NULL), 0);
    ck_assert_int_ne(json_check("\0{}", 3, NULL), 0);
    ck_assert_int_ne(json_check("\"a\0b\"", 5, NULL), 0);
    ck_assert_int_ne(json_check("[\0]", 3, NULL), 0);
}
END_TEST

START_TEST(the_text_ends_where_its_length_says)
{
    ck_assert_int_ne(json_check("{\"a\":12}", 7, NULL), 0);
    ck_assert_int_ne(json_check("true", 3, NULL), 0);
    ck_assert_int_ne(json_check("\"\\u00e4\"", 6, NULL), 0);
    ck_assert_int_eq(json_check("12", 1, NULL), 0);
}
END_TEST

START_TEST(nesting_is_bounded)
{
    size_t deep = 200000;
    char *text = malloc(deep), small[2 * JSON_DEPTH_MAX + 3] = {0};
    memset(text, '[', deep);
    ck_assert_int_eq(json_check(text, deep, NULL), HEARTH_EMALFORMED);
    free(text);
    memset(small, '[', JSON_DEPTH_MAX);
    memset(small + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    ck_assert_int_eq(check(small), 0);
    memset(small, '[', JSON_DEPTH_MAX + 1);
    memset(small + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
    ck_assert_int_eq(check(small), HEARTH_EMALFORMED);
}
END_TEST

START_TEST(the_failure_says_where)
{
    struct hearth_failure failure;
    json_check("{\"a\":1,\"a\":2}", 13, &failure);
    ck_assert_ptr_nonnull(strstr(failure.detail, "stands twice at byte 7"));
}
END_TEST

static bool integer(const char *text, int64_t *value)
{
    cJSON *item = cJSON_Parse(text);
    bool whole = json_integer_of(item, value);
    cJSON_Delete(item);
    return whole;
}

START_TEST(an_integer_is_any_whole_number_that_a_double_holds)
{
    int64_t value = 0;
    ck_assert(integer("1.0", &value) && value == 1);
    ck_assert(integer("-3e2", &value) && value == -300);
    ck_assert(integer("9007199254740992", &value) && value == INT64_C(9007199254740992));
    ck_assert(!integer("1.5", &value));
    ck_assert(!integer("1e300", &value));
    ck_assert(!integer("\"1\"", &value));
    ck_assert(!integer("true", &value));
}
END_TEST

static clock_t time_of(const struct buf *text)
{
    clock_t began = clock();
    ck_assert_int_eq(json_check(text->data, text->length, NULL), 0);
    return clock() - began;
}

/* The loop stands still while a body is read: keys that begin alike are no more work than others.
 */
START_TEST(long_keys_that_begin_alike_are_read_in_time)
{
    struct buf keys = {0}, string = {0};
    char key[2001] = {0};
    memset(key, 'a', sizeof key - 1);
    for (int i = 0; i < 4096; i++)
        ck_assert_int_eq(buf_printf(&keys, "%c\"%s%d\":1", i ? ',' : '{', key, i * 7919 % 99991),
                         0);
    ck_assert_int_eq(buf_char(&keys, '}'), 0);
    ck_assert_int_eq(buf_char(&string, '"'), 0);
    while (string.length < keys.length)
        ck_assert_int_eq(buf_text(&string, key), 0);
    ck_assert_int_eq(buf_char(&string, '"'), 0);
    clock_t limit = 20 * time_of(&string);
    ck_assert_int_lt(time_of(&keys), limit);
    buf_free(&keys);
    buf_free(&string);
}
END_TEST

START_TEST(values_are_bounded)
{
    struct buf text = {0};
    cJSON *tree = NULL;
    ck_assert_int_eq(buf_char(&text, '['), 0);
    for (int i = 0; i < 99998; i++)
        ck_assert_int_eq(buf_text(&text, "0,"), 0);
    ck_assert_int_eq(buf_text(&text, "0]"), 0);
    ck_assert_int_eq(json_check(text.data, text.length, NULL), 0);
    text.data[text.length - 1] = ',';
    ck_assert_int_eq(buf_text(&text, "0]"), 0);
    ck_assert_int_eq(json_check(text.data, text.length, NULL), HEARTH_EMALFORMED);
    /* Nor is a tree made of it to find an ID in. */
    ck_assert_int_ne(json_parse_envelope(&tree, text.data, text.length, NULL), 0);
    ck_assert_ptr_null(tree);
    buf_free(&text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("json_read");
    TCase *test_case = tcase_create("json_read");
    tcase_add_loop_test(test_case, what_the_grammar_allows_passes, 0, sizeof good / sizeof *good);
    tcase_add_loop_test(test_case, what_it_does_not_allow_is_refused, 0, sizeof bad / sizeof *bad);
    tcase_add_test(test_case, a_nul_byte_is_refused_wherever_it_stands);
    tcase_add_test(test_case, the_text_ends_where_its_length_says);
    tcase_add_test(test_case, nesting_is_bounded);
    tcase_add_test(test_case, the_failure_says_where);
    tcase_add_test(test_case, an_integer_is_any_whole_number_that_a_double_holds);
    tcase_add_test(test_case, long_keys_that_begin_alike_are_read_in_time);
    tcase_add_test(test_case, values_are_bounded);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
