#include "base/buf.h"
#include "base/failure.h"
#include "base/id.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/text.h"
#include "suite.h"

#include <check.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

START_TEST(buf_keeps_its_limit_and_its_content)
{
    auto_buf struct buf buf = {.limit = 4};
    ck_assert_int_eq(buf_append(&buf, "abc", 3), 0);
    ck_assert_int_eq(buf_append(&buf, "de", 2), HEARTH_ETOOLARGE);
    ck_assert_int_eq(buf_printf(&buf, "%d", 12), HEARTH_ETOOLARGE);
    ck_assert_int_eq(buf_reserve(&buf, SIZE_MAX), HEARTH_ETOOLARGE);
    ck_assert_str_eq(buf.data, "abc");
    ck_assert_int_eq(buf_char(&buf, 'd'), 0);
    ck_assert_str_eq(buf.data, "abcd");
    ck_assert_int_eq(buf_char(&buf, 'e'), HEARTH_ETOOLARGE);
    ck_assert_uint_eq(buf.length, 4);
}
END_TEST

START_TEST(buf_grows_and_keeps_zero_bytes)
{
    auto_buf struct buf buf = {0};
    for (int i = 0; i < 1000; i++)
        ck_assert_int_eq(buf_append(&buf, "a\0b", 3), 0);
    ck_assert_uint_eq(buf.length, 3000);
    ck_assert(memcmp(buf.data + 2997, "a\0b", 4) == 0);
    ck_assert_int_eq(buf_append(&buf, NULL, 0), 0);
    ck_assert_uint_eq(buf.length, 3000);
}
END_TEST

START_TEST(buf_consumes_from_its_front)
{
    auto_buf struct buf buf = {0};
    buf_consume(&buf, 5); /* an empty one has nothing to lose */
    ck_assert_uint_eq(buf.length, 0);
    ck_assert_int_eq(buf_text(&buf, "hello world"), 0);
    buf_consume(&buf, 0);
    buf_consume(&buf, 6);
    ck_assert_str_eq(buf.data, "world");
    ck_assert_int_eq(buf_printf(&buf, "%s%d", "!", 7), 0);
    ck_assert_str_eq(buf.data, "world!7");
    buf_consume(&buf, 99);
    ck_assert_uint_eq(buf.length, 0);
    ck_assert_str_eq(buf.data, "");
}
END_TEST

START_TEST(a_secret_buf_wipes_what_leaves_it)
{
    auto_buf struct buf buf = {.secret = true};
    ck_assert_int_eq(buf_text(&buf, "not to be seen again"), 0);
    for (int i = 0; i < 100; i++) /* it moves */
        ck_assert_int_eq(buf_text(&buf, "not to be seen again"), 0);
    size_t length = buf.length;
    buf_consume(&buf, length - 4);
    ck_assert_str_eq(buf.data, "gain");
    for (size_t i = 4; i < length; i++)
        ck_assert_int_eq(buf.data[i], 0);
    buf_clear(&buf);
    for (size_t i = 0; i < length; i++)
        ck_assert_int_eq(buf.data[i], 0);
    buf_free(&buf);
    ck_assert(buf.secret);
}
END_TEST

START_TEST(buf_gives_its_bytes_away)
{
    struct buf buf = {.limit = 9};
    auto_free char *empty = buf_steal(&buf);
    ck_assert_str_eq(empty, "");
    ck_assert_int_eq(buf_text(&buf, "mine"), 0);
    auto_free char *stolen = buf_steal(&buf);
    ck_assert_str_eq(stolen, "mine");
    ck_assert_ptr_null(buf.data);
    ck_assert_uint_eq(buf.length, 0);
    ck_assert_uint_eq(buf.limit, 9);
}
END_TEST

struct number {
    int value;
    struct list link;
};

static void list_text(const struct list *head, char *out)
{
    list_for_each(cursor, next, head)
    {
        *out++ = (char)('0' + container_of(cursor, struct number, link)->value);
    }
    *out = '\0';
}

