#include "base/glob.h"
#include "suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *pattern, *path;
    bool fits;
} cases[] = {
    {"*.c", "a.c", true},
    {"*.c", "dir/a.c", true},
    {"*.c", "a.cc", false},
    {"dir/*.c", "dir/a.c", true},
    {"dir/*.c", "dir/deep/a.c", false},
    {"dir/*.c", "other/dir/a.c", false},
    {"/a.c", "a.c", true},
    {"/a.c", "dir/a.c", false},
    {"**/a.c", "a.c", true},
    {"**/a.c", "x/y/a.c", true},
    {"**/a.c", "x/ya.c", false},
    {"x/**/a.c", "x/a.c", true},
    {"x/**/a.c", "x/y/z/a.c", true},
    {"x/**/a.c", "xa.c", false},
    {"x/**", "x/y/z", true},
    {"x/**", "x", false},
    {"?.c", "a.c", true},
    {"x?y/z", "x/y/z", false},
    {"[a-c].c", "b.c", true},
    {"[!a-c].c", "b.c", false},
    {"[]x].c", "].c", true},
    {"[a-c", "[a-c", true},
    {"\\*.c", "*.c", true},
    {"\\*.c", "a.c", false},
    {"", "", true},
    {"*", "", true},
    {"a*b*c", "a.b.b.c", true},
    {"a*b*c", "a.b.b", false},
    {"**/x/**/y", "x/a/x/b/y", true},
};

START_TEST(a_pattern_fits_what_it_says)
{
    bool fits = glob_match_path(cases[_i].pattern, cases[_i].path);
    ck_assert_msg(fits == cases[_i].fits, "%s on %s", cases[_i].pattern, cases[_i].path);
}
END_TEST

START_TEST(many_stars_take_no_time)
{
    char path[4001], pattern[401];
    memset(path, 'a', 4000);
    path[4000] = '\0';
    for (int i = 0; i < 200; i++)
        memcpy(pattern + 2 * i, "*a", 2);
    memcpy(pattern + 398, "*b", 3);
    ck_assert(!glob_match(pattern, path));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("glob");
    TCase *test = tcase_create("glob");
    tcase_add_loop_test(test, a_pattern_fits_what_it_says, 0, sizeof cases / sizeof *cases);
    tcase_add_test(test, many_stars_take_no_time);
    suite_add_tcase(suite, test);
    return run_and_free(suite);
}
