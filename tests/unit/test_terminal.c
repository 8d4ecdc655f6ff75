#include "supervisord/terminal.h"

#include "base/failure.h"
#include "base/text.h"
#include "suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first `before` bytes were shown before. */
static char *shown_after(const char *bytes, size_t before, unsigned cols, unsigned rows)
{
    struct buf out = {0};
    ck_assert_int_eq(buf_text(&out, ""), 0);
    ck_assert_int_eq(terminal_render(&out, bytes, strlen(bytes), before, cols, rows), 0);
    ck_assert(utf8_valid(out.data, out.length));
    for (size_t i = 0; i < out.length; i++)
        ck_assert(out.data[i] == '\n' || (unsigned char)out.data[i] >= ' ');
    return buf_steal(&out);
}

static char *shown(const char *bytes, unsigned cols, unsigned rows)
{
    return shown_after(bytes, 0, cols, rows);
}

static const struct {
    const char *what, *bytes, *text;
} cases[] = {
    {"nothing", "", ""},
    {"lines", "one\r\ntwo\r\n", "one\ntwo\n"},
    {"a prompt keeps its blank", "x\r\nhearth$ ", "x\nhearth$ "},
    {"carriage return", "10%\r 50%\r100%", "100%"},
    {"backspace", "abd\bc\b \b", "ab"},
    {"erase to the end of the line", "loading...\r\033[Kdone", "done"},
    {"colours", "\033[1;31mred\033[0m \033[38;5;208morange\033[m", "red orange"},
    {"cursor moves", "aaa\r\nbbb\033[1;2HX\033[2;3HY\033[3;1H", "aXa\nbbY\n"},
    {"a bar over lines", "a\r\nb\r\n\033[2A\033[2Kfirst\r\n\033[2Ksecond\r\n", "first\nsecond\n"},
    {"tabs", "a\tb", "a       b"},
    {"title and bell", "\033]0;title\007\007text", "text"},
    {"bracketed paste", "\033[?2004hhearth$ ls\r\n\033[?2004lf\r\n", "hearth$ ls\nf\n"},
    {"wide", "日本\b\b語", "日語"},
    {"combining", "e\u0301a\u0308", "e\u0301a\u0308"},
    {"astral", "😀!", "😀!"},
    {"direction marks are left out", "a\u202eb\u2066c", "abc"},
    {"C1 controls", "a\xc2\x85\xc2\x9bz", "az"},
    {"clear", "before\r\n\033[H\033[2Jafter", "after"},
    {"alternate screen while in it", "shell\r\n\033[?1049h\033[Heditor\r\n~", "editor\n~"},
    {"alternate screen after it", "shell\r\n\033[?1049h\033[Heditor\033[?1049lback", "shell\nback"},
    {"scrolling", "1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7", "1\n2\n3\n4\n5\n6\n7"},
    {"pip's bar",
     "  \033[38;5;237m---\033[0m 1/3 kB\r\033[2K  \033[31m--\033[0m 2/3 kB\r\033[2K  "
     "\033[32m---\033[0m 3/3 kB\r\n\033[?25h",
     "  --- 3/3 kB\n"},
    {"npm's spinner", "\033[1G\033[0K\xe2\xa0\x99\033[1G\033[0K\xe2\xa0\xb9\033[1G\033[0Kadded 1",
     "added 1"},
    {"apt's bar",
     "\r\n\0337\033[0;4r\0338\033[1ASetting up a\r\n\0337\033[5;0f\033[42m\033[30m[ "
     "50%]\033[49m\033[39m\0338"
     "Setting up b\r\n\0337\033[0;5r\0338\033[1A\033[J",
     "Setting up a\n"},
    {"a sequence of too many parameters",
     "a\033[1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1mb\033[99999999Cc", "abc"},
    {"a title that never ends", "a\033]0;title", "a"},
    {"insert and delete", "abc\033[1;1H\033[2@XY\033[1;3H\033[1P", "XYbc"},
};

START_TEST(test_what_is_seen)
{
    char *text = shown(cases[_i].bytes, 20, 5);
    ck_assert_msg(strcmp(text, cases[_i].text) == 0, "%s: \"%s\"", cases[_i].what, text);
    free(text);
}
END_TEST

