#include "base/buf.h"
#include "base/redact.h"
#include "suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct redact_values *values_of(const char *first, const char *second)
{
    struct redact_secret secrets[] = {{first, strlen(first)},
                                      {second, second ? strlen(second) : 0}};
    struct redact_values *values = redact_values_new(secrets, second ? 2 : 1);
    ck_assert_ptr_nonnull(values);
    return values;
}

static void collect(void *arg, const char *text, size_t length)
{
    ck_assert_int_eq(buf_append(arg, text, length), 0);
}

/* The text in pieces of this size through a stream. */
static char *stream(struct redact_values *values, const char *text, size_t piece)
{
    struct redact_stream *stream = redact_stream_new(values);
    struct buf out = {0};
    ck_assert_ptr_nonnull(stream);
    for (size_t at = 0, length = strlen(text); at < length; at += piece)
        redact_stream_put(stream, text + at, length - at < piece ? length - at : piece, collect,
                          &out);
    redact_stream_end(stream, collect, &out);
    redact_stream_free(stream);
    ck_assert_int_eq(buf_char(&out, '\0'), 0);
    return buf_steal(&out);
}

static void check(struct redact_values *values, const char *text, const char *wanted)
{
    for (size_t piece = 1; piece <= strlen(text) + 1; piece++) {
        char *got = stream(values, text, piece);
        ck_assert_str_eq(got, wanted);
        free(got);
    }
    size_t length;
    char *got = redact_text(values, text, strlen(text), &length);
    ck_assert_uint_eq(length, strlen(wanted));
    ck_assert_str_eq(got ? got : "", wanted);
    free(got);
}

START_TEST(test_a_value_is_replaced_wherever_its_pieces_lie)
{
    struct redact_values *values = values_of("s3cr3t-value", NULL);
    check(values, "a s3cr3t-value b", "a [REDACTED] b");
    check(values, "s3cr3t-values3cr3t-value", "[REDACTED][REDACTED]");
    check(values, "s3cr3t-s3cr3t-value", "s3cr3t-[REDACTED]");
    check(values, "s3cr3t-valu", "s3cr3t-valu");
    check(values, "nothing of it", "nothing of it");
    redact_values_free(values);
}
END_TEST

START_TEST(test_lines_are_found_as_terminals_and_quotes_show_them)
{
    struct redact_values *values = values_of("-- a \"key\" --\nof\\lines\x01\n", "line-end\r\n");
    check(values, "<-- a \"key\" --\nof\\lines\x01\n>", "<[REDACTED]\n>");
    check(values, "<-- a \"key\" --\r\nof\\lines\x01>", "<[REDACTED]>");
    check(values, "<-- a \\\"key\\\" --\\nof\\\\lines\\u0001\\n>", "<[REDACTED]\\n>");
    check(values, "<line-end><line-end\n>", "<[REDACTED]><[REDACTED]\n>");
    redact_values_free(values);
}
END_TEST

START_TEST(test_encoded_forms_are_found)
{
    /* printf 'k/+? =\xff!-token' and what base64, python's quote and xxd make of it. */
    struct redact_values *values = values_of("k/+? =~!-token", NULL);
    check(values, "<ay8rPyA9fiEtdG9rZW4=>", "<[REDACTED]>");
    check(values, "<ay8rPyA9fiEtdG9rZW4>", "<[REDACTED]>");
    check(values, "<eGsvKz8gPX4hLXRva2Vu>", "<eG[REDACTED]>");         /* "x" before it */
    check(values, "<eHlrLys_ID1-IS10b2tlbg==>", "<eHl[REDACTED]g==>"); /* "xy", for URLs */
    check(values, "<k%2F%2B%3F%20%3D~%21-token>", "<[REDACTED]>");
    check(values, "<k/%2B%3F%20%3D~%21-token>", "<[REDACTED]>");
    check(values, "<k%2f%2b%3f+%3d~%21-token>", "<[REDACTED]>");
    check(values, "<k%2F%2B%3F%20%3D~!-token>", "<[REDACTED]>");
    check(values, "<6b2f2b3f203d7e212d746f6b656e>", "<[REDACTED]>");
    check(values, "<6B2F2B3F203D7E212D746F6B656E>", "<[REDACTED]>");
    redact_values_free(values);
}
END_TEST

START_TEST(test_overlapping_finds_are_one)
{
    struct redact_values *values = values_of("abcdef", "defghi");
    check(values, "_abcdefghi_", "_[REDACTED]_");
    redact_values_free(values);
    values = values_of("aaaa", NULL);
    check(values, "baaaaaaaaaab", "b[REDACTED]b");
    check(values, "baaab", "baaab");
    redact_values_free(values);
}
END_TEST

