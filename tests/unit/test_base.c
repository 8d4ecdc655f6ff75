#include "base/buf.h"
#include "base/failure.h"
#include "base/id.h"
#include "base/text.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(buf_keeps_its_limit_and_its_content)
{
    auto_buf struct buf buf = {.limit = 4};
    ck_assert_int_eq(buf_append(&buf, "abc", 3), 0);
    ck_assert_int_eq(buf_append(&buf, "de", 2), HEARTH_ETOOLARGE);
    ck_assert_str_eq(buf.data, "abc");
}
END_TEST

START_TEST(an_id_has_its_prefix_tag_and_length)
{
    char id[ID_SIZE];
    id_make(id, "ws", "aa");
    ck_assert(id_valid(id, "ws"));
    ck_assert(!id_valid(id, "vm"));
    ck_assert(!id_valid("ws_aa/../etc/passwd", "ws"));
    ck_assert_int_eq(strncmp(id, "ws_aa", 5), 0);
}
END_TEST

START_TEST(bad_utf8_is_replaced_byte_for_byte)
{
    auto_buf struct buf out = {0};
    ck_assert_int_eq(utf8_repair(&out, "a\xff\xc3\xa4\xed\xa0\x80", 7), 0);
    ck_assert_str_eq(out.data, "a\xef\xbf\xbd\xc3\xa4\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
}
END_TEST

START_TEST(a_failure_carries_code_and_context)
{
    struct hearth_failure failure;
    ck_assert_int_eq(hearth_fail(&failure, HEARTH_ENOTFOUND, "x_not_found", "no %d", 7),
                     HEARTH_ENOTFOUND);
    hearth_failure_context(&failure, "while %s", "testing");
    ck_assert_str_eq(failure.code, "x_not_found");
    ck_assert_str_eq(failure.detail, "while testing: no 7");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base");
    TCase *test_case = tcase_create("base");
    tcase_add_test(test_case, buf_keeps_its_limit_and_its_content);
    tcase_add_test(test_case, an_id_has_its_prefix_tag_and_length);
    tcase_add_test(test_case, bad_utf8_is_replaced_byte_for_byte);
    tcase_add_test(test_case, a_failure_carries_code_and_context);
    suite_add_tcase(suite, test_case);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