START_TEST(list_keeps_order_and_takes_removal_while_it_is_walked)
{
    struct list head;
    struct number numbers[5];
    char text[8];
    list_init(&head);
    ck_assert(list_empty(&head));
    for (int i = 0; i < 5; i++)
        numbers[i].value = i;
    for (int i = 1; i < 4; i++)
        list_append(&head, &numbers[i].link);
    list_prepend(&head, &numbers[0].link);
    list_insert(&numbers[2].link, &numbers[4].link);
    list_text(&head, text);
    ck_assert_str_eq(text, "01423");
    list_for_each(cursor, next, &head)
    {
        if (container_of(cursor, struct number, link)->value % 2 == 0)
            list_remove(cursor);
    }
    list_text(&head, text);
    ck_assert_str_eq(text, "13");
    list_remove(&numbers[0].link); /* a second time: it hangs in no list any more */
    ck_assert(list_empty(&numbers[0].link));
    list_remove(&numbers[1].link);
    list_remove(&numbers[3].link);
    ck_assert(list_empty(&head));
}
END_TEST

START_TEST(map_finds_each_of_many_and_none_that_left)
{
    enum { COUNT = 1000 };
    struct map map = {0};
    static struct map_entry entries[COUNT];
    static char keys[COUNT][16];
    ck_assert_ptr_null(map_find(&map, "key0"));
    for (int i = 0; i < COUNT; i++) {
        snprintf(keys[i], sizeof keys[i], "key%d", i);
        ck_assert_int_eq(map_insert(&map, &entries[i], keys[i]), 0);
    }
    for (int i = 0; i < COUNT; i += 2)
        map_remove(&map, &entries[i]);
    map_remove(&map, &entries[0]); /* not in it any more: nothing happens */
    ck_assert_uint_eq(map.count, COUNT / 2);
    for (int i = 0; i < COUNT; i++)
        ck_assert_ptr_eq(map_find(&map, keys[i]), i % 2 ? &entries[i] : NULL);
    ck_assert_ptr_null(map_find(&map, ""));
    map_free(&map);
    ck_assert_ptr_null(map_find(&map, "key1"));
}
END_TEST

START_TEST(an_id_has_its_prefix_tag_and_length)
{
    char id[ID_SIZE], other[ID_SIZE];
    id_make(id, "ws", "aa");
    ck_assert(id_valid(id, "ws"));
    ck_assert(!id_valid(id, "vm"));
    ck_assert(!id_valid(id, "w"));
    ck_assert_int_eq(strncmp(id, "ws_aa", 5), 0);
    ck_assert_uint_eq(strlen(id), strlen("ws_") + 16);
    id_make(other, "ws", "aa");
    ck_assert_str_ne(id, other);
}
END_TEST

START_TEST(what_is_no_id_is_told_apart)
{
    static const char *const wrong[] = {
        "",
        "ws",
        "ws_",
        "ws_aa/../etc/passwd",
        "ws_aaaaaaaaaaaaaaa",        /* one short */
        "ws_aaaaaaaaaaaaaaaaa",      /* one long */
        "ws_Aaaaaaaaaaaaaaaa",       /* upper case */
        "ws_aaaaaaaaaaaaaaa1",       /* 0, 1, 8 and 9 are not in the alphabet */
        "ws_aaaaaaaaaaaaaaa\n",      /* a line's end is no end */
        "ws_aaaaaaaaaaaaaa\xc3\xa4", /* two bytes */
        " ws_aaaaaaaaaaaaaaaa",
        "ws-aaaaaaaaaaaaaaaa",
        "xws_aaaaaaaaaaaaaaaa",
    };
    ck_assert(id_valid("ws_aaaaaaaaaaaaaa27", "ws"));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_msg(!id_valid(wrong[i], "ws"), "%s", wrong[i]);
    ck_assert(id_node_tag_valid("a7"));
    ck_assert(!id_node_tag_valid(""));
    ck_assert(!id_node_tag_valid("a"));
    ck_assert(!id_node_tag_valid("abc"));
    ck_assert(!id_node_tag_valid("A7"));
}
END_TEST

