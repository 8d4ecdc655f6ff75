#include "cli/base64.h"
#include "cli/command.h"
#include "cli/lines.h"
#include "cli/options.h"
#include "suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What options_parse made of the words. */
static struct {
    bool json, flag;
    const char *text;
    long number;
    struct text_list list;
    struct words words;
} seen;

static int parse(size_t minimum, size_t maximum, bool command, const char **argv)
{
    const struct option options[] = {{"flag", OPTION_FLAG, &seen.flag, NULL, ""},
                                     {"text", OPTION_TEXT, &seen.text, "TEXT", ""},
                                     {"number", OPTION_INTEGER, &seen.number, "N", ""},
                                     {"list", OPTION_LIST, &seen.list, "X", ""},
                                     {0}};
    const struct usage usage = {.line = "noun verb",
                                .summary = "Tests.",
                                .options = options,
                                .minimum = minimum,
                                .maximum = maximum,
                                .command = command};
    /* words.command points into it. */
    static const char *kept[16];
    int argc = 0;
    for (; argv[argc]; argc++)
        kept[argc] = argv[argc];
    text_list_free(&seen.list);
    memset(&seen, 0, sizeof seen);
    return options_parse(&usage, argc, (char **)kept, &seen.json, &seen.words);
}
#define PARSE(minimum, maximum, command, ...)                                                      \
    parse(minimum, maximum, command, (const char *[]){__VA_ARGS__, NULL})

START_TEST(options_stand_anywhere_before_the_command)
{
    ck_assert_int_eq(PARSE(1, 1, true, "--flag", "ws", "--number", "7", "--json", "ls", "--json"),
                     OPTIONS_PARSED);
    ck_assert(seen.flag && seen.json);
    ck_assert_int_eq(seen.number, 7);
    ck_assert_str_eq(seen.words.items[0], "ws");
    ck_assert_uint_eq(seen.words.command_count, 2);
    ck_assert_str_eq(seen.words.command[1], "--json");
}
END_TEST

START_TEST(after_two_dashes_nothing_is_an_option)
{
    ck_assert_int_eq(PARSE(1, 1, true, "ws", "--", "--flag"), OPTIONS_PARSED);
    ck_assert(!seen.flag);
    ck_assert_str_eq(seen.words.command[0], "--flag");
    ck_assert_int_eq(PARSE(2, 2, false, "--", "--flag", "-x"), OPTIONS_PARSED);
    ck_assert_str_eq(seen.words.items[0], "--flag");
}
END_TEST

START_TEST(a_value_may_follow_or_be_joined_and_lists_grow)
{
    ck_assert_int_eq(PARSE(0, 0, false, "--list", "a=1", "--list=b=2", "--text="), OPTIONS_PARSED);
    ck_assert_uint_eq(seen.list.count, 2);
    ck_assert_str_eq(seen.list.items[1], "b=2");
    ck_assert_str_eq(seen.text, "");
}
END_TEST

START_TEST(wrong_words_are_usage_errors)
{
    ck_assert_int_eq(PARSE(1, 1, false, "a", "b"), 2);
    ck_assert_int_eq(PARSE(1, 1, false, "--json"), 2);
    ck_assert_int_eq(PARSE(0, 0, false, "--nosuch"), 2);
    ck_assert_int_eq(PARSE(0, 0, false, "--flag=1"), 2);
    ck_assert_int_eq(PARSE(0, 0, false, "--text"), 2);
    ck_assert_int_eq(PARSE(0, 0, false, "--number", "-1"), 2);
    ck_assert_int_eq(PARSE(0, 0, false, "--number", "12x"), 2);
    ck_assert_int_eq(PARSE(1, 1, true, "ws", "--"), 2);
}
END_TEST

static void assert_line(size_t count, const char **command, const char *expected)
{
    auto_free char *line =
        cli_shell_line(&(struct words){.command_count = count, .command = (char **)command});
    ck_assert_str_eq(line, expected);
}