START_TEST(test_short_values_are_left)
{
    struct redact_values *values = values_of("abc", NULL);
    check(values, "abcabc", "abcabc");
    redact_values_free(values);
}
END_TEST

START_TEST(test_bytes_that_are_no_text)
{
    const struct redact_secret secret = {"\0\xff\0\xff\1", 5};
    struct redact_values *values = redact_values_new(&secret, 1);
    size_t length;
    char *got = redact_text(values, "x\0\0\xff\0\xff\1y", 8, &length);
    ck_assert_uint_eq(length, 13);
    ck_assert(memcmp(got, "x\0[REDACTED]y", 13) == 0);
    free(got);
    redact_values_free(values);
}
END_TEST

START_TEST(test_what_is_idle_is_shown_as_far_as_it_says_little)
{
    struct redact_values *values = values_of("password-123456", NULL);
    struct redact_stream *stream = redact_stream_new(values);
    struct buf out = {0};
    redact_stream_put(stream, "$ pas", 5, collect, &out);
    ck_assert_uint_eq(out.length, 2);
    redact_stream_idle(stream, collect, &out);
    ck_assert_uint_eq(out.length, 5);
    ck_assert_uint_eq(redact_stream_held(stream), 0);
    redact_stream_put(stream, "sw", 2, collect, &out);
    redact_stream_idle(stream, collect, &out);
    ck_assert_uint_eq(out.length, 5);
    redact_stream_put(stream, "ord-123456.", 11, collect, &out);
    redact_stream_end(stream, collect, &out);
    ck_assert_str_eq(out.data, "$ pas[REDACTED].");
    redact_stream_free(stream);
    buf_free(&out);
    redact_values_free(values);
}
END_TEST

START_TEST(test_a_part_shows_nothing_of_a_value_at_its_edges)
{
    struct redact_values *values = values_of("s3cr3t", NULL);
    const char *text = "..s3cr3t..s3cr3t..";
    const struct {
        size_t from, length;
        const char *wanted;
    } parts[] = {
        {0, 18, "..[REDACTED]..[REDACTED].."},
        {3, 2, "[REDACTED]"},
        {4, 6, "[REDACTED].."},
        {8, 4, "..[REDACTED]"},
        {8, 2, ".."},
        {18, 0, ""},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t length;
        char *got =
            redact_part(values, text, strlen(text), parts[i].from, parts[i].length, &length);
        ck_assert_uint_eq(length, strlen(parts[i].wanted));
        ck_assert(memcmp(got ? got : "", parts[i].wanted, length) == 0);
        free(got);
    }
    redact_values_free(values);
}
END_TEST

/* Of memory that others have used. */
START_TEST(test_an_empty_text_stays_one)
{
    struct redact_values *values = values_of("s3cr3t-value", NULL);
    for (size_t size = 16; size <= 4096; size += 16) {
        char *used[8];
        for (size_t i = 0; i < sizeof used / sizeof *used; i++)
            memset(used[i] = malloc(size), 'x', size);
        for (size_t i = 0; i < sizeof used / sizeof *used; i++)
            free(used[i]);
    }
    for (int i = 0; i < 8; i++) {
        size_t length;
        char *got = redact_text(values, "", 0, &length);
        ck_assert_uint_eq(length, 0);
        ck_assert_str_eq(got, "");
        free(got);
        got = redact_part(values, "s3cr3t", 6, 6, 0, &length);
        ck_assert_uint_eq(length, 0);
        ck_assert_str_eq(got, "");
        free(got);
    }
    redact_values_free(values);
}
END_TEST

START_TEST(test_a_mask_keeps_the_length)
{
    struct redact_values *values = values_of("s3cr3t", "a-longer-s3cr3t-value");
    char text[] = "<s3cr3t> <a-longer-s3cr3t-value>";
    ck_assert(redact_mask(values, text, strlen(text)));
    ck_assert_str_eq(text, "<[REDAC> <[REDACTED]***********>");
    redact_values_free(values);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("redact");
    TCase *tests = tcase_create("redact");
    tcase_add_test(tests, test_a_value_is_replaced_wherever_its_pieces_lie);
    tcase_add_test(tests, test_lines_are_found_as_terminals_and_quotes_show_them);
    tcase_add_test(tests, test_encoded_forms_are_found);
    tcase_add_test(tests, test_overlapping_finds_are_one);
    tcase_add_test(tests, test_short_values_are_left);
    tcase_add_test(tests, test_bytes_that_are_no_text);
    tcase_add_test(tests, test_what_is_idle_is_shown_as_far_as_it_says_little);
    tcase_add_test(tests, test_a_part_shows_nothing_of_a_value_at_its_edges);
    tcase_add_test(tests, test_an_empty_text_stays_one);
    tcase_add_test(tests, test_a_mask_keeps_the_length);
    suite_add_tcase(suite, tests);
    return run_and_free(suite);
}
