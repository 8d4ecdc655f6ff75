/* The container driver with real containers: as root, and then the same as a plain user. Needs a
 * runtime (TEST_RUNTIME, else what the probe finds) and busybox; says what is missing and is
 * skipped without. The plain user is TEST_USER, else nobody. */
#include "oci_fixture.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/path_at.h"
#include "supervisord/spawn.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SKIPPED 77
#define UID_BASE 0x20000000U
#define MANY 20

/* --- the tests --- */

static struct driver_probe probed;

static void on_probed(void *arg, const struct driver_probe *probe)
{
    probed = *probe;
    on_done(arg, 0, NULL);
}

static void probe(void)
{
    struct call call = {.fd = -1};
    driver->operations->probe(driver, on_probed, &call);
    finish(&call);
}

START_TEST(the_probe_finds_a_runtime_that_works)
{
    probe();
    ck_assert_msg(probed.usable, "%s", probed.reason);
    printf("probe: %s in %d ms%s%s\n", probed.version, (int)(probed.took_us / 1000),
           *probed.reason ? ", " : "", probed.reason);
    ck_assert_ptr_nonnull(strstr(probed.version, geteuid() ? "rootless" : "root"));
    struct guest none = {.guest_id = "gu_nosuchguest22"};
    assert_nothing_left(&none);
    int64_t first = probed.took_us;
    probe(); /* from memory */
    ck_assert_int_eq(probed.took_us, first);
}
END_TEST

START_TEST(without_a_runtime_the_probe_says_what_to_install)
{
    char *path = strdup(getenv("PATH"));
    setenv("PATH", "/nonexistent", 1);
    driver->operations->free(driver);
    unsetenv("TEST_RUNTIME");
    make_driver();
    probe();
    ck_assert(!probed.usable);
    ck_assert_ptr_nonnull(strstr(probed.reason, "no OCI runtime"));
    ck_assert_ptr_nonnull(strstr(probed.install, "crun"));
    struct guest guest;
    make_guest(&guest, 1);
    struct call call = CALL(start, &guest, &spec);
    ck_assert_str_eq(call.failure.code, "no_runtime");
    driver->operations->forget(driver, &guest);
    setenv("PATH", path, 1);
    free(path);
}
END_TEST

START_TEST(a_runtime_that_fails_is_told_with_its_own_words)
{
    config.runtime = "/bin/false";
    driver->operations->free(driver);
    ck_assert_int_eq(oci_driver_new(&driver, &config, NULL), 0);
    probe();
    ck_assert(!probed.usable);
    ck_assert_ptr_nonnull(strstr(probed.reason, "false: "));
    struct guest none = {.guest_id = "gu_nosuchguest22"};
    assert_nothing_left(&none);
}
END_TEST

START_TEST(a_guest_starts_answers_and_leaves_nothing)
{
    struct guest guest;
    start_guest(&guest, 1);
    ck_assert(pidref_alive(&guest.process));
    ck_assert_str_eq(in_guest(&guest, "echo hello"), "hello\n");
    ck_assert_str_eq(guest.facts.isolation, "container");
    ck_assert_str_eq(guest.facts.execution_mode, "guest_unix");
    ck_assert(has_process(guest.guest_id)); /* or its absence below says nothing */
    *traces = '\0';
    driver->operations->each_trace(driver, note_trace, NULL);
    ck_assert_ptr_nonnull(strstr(traces, guest.guest_id));
    end_guest(&guest);
    assert_nothing_left(&guest);
    MUST(CALL(destroy, &guest)); /* once more, of nothing */
    driver->operations->forget(driver, &guest);
}
END_TEST