START_TEST(one_word_is_a_shell_line_and_several_keep_their_borders)
{
    assert_line(1, (const char *[]){"ls | wc -l"}, "ls | wc -l");
    assert_line(3, (const char *[]){"sh", "-c", "echo $HOME 'x'"},
                "sh -c 'echo $HOME '\\''x'\\'''");
    assert_line(2, (const char *[]){"test", ""}, "test ''");
}
END_TEST

START_TEST(base64_takes_its_own_and_nothing_else)
{
    auto_buf struct buf out = {0};
    ck_assert_int_eq(base64_decode(&out, "aGVhcnRo"), 0);
    ck_assert_int_eq(base64_decode(&out, "IQ=="), 0);
    ck_assert_int_eq(base64_decode(&out, "AP8="), 0);
    ck_assert_uint_eq(out.length, 9);
    ck_assert_mem_eq(out.data, "hearth!\0\xff", 9);
    static const char *const wrong[] = {"a", "a=bc", "====", "ab=c", "ab\ncd==", "a\xc3\xa4z"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_int_lt(base64_decode(&out, wrong[i]), 0);
}
END_TEST

static int count_objects(void *arg, const cJSON *object, const char *text)
{
    ++*(int *)arg;
    return 0;
}

START_TEST(lines_come_out_whole_however_they_come_in)
{
    const char *stream = "{\"a\":1}\n\n{\"b\":\"x\\ny\"}\n";
    for (size_t step = 1; step < 9; step++) {
        int count = 0;
        auto_lines struct lines lines = {.on_object = count_objects, .arg = &count};
        for (size_t at = 0; at < strlen(stream); at += step) {
            size_t left = strlen(stream) - at;
            ck_assert_int_eq(lines_write(&lines, stream + at, left < step ? left : step), 0);
        }
        ck_assert_int_eq(count, 2);
    }
}
END_TEST

START_TEST(a_line_that_is_no_object_ends_the_stream)
{
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    int count = 0;
    auto_lines struct lines lines = {
        .on_object = count_objects, .arg = &count, .failure = &failure};
    ck_assert_int_eq(lines_write(&lines, "[1]\n", 4), HEARTH_EIO);
    ck_assert_str_eq(failure.code, "bad_reply");
}
END_TEST

START_TEST(a_line_of_type_error_becomes_the_failure)
{
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    int count = 0;
    auto_lines struct lines lines = {
        .on_object = count_objects, .arg = &count, .failure = &failure};
    const char *line = "{\"type\":\"error\",\"status\":409,\"code\":\"guest_gone\","
                       "\"detail\":\"The guest has gone.\"}\n";
    ck_assert_int_eq(lines_write(&lines, line, strlen(line)), HEARTH_ECONFLICT);
    ck_assert_str_eq(failure.code, "guest_gone");
    ck_assert_str_eq(failure.detail, "The guest has gone.");
    ck_assert_int_eq(count, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli");
    TCase *words = tcase_create("words");
    tcase_add_test(words, options_stand_anywhere_before_the_command);
    tcase_add_test(words, after_two_dashes_nothing_is_an_option);
    tcase_add_test(words, a_value_may_follow_or_be_joined_and_lists_grow);
    tcase_add_test(words, wrong_words_are_usage_errors);
    tcase_add_test(words, one_word_is_a_shell_line_and_several_keep_their_borders);
    suite_add_tcase(suite, words);
    TCase *replies = tcase_create("replies");
    tcase_add_test(replies, base64_takes_its_own_and_nothing_else);
    tcase_add_test(replies, lines_come_out_whole_however_they_come_in);
    tcase_add_test(replies, a_line_that_is_no_object_ends_the_stream);
    tcase_add_test(replies, a_line_of_type_error_becomes_the_failure);
    suite_add_tcase(suite, replies);
    return run_and_free(suite);
}
