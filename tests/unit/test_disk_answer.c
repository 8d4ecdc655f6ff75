/* What hearth-disk says, read as a stranger's word; and the paths that it is given. */
#include "suite.h"
#include "supervisord/disk_internal.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH(text) (sizeof(text) - 1)

static bool list(const char *text, size_t length, struct file_entry **ret_entries,
                 size_t *ret_count, bool *ret_more, char copy[1024])
{
    memcpy(copy, text, length);
    copy[length] = '\0';
    return disk_parse_list(copy, length, ret_entries, ret_count, ret_more);
}

START_TEST(a_listing_is_read_as_it_was_written)
{
    static const char text[] = "f 0644 12 1700000000.500000000 /workspace/a b\0\0"
                               "l 0777 0 -1.000000000 /l\nx\0../target\0"
                               "d 1777 0 0.000000000 /tmp\0\0"
                               "o 0600 0 0.000000000 /pipe\0\0"
                               "end 1";
    struct file_entry *entries;
    size_t count;
    bool more;
    char copy[1024];
    ck_assert(list(text, sizeof text, &entries, &count, &more, copy));
    ck_assert_uint_eq(count, 4);
    ck_assert(more);
    ck_assert_str_eq(entries[0].path, "/workspace/a b");
    ck_assert_int_eq(entries[0].type, FILE_REGULAR);
    ck_assert_uint_eq(entries[0].size, 12);
    ck_assert_int_eq(entries[0].mtime_us, INT64_C(1700000000500000));
    ck_assert_ptr_null(entries[0].link_target);
    ck_assert_str_eq(entries[1].path, "/l\nx");
    ck_assert_str_eq(entries[1].link_target, "../target");
    ck_assert_int_eq(entries[1].mtime_us, -1000000);
    ck_assert_uint_eq(entries[2].mode, 01777);
    ck_assert_int_eq(entries[3].type, FILE_OTHER);
    free(entries);
}
END_TEST

START_TEST(what_is_no_listing_is_none)
{
#define BAD(text)                                                                                  \
    {                                                                                              \
        text, LENGTH(text)                                                                         \
    }
    static const struct {
        const char *text;
        size_t length;
    } bad[] = {
        BAD(""),
        BAD("end 0"), /* cut */
        BAD("end 2\0"),
        BAD("end 0\0x"), /* more behind it */
        BAD("f 0644 12 1.0 /a\0\0"),
        BAD("f 0644 12 1.0 /a\0end 0\0"),
        BAD("f 0644 12 1.0 a\0\0end 0\0"),
        BAD("x 0644 12 1.0 /a\0\0end 0\0"),
        BAD("f 0844 12 1.0 /a\0\0end 0\0"),
        BAD("f 100000 12 1.0 /a\0\0end 0\0"),
        BAD("f 0644 -12 1.0 /a\0\0end 0\0"),
        BAD("f 0644 99999999999999999999 1.0 /a\0\0end 0\0"),
        BAD("f 0644 12 1 /a\0\0end 0\0"),
        BAD("f 0644 12 9999999999999999.0 /a\0\0end 0\0"),
        BAD("f 0644\0 12 1.0 /a\0\0end 0\0"),
        BAD("refused file_not_found x\n"),
    };
    struct file_entry *entries;
    size_t count;
    bool more;
    char copy[1024];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!list(bad[i].text, bad[i].length, &entries, &count, &more, copy), "%zu", i);
}
END_TEST

START_TEST(a_listing_of_too_many_is_refused)
{
    static const char record[] = "f 0644 1 1.0 /a\0";
    size_t length = (DISK_ENTRIES_MAX + 1) * sizeof record;
    char *text = malloc(length + sizeof "end 0");
    struct file_entry *entries;
    size_t count;
    bool more;
    for (size_t i = 0; i <= DISK_ENTRIES_MAX; i++)
        memcpy(text + i * sizeof record, record, sizeof record);
    memcpy(text + length, "end 0", sizeof "end 0");
    ck_assert(!disk_parse_list(text, length + sizeof "end 0", &entries, &count, &more));
    free(text);
}
END_TEST

static bool read_answer(const char *text, size_t length, size_t most)
{
    uint64_t size;
    const char *content;
    size_t got;
    return disk_parse_read(text, length, most, &size, &content, &got);
}

