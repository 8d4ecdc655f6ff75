#include "base/tar_header.h"
#include "base/tar_pack.h"
#include "suite.h"

#include <check.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct tar_pack_choice everything;
static char directory[] = "/tmp/test_tar_pack.XXXXXX";

static void make_directory(void)
{
    strcpy(directory + strlen(directory) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(chdir(directory), 0);
}

static void remove_directory(void)
{
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(system(command), 0);
}

static void write_file(const char *path, const char *text, mode_t mode)
{
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
    ck_assert_int_eq(chmod(path, mode), 0);
}

/* The whole archive, read in pieces of step bytes. */
static int pack(struct buf *out, size_t step, const char *const *excludes, size_t count,
                struct tar_pack_stats *ret_stats, struct hearth_failure *failure)
{
    struct tar_pack *pack = NULL;
    int error = tar_pack_open(
        &pack, directory, &(struct tar_pack_choice){.excludes = excludes, .exclude_count = count},
        failure);
    auto_free char *piece = malloc(step);
    for (ssize_t got = 1; !error && got;) {
        got = tar_pack_read(pack, piece, step, failure);
        error = got < 0 ? (int)got : buf_append(out, piece, (size_t)got);
    }
    if (pack && ret_stats)
        tar_pack_stats(pack, ret_stats);
    tar_pack_close(pack);
    return error;
}

/* tar(1)'s view of the archive. */
static void list(const struct buf *archive, char *out, size_t size)
{
    FILE *file = fopen("archive.tar", "w");
    fwrite(archive->data, 1, archive->length, file);
    fclose(file);
    FILE *tar = popen("tar --quoting-style=literal -tvf archive.tar 2>&1 |"
                      " awk '{print $1, $3, $6, $7, $8, $9, $10}'",
                      "r");
    out[fread(out, 1, size - 1, tar)] = '\0';
    ck_assert_int_eq(pclose(tar), 0);
    unlink("archive.tar");
}

START_TEST(modes_links_and_directories_come_through_in_order)
{
    make_directory();
    ck_assert_int_eq(mkdir("b", 0750), 0);
    write_file("b/run", "#!/bin/sh\n", 0755);
    write_file("a", "alpha", 0640);
    ck_assert_int_eq(link("a", "c"), 0);
    ck_assert_int_eq(symlink("/etc/passwd", "d"), 0);
    ck_assert_int_eq(mkfifo("pipe", 0600), 0);

    auto_buf struct buf archive = {0};
    struct tar_pack_stats stats;
    char text[2048];
    ck_assert_int_eq(pack(&archive, 4096, NULL, 0, &stats, NULL), 0);
    list(&archive, text, sizeof text);
    ck_assert_str_eq(text, "-rw-r----- 5 a    \n"
                           "drwxr-x--- 0 b/    \n"
                           "-rwxr-xr-x 10 b/run    \n"
                           "hrw-r----- 0 c link to a \n"
                           "lrwxrwxrwx 0 d -> /etc/passwd  \n");
    ck_assert_uint_eq(stats.entries, 5);
    ck_assert_uint_eq(stats.bytes, 15);
    ck_assert_uint_eq(stats.skipped, 1);
    ck_assert_uint_eq(archive.length % TAR_BLOCK, 0);
    remove_directory();
}
END_TEST

START_TEST(the_bytes_do_not_depend_on_how_they_are_read)
{
    make_directory();
    write_file("one", "1234567", 0644);
    ck_assert_int_eq(mkdir("dir", 0755), 0);
    write_file("dir/two", "abc", 0600);
    auto_buf struct buf whole = {0};
    ck_assert_int_eq(pack(&whole, 1 << 16, NULL, 0, NULL, NULL), 0);
    static const size_t steps[] = {1, 137, 511, 513};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        auto_buf struct buf again = {0};
        ck_assert_int_eq(pack(&again, steps[i], NULL, 0, NULL, NULL), 0);
        ck_assert_uint_eq(again.length, whole.length);
        ck_assert_mem_eq(again.data, whole.data, whole.length);
    }
    remove_directory();
}
END_TEST

