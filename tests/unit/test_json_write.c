/* JSON text as it is written: numbers at their bounds, times, escapes, text that is no UTF-8. */
#include "api/json_write.h"
#include "suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct buf out;
static struct json_writer json;

static void setup(void)
{
    json = JSON_WRITER(&out);
    json_array_begin(&json, NULL);
}

static void teardown(void)
{
    buf_free(&out);
}

static void is(const char *expected)
{
    json_array_end(&json);
    ck_assert_int_eq(json.error, 0);
    ck_assert_str_eq(out.data, expected);
    ck_assert_uint_eq(out.length, strlen(expected));
}

START_TEST(numbers)
{
    json_integer(&json, NULL, 0);
    json_integer(&json, NULL, -10);
    json_integer(&json, NULL, INT64_MIN);
    json_integer(&json, NULL, INT64_MAX);
    json_unsigned(&json, NULL, UINT64_MAX);
    is("[0,-10,-9223372036854775808,9223372036854775807,18446744073709551615]");
}
END_TEST

START_TEST(times)
{
    json_time(&json, NULL, 0);
    json_time(&json, NULL, 42);
    json_time(&json, NULL, 1700000000000001);
    json_seconds(&json, NULL, 0);
    json_seconds(&json, NULL, -1500000);
    json_duration_ms(&json, NULL, 1500);
    is("[null,0.000042,1700000000.000001,0.000000,-1.500000,2]");
}
END_TEST

START_TEST(escapes)
{
    json_string(&json, NULL, "");
    json_string(&json, NULL, "plain !#[]~");
    json_string(&json, NULL,
                "\"\\\n\r\t\x01\x7f"
                "end");
    json_string(&json, NULL, NULL);
    is("[\"\",\"plain !#[]~\",\"\\\"\\\\\\n\\r\\t\\u0001\\u007fend\",null]");
}
END_TEST

START_TEST(repaired_text)
{
    json_string(&json, NULL, "gr\xc3\xbc\xc3\x9f");
    json_string(&json, NULL, "a\xffz\xc3");
    json_bytes(&json, NULL, "a\0b", 3);
    is("[\"gr\xc3\xbc\xc3\x9f\",\"a\xef\xbf\xbdz\xef\xbf\xbd\",\"a\\u0000b\"]");
}
END_TEST

START_TEST(keys)
{
    json_object_begin(&json, NULL);
    json_boolean(&json, "plain", true);
    json_null(&json, "a\"b");
    json_array_begin(&json, "list");
    json_array_end(&json);
    json_object_end(&json);
    is("[{\"plain\":true,\"a\\\"b\":null,\"list\":[]}]");
}
END_TEST

START_TEST(a_full_buffer_is_an_error)
{
    out.limit = 8;
    json_string(&json, NULL, "too long for it");
    ck_assert_int_ne(json.error, 0);
    ck_assert_str_eq(out.data, "[");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("json_write");
    TCase *tests = tcase_create("text");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, numbers);
    tcase_add_test(tests, times);
    tcase_add_test(tests, escapes);
    tcase_add_test(tests, repaired_text);
    tcase_add_test(tests, keys);
    tcase_add_test(tests, a_full_buffer_is_an_error);
    suite_add_tcase(suite, tests);
    return run_and_free(suite);
}