START_TEST(a_guest_sees_only_what_is_its_own)
{
    int leak = open(top, O_RDONLY | O_DIRECTORY); /* without O_CLOEXEC */
    struct guest guest;
    start_guest(&guest, 2);
    ck_assert_str_eq(in_guest(&guest, "hostname; id -u; cat /etc/hostname"),
                     "testbox\n0\ntestbox\n");
    const char *status = in_guest(&guest, "while read -r k v; do case $k in CapBnd:|CapEff:|"
                                          "CapInh:|CapAmb:|NoNewPrivs:|Seccomp:) "
                                          "echo $k$v;; esac; done </proc/1/status");
    ck_assert_str_eq(status, "CapInh:0000000000000000\nCapEff:00000000800405fb\n"
                             "CapBnd:00000000800405fb\nCapAmb:0000000000000000\n"
                             "NoNewPrivs:1\nSeccomp:2\n");
    unsigned inside, outside, count;
    ck_assert_int_eq(
        sscanf(in_guest(&guest, "cat /proc/self/uid_map"), "%u %u %u", &inside, &outside, &count),
        3);
    ck_assert_uint_eq(inside, 0);
    ck_assert_uint_eq(outside, geteuid() ? geteuid() : UID_BASE + 2 * 65536);
    ck_assert_uint_eq(count, geteuid() ? 1 : 65536);
    ck_assert_str_eq(in_guest(&guest,
                              "cd /proc/1/fd && ls -l | while read -r a b c d e f g h i; do "
                              "case $i in *socket*|*null*|'') ;; *) echo $i;; esac; done"),
                     "");
    /* Two head lines and lo. */
    const char *interfaces = in_guest(&guest, "cat /proc/net/dev");
    ck_assert_ptr_nonnull(strstr(interfaces, " lo:"));
    ck_assert_ptr_eq(strchr(interfaces, ':'), strrchr(interfaces, ':'));
    /* lo is up: a closed port refuses, where a network that is down is unreachable. */
    ck_assert_ptr_nonnull(strstr(in_guest(&guest, "nc 127.0.0.1 7000 2>&1"), "refused"));
    ck_assert_ptr_null(strstr(in_guest(&guest, "cat /proc/self/mountinfo"), top));
    ck_assert_str_eq(in_guest(&guest, "ls /tmp /sys 2>/dev/null"), "/tmp:\n");
    close(leak);
    end_guest(&guest);
}
END_TEST

START_TEST(what_is_refused_is_refused)
{
    struct guest guest;
    start_guest(&guest, 3);
    static const char *const forbidden[] = {
        "mount -t tmpfs none /mnt",
        "mount -o remount,rw /proc/sys",
        "unshare -U true",
        "unshare -m true",
        "hostname other",
        "echo 1 >/proc/sys/kernel/printk",
        "echo b >/proc/sysrq-trigger",
        "cat /proc/kcore >/dev/full",
        "touch /run/hearth-agent",
        "echo x >/run/hearth-agent",
        "rm -f /run/hearth-agent",
    };
    for (size_t i = 0; i < sizeof forbidden / sizeof forbidden[0]; i++) {
        char script[160];
        snprintf(script, sizeof script, "(%s) 2>/dev/null && echo done", forbidden[i]);
        ck_assert_msg(!strstr(in_guest(&guest, script), "done"), "%s was allowed", forbidden[i]);
    }
    end_guest(&guest);
}
END_TEST

START_TEST(what_is_normal_works)
{
    struct guest guest;
    start_guest(&guest, 3);
    static const char *const ordinary[] = {
        "echo x >/workspace/file && cat /workspace/file",
        "mkdir -p /usr/local/bin /root/a/b",
        "cat /etc/from-tree",
        "echo more >>/etc/from-tree",
        "test -c /dev/null -a -c /dev/urandom",
        "touch /dev/shm/x /run/x /tmp/x",
        "test -e /dev/ptmx -a -d /dev/pts",
        "test $(stat -c %a-%u /workspace) = 755-0",
        "ps",
        "rm /bin/dd && test ! -e /bin/dd",
    };
    for (size_t i = 0; i < sizeof ordinary / sizeof ordinary[0]; i++) {
        char script[160];
        snprintf(script, sizeof script, "(%s) 2>&1 && echo done", ordinary[i]);
        const char *output = in_guest(&guest, script);
        ck_assert_msg(strstr(output, "done"), "%s: %s", ordinary[i], output);
    }
    /* A plain user has ranges in /etc/subuid, or one ID alone. */
    if (geteuid() == 0 || strchr(in_guest(&guest, "cat /proc/self/uid_map"), '\n')[1])
        ck_assert_str_eq(
            in_guest(&guest, "touch /tmp/o && chown 33:33 /tmp/o && stat -c %u /tmp/o"), "33\n");
    end_guest(&guest);
    char path[128];
    snprintf(path, sizeof path, "%s/bin/dd", tree); /* the environment is nobody's to change */
    struct stat status;
    ck_assert_int_eq(lstat(path, &status), 0);
}
END_TEST