/* What vim (9.0) writes into 40 columns and 8 rows: a file of three lines, a line deleted, text
 * typed, left. */
static const char vim_edits[] =
    "\033[?1049h\033[22;0;0t\033[>4;2m\033[?1h\033=\033[?2004h\033[?1004h\033[1;8r\033[?1"
    "2h\033[?12l\033[22;2t\033[22;1t\033[27m\033[23m\033[29m\033[m\033[H\033[2J\033[?25l"
    "\033[8;1H\"vimfile\" 3L, 24B\033[2;1H▽\033[6n\033[2;1H  \033[3;1H\033Pzz\033\\\033[0"
    "%m\033[6n\033[3;1H           \033[1;1H\033[>c\033]10;?\007\033]11;?\007\033[1;1Hfirs"
    "t\r\nsecond line\033[2;12H\033[K\033[3;1Hthird\033[3;6H\033[K\033[4;1H\033[94m~     "
    "                                  \033[5;1H~                                       "
    "\033[6;1H~                                       \033[7;1H~                         "
    "              \033[1;1H\033[?25h\033[?4m\r\n\033[?25l\033[2;7r\033[m\033[7;1H\r\n"
    "\033[1;8r\033[7;1H\033[94m~                                       \033[m\033[8;1H"
    "\033[K\033[2;1H\033[?25h\033[?25l\033[8;1H\033[1m-- INSERT --\033[m\033[8;1H\033[K"
    "\033[2;7H\radded é\033[2;8Hthird\033[8;1H\033[1m-- INSERT --\033[2;8H\033[?25h";
static const char vim_leaves[] =
    "\033[?25l\033[m\033[8;1H\033[K\033[2;7H\033[?25h\033[?25l\033[8;1H:q!\r\033[?2004l"
    "\033[>4;m\033[23;2t\033[23;1t\033[8;1H\033[K\033[8;1H\033[?1004l\033[?2004l\033[?1l"
    "\033>\033[?1049l\033[23;0;0t\033[?25h\033[>4;m";

START_TEST(test_a_vim_session)
{
    struct buf bytes = {0};
    ck_assert_int_eq(buf_text(&bytes, "hearth$ vim vimfile\r\n"), 0);
    ck_assert_int_eq(buf_text(&bytes, vim_edits), 0);
    char *text = shown(bytes.data, 40, 8);
    ck_assert_str_eq(text, "first\nadded éthird\n~\n~\n~\n~\n~\n-- INSERT --");
    free(text);
    ck_assert_int_eq(buf_text(&bytes, vim_leaves), 0);
    ck_assert_int_eq(buf_text(&bytes, "hearth$ "), 0);
    text = shown(bytes.data, 40, 8);
    ck_assert_str_eq(text, "hearth$ vim vimfile\nhearth$ ");
    free(text);
    buf_free(&bytes);
}
END_TEST

/* Read in pieces: a sequence is in one alone, and what a program shows on a screen of its own is
 * all of that. */
static const struct {
    const char *what, *before, *after, *text;
} pieces[] = {
    {"text", "one ", "two", "two"},
    {"a colour cut", "a\033[1;38;5", ";208mred\033[0m", "red"},
    {"a colour cut at its begin", "a\033", "[31mred", "red"},
    {"an erasing cut", "10%", "\r50%\r\033[Kdone", "done"},
    {"a title cut", "a\033]0;ti", "tle\007text", "text"},
    {"a title that goes on", "a\033]0;ti", "tle", ""},
    {"a charset cut", "a\033(", "Bb", "b"},
    {"a character before", "日", "本", "本"},
    {"nothing", "\033[?1049habc", "", "abc"},
    {"an editor's line", "sh\r\n\033[?1049h\033[Hone\r\ntwo\r\n~", "\033[2;1Hnew\033[K",
     "one\nnew\n~"},
    {"an older switch", "\033[?47h\033[Hone", "\r\ntwo", "one\ntwo"},
    {"an editor that is left", "sh\r\n\033[?1049h\033[Hone\r\n~", "\033[5;1H:q\r\033[?1049l$ ",
     "$ "},
    {"an editor that was left", "\033[?1049h\033[Hone\033[?1049l$ ", "ls\r\n", "ls\n"},
    {"a reset leaves too", "\033[?1049h\033[Hone\033c$ ", "ls", "ls"},
    {"the second of two", "\033[?1049h\033[Hone\033[?1049l$ \033[?1049h\033[Htwo", "\033[1;1HT",
     "Two"},
    {"a switch that is cut", "$ \033[?10", "49h\033[Hone", "one"},
};