START_TEST(random_text_is_of_the_alphabet_and_ended)
{
    char text[301], seen[256] = {0};
    memset(text, '#', sizeof text);
    id_random_text(text, sizeof text - 1);
    ck_assert_uint_eq(strlen(text), 300);
    for (size_t i = 0; text[i]; i++) {
        ck_assert_ptr_nonnull(strchr("abcdefghijklmnopqrstuvwxyz234567", text[i]));
        seen[(unsigned char)text[i]] = 1;
    }
    int kinds = 0;
    for (size_t i = 0; i < sizeof seen; i++)
        kinds += seen[i];
    ck_assert_int_gt(kinds, 20); /* fewer: once in 10^50 runs */
}
END_TEST

static const struct {
    const char *text;
    size_t length;
    bool valid;
} utf8_cases[] = {
    {"", 0, true},
    {"a", 1, true},
    {"\0", 1, true},
    {"\x7f", 1, true},
    {"\xc2\x80", 2, true},
    {"\xdf\xbf", 2, true},
    {"\xe0\xa0\x80", 3, true},
    {"\xed\x9f\xbf", 3, true},
    {"\xee\x80\x80", 3, true},
    {"\xef\xbf\xbf", 3, true},
    {"\xf0\x90\x80\x80", 4, true},
    {"\xf4\x8f\xbf\xbf", 4, true},
    {"\x80", 1, false},             /* a continuation alone */
    {"\xc0\x80", 2, false},         /* overlong NUL */
    {"\xc1\xbf", 2, false},         /* overlong */
    {"\xe0\x9f\xbf", 3, false},     /* overlong */
    {"\xf0\x8f\xbf\xbf", 4, false}, /* overlong */
    {"\xed\xa0\x80", 3, false},     /* surrogate */
    {"\xf4\x90\x80\x80", 4, false}, /* past U+10FFFF */
    {"\xf5\x80\x80\x80", 4, false},
    {"\xff", 1, false},
    {"\xc3", 1, false}, /* cut off */
    {"\xe2\x82", 2, false},
    {"\xf0\x9f\x98", 3, false},
    {"\xc3\x41", 2, false},
    {"\xe2\x82\x41", 3, false},
};

START_TEST(utf8_is_what_rfc_3629_says)
{
    const size_t length = utf8_cases[_i].length;
    const char *text = utf8_cases[_i].text;
    ck_assert_int_eq(utf8_valid(text, length), utf8_cases[_i].valid);
    ck_assert_uint_eq(utf8_sequence(text, length), utf8_cases[_i].valid ? length : 0);
}
END_TEST