START_TEST(limits_hold_and_can_be_changed)
{
    struct guest guest;
    start_guest(&guest, 4);
    if (!guest.facts.pids_limited || !guest.facts.memory_limited) {
        printf("limits: not possible here\n");
        end_guest(&guest);
        return;
    }
    /* 64 processes at most: of 100 sleeps some cannot be. */
    const char *fill =
        "i=0; while [ $i -lt 100 ]; do sleep 1000 >/dev/null & i=$((i+1)); done 2>/dev/null; "
        "echo filled";
    ck_assert_ptr_null(strstr(in_guest(&guest, fill), "filled"));
    in_guest(&guest, "kill -9 -1");
    struct guest_spec bigger = spec;
    bigger.pids_max = 200;
    bigger.mem_mib = 512;
    MUST(CALL(resize, &guest, &bigger));
    ck_assert_ptr_nonnull(strstr(in_guest(&guest, fill), "filled"));
    in_guest(&guest, "kill -9 -1");
    bigger.mem_mib = 32;
    MUST(CALL(resize, &guest, &bigger));
    ck_assert_ptr_null(
        strstr(in_guest(&guest, "dd if=/dev/zero of=/dev/null bs=128M count=1 2>&1 && echo filled"),
               "filled"));
    end_guest(&guest);
    assert_nothing_left(&guest);
}
END_TEST

START_TEST(stop_and_start_keep_the_files)
{
    struct guest guest;
    start_guest(&guest, 5);
    in_guest(&guest, "echo kept >/workspace/a; echo kept >/etc/b; echo gone >/run/c");
    pid_t before = guest.process.pid;
    int fd = connect_guest(&guest); /* asks for an orderly end, as Shutdown would */
    ck_assert_int_eq(write(fd, "kill -USR1 1\n", 13), 13);
    MUST(CALL(stop, &guest, 10000));
    close(fd);
    ck_assert_int_eq(guest.process.fd, -1);
    ck_assert(!has_process(guest.guest_id));
    MUST(CALL(start, &guest, &spec));
    ck_assert_int_ne(guest.process.pid, before);
    ck_assert_str_eq(in_guest(&guest, "cat /workspace/a /etc/b; ls /run"),
                     "kept\nkept\nhearth-agent\n");
    MUST(CALL(stop, &guest, 1)); /* one that does not end by itself is killed */
    ck_assert(!has_process(guest.guest_id));
    MUST(CALL(stop, &guest, 1)); /* stopped already */
    MUST(CALL(start, &guest, &spec));
    ck_assert_str_eq(in_guest(&guest, "cat /workspace/a"), "kept\n");
    end_guest(&guest);
    assert_nothing_left(&guest);
}
END_TEST

static int deaths;

static void on_died(struct guest *guest, const char *detail)
{
    deaths++;
    ck_assert_int_eq(guest->process.fd, -1);
    ck_assert_uint_gt(strlen(detail), 0);
    loop_stop(loop);
}

START_TEST(a_killed_guest_is_noticed)
{
    struct guest guest;
    start_guest(&guest, 6);
    guest.on_died = on_died;
    ck_assert_int_eq(kill(guest.process.pid, SIGKILL), 0);
    loop_run(loop); /* the test's own limit is the deadline */
    ck_assert_int_eq(deaths, 1);
    MUST(CALL(start, &guest, &spec)); /* nothing is in the way of another start */
    ck_assert_str_eq(in_guest(&guest, "echo again"), "again\n");
    MUST(CALL(stop, &guest, 1));
    ck_assert_int_eq(deaths, 1); /* what was asked for is no news */
    end_guest(&guest);
}
END_TEST