START_TEST(test_what_is_seen_by_pieces)
{
    char bytes[256];
    snprintf(bytes, sizeof bytes, "%s%s", pieces[_i].before, pieces[_i].after);
    char *text = shown_after(bytes, strlen(pieces[_i].before), 20, 5);
    ck_assert_msg(strcmp(text, pieces[_i].text) == 0, "%s: \"%s\"", pieces[_i].what, text);
    free(text);
}
END_TEST

/* Of every length before it, so that it is given to the terminal's logic in every way. */
START_TEST(test_characters_are_never_taken_apart)
{
    struct buf bytes = {0}, wanted = {0};
    for (int ascii = 1; ascii < 6; ascii++) {
        buf_clear(&bytes);
        for (int i = 0; i < ascii; i++)
            ck_assert_int_eq(buf_text(&bytes, "."), 0);
        for (int i = 0; i < 60; i++)
            ck_assert_int_eq(buf_text(&bytes, i % 3 == 0 ? "█" : i % 3 == 1 ? "é" : "😀"), 0);
        buf_clear(&wanted);
        ck_assert_int_eq(buf_append(&wanted, bytes.data, bytes.length), 0);
        ck_assert_int_eq(buf_text(&bytes, "\r\n100%"), 0);
        ck_assert_int_eq(buf_text(&wanted, "\n100%"), 0);
        char *text = shown(bytes.data, 200, 5);
        ck_assert_str_eq(text, wanted.data);
        free(text);
    }
    buf_free(&bytes);
    buf_free(&wanted);
}
END_TEST

START_TEST(test_sizes_past_the_limits_are_the_limits)
{
    for (unsigned size = 0; size < 3; size++)
        free(shown("ab\r\n\033[?1049h日本\033[99;99Hx", size, size));
    free(shown("ab", 1000000, 1000000));
}
END_TEST

START_TEST(test_a_bomb_is_given_up)
{
    /* Fills the screen and scrolls it away, again and again. */
    struct buf bytes = {0}, out = {0};
    for (int i = 0; i < 4000; i++)
        ck_assert_int_eq(buf_text(&bytes, "\033#8\033[999S"), 0);
    ck_assert_int_eq(terminal_render(&out, bytes.data, bytes.length, 0, 500, 200),
                     HEARTH_ETOOLARGE);
    ck_assert_uint_lt(out.length, TERMINAL_TEXT_MAX + 100000);
    buf_free(&out);
    buf_clear(&bytes);
    for (int i = 0; i < 300000; i++)
        ck_assert_int_eq(buf_text(&bytes, "\033#8"), 0);
    ck_assert_int_eq(terminal_render(&out, bytes.data, bytes.length, 0, 500, 200),
                     HEARTH_ETOOLARGE);
    buf_free(&bytes);
    buf_free(&out);
}
END_TEST

START_TEST(test_it_appends)
{
    struct buf out = {0};
    ck_assert_int_eq(buf_text(&out, "before|"), 0);
    ck_assert_int_eq(terminal_render(&out, "x", 1, 0, 80, 24), 0);
    ck_assert_str_eq(out.data, "before|x");
    buf_free(&out);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("terminal");
    TCase *all = tcase_create("terminal");
    tcase_add_loop_test(all, test_what_is_seen, 0, sizeof cases / sizeof *cases);
    tcase_add_loop_test(all, test_what_is_seen_by_pieces, 0, sizeof pieces / sizeof *pieces);
    tcase_add_test(all, test_characters_are_never_taken_apart);
    tcase_add_test(all, test_a_vim_session);
    tcase_add_test(all, test_sizes_past_the_limits_are_the_limits);
    tcase_add_test(all, test_a_bomb_is_given_up);
    tcase_add_test(all, test_it_appends);
    tcase_set_timeout(all, 60);
    suite_add_tcase(suite, all);
    return run_and_free(suite);
}
