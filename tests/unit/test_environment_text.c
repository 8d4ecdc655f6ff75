/* What is known of environments as texts: names, records, the host's package sources, dpkg's list.
 */
#include "supervisord/environment.h"
#include "supervisord/environment_packages.h"
#include "supervisord/environment_record.h"
#include "supervisord/environment_sources.h"

#include "base/cleanup.h"
#include "suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

START_TEST(names_are_a_repository_and_perhaps_a_tag)
{
    static const char *const good[] = {"a", "debian:12", "debian:12-base", "0.x_y-z:A.b_c-D",
                                       "x:1"};
    static const char *const bad[] = {"",    ":",     "a:",    ":a",       "A",         "a:b:c",
                                      "a/b", "../a",  ".a",    "-a",       "a:.b",      "a b",
                                      "a\n", "a:b/c", "a:b\n", "\xc3\xa4", "a:\xc3\xa4"};
    char text[160];
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        ck_assert_msg(environment_name_valid(good[i]), "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(!environment_name_valid(bad[i]), "%s", bad[i]);
    ck_assert(!environment_name_valid(NULL));
    memset(text, 'a', sizeof text);
    text[64] = ':';
    text[129] = '\0';
    ck_assert(environment_name_valid(text));
    text[129] = 'a', text[130] = '\0';
    ck_assert(!environment_name_valid(text));
    text[64] = 'a', text[65] = '\0';
    ck_assert(!environment_name_valid(text));
}
END_TEST

START_TEST(a_record_is_read_as_it_was_written)
{
    struct environment_record record = {.version = DIGEST,
                                        .name = "debian:12",
                                        .source = "debian packages",
                                        .description = "what it is: this",
                                        .size_bytes = UINT64_C(1) << 40,
                                        .built_at = 1234567890123456},
                              read;
    auto_buf struct buf text = {0};
    ck_assert_int_eq(environment_record_print(&record, &text), 0);
    ck_assert_int_eq(buf_text(&text, "later something new\n\n"), 0);
    ck_assert(environment_record_parse(&read, text.data));
    ck_assert_str_eq(read.version, record.version);
    ck_assert_str_eq(read.name, record.name);
    ck_assert_str_eq(read.source, record.source);
    ck_assert_str_eq(read.description, record.description);
    ck_assert_uint_eq(read.size_bytes, record.size_bytes);
    ck_assert_int_eq(read.built_at, record.built_at);
}
END_TEST

START_TEST(a_record_that_makes_no_sense_is_none)
{
    static const char *const bad[] = {
        "",
        "version " DIGEST "\n",
        "name a\n",
        "version x\nname a\n",
        "version ../../../../../../../../../../../../../../../../../../../../etc\nname a\n",
        "version " DIGEST "0\nname a\n",
        "version " DIGEST "\nname ../a\n",
        "version " DIGEST "\nname a\nsize_bytes -1\n",
        "version " DIGEST "\nname a\nsize_bytes 1x\n",
        "version " DIGEST "\nname a\nbuilt_at 99999999999999999999\n",
    };
    struct environment_record record;
    char text[512];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(text, sizeof text, "%s", bad[i]);
        ck_assert_msg(!environment_record_parse(&record, text), "%s", bad[i]);
    }
}
END_TEST

START_TEST(only_debians_own_sources_of_the_suite_are_taken)
{
    char list[] =
        "# deb http://mirror.example.org/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k] http://mirror.example.org/debian/ bookworm main contrib\n"
        "deb http://mirror.example.org/debian/ bookworm main # again\n"
        "deb-src http://mirror.example.org/debian bookworm main\n"
        "deb http://mirror.example.org/debian trixie main\n"
        "deb http://mirror.example.org/debian bookworm-backports main\n"
        "deb http://other.example.org/linux/debian bookworm stable\n"
        "deb http://other.example.org/apt bookworm main\n"
        "deb file:/srv/debian bookworm main\n"
        "deb http://mirror.example.org/debian-security bookworm-security main";
    char stanzas[] = "Types: deb deb-src\n"
                     "URIs: https://a.example.org/debian http://b.example.org/debian/\n"
                     "# a comment\n"
                     "Suites: bookworm bookworm-updates sid\n"
                     "Components: main\n"
                     "Signed-By: /k\n"
                     " \n"
                     "types: deb\nuris: http://c.example.org/debian\nsuites: bookworm\n"
                     "components: main\nenabled: no\n"
                     "\n"
                     "Types: deb\nURIs: http://d.example.org/debian\nSuites: bookworm\n"
                     "Components: contrib\n";
    auto_buf struct buf out = {0};
    ck_assert_int_eq(environment_sources_add(&out, list, false, "bookworm"), 0);
    ck_assert_str_eq(out.data,
                     "deb http://mirror.example.org/debian/ bookworm main\n"
                     "deb http://mirror.example.org/debian-security bookworm-security main\n");
    buf_clear(&out);
    ck_assert_int_eq(environment_sources_add(&out, stanzas, true, "bookworm"), 0);
    ck_assert_str_eq(out.data, "deb https://a.example.org/debian bookworm main\n"
                               "deb https://a.example.org/debian bookworm-updates main\n"
                               "deb http://b.example.org/debian/ bookworm main\n"
                               "deb http://b.example.org/debian/ bookworm-updates main\n");
}
END_TEST

START_TEST(a_host_without_sources_names_none)
{
    auto_buf struct buf out = {0};
    ck_assert_int_eq(environment_sources_read(&out, "/nonexistent", "bookworm"), 0);
    ck_assert_uint_eq(out.length, 0);
}
END_TEST

START_TEST(what_is_installed_is_read_from_dpkgs_status)
{
    char text[] = "Package: zlib1g\nStatus: install ok installed\nVersion: 1:1.2.13\n"
                  "Architecture: amd64\nDescription: a library\n Package: not-this\n\n"
                  "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n"
                  "Architecture: amd64\n\n"
                  "Package: bad name\nStatus: install ok installed\nVersion: 1\n"
                  "Architecture: all\n\n"
                  "Package: no-version\nStatus: install ok installed\nArchitecture: all\n\n\n"
                  "Package: apt\nStatus: install ok installed\nVersion: 2.6.1\n"
                  "Architecture: i386\n\n"
                  "Package: apt\nStatus: install ok installed\nVersion: 2.6.1\n"
                  "Architecture: amd64";
    size_t count;
    struct environment_package *packages = environment_packages_parse(text, &count);
    ck_assert_uint_eq(count, 3);
    ck_assert_str_eq(packages[0].name, "apt");
    ck_assert_str_eq(packages[0].architecture, "amd64");
    ck_assert_str_eq(packages[1].architecture, "i386");
    ck_assert_str_eq(packages[2].name, "zlib1g");
    ck_assert_str_eq(packages[2].version, "1:1.2.13");
    free(packages);
    char nothing[] = "";
    ck_assert_ptr_null(environment_packages_parse(nothing, &count));
    ck_assert_uint_eq(count, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("environment_text");
    TCase *test_case = tcase_create("environment_text");
    tcase_add_test(test_case, names_are_a_repository_and_perhaps_a_tag);
    tcase_add_test(test_case, a_record_is_read_as_it_was_written);
    tcase_add_test(test_case, a_record_that_makes_no_sense_is_none);
    tcase_add_test(test_case, only_debians_own_sources_of_the_suite_are_taken);
    tcase_add_test(test_case, a_host_without_sources_names_none);
    tcase_add_test(test_case, what_is_installed_is_read_from_dpkgs_status);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