START_TEST(long_names_and_targets_are_kept_whole)
{
    make_directory();
    char name[201], target[301], text[2048], expected[2048];
    memset(name, 'n', 200);
    memset(target, 't', 300);
    name[200] = target[300] = '\0';
    write_file(name, "", 0644);
    ck_assert_int_eq(symlink(target, "link"), 0);

    auto_buf struct buf archive = {0};
    ck_assert_int_eq(pack(&archive, 4096, NULL, 0, NULL, NULL), 0);
    list(&archive, text, sizeof text);
    snprintf(expected, sizeof expected, "lrwxrwxrwx 0 link -> %s  \n-rw-r--r-- 0 %s    \n", target,
             name);
    ck_assert_str_eq(text, expected);
    remove_directory();
}
END_TEST

START_TEST(patterns_leave_out_names_and_paths)
{
    make_directory();
    ck_assert_int_eq(mkdir(".git", 0755), 0);
    write_file(".git/config", "", 0644);
    ck_assert_int_eq(mkdir("src", 0755), 0);
    write_file("src/a.o", "", 0644);
    write_file("src/b.c", "", 0644);
    write_file("b.c", "", 0644);

    auto_buf struct buf archive = {0};
    char text[2048];
    static const char *const excludes[] = {".git", "*.o", "src/b.*"};
    ck_assert_int_eq(pack(&archive, 4096, excludes, 3, NULL, NULL), 0);
    list(&archive, text, sizeof text);
    ck_assert_str_eq(text, "-rw-r--r-- 0 b.c    \ndrwxr-xr-x 0 src/    \n");
    remove_directory();
}
END_TEST

START_TEST(a_file_that_shrinks_is_a_failure_that_names_it)
{
    make_directory();
    write_file("shrinks", "0123456789", 0644);
    struct hearth_failure failure;
    struct tar_pack *pack = NULL;
    char piece[8 * TAR_BLOCK]; /* more than the headers */
    ck_assert_int_eq(tar_pack_open(&pack, directory, &everything, &failure), 0);
    ck_assert_int_gt(tar_pack_read(pack, piece, sizeof piece, &failure), 0);
    ck_assert_int_eq(truncate("shrinks", 0), 0);
    ck_assert_int_eq(tar_pack_read(pack, piece, sizeof piece, &failure), HEARTH_ECONFLICT);
    ck_assert_str_eq(failure.code, "file_changed");
    ck_assert_ptr_nonnull(strstr(failure.detail, "shrinks"));
    tar_pack_close(pack);
    remove_directory();
}
END_TEST

START_TEST(a_directory_that_is_not_there_or_too_deep_is_refused)
{
    struct hearth_failure failure;
    struct tar_pack *none = NULL;
    ck_assert_int_lt(tar_pack_open(&none, "/nonexistent", &everything, &failure), 0);

    make_directory();
    for (int i = 0; i < TAR_PACK_DEPTH_MAX; i++) {
        ck_assert_int_eq(mkdir("d", 0755), 0);
        ck_assert_int_eq(chdir("d"), 0);
    }
    auto_buf struct buf archive = {0};
    ck_assert_int_eq(pack(&archive, 4096, NULL, 0, NULL, &failure), HEARTH_ETOOLARGE);
    ck_assert_str_eq(failure.code, "too_deep");
    remove_directory();
}
END_TEST

START_TEST(a_pax_record_counts_its_own_digits)
{
    /* 100 is where the length's own digits push it over: "99 …" would be 100 bytes long. */
    char path[256];
    for (size_t length = 101; length < 130; length++) {
        memset(path, 'p', length);
        path[length] = '\0';
        auto_buf struct buf out = {0};
        const struct tar_member member = {.type = TAR_FILE, .path = path, .mode = 0644};
        ck_assert_int_eq(tar_header_write(&out, &member), 0);
        const char *record = out.data + TAR_BLOCK;
        ck_assert_uint_eq(strtoul(record, NULL, 10), strcspn(record, "\n") + 1);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tar_pack");
    TCase *cases = tcase_create("tar_pack");
    tcase_add_test(cases, modes_links_and_directories_come_through_in_order);
    tcase_add_test(cases, the_bytes_do_not_depend_on_how_they_are_read);
    tcase_add_test(cases, long_names_and_targets_are_kept_whole);
    tcase_add_test(cases, patterns_leave_out_names_and_paths);
    tcase_add_test(cases, a_file_that_shrinks_is_a_failure_that_names_it);
    tcase_add_test(cases, a_directory_that_is_not_there_or_too_deep_is_refused);
    tcase_add_test(cases, a_pax_record_counts_its_own_digits);
    suite_add_tcase(suite, cases);
    return run_and_free(suite);
}