START_TEST(a_character_that_has_begun_is_told_by_its_bytes)
{
    static const struct {
        const char *text;
        size_t begun;
    } cases[] = {
        {"", 0},
        {"a", 0},
        {"\xc3", 1},
        {"a\xc3\xa4", 0},
        {"a\xe2", 1},
        {"a\xe2\x82", 2},
        {"\xe2\x82\xac", 0},
        {"\xf0\x9f\x99", 3},
        {"\xf0\x9f\x99\x82", 0},
        {"\x82\xac", 0}, /* its beginning is not there */
        {"\xff", 0},
        {"\xc0", 0},
        {"\x80\x80\x80\x80", 0},
        {"\xc3\xa4\xc3", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_uint_eq(utf8_begun(cases[i].text, strlen(cases[i].text)), cases[i].begun);
}
END_TEST

START_TEST(bad_utf8_is_replaced_byte_for_byte)
{
    auto_buf struct buf out = {0};
    ck_assert_int_eq(utf8_repair(&out, "a\xff\xc3\xa4\xed\xa0\x80", 7), 0);
    ck_assert_str_eq(out.data, "a\xef\xbf\xbd\xc3\xa4\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    ck_assert(utf8_valid(out.data, out.length));
}
END_TEST

START_TEST(repaired_text_keeps_to_the_limit_and_its_zero_bytes)
{
    auto_buf struct buf out = {.limit = 4}, zero = {0};
    ck_assert_int_eq(utf8_repair(&out, "\xff\xff", 2), HEARTH_ETOOLARGE);
    ck_assert_int_eq(utf8_repair(&zero, "a\0\xff", 3), 0);
    ck_assert_uint_eq(zero.length, 5);
    ck_assert(memcmp(zero.data, "a\0\xef\xbf\xbd", 6) == 0);
}
END_TEST

START_TEST(text_is_copied_and_compared)
{
    auto_free char *copy = text_copy("abc");
    ck_assert_str_eq(copy, "abc");
    ck_assert_ptr_null(text_copy(NULL));
    ck_assert(text_starts_with("abc", "ab"));
    ck_assert(text_starts_with("abc", ""));
    ck_assert(!text_starts_with("ab", "abc"));
}
END_TEST

START_TEST(a_failure_carries_code_and_context)
{
    struct hearth_failure failure;
    ck_assert_int_eq(hearth_fail(&failure, HEARTH_ENOTFOUND, "x_not_found", "no %d", 7),
                     HEARTH_ENOTFOUND);
    hearth_failure_context(&failure, "while %s", "testing");
    hearth_failure_field(&failure, "/name");
    hearth_failure_hint(&failure, "try %d", 8);
    ck_assert_str_eq(failure.code, "x_not_found");
    ck_assert_str_eq(failure.detail, "while testing: no 7");
    ck_assert_str_eq(failure.field, "/name");
    ck_assert_str_eq(failure.hint, "try 8");
    ck_assert(!failure.retryable);
}
END_TEST

START_TEST(a_failure_without_a_code_is_named_by_its_error)
{
    struct hearth_failure failure;
    hearth_fail(&failure, HEARTH_EQUOTA, NULL, "enough");
    ck_assert_str_eq(failure.code, "quota_exceeded");
    ck_assert(failure.retryable);
    for (int i = 1; i < HEARTH_ERROR_MAX; i++) {
        ck_assert_str_ne(hearth_error_name((enum hearth_error) - i), "");
        for (int j = 0; j < i; j++)
            ck_assert_str_ne(hearth_error_name((enum hearth_error) - i),
                             hearth_error_name((enum hearth_error) - j));
    }
    ck_assert_str_eq(hearth_error_name((enum hearth_error) - HEARTH_ERROR_MAX), "internal_error");
    ck_assert_str_eq(hearth_error_name((enum hearth_error)1), "internal_error");
}
END_TEST

START_TEST(a_failure_of_a_system_call_says_what_the_kernel_said)
{
    static const struct {
        int number;
        enum hearth_error error;
    } cases[] = {{ENOENT, HEARTH_ENOTFOUND},  {ENOSPC, HEARTH_ENOSPACE},
                 {EDQUOT, HEARTH_ENOSPACE},   {ENOMEM, HEARTH_ENOMEMORY},
                 {EACCES, HEARTH_EFORBIDDEN}, {EEXIST, HEARTH_ECONFLICT},
                 {EIO, HEARTH_EIO},           {EPROTO, HEARTH_EIO}};
    struct hearth_failure failure;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_int_eq(hearth_fail_errno(&failure, cases[i].number, NULL, "x"), cases[i].error);
    hearth_fail_errno(&failure, ENOENT, "gone", "cannot open %s", "it");
    ck_assert_str_eq(failure.code, "gone");
    ck_assert_str_eq(failure.detail, "cannot open it: No such file or directory");
}
END_TEST

START_TEST(a_failure_is_cut_to_its_size_and_may_be_unwanted)
{
    struct hearth_failure failure;
    char text[2000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    hearth_fail(&failure, HEARTH_EIO, text, "%s", text);
    hearth_failure_context(&failure, "%s", text);
    hearth_failure_field(&failure, text);
    hearth_failure_hint(&failure, "%s", text);
    ck_assert_uint_eq(strlen(failure.code), sizeof failure.code - 1);
    ck_assert_uint_eq(strlen(failure.detail), sizeof failure.detail - 1);
    ck_assert_uint_eq(strlen(failure.field), sizeof failure.field - 1);
    ck_assert_uint_eq(strlen(failure.hint), sizeof failure.hint - 1);
    hearth_fail_errno(&failure, EIO, "code", "%s", text);
    ck_assert_uint_eq(strlen(failure.detail), sizeof failure.detail - 1);
    ck_assert_int_eq(hearth_fail(NULL, HEARTH_EIO, "code", "text"), HEARTH_EIO);
    ck_assert_int_eq(hearth_fail_errno(NULL, EIO, "code", "text"), HEARTH_EIO);
    hearth_failure_field(NULL, "/a");
    hearth_failure_hint(NULL, "a");
    hearth_failure_context(NULL, "a");
}
END_TEST

static const struct {
    const char *text, *quoted;
    size_t size;
} quote_cases[] = {
    {"plain text", "\"plain text\"", 64},
    {"", "\"\"", 64},
    {"a\"b\\c", "\"a\\\"b\\\\c\"", 64},
    {"two\nlines\r\t\x1b[31m\x7f", "\"two?lines???[31m?\"", 64},
    {"\xc2\x9b"
     "31m",
     "\"??31m\"", 64}, /* CSI as one character */
    {"\xc2\xa0\xc3\xa4\xf0\x9f\x98\x80", "\"\xc2\xa0\xc3\xa4\xf0\x9f\x98\x80\"", 64},
    {"a\xff\xe2\x82", "\"a???\"", 64},
    {"abcdef", "\"abc\"", 6},
    {"ab\xc3\xa4z", "\"ab\"", 6}, /* no half characters */
    {"ab\"z", "\"ab\"", 6},       /* no half escapes */
    {"abc", "\"\"", 3},
    {"abc", "", 2},
};

START_TEST(a_strangers_text_cannot_forge_a_line_of_the_log)
{
    char out[64];
    memset(out, '#', sizeof out);
    ck_assert_str_eq(log_quote(out, quote_cases[_i].size, quote_cases[_i].text),
                     quote_cases[_i].quoted);
    for (size_t i = quote_cases[_i].size; i < sizeof out; i++)
        ck_assert_int_eq(out[i], '#');
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base");
    TCase *test_case = tcase_create("base");
    tcase_add_test(test_case, buf_keeps_its_limit_and_its_content);
    tcase_add_test(test_case, buf_grows_and_keeps_zero_bytes);
    tcase_add_test(test_case, buf_consumes_from_its_front);
    tcase_add_test(test_case, a_secret_buf_wipes_what_leaves_it);
    tcase_add_test(test_case, buf_gives_its_bytes_away);
    tcase_add_test(test_case, list_keeps_order_and_takes_removal_while_it_is_walked);
    tcase_add_test(test_case, map_finds_each_of_many_and_none_that_left);
    tcase_add_test(test_case, an_id_has_its_prefix_tag_and_length);
    tcase_add_test(test_case, what_is_no_id_is_told_apart);
    tcase_add_test(test_case, random_text_is_of_the_alphabet_and_ended);
    tcase_add_loop_test(test_case, utf8_is_what_rfc_3629_says, 0,
                        (int)(sizeof utf8_cases / sizeof *utf8_cases));
    tcase_add_test(test_case, a_character_that_has_begun_is_told_by_its_bytes);
    tcase_add_test(test_case, bad_utf8_is_replaced_byte_for_byte);
    tcase_add_test(test_case, repaired_text_keeps_to_the_limit_and_its_zero_bytes);
    tcase_add_test(test_case, text_is_copied_and_compared);
    tcase_add_test(test_case, a_failure_carries_code_and_context);
    tcase_add_test(test_case, a_failure_without_a_code_is_named_by_its_error);
    tcase_add_test(test_case, a_failure_of_a_system_call_says_what_the_kernel_said);
    tcase_add_test(test_case, a_failure_is_cut_to_its_size_and_may_be_unwanted);
    tcase_add_loop_test(test_case, a_strangers_text_cannot_forge_a_line_of_the_log, 0,
                        (int)(sizeof quote_cases / sizeof *quote_cases));
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