START_TEST(another_daemon_takes_the_guest_over)
{
    struct guest guest, adopted;
    start_guest(&guest, 7);
    in_guest(&guest, "echo mine >/workspace/a; sleep 1000 >/dev/null 2>&1 &");
    make_guest(&adopted, 7);
    strcpy(adopted.guest_id, guest.guest_id);
    adopted.driver_state = strdup(guest.driver_state);
    pid_t pid = guest.process.pid;
    const char *runtime = strdup(guest.facts.runtime);
    driver->operations->forget(driver, &guest);
    driver->operations->free(driver);
    make_driver();

    adopted.on_died = on_died;
    MUST(CALL(adopt, &adopted));
    ck_assert_int_eq(adopted.process.pid, pid);
    ck_assert_str_eq(adopted.facts.runtime, runtime);
    ck_assert_str_eq(in_guest(&adopted, "cat /workspace/a"), "mine\n");
    kill(pid, SIGKILL);
    loop_run(loop);
    ck_assert_int_eq(deaths, 1);
    struct call call = CALL(adopt, &adopted);
    ck_assert_int_eq(call.error, HEARTH_ENOTFOUND);
    ck_assert_str_eq(call.failure.code, "guest_gone");
    end_guest(&adopted);
    assert_nothing_left(&guest);
    free(guest.driver_state);
    free((char *)runtime);
}
END_TEST

START_TEST(a_reused_pid_is_never_adopted)
{
    struct guest guest;
    make_guest(&guest, 7);
    char boot_id[64];
    ck_assert(path_read_small(AT_FDCWD, "/proc/sys/kernel/random/boot_id", boot_id, 37) > 0);
    ck_assert(asprintf(&guest.driver_state,
                       "oci1 boot=%s pid=%d start=1 limits=111 runtime=crun 1.0", boot_id,
                       (int)getpid()) > 0);
    struct call call = CALL(adopt, &guest);
    ck_assert_str_eq(call.failure.code, "guest_gone");
    end_guest(&guest); /* and never killed */
}
END_TEST

START_TEST(a_crash_at_any_point_leaves_something_to_destroy)
{
    struct guest guest, left;
    start_guest(&guest, 8);
    /* A daemon that knows the ID alone: it died before it stored the state. */
    make_guest(&left, 8);
    strcpy(left.guest_id, guest.guest_id);
    driver->operations->forget(driver, &guest);
    driver->operations->free(driver);
    make_driver();
    end_guest(&left);
    assert_nothing_left(&left);
    free(guest.driver_state);
}
END_TEST

START_TEST(a_destroy_ends_a_start_under_way)
{
    struct guest guest;
    make_guest(&guest, 9);
    MUST(CALL(prepare, &guest, &spec));
    struct call start = {.fd = -1}, destroy = {.fd = -1};
    driver->operations->start(driver, &guest, &spec, on_done, &start);
    driver->operations->destroy(driver, &guest, on_done, &destroy);
    finish(&start);
    finish(&destroy);
    ck_assert_int_ne(start.error, 0);
    ck_assert_int_eq(destroy.error, 0);
    assert_nothing_left(&guest);
    driver->operations->forget(driver, &guest);
    free(guest.driver_state);
}
END_TEST

START_TEST(a_bottomless_tree_is_removed)
{
    struct guest guest;
    start_guest(&guest, 10);
    ck_assert_str_eq(in_guest(&guest, "cd /workspace; i=0; while [ $i -lt 300 ]; do mkdir d; cd d; "
                                      "i=$((i+1)); done; touch bottom; ls"),
                     "bottom\n");
    end_guest(&guest);
    assert_nothing_left(&guest);
}
END_TEST

START_TEST(a_missing_environment_is_told)
{
    struct guest guest;
    make_guest(&guest, 11);
    struct guest_spec missing = spec;
    missing.tree_path = "/nonexistent/tree";
    MUST(CALL(prepare, &guest, &missing));
    struct call call = CALL(start, &guest, &missing);
    ck_assert_str_eq(call.failure.code, "guest_start_failed");
    ck_assert_ptr_nonnull(strstr(call.failure.detail, "/nonexistent/tree"));
    end_guest(&guest);
    assert_nothing_left(&guest);
}
END_TEST

static int running, failed;

static void on_one_of_many(void *arg, int error, const struct hearth_failure *failure)
{
    if (error) {
        printf("one of many: %s\n", failure->detail);
        failed++;
    }
    if (--running == 0)
        loop_stop(loop);
}

static void start_one_of_many(void *arg, int error, const struct hearth_failure *failure)
{
    if (error)
        on_one_of_many(arg, error, failure);
    else
        driver->operations->start(driver, arg, &spec, on_one_of_many, arg);
}

