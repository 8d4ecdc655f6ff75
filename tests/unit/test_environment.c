/* Environments in an image directory of the test's own. What builds them is a stand-in for
 * mmdebstrap (a script that a test writes), the rest is real: lock, hearth-archive, files. */
#include "supervisord/environment.h"
#include "supervisord/environment_packages.h"

#include "base/cleanup.h"
#include "base/path_at.h"
#include "suite.h"

#include <check.h>
#include <fcntl.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static char base[64], image_dir[96];
static struct loop *loop;
static struct worker_pool *workers;
static struct environments *environments;

__attribute__((format(printf, 2, 3))) static void write_file(const char *text, const char *format,
                                                             ...)
{
    char path[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(path, sizeof path, format, arguments);
    va_end(arguments);
    auto_fclose FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
}

__attribute__((format(printf, 1, 2))) static size_t count_matching(const char *format, ...)
{
    char pattern[512];
    glob_t found;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(pattern, sizeof pattern, format, arguments);
    va_end(arguments);
    size_t count = glob(pattern, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
    globfree(&found);
    return count;
}

static void open_environments(void)
{
    ck_assert_int_eq(loop_new(&loop, NULL), 0);
    ck_assert_int_eq(worker_pool_new(&workers, loop, 2, NULL), 0);
    ck_assert_int_eq(environments_new(&environments, loop, workers, image_dir, NULL), 0);
}

static void close_environments(void)
{
    environments_free(environments);
    worker_pool_free(workers);
    loop_free(loop);
}

static void setup(void)
{
    char path[4096];
    snprintf(base, sizeof base, "/tmp/hearth-environment-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(base));
    snprintf(image_dir, sizeof image_dir, "%s/images", base);
    snprintf(path, sizeof path, "%s:%s", base, getenv("PATH"));
    setenv("PATH", path, 1); /* check runs each test in a process of its own */
    open_environments();
}

static int remove_tree(const char *path)
{
    auto_close int root_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return path_remove_tree(root_fd, path + 1);
}

static void teardown(void)
{
    close_environments();
    ck_assert_int_eq(remove_tree(base), 0);
}

/* Makes mmdebstrap a script; $tree is the directory that it is to fill. */
static void stand_in(const char *script)
{
    char text[4096], path[128];
    snprintf(text, sizeof text,
             "#!/bin/sh\n"
             "for word; do case $word in */tree) tree=$word;; esac; done\n"
             "%s\n",
             script);
    write_file(text, "%s/mmdebstrap", base);
    snprintf(path, sizeof path, "%s/mmdebstrap", base);
    ck_assert_int_eq(chmod(path, 0755), 0);
}

#define MAKE_TREE                                                                                  \
    "mkdir $tree/dev $tree/bin $tree/var; echo x >$tree/dev/null2; echo sh >$tree/bin/sh\n"

/* What a listener was told. */
struct told {
    char stages[256];
    int ended, error;
    struct hearth_failure failure;
    char version[65], name[130];
    struct environment_job *job;
};
static int waited_for;

static void on_progress(void *arg, const struct environment_progress *progress)
{
    struct told *told = arg;
    size_t length = strlen(told->stages);
    ck_assert_ptr_nonnull(progress->detail);
    snprintf(told->stages + length, sizeof told->stages - length, "%s ", progress->stage);
}

static void on_done(void *arg, int error, const struct hearth_failure *failure,
                    const struct environment *environment)
{
    struct told *told = arg;
    told->ended++;
    told->error = error;
    ck_assert_int_eq(error == 0, environment != NULL);
    if (error) {
        told->failure = *failure;
    } else {
        snprintf(told->version, sizeof told->version, "%s", environment->version);
        snprintf(told->name, sizeof told->name, "%s", environment->name);
        /* Another call into the module, which what others are told must survive. */
        environment_find(environments, "debian:12-build");
    }
    if (--waited_for == 0)
        loop_stop(loop);
}

static void pull(struct told *told, const char *name, bool force)
{
    struct hearth_failure failure;
    *told = (struct told){0};
    ck_assert_msg(environment_pull(&told->job, environments, name, force, on_progress, on_done,
                                   told, &failure) == 0,
                  "%s", failure.detail);
    ck_assert_int_eq(told->ended, 0);
    waited_for++;
}

#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define OTHER_DIGEST "f123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* Finding */

static void put_version(const char *version, const char *name, const char *reference)
{
    char path[512], text[512];
    snprintf(path, sizeof path, "versions/%s/tree", version);
    int dir_fd = open(image_dir, O_RDONLY | O_DIRECTORY);
    ck_assert_int_eq(path_make_directories(dir_fd, path, 0755), 0);
    close(dir_fd);
    snprintf(text, sizeof text, "version %s\nname %s\nsize_bytes 7\nbuilt_at 8\n", version, name);
    write_file(text, "%s/versions/%s/about", image_dir, version);
    if (reference)
        write_file(text, "%s/environments/%s.ref", image_dir, reference);
}

static int note_name(void *arg, const struct environment *environment)
{
    char *names = arg;
    size_t length = strlen(names);
    snprintf(names + length, 256 - length, "%s%s ", environment->name,
             environment->version ? "+" : "");
    return 0;
}

START_TEST(builtins_are_known_before_they_are_built)
{
    const struct environment *environment = environment_find(environments, "debian:12");
    ck_assert_ptr_nonnull(environment);
    ck_assert(environment->builtin && !environment->building);
    ck_assert_ptr_null(environment->version);
    ck_assert_ptr_null(environment->tree_path);
    ck_assert_ptr_null(environment_find(environments, "other"));
    ck_assert_ptr_null(environment_find(environments, "../environments"));
}
END_TEST

START_TEST(what_another_process_adds_is_seen)
{
    char names[256] = "", tree[256];
    put_version(DIGEST, "debian:12", "debian:12");
    put_version(OTHER_DIGEST, "mine", "mine");
    write_file("rubbish", "%s/environments/broken.ref", image_dir);
    write_file("rubbish", "%s/environments/mine.ref.abcdefgh", image_dir);
    environment_each(environments, note_name, names);
    ck_assert_str_eq(names, "debian:12-base debian:12+ debian:12-build mine+ ");
    const struct environment *environment = environment_find(environments, "debian:12");
    snprintf(tree, sizeof tree, "%s/versions/" DIGEST "/tree", image_dir);
    ck_assert_str_eq(environment->tree_path, tree);
    ck_assert_uint_eq(environment->size_bytes, 7);
    ck_assert_int_eq(environment->built_at, 8);
}
END_TEST

START_TEST(a_version_is_found_without_its_name)
{
    put_version(DIGEST, "debian:12", NULL);
    ck_assert_str_eq(environment_find_version(environments, DIGEST)->name, "debian:12");
    ck_assert_ptr_null(environment_find(environments, "debian:12")->version);
    ck_assert_ptr_null(environment_find_version(environments, OTHER_DIGEST));
    ck_assert_ptr_null(environment_find_version(environments, "../../x"));
}
END_TEST

/* Building */

START_TEST(a_build_ends_under_its_digest_and_name)
{
    struct told told;
    stand_in(MAKE_TREE "echo 'I: downloading packages with apt...' >&2\n"
                       "echo 'I: extracting archives...' >&2");
    pull(&told, "debian:12", false);
    ck_assert(environment_find(environments, "debian:12")->building);
    loop_run(loop);
    ck_assert_msg(told.error == 0, "%s", told.failure.detail);
    ck_assert_int_eq(told.ended, 1);
    ck_assert_str_eq(told.name, "debian:12");
    ck_assert_ptr_eq(strstr(told.stages, "downloading"), told.stages);
    ck_assert_ptr_nonnull(strstr(told.stages, "unpacking hashing done "));
    const struct environment *environment = environment_find(environments, "debian:12");
    ck_assert_str_eq(environment->version, told.version);
    ck_assert(!environment->building);
    ck_assert_uint_eq(environment->size_bytes, 3);
    ck_assert_uint_eq(count_matching("%s/dev/*", environment->tree_path), 0);
    ck_assert_uint_eq(count_matching("%s/bin/sh", environment->tree_path), 1);
    ck_assert_uint_eq(count_matching("%s/building-*", image_dir), 0);
    ck_assert_uint_eq(count_matching("%s/versions/%s/manifest", image_dir, told.version), 1);
}
END_TEST

START_TEST(the_same_tree_has_the_same_version_and_another_another)
{
    struct told first, second, third;
    stand_in(MAKE_TREE);
    pull(&first, "debian:12", false);
    loop_run(loop);
    pull(&second, "debian:12", true);
    loop_run(loop);
    stand_in(MAKE_TREE "chmod 700 $tree/bin");
    pull(&third, "debian:12", true);
    loop_run(loop);
    ck_assert_int_eq(first.error | second.error | third.error, 0);
    ck_assert_str_eq(first.version, second.version);
    ck_assert_str_ne(first.version, third.version);
    ck_assert_uint_eq(count_matching("%s/versions/*", image_dir), 2);
    ck_assert_uint_eq(count_matching("%s/building-*", image_dir), 0);
    ck_assert_str_eq(environment_find(environments, "debian:12")->version, third.version);
}
END_TEST

START_TEST(what_is_there_is_not_built_again)
{
    struct told told;
    stand_in("exit 1");
    put_version(DIGEST, "debian:12", "debian:12");
    pull(&told, "debian:12", false);
    loop_run(loop);
    ck_assert_int_eq(told.error, 0);
    ck_assert_str_eq(told.version, DIGEST);
    ck_assert_str_eq(told.stages, "done ");
}
END_TEST

START_TEST(who_asks_later_joins_the_build_under_way)
{
    struct told first, second;
    stand_in(MAKE_TREE "echo x >>$0.runs");
    pull(&first, "debian:12", false);
    pull(&second, "debian:12", false);
    ck_assert_ptr_eq(first.job, second.job);
    loop_run(loop);
    ck_assert_int_eq(first.error | second.error, 0);
    ck_assert_int_eq(first.ended + second.ended, 2);
    ck_assert_str_eq(first.version, second.version);
    struct stat runs;
    char path[128];
    snprintf(path, sizeof path, "%s/mmdebstrap.runs", base);
    ck_assert_int_eq(stat(path, &runs), 0);
    ck_assert_int_eq(runs.st_size, 2);
}
END_TEST

START_TEST(two_builds_take_turns)
{
    struct told first, second;
    stand_in(MAKE_TREE "mkdir $0.turn || exit 1; sleep 0.05; rmdir $0.turn");
    pull(&first, "debian:12", false);
    pull(&second, "debian:12-base", false);
    loop_run(loop);
    ck_assert_int_eq(first.error | second.error, 0);
    ck_assert_ptr_nonnull(strstr(second.stages, "waiting"));
}
END_TEST

START_TEST(a_failed_build_tells_why_and_keeps_its_packages)
{
    struct told told;
    stand_in("mkdir -p $tree/var/cache/apt/archives/partial\n"
             "echo x >$tree/var/cache/apt/archives/a_1_all.deb\n"
             "echo x >$tree/var/cache/apt/archives/partial/b_1_all.deb\n"
             "echo 'E: no \x1b[31mmirror' >&2; echo 'E: gave up' >&2; exit 3");
    pull(&told, "debian:12", false);
    loop_run(loop);
    ck_assert_int_eq(told.error, HEARTH_EUNAVAILABLE);
    ck_assert_str_eq(told.failure.code, "environment_build_failed");
    ck_assert_ptr_nonnull(strstr(told.failure.detail, "no ?[31mmirror"));
    ck_assert_uint_eq(count_matching("%s/building-*", image_dir), 0);
    ck_assert_uint_eq(count_matching("%s/cache/*", image_dir), 1);
    ck_assert_uint_eq(count_matching("%s/cache/a_1_all.deb", image_dir), 1);
    ck_assert_uint_eq(count_matching("%s/environments/*", image_dir), 0);
}
END_TEST

static void stop_when_swept(void *arg)
{
    struct timer *timer = arg;
    if (count_matching("%s/building-*", image_dir) == 0)
        loop_stop(loop);
    else
        timer_set(timer, clock_monotonic_us() + 5 * US_PER_MS);
}

static void run_until_swept(void)
{
    struct timer timer;
    timer_init(&timer, loop, stop_when_swept, &timer);
    timer_set(&timer, clock_monotonic_us());
    loop_run(loop);
    timer_free(&timer);
}

static void leave_when_it_runs(void *arg, const struct environment_progress *progress)
{
    struct told *told = arg;
    if (strcmp(progress->stage, "unpacking") == 0) {
        environment_job_leave(told->job, told);
        loop_stop(loop);
    }
}

START_TEST(the_last_listener_takes_the_build_along)
{
    struct told told = {0};
    stand_in("echo 'I: extracting archives...' >&2; exec sleep 1000");
    ck_assert_int_eq(environment_pull(&told.job, environments, "debian:12", false,
                                      leave_when_it_runs, on_done, &told, NULL),
                     0);
    loop_run(loop);
    ck_assert_uint_eq(count_matching("%s/building-*", image_dir), 1);
    run_until_swept();
    ck_assert_int_eq(told.ended, 0);
    ck_assert(!environment_find(environments, "debian:12")->building);
}
END_TEST

START_TEST(what_a_dead_daemon_left_is_swept_at_the_start)
{
    char path[256];
    close_environments();
    snprintf(path, sizeof path, "%s/building-aaaaaaaa/tree/var/cache/apt/archives", image_dir);
    ck_assert_int_eq(path_make_own_directories(path, 0755), 0);
    write_file("x", "%s/a_1_all.deb", path);
    open_environments();
    run_until_swept();
    ck_assert_uint_eq(count_matching("%s/cache/a_1_all.deb", image_dir), 1);
}
END_TEST

static int lock_fd;

static void unlock_when_waiting(void *arg, const struct environment_progress *progress)
{
    on_progress(arg, progress);
    if (strcmp(progress->stage, "waiting") == 0)
        flock(lock_fd, LOCK_UN);
}

START_TEST(a_build_waits_for_another_daemons)
{
    struct told told = {0};
    char path[128];
    snprintf(path, sizeof path, "%s/lock", image_dir);
    lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_eq(flock(lock_fd, LOCK_EX), 0);
    stand_in(MAKE_TREE);
    ck_assert_int_eq(environment_pull(&told.job, environments, "debian:12", false,
                                      unlock_when_waiting, on_done, &told, NULL),
                     0);
    waited_for = 1;
    loop_run(loop);
    ck_assert_int_eq(told.error, 0);
    ck_assert_ptr_eq(strstr(told.stages, "waiting"), told.stages);
    close(lock_fd);
}
END_TEST

START_TEST(a_directory_that_cannot_be_written_is_only_read)
{
    struct told told = {0};
    struct hearth_failure failure;
    put_version(DIGEST, "debian:12", "debian:12");
    ck_assert_int_eq(chmod(base, 0755) | chmod(image_dir, 0555), 0);
    if (geteuid() == 0)
        ck_assert_int_eq(seteuid(65534), 0);
    ck_assert_int_eq(environment_pull(&told.job, environments, "debian:12-base", false, on_progress,
                                      on_done, &told, &failure),
                     HEARTH_EUNSUPPORTED);
    ck_assert_str_eq(failure.code, "image_dir_read_only");
    ck_assert_ptr_nonnull(environment_find(environments, "debian:12")->version);
    pull(&told, "debian:12", false);
    loop_run(loop);
    ck_assert_int_eq(told.error, 0);
    if (getuid() == 0)
        ck_assert_int_eq(seteuid(0), 0);
    ck_assert_int_eq(chmod(image_dir, 0755), 0);
}
END_TEST

START_TEST(unknown_names_are_refused)
{
    struct hearth_failure failure;
    struct environment_job *job;
    ck_assert_int_eq(
        environment_pull(&job, environments, "x", false, NULL, on_done, NULL, &failure),
        HEARTH_ENOTFOUND);
    ck_assert_str_eq(failure.code, "unknown_environment");
    put_version(DIGEST, "x", "x");
    ck_assert_int_eq(environment_pull(&job, environments, "x", true, NULL, on_done, NULL, &failure),
                     HEARTH_ECONFLICT);
    ck_assert_str_eq(failure.code, "environment_imported");
}
END_TEST

/* Importing: hearth-archive's part has tests of its own (tests/integration). */

START_TEST(a_file_that_is_not_there_is_told)
{
    struct told told = {0};
    ck_assert_int_eq(environment_import(&told.job, environments, "mine:1", ENVIRONMENT_ROOTFS_TAR,
                                        "/nonexistent", on_progress, on_done, &told, NULL),
                     0);
    struct environment_job *job;
    struct hearth_failure failure;
    ck_assert_int_eq(environment_import(&job, environments, "mine:1", ENVIRONMENT_ROOTFS_TAR,
                                        "/nonexistent", NULL, on_done, NULL, &failure),
                     HEARTH_ECONFLICT);
    ck_assert_str_eq(failure.code, "environment_busy");
    waited_for = 1;
    loop_run(loop);
    ck_assert_int_eq(told.error, HEARTH_EINVALID);
    ck_assert_str_eq(told.failure.code, "image_unreadable");
    ck_assert_ptr_null(environment_find(environments, "mine:1"));
    ck_assert_uint_eq(count_matching("%s/building-*", image_dir), 0);
}
END_TEST

/* Pruning */

static uint64_t pruned, freed;

static void on_pruned(void *arg, int error, const struct hearth_failure *failure, uint64_t removed,
                      uint64_t bytes_freed)
{
    ck_assert_ptr_eq(arg, &pruned);
    ck_assert_int_eq(error == 0, failure == NULL);
    pruned = error ? UINT64_MAX : removed;
    freed = bytes_freed;
    loop_stop(loop);
}

START_TEST(versions_without_name_or_user_are_pruned)
{
    const char *in_use = OTHER_DIGEST;
    char third[65] = DIGEST;
    third[0] = 'e';
    put_version(DIGEST, "debian:12", "debian:12");
    put_version(OTHER_DIGEST, "debian:12", NULL);
    put_version(third, "debian:12", NULL);
    environment_prune(environments, &in_use, 1, on_pruned, &pruned);
    loop_run(loop);
    ck_assert_uint_eq(pruned, 1);
    ck_assert_uint_eq(freed, 7);
    ck_assert_ptr_nonnull(environment_find_version(environments, DIGEST));
    ck_assert_ptr_nonnull(environment_find_version(environments, OTHER_DIGEST));
    ck_assert_uint_eq(count_matching("%s/versions/*", image_dir), 2);
    ck_assert_uint_eq(count_matching("%s/building-*", image_dir), 0);
}
END_TEST

START_TEST(nothing_is_pruned_where_a_name_cannot_be_read)
{
    put_version(DIGEST, "debian:12", NULL);
    write_file("rubbish", "%s/environments/x.ref", image_dir);
    environment_prune(environments, NULL, 0, on_pruned, &pruned);
    loop_run(loop);
    ck_assert_uint_eq(pruned, UINT64_MAX);
    ck_assert_uint_eq(count_matching("%s/versions/*", image_dir), 1);
}
END_TEST

START_TEST(what_a_state_directory_has_leased_is_not_pruned)
{
    char state_dir[128];
    snprintf(state_dir, sizeof state_dir, "%s/state", base);
    ck_assert_int_eq(mkdir(state_dir, 0700), 0);
    auto_close int state_fd = open(state_dir, O_RDONLY | O_DIRECTORY);
    put_version(DIGEST, "debian:12", NULL);
    struct environments *others;
    ck_assert_int_eq(environments_new(&others, loop, workers, image_dir, NULL), 0);
    environments_lease_open(others, state_dir, state_fd);
    ck_assert(environment_lease(others, DIGEST));
    ck_assert(!environment_lease(others, OTHER_DIGEST));
    ck_assert_uint_eq(count_matching("%s/leases/*/" DIGEST, image_dir), 1);
    environment_prune(environments, NULL, 0, on_pruned, &pruned);
    loop_run(loop);
    ck_assert_uint_eq(pruned, 0);

    environments_free(others); /* the daemon is down, its workspaces are not gone */
    environment_prune(environments, NULL, 0, on_pruned, &pruned);
    loop_run(loop);
    ck_assert_uint_eq(pruned, 0);
    ck_assert_uint_eq(count_matching("%s/versions/*", image_dir), 1);

    ck_assert_int_eq(remove_tree(state_dir), 0);
    environment_prune(environments, NULL, 0, on_pruned, &pruned);
    loop_run(loop);
    ck_assert_uint_eq(pruned, 1);
    ck_assert_uint_eq(count_matching("%s/versions/*", image_dir), 0);
    ck_assert_uint_eq(count_matching("%s/leases/*", image_dir), 0);
}
END_TEST

START_TEST(a_daemons_own_lease_ends_when_it_prunes)
{
    auto_close int state_fd = open(base, O_RDONLY | O_DIRECTORY);
    const char *in_use = OTHER_DIGEST;
    put_version(DIGEST, "debian:12", NULL);
    put_version(OTHER_DIGEST, "debian:12", NULL);
    environments_lease_open(environments, base, state_fd);
    ck_assert(environment_lease(environments, DIGEST));
    ck_assert(environment_lease(environments, OTHER_DIGEST));
    environment_prune(environments, &in_use, 1, on_pruned, &pruned);
    loop_run(loop);
    ck_assert_uint_eq(pruned, 1);
    ck_assert_uint_eq(count_matching("%s/versions/" OTHER_DIGEST, image_dir), 1);
    ck_assert_uint_eq(count_matching("%s/leases/*/" OTHER_DIGEST, image_dir), 1);
    ck_assert_uint_eq(count_matching("%s/leases/*/" DIGEST, image_dir), 0);
}
END_TEST

START_TEST(superseded_packages_leave_the_cache)
{
    static const char *const kept[] = {"a_2_amd64.deb", "a_2_i386.deb", "ab_1_amd64.deb"};
    char path[256];
    write_file("old", "%s/cache/a_1_amd64.deb", image_dir);
    snprintf(path, sizeof path, "%s/cache/a_1_amd64.deb", image_dir);
    struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
        write_file("new", "%s/cache/%s", image_dir, kept[i]);
    snprintf(path, sizeof path, "%s/cache/huge_1_all.deb", image_dir);
    write_file("", "%s", path);
    ck_assert_int_eq(truncate(path, (off_t)2 << 30), 0); /* more than the cache may hold */
    environment_prune(environments, NULL, 0, on_pruned, &pruned);
    loop_run(loop);
    ck_assert_uint_eq(count_matching("%s/cache/*", image_dir), sizeof kept / sizeof kept[0]);
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
        ck_assert_uint_eq(count_matching("%s/cache/%s", image_dir, kept[i]), 1);
}
END_TEST

/* Packages */

static size_t packages_told;

static void on_packages(void *arg, const struct environment_package *packages, size_t count)
{
    packages_told = count;
    loop_stop(loop);
}

START_TEST(a_tree_cannot_lead_its_reader_out)
{
    char path[512];
    put_version(DIGEST, "mine", "mine");
    snprintf(path, sizeof path, "%s/versions/" DIGEST "/tree/var/lib/dpkg", image_dir);
    ck_assert_int_eq(path_make_own_directories(path, 0755), 0);
    write_file("Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n",
               "%s/status-outside", base);
    snprintf(path, sizeof path, "%s/versions/" DIGEST "/tree/var/lib/dpkg/status", image_dir);
    char outside[128];
    snprintf(outside, sizeof outside, "%s/status-outside", base);
    ck_assert_int_eq(symlink(outside, path), 0);
    packages_told = 7;
    environment_packages(environments, DIGEST, on_packages, NULL);
    loop_run(loop);
    ck_assert_uint_eq(packages_told, 0);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(mkfifo(path, 0644), 0);
    packages_told = 7;
    environment_packages(environments, DIGEST, on_packages, NULL);
    loop_run(loop);
    ck_assert_uint_eq(packages_told, 0);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(rename(outside, path), 0);
    environment_packages(environments, DIGEST, on_packages, NULL);
    loop_run(loop);
    ck_assert_uint_eq(packages_told, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("environment");
    TCase *test_case = tcase_create("environment");
    tcase_set_timeout(test_case, 60);
    tcase_add_checked_fixture(test_case, setup, teardown);
    tcase_add_test(test_case, builtins_are_known_before_they_are_built);
    tcase_add_test(test_case, what_another_process_adds_is_seen);
    tcase_add_test(test_case, a_version_is_found_without_its_name);
    tcase_add_test(test_case, a_build_ends_under_its_digest_and_name);
    tcase_add_test(test_case, the_same_tree_has_the_same_version_and_another_another);
    tcase_add_test(test_case, what_is_there_is_not_built_again);
    tcase_add_test(test_case, who_asks_later_joins_the_build_under_way);
    tcase_add_test(test_case, two_builds_take_turns);
    tcase_add_test(test_case, a_failed_build_tells_why_and_keeps_its_packages);
    tcase_add_test(test_case, the_last_listener_takes_the_build_along);
    tcase_add_test(test_case, what_a_dead_daemon_left_is_swept_at_the_start);
    tcase_add_test(test_case, a_build_waits_for_another_daemons);
    tcase_add_test(test_case, a_directory_that_cannot_be_written_is_only_read);
    tcase_add_test(test_case, unknown_names_are_refused);
    tcase_add_test(test_case, a_file_that_is_not_there_is_told);
    tcase_add_test(test_case, versions_without_name_or_user_are_pruned);
    tcase_add_test(test_case, nothing_is_pruned_where_a_name_cannot_be_read);
    tcase_add_test(test_case, what_a_state_directory_has_leased_is_not_pruned);
    tcase_add_test(test_case, a_daemons_own_lease_ends_when_it_prunes);
    tcase_add_test(test_case, superseded_packages_leave_the_cache);
    tcase_add_test(test_case, a_tree_cannot_lead_its_reader_out);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