START_TEST(a_files_content_is_as_long_as_it_says)
{
    uint64_t size;
    const char *content;
    size_t length;
    ck_assert(disk_parse_read("good 100 3\na\0b", LENGTH("good 100 3\na\0b"), 10, &size, &content,
                              &length));
    ck_assert_uint_eq(size, 100);
    ck_assert_uint_eq(length, 3);
    ck_assert_mem_eq(content, "a\0b", 3);
    ck_assert(read_answer("good 0 0\n", LENGTH("good 0 0\n"), 10));
    ck_assert(!read_answer("good 100 3\nab", LENGTH("good 100 3\nab"), 10));
    ck_assert(!read_answer("good 100 3\nabcd", LENGTH("good 100 3\nabcd"), 10));
    ck_assert(!read_answer("good 100 3\nabc", LENGTH("good 100 3\nabc"), 2));
    ck_assert(!read_answer("good 100", LENGTH("good 100"), 10));
    ck_assert(!read_answer("", 0, 10));
    ck_assert(disk_parse_size("good 12\n", &size) && size == 12);
    ck_assert(!disk_parse_size("good 12", &size));
    ck_assert(!disk_parse_size("good -1\n", &size));
    ck_assert(!disk_parse_size("bad 12\n", &size));
}
END_TEST

START_TEST(a_refusal_is_told_printable_and_by_known_codes_alone)
{
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    disk_parse_refusal("refused file_not_found gone\n", "", &failure);
    ck_assert_int_eq(failure.error, HEARTH_ENOTFOUND);
    ck_assert_str_eq(failure.field, "/path");
    disk_parse_refusal("refused made_up it \x1b[31m\xff\n", "", &failure);
    ck_assert_str_eq(failure.code, "disk_unreadable");
    ck_assert_ptr_nonnull(strstr(failure.detail, "it ?[31m?"));
    disk_parse_refusal("", "hearth-disk: no\nmore", &failure);
    ck_assert_int_eq(failure.error, HEARTH_EIO);
    ck_assert_ptr_nonnull(strstr(failure.detail, "hearth-disk: no"));
    ck_assert_ptr_null(strstr(failure.detail, "more"));
    disk_parse_refusal("refused", "", &failure);
    disk_parse_refusal("refused x", "", &failure);
    ck_assert_str_eq(failure.code, "disk_unreadable");
}
END_TEST

START_TEST(a_path_has_one_form_and_goes_nowhere_up)
{
    static const char *const pairs[][2] = {{"", "/workspace"},
                                           {".", "/workspace"},
                                           {"a//b/./c/", "/workspace/a/b/c"},
                                           {"/", "/"},
                                           {"//etc/passwd", "/etc/passwd"},
                                           {"/...", "/..."},
                                           {"-x", "/workspace/-x"}};
    static const char *const bad[] = {"..", "a/..", "/../etc", "a/../b"};
    char out[4096], text[4200];
    struct hearth_failure failure;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        ck_assert_int_eq(disk_path_normalize(pairs[i][0], out, &failure), 0);
        ck_assert_str_eq(out, pairs[i][1]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_int_eq(disk_path_normalize(bad[i], out, &failure), HEARTH_EINVALID);
    memset(text, 'a', sizeof text);
    for (size_t i = 200; i < sizeof text; i += 200)
        text[i] = '/';
    text[4090] = '\0';
    ck_assert_int_eq(disk_path_normalize(text, out, &failure), HEARTH_EINVALID);
    text[4084] = '\0';
    ck_assert_int_eq(disk_path_normalize(text, out, &failure), 0);
    ck_assert_uint_eq(strlen(out), 4095);
    text[0] = '/';
    text[4095] = '\0';
    ck_assert_str_eq(failure.field, "/path");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("disk_answer");
    TCase *test_case = tcase_create("disk_answer");
    tcase_add_test(test_case, a_listing_is_read_as_it_was_written);
    tcase_add_test(test_case, what_is_no_listing_is_none);
    tcase_add_test(test_case, a_listing_of_too_many_is_refused);
    tcase_add_test(test_case, a_files_content_is_as_long_as_it_says);
    tcase_add_test(test_case, a_refusal_is_told_printable_and_by_known_codes_alone);
    tcase_add_test(test_case, a_path_has_one_form_and_goes_nowhere_up);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
