/* Images of environments, in an image directory of the test's own. hearth-disk is run through a
 * script that counts its runs, or stands in for it. */
#include "supervisord/environment.h"

#include "base/cleanup.h"
#include "base/path_at.h"
#include "suite.h"

#include <check.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define IMAGE "images/versions/" DIGEST "/image.ext4"

static char base[64];
static struct loop *loop;
static struct worker_pool *workers;
static struct environments *environments;

static struct environments *open_environments(void)
{
    struct environments *opened;
    ck_assert_int_eq(environments_new(&opened, loop, workers, "images", NULL), 0);
    return opened;
}

static void write_file(const char *path, const char *text, mode_t mode)
{
    auto_fclose FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(chmod(path, mode), 0);
}

/* $image is what is to be made; $real is the real program. */
static void stand_in(const char *script)
{
    char text[1024];
    snprintf(text, sizeof text,
             "#!/bin/sh\necho run >>%s/runs\nreal='%s/hearth-disk'\n"
             "for word; do image=$word; done\n%s\n",
             base, getenv("REAL_LIBEXEC_DIR"), script);
    write_file("libexec/hearth-disk", text, 0755);
}

static void setup(void)
{
    setenv("REAL_LIBEXEC_DIR", getenv("HEARTH_LIBEXEC_DIR"), 0);
    snprintf(base, sizeof base, "/tmp/hearth-image-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(base));
    ck_assert_int_eq(chdir(base) | mkdir("libexec", 0755), 0);
    ck_assert_int_eq(path_make_own_directories("images/versions/" DIGEST "/tree/workspace", 0755),
                     0);
    write_file("images/versions/" DIGEST "/tree/file", "content", 0640);
    write_file("images/versions/" DIGEST "/about",
               "version " DIGEST "\nname mine\nsize_bytes 7\nbuilt_at 8\n", 0644);
    char libexec[96], archive[512];
    snprintf(archive, sizeof archive, "%s/hearth-archive", getenv("REAL_LIBEXEC_DIR"));
    ck_assert_int_eq(symlink(archive, "libexec/hearth-archive"), 0);
    snprintf(libexec, sizeof libexec, "%s/libexec", base);
    setenv("HEARTH_LIBEXEC_DIR", libexec, 1);
    stand_in("exec \"$real\" \"$@\"");
    ck_assert_int_eq(loop_new(&loop, NULL), 0);
    ck_assert_int_eq(worker_pool_new(&workers, loop, 2, NULL), 0);
    environments = open_environments();
}

static void teardown(void)
{
    environments_free(environments);
    worker_pool_free(workers);
    loop_free(loop);
    ck_assert_int_eq(chdir("/"), 0);
    auto_close int root_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_eq(path_remove_tree(root_fd, base + 1), 0);
}

static size_t count_matching(const char *pattern)
{
    glob_t found;
    size_t count = glob(pattern, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
    globfree(&found);
    return count;
}

static off_t runs(void)
{
    struct stat status;
    return stat("runs", &status) < 0 ? 0 : status.st_size / (off_t)strlen("run\n");
}

struct told {
    struct environment_job *job;
    int ended, error;
    struct hearth_failure failure;
    char image[256];
};
static int waited_for;

static void on_done(void *arg, int error, const struct hearth_failure *failure,
                    const struct environment *environment)
{
    struct told *told = arg;
    told->ended++;
    told->error = error;
    if (error)
        told->failure = *failure;
    else
        snprintf(told->image, sizeof told->image, "%s", environment->image_path);
    if (--waited_for == 0)
        loop_stop(loop);
}

static void ensure(struct told *told, struct environments *in)
{
    *told = (struct told){0};
    ck_assert_int_eq(environment_ensure_image(&told->job, in, DIGEST, NULL, on_done, told, NULL),
                     0);
    ck_assert_int_eq(told->ended, 0);
    waited_for++;
}

START_TEST(an_image_is_made_once_and_joined)
{
    struct told first, second, third;
    struct stat status;
    ck_assert_ptr_null(environment_find_version(environments, DIGEST)->image_path);
    ensure(&first, environments);
    ensure(&second, environments);
    ck_assert_ptr_eq(first.job, second.job);
    loop_run(loop);
    ensure(&third, environments);
    loop_run(loop);
    ck_assert_int_eq(first.error | second.error | third.error, 0);
    ck_assert_int_eq(first.ended + second.ended + third.ended, 3);
    ck_assert_str_eq(first.image, IMAGE);
    ck_assert_str_eq(third.image, IMAGE);
    ck_assert_int_eq(runs(), 1);
    ck_assert_int_eq(stat(IMAGE, &status), 0);
    ck_assert_int_eq(status.st_mode & 07777, 0444);
    ck_assert_uint_eq(count_matching("images/building-*"), 0);
    ck_assert_int_eq(system("PATH=/sbin:/usr/sbin:$PATH; e2fsck -fn " IMAGE " >fsck 2>&1 && "
                            "debugfs -R 'cat /file' " IMAGE " 2>&1 | grep -q content"),
                     0);
}
END_TEST

START_TEST(two_daemons_at_once_make_one)
{
    struct environments *other = open_environments();
    struct told first, second;
    ensure(&first, environments);
    ensure(&second, other);
    loop_run(loop);
    ck_assert_int_eq(first.error | second.error, 0);
    ck_assert_str_eq(second.image, IMAGE);
    ck_assert_int_eq(runs(), 1);
    ck_assert_uint_eq(count_matching("images/building-*"), 0);
    environments_free(other);
}
END_TEST

START_TEST(a_failure_tells_why_and_leaves_nothing)
{
    struct told told;
    stand_in("echo x >\"$image\"; printf 'failed no r\\033oom\\nmore\\n'; exit 1");
    ensure(&told, environments);
    loop_run(loop);
    ck_assert_int_eq(told.error, HEARTH_EIO);
    ck_assert_str_eq(told.failure.code, "environment_image_failed");
    ck_assert_ptr_nonnull(strstr(told.failure.detail, "failed no r?oom"));
    ck_assert_ptr_null(strstr(told.failure.detail, "more"));
    ck_assert_uint_eq(count_matching("images/building-*"), 0);
    ck_assert_uint_eq(count_matching("images/versions/*/image*"), 0);
}
END_TEST

static struct timer timer;
static const char *awaited;
static size_t awaited_count;

static void look(void *arg)
{
    if (count_matching(awaited) == awaited_count)
        loop_stop(loop);
    else
        timer_set(arg, clock_monotonic_us() + 5 * US_PER_MS);
}

static void run_until_count(const char *pattern, size_t count)
{
    awaited = pattern;
    awaited_count = count;
    timer_init(&timer, loop, look, &timer);
    timer_set(&timer, clock_monotonic_us());
    loop_run(loop);
    timer_free(&timer);
}

START_TEST(what_a_killed_daemon_left_is_no_image)
{
    environments_free(environments);
    ck_assert_int_eq(mkdir("images/building-aaaaaaaa", 0755), 0);
    write_file("images/building-aaaaaaaa/image.ext4", "half", 0644);
    environments = open_environments();
    run_until_count("images/building-*", 0);
    ck_assert_ptr_null(environment_find_version(environments, DIGEST)->image_path);
}
END_TEST

START_TEST(a_maker_killed_in_the_middle_leaves_nothing)
{
    struct told told;
    stand_in("echo half >\"$image\"; kill -9 $$");
    ensure(&told, environments);
    loop_run(loop);
    ck_assert_str_eq(told.failure.code, "environment_image_failed");
    ck_assert_uint_eq(count_matching("images/building-*"), 0);
    ck_assert_uint_eq(count_matching("images/versions/*/image*"), 0);
}
END_TEST

START_TEST(the_last_listener_takes_the_making_along)
{
    struct told told;
    stand_in("echo half >\"$image\"; exec sleep 1000");
    ensure(&told, environments);
    run_until_count("images/building-*/image.ext4", 1);
    environment_job_leave(told.job, &told);
    run_until_count("images/building-*", 0);
    ck_assert_int_eq(told.ended, 0);
    ck_assert_uint_eq(count_matching("images/versions/*/image*"), 0);
}
END_TEST

START_TEST(what_cannot_be_made_is_refused)
{
    struct environment_job *job;
    struct hearth_failure failure;
    struct told told;
    char other[65] = DIGEST;
    other[0] = 'f';
    ck_assert_int_eq(
        environment_ensure_image(&job, environments, other, NULL, on_done, NULL, &failure),
        HEARTH_ENOTFOUND);
    ck_assert_str_eq(failure.code, "unknown_environment");
    ck_assert_int_eq(chmod(base, 0755) | chmod("images", 0555), 0);
    if (geteuid() == 0)
        ck_assert_int_eq(seteuid(65534), 0);
    ck_assert_int_eq(
        environment_ensure_image(&job, environments, DIGEST, NULL, on_done, NULL, &failure),
        HEARTH_EUNSUPPORTED);
    ck_assert_str_eq(failure.code, "image_dir_read_only");
    if (getuid() == 0)
        ck_assert_int_eq(seteuid(0), 0);
    /* One that is there needs nothing written. */
    ck_assert_int_eq(chmod("images", 0755), 0);
    write_file(IMAGE, "made before", 0444);
    ck_assert_int_eq(chmod("images", 0555), 0);
    ensure(&told, environments);
    loop_run(loop);
    ck_assert_str_eq(told.image, IMAGE);
    ck_assert_int_eq(runs(), 0);
    ck_assert_int_eq(chmod("images", 0755), 0);
}
END_TEST

START_TEST(an_import_has_its_image_at_once_where_they_are_wanted)
{
    struct told told = {0};
    ck_assert_int_eq(system("mkdir -p root/bin && echo x >root/bin/sh && chmod 755 root/bin/sh && "
                            "tar -C root -cf root.tar ."),
                     0);
    environments_want_images(environments, true);
    ck_assert_int_eq(environment_import(&told.job, environments, "new:1", ENVIRONMENT_ROOTFS_TAR,
                                        "root.tar", NULL, on_done, &told, NULL),
                     0);
    waited_for = 1;
    loop_run(loop);
    ck_assert_msg(told.error == 0, "%s", told.failure.detail);
    ck_assert_uint_eq(count_matching(told.image), 1);
    ck_assert_uint_eq(count_matching("images/building-*"), 0);
    /* What was there before has none. */
    ck_assert_ptr_null(environment_find_version(environments, DIGEST)->image_path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("environment_image");
    TCase *test_case = tcase_create("environment_image");
    tcase_set_timeout(test_case, 60);
    tcase_add_checked_fixture(test_case, setup, teardown);
    tcase_add_test(test_case, an_image_is_made_once_and_joined);
    tcase_add_test(test_case, two_daemons_at_once_make_one);
    tcase_add_test(test_case, a_failure_tells_why_and_leaves_nothing);
    tcase_add_test(test_case, what_a_killed_daemon_left_is_no_image);
    tcase_add_test(test_case, a_maker_killed_in_the_middle_leaves_nothing);
    tcase_add_test(test_case, the_last_listener_takes_the_making_along);
    tcase_add_test(test_case, what_cannot_be_made_is_refused);
    tcase_add_test(test_case, an_import_has_its_image_at_once_where_they_are_wanted);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