START_TEST(many_start_and_end_side_by_side)
{
    static struct guest guests[MANY];
    running = MANY;
    int64_t began = clock_monotonic_us();
    for (uint32_t i = 0; i < MANY; i++) {
        make_guest(&guests[i], i);
        driver->operations->prepare(driver, &guests[i], &spec, start_one_of_many, &guests[i]);
    }
    loop_run(loop);
    ck_assert_int_eq(failed, 0);
    int64_t up = clock_monotonic_us();
    for (uint32_t i = 0; i < MANY; i++)
        ck_assert_str_eq(in_guest(&guests[i], "printf %s $HEARTH_GUEST_ID"), guests[i].guest_id);
    running = MANY;
    int64_t down = clock_monotonic_us();
    for (uint32_t i = 0; i < MANY; i++)
        driver->operations->destroy(driver, &guests[i], on_one_of_many, &guests[i]);
    loop_run(loop);
    printf("%d guests: started in %d ms, destroyed in %d ms\n", MANY, (int)((up - began) / 1000),
           (int)((clock_monotonic_us() - down) / 1000));
    ck_assert_int_eq(failed, 0);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_nothing_left(&guests[i]);
        driver->operations->forget(driver, &guests[i]);
        free(guests[i].driver_state);
    }
}
END_TEST

static int run_suite(const char *name)
{
    Suite *suite = suite_create(name);
    TCase *test_case = tcase_create(name);
    tcase_set_timeout(test_case, 60);
    tcase_add_checked_fixture(test_case, setup, teardown);
    tcase_add_test(test_case, the_probe_finds_a_runtime_that_works);
    tcase_add_test(test_case, without_a_runtime_the_probe_says_what_to_install);
    tcase_add_test(test_case, a_runtime_that_fails_is_told_with_its_own_words);
    tcase_add_test(test_case, a_guest_starts_answers_and_leaves_nothing);
    tcase_add_test(test_case, a_guest_sees_only_what_is_its_own);
    tcase_add_test(test_case, what_is_refused_is_refused);
    tcase_add_test(test_case, what_is_normal_works);
    tcase_add_test(test_case, limits_hold_and_can_be_changed);
    tcase_add_test(test_case, stop_and_start_keep_the_files);
    tcase_add_test(test_case, a_killed_guest_is_noticed);
    tcase_add_test(test_case, another_daemon_takes_the_guest_over);
    tcase_add_test(test_case, a_reused_pid_is_never_adopted);
    tcase_add_test(test_case, a_crash_at_any_point_leaves_something_to_destroy);
    tcase_add_test(test_case, a_destroy_ends_a_start_under_way);
    tcase_add_test(test_case, a_bottomless_tree_is_removed);
    tcase_add_test(test_case, a_missing_environment_is_told);
    tcase_add_test(test_case, many_start_and_end_side_by_side);
    suite_add_tcase(suite, test_case);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures;
}

/* The same as a plain user: TEST_USER, else nobody. Gives the number of failures. */
static int run_as_plain_user(void)
{
    const char *name = getenv("TEST_USER");
    struct passwd *user = getpwnam(name ? name : "nobody");
    if (!user)
        return 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (initgroups(user->pw_name, user->pw_gid) ||
            setresgid(user->pw_gid, user->pw_gid, user->pw_gid) ||
            setresuid(user->pw_uid, user->pw_uid, user->pw_uid))
            _exit(1);
        if (access(getenv("TEST_AGENT"), X_OK) < 0) {
            printf("rootless: skipped, %s may not read the build directory\n", user->pw_name);
            fflush(NULL);
            _exit(0);
        }
        _exit(run_suite("rootless") ? 1 : 0);
    }
    int status;
    return waitpid(child, &status, 0) != child || status != 0;
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!getenv("TEST_AGENT") || access("/bin/busybox", X_OK) < 0) {
        printf("skipped: needs busybox-static, crun and TEST_AGENT (meson test sets it)\n");
        return SKIPPED;
    }
    int failures = run_suite(geteuid() ? "rootless" : "root");
    if (geteuid() == 0)
        failures += run_as_plain_user();
    return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
