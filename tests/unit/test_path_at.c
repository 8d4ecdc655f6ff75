/* Every test has a directory of its own: DIRECTORY/in is what may be seen, DIRECTORY/out what may
 * not. */
#include "base/cleanup.h"
#include "base/path_at.h"
#include "suite.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char directory[64];
static int top_fd, in_fd;

static void put(int dir_fd, const char *path, const char *text)
{
    auto_close int fd = openat(dir_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void setup(void)
{
    snprintf(directory, sizeof directory, "/tmp/hearth-path-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    top_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_eq(mkdirat(top_fd, "in", 0755), 0);
    ck_assert_int_eq(mkdirat(top_fd, "in/a", 0755), 0);
    ck_assert_int_eq(mkdirat(top_fd, "out", 0755), 0);
    put(top_fd, "in/a/file", "inside");
    put(top_fd, "out/file", "outside");
    in_fd = openat(top_fd, "in", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void teardown(void)
{
    auto_close int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    path_remove_tree(tmp, directory + strlen("/tmp/"));
    close(in_fd);
    close(top_fd);
}

static bool exists(int dir_fd, const char *path)
{
    struct stat status;
    return fstatat(dir_fd, path, &status, AT_SYMLINK_NOFOLLOW) == 0;
}

static int try_open(const char *path)
{
    int fd = path_open_beneath(in_fd, path, O_RDONLY, 0);
    if (fd >= 0)
        close(fd);
    return fd < 0 ? fd : 0;
}

START_TEST(what_is_inside_opens)
{
    ck_assert_int_eq(symlinkat("a/file", in_fd, "link"), 0);
    ck_assert_int_eq(symlinkat("../a/../a", in_fd, "a/up"), 0);
    ck_assert_int_eq(try_open("a/file"), 0);
    ck_assert_int_eq(try_open("link"), 0);
    ck_assert_int_eq(try_open("a/up/file"), 0);
    ck_assert_int_eq(try_open("a/../a/./file"), 0);
    ck_assert_int_eq(try_open(""), 0);
    ck_assert_int_eq(try_open("."), 0);
    ck_assert_int_eq(try_open("a/none"), -ENOENT);
    ck_assert_int_eq(try_open("a/file/x"), -ENOTDIR);
    int fd = path_open_beneath(in_fd, "new", O_WRONLY | O_CREAT | O_EXCL, 0640);
    struct stat status;
    ck_assert_int_eq(fstat(fd, &status), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0640);
    ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
}
END_TEST

START_TEST(nothing_leads_out)
{
    char absolute[96];
    snprintf(absolute, sizeof absolute, "%s/out", directory);
    ck_assert_int_eq(symlinkat(absolute, in_fd, "absolute"), 0);
    ck_assert_int_eq(symlinkat("../out", in_fd, "relative"), 0);
    ck_assert_int_eq(symlinkat("../../out/file", in_fd, "a/file_link"), 0);
    ck_assert_int_eq(symlinkat("relative", in_fd, "chain"), 0);
    ck_assert_int_eq(symlinkat("loop", in_fd, "loop"), 0);
    static const char *const paths[] = {"/",           "/etc/passwd",   "..",       "../out",
                                        "a/../../out", "absolute/file", "absolute", "relative/file",
                                        "a/file_link", "chain/file"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        ck_assert_msg(try_open(paths[i]) == -EXDEV, "%s", paths[i]);
        int made = path_open_beneath(in_fd, paths[i], O_WRONLY | O_CREAT | O_TRUNC, 0644);
        ck_assert_msg(made < 0, "%s", paths[i]);
    }
    ck_assert_int_eq(try_open("loop"), -ELOOP);
    char text[32];
    ck_assert_int_eq(path_read_small(top_fd, "out/file", text, sizeof text), 7);
    ck_assert_str_eq(text, "outside");
}
END_TEST

/* /proc/PID/cwd and its like are no paths but doors: they lead out whatever they seem to say. */
START_TEST(a_magic_link_is_no_way)
{
    auto_close int self = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_eq(path_open_beneath(self, "cwd", O_RDONLY, 0), -ELOOP);
    ck_assert_int_eq(path_open_beneath(self, "root/etc/passwd", O_RDONLY, 0), -ELOOP);
    char name[32];
    snprintf(name, sizeof name, "fd/%d", in_fd);
    ck_assert_int_eq(path_open_beneath(self, name, O_RDONLY, 0), -ELOOP);
}
END_TEST

/* A directory and a symlink that leads out change places, again and again, while it is walked. */
static atomic_bool racing;

static void *swap(void *arg)
{
    (void)arg;
    while (atomic_load(&racing))
        renameat2(in_fd, "a", in_fd, "evil", RENAME_EXCHANGE);
    return NULL;
}

START_TEST(a_symlink_swapped_in_between_leads_nowhere)
{
    pthread_t thread;
    int seen_inside = 0, refused = 0;
    ck_assert_int_eq(symlinkat("../out", in_fd, "evil"), 0);
    atomic_store(&racing, true);
    ck_assert_int_eq(pthread_create(&thread, NULL, swap, NULL), 0);
    for (int i = 0; i < 3000 || !seen_inside || !refused; i++) {
        int fd = path_open_beneath(in_fd, "a/file", O_RDONLY, 0);
        if (fd < 0) {
            ck_assert_int_eq(fd, -EXDEV);
            refused++;
            continue;
        }
        char text[8] = "";
        ck_assert_int_gt(read(fd, text, sizeof text - 1), 0);
        close(fd);
        ck_assert_str_eq(text, "inside");
        seen_inside++;
    }
    atomic_store(&racing, false);
    pthread_join(thread, NULL);
}
END_TEST

START_TEST(directories_are_made_as_far_as_they_are_missing)
{
    struct stat status;
    ck_assert_int_eq(symlinkat("a", in_fd, "link"), 0);
    ck_assert_int_eq(path_make_directories(in_fd, "x/y/z", 0700), 0);
    ck_assert_int_eq(fstatat(in_fd, "x/y/z", &status, 0), 0);
    ck_assert_uint_eq(status.st_mode & 07777, 0700);
    ck_assert_int_eq(path_make_directories(in_fd, "x/y/z", 0755), 0);
    ck_assert_int_eq(path_make_directories(in_fd, "x//w/./v/", 0755), 0);
    ck_assert(exists(in_fd, "x/w/v"));
    ck_assert_int_eq(path_make_directories(in_fd, "link/in_a", 0755), 0);
    ck_assert(exists(in_fd, "a/in_a"));
    ck_assert_int_eq(path_make_directories(in_fd, "", 0755), 0);
}
END_TEST

START_TEST(directories_are_not_made_outside_or_in_the_place_of_something_else)
{
    ck_assert_int_eq(symlinkat("../out", in_fd, "evil"), 0);
    ck_assert_int_eq(symlinkat("../out/new", in_fd, "dangling_out"), 0);
    ck_assert_int_eq(symlinkat("nothing", in_fd, "dangling"), 0);
    ck_assert_int_eq(path_make_directories(in_fd, "../out/x", 0755), -EXDEV);
    ck_assert_int_eq(path_make_directories(in_fd, "/tmp/x", 0755), -EXDEV);
    ck_assert_int_eq(path_make_directories(in_fd, "evil/x", 0755), -EXDEV);
    ck_assert_int_eq(path_make_directories(in_fd, "dangling_out/x", 0755), -EXDEV);
    ck_assert_int_eq(path_make_directories(in_fd, "dangling", 0755), -ENOENT);
    ck_assert_int_eq(path_make_directories(in_fd, "a/file", 0755), -ENOTDIR);
    ck_assert_int_eq(path_make_directories(in_fd, "a/file/x", 0755), -ENOTDIR);
    ck_assert(!exists(top_fd, "out/x"));
    ck_assert(!exists(top_fd, "out/new"));
    char path[5000];
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    ck_assert_int_eq(path_make_directories(in_fd, path, 0755), -ENAMETOOLONG);
    snprintf(path, sizeof path, "%s/own/b", directory);
    ck_assert_int_eq(path_make_own_directories(path, 0700), 0);
    ck_assert(exists(top_fd, "own/b"));
}
END_TEST

START_TEST(a_parent_is_opened_and_the_last_name_given)
{
    const char *name = NULL;
    auto_close int top = path_open_parent(in_fd, "new", &name);
    ck_assert_int_ge(top, 0);
    ck_assert_str_eq(name, "new");
    auto_close int parent = path_open_parent(in_fd, "a/new", &name);
    ck_assert_int_ge(parent, 0);
    ck_assert_str_eq(name, "new");
    ck_assert_int_eq(symlinkat("../out", in_fd, "evil"), 0);
    static const struct {
        const char *path;
        int error;
    } wrong[] = {{"", -EINVAL},       {".", -EINVAL},   {"..", -EINVAL},        {"a/", -EINVAL},
                 {"a/..", -EINVAL},   {"a/.", -EINVAL}, {"../out/x", -EXDEV},   {"evil/x", -EXDEV},
                 {"none/x", -ENOENT}, {"/x/y", -EXDEV}, {"a/file/x", -ENOTDIR}, {"/x", -EXDEV}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_msg(path_open_parent(in_fd, wrong[i].path, &name) == wrong[i].error, "%s",
                      wrong[i].path);
}
END_TEST

START_TEST(a_tree_goes_and_what_its_symlinks_name_stays)
{
    ck_assert_int_eq(symlinkat("../../out", in_fd, "a/out"), 0);
    ck_assert_int_eq(symlinkat("a", in_fd, "link"), 0);
    ck_assert_int_eq(path_make_directories(in_fd, "a/b/c", 0755), 0);
    ck_assert_int_eq(mkfifoat(in_fd, "a/b/fifo", 0600), 0);
    ck_assert_int_eq(path_remove_tree(in_fd, "link"), 0);
    ck_assert(exists(in_fd, "a/file"));
    ck_assert_int_eq(path_remove_tree(in_fd, "a"), 0);
    ck_assert(!exists(in_fd, "a"));
    ck_assert(exists(top_fd, "out/file"));
    ck_assert_int_eq(path_remove_tree(in_fd, "a"), 0);
    ck_assert_int_eq(path_remove_tree(in_fd, "none/none"), 0);
    ck_assert_int_eq(path_remove_tree(in_fd, "../out"), -EXDEV);
    ck_assert_int_eq(path_remove_tree(in_fd, ".."), -EINVAL);
    ck_assert_int_eq(path_remove_tree(in_fd, "."), -EINVAL);
    ck_assert(exists(top_fd, "out/file"));
}
END_TEST

/* The directory that is to be entered becomes a symlink that leads out, just before it is. */
static void *swap_in_tree(void *arg)
{
    (void)arg;
    while (atomic_load(&racing))
        renameat2(in_fd, "t/d", in_fd, "evil", RENAME_EXCHANGE);
    return NULL;
}

START_TEST(a_symlink_swapped_in_between_is_not_emptied)
{
    pthread_t thread;
    char out[96];
    snprintf(out, sizeof out, "%s/out", directory);
    atomic_store(&racing, true);
    ck_assert_int_eq(pthread_create(&thread, NULL, swap_in_tree, NULL), 0);
    for (int i = 0; i < 5000; i++) {
        unlinkat(in_fd, "evil", 0); /* either may be either by now */
        unlinkat(in_fd, "evil", AT_REMOVEDIR);
        ck_assert(symlinkat(out, in_fd, "evil") == 0 || errno == EEXIST);
        path_make_directories(in_fd, "t/d", 0755);
        (void)path_remove_tree(in_fd, "t"); /* it may fail: what it must not do is below */
    }
    atomic_store(&racing, false);
    pthread_join(thread, NULL);
    ck_assert(exists(top_fd, "out/file"));
}
END_TEST

static void make_deep(int depth)
{
    int fd = openat(in_fd, "a", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < depth; i++) {
        ck_assert_int_eq(mkdirat(fd, "d", 0755), 0);
        put(fd, "f", "x");
        int below = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ck_assert_int_ge(below, 0);
        close(fd);
        fd = below;
    }
    close(fd);
}

/* A guest's tree may be deeper than any path is long, and than there are descriptors. */
START_TEST(a_tree_of_any_depth_goes_with_few_descriptors)
{
    make_deep(400);
    struct rlimit before, small;
    getrlimit(RLIMIT_NOFILE, &before);
    small = before;
    small.rlim_cur = 80;
    setrlimit(RLIMIT_NOFILE, &small);
    int error = path_remove_tree(in_fd, "a");
    setrlimit(RLIMIT_NOFILE, &before);
    ck_assert_int_eq(error, 0);
    ck_assert(!exists(in_fd, "a"));
}
END_TEST

static bool put_text(const char *path, const char *text)
{
    auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);
    return write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* In a child of its own, for a user and a mount namespace of its own. 77: not allowed here. */
static int remove_over_a_mount(void)
{
    char mount_point[96], uid_map[32], gid_map[32];
    snprintf(mount_point, sizeof mount_point, "%s/in/a/mount", directory);
    snprintf(uid_map, sizeof uid_map, "0 %u 1", geteuid());
    snprintf(gid_map, sizeof gid_map, "0 %u 1", getegid());
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 || !put_text("/proc/self/setgroups", "deny") ||
        !put_text("/proc/self/uid_map", uid_map) || !put_text("/proc/self/gid_map", gid_map))
        return 77;
    if (mkdir(mount_point, 0755) < 0 || mount("none", mount_point, "tmpfs", 0, NULL) < 0)
        return 77;
    /* in_fd is of the namespace before, where nothing is mounted. */
    auto_close int top = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (mkdirat(top, "in/a/mount/kept", 0755) < 0)
        return 3;
    if (path_remove_tree(top, "in/a") != -EXDEV)
        return 1;
    return exists(top, "in/a/mount/kept") && !exists(top, "in/a/file") ? 0 : 2;
}

START_TEST(another_file_system_is_not_entered)
{
    int status;
    pid_t child = fork();
    if (child == 0)
        _exit(remove_over_a_mount());
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_msg(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77, "%d", WEXITSTATUS(status));
}
END_TEST

START_TEST(a_small_file_is_read_whole_or_cut)
{
    char text[8] = "#######";
    ck_assert_int_eq(path_read_small(in_fd, "a/file", text, sizeof text), 6);
    ck_assert_str_eq(text, "inside");
    ck_assert_int_eq(path_read_small(in_fd, "a/file", text, 4), 3);
    ck_assert_str_eq(text, "ins");
    ck_assert_int_eq(path_read_small(in_fd, "none", text, sizeof text), -ENOENT);
    ck_assert_int_eq(path_read_small(in_fd, "a", text, sizeof text), -EISDIR);
}
END_TEST

static int entries_of(const char *path)
{
    int count = 0;
    char absolute[128];
    snprintf(absolute, sizeof absolute, "%s/%s", directory, path);
    auto_closedir DIR *dir = opendir(absolute);
    while (readdir(dir))
        count++;
    return count - 2;
}

START_TEST(a_file_is_replaced_whole_and_leaves_nothing_beside_it)
{
    char text[16];
    struct stat status;
    ck_assert_int_eq(path_write_durable(in_fd, "a/file", "new\0bytes", 9, 0600), 0);
    ck_assert_int_eq(path_read_small(in_fd, "a/file", text, sizeof text), 9);
    ck_assert(memcmp(text, "new\0bytes", 9) == 0);
    ck_assert_int_eq(fstatat(in_fd, "a/file", &status, 0), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0600);
    ck_assert_int_eq(path_write_durable(in_fd, "top", "", 0, 0644), 0);
    ck_assert(exists(in_fd, "top"));
    ck_assert_int_eq(mkdirat(in_fd, "a/directory", 0755), 0);
    ck_assert_int_eq(path_write_durable(in_fd, "a/directory", "x", 1, 0644), -EISDIR);
    ck_assert_int_eq(path_write_durable(in_fd, "none/file", "x", 1, 0644), -ENOENT);
    ck_assert_int_eq(entries_of("in/a"), 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("path_at");
    TCase *test_case = tcase_create("path_at");
    tcase_set_timeout(test_case, 60);
    tcase_add_checked_fixture(test_case, setup, teardown);
    tcase_add_test(test_case, what_is_inside_opens);
    tcase_add_test(test_case, nothing_leads_out);
    tcase_add_test(test_case, a_magic_link_is_no_way);
    tcase_add_test(test_case, a_symlink_swapped_in_between_leads_nowhere);
    tcase_add_test(test_case, directories_are_made_as_far_as_they_are_missing);
    tcase_add_test(test_case, directories_are_not_made_outside_or_in_the_place_of_something_else);
    tcase_add_test(test_case, a_parent_is_opened_and_the_last_name_given);
    tcase_add_test(test_case, a_tree_goes_and_what_its_symlinks_name_stays);
    tcase_add_test(test_case, a_symlink_swapped_in_between_is_not_emptied);
    tcase_add_test(test_case, a_tree_of_any_depth_goes_with_few_descriptors);
    tcase_add_test(test_case, another_file_system_is_not_entered);
    tcase_add_test(test_case, a_small_file_is_read_whole_or_cut);
    tcase_add_test(test_case, a_file_is_replaced_whole_and_leaves_nothing_beside_it);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
