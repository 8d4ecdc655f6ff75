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

#define UID_BASE 0x20000000U

struct loop *loop;
struct worker_pool *workers;
struct driver *driver;
struct driver_config config;
char top[64], state_dir[96], runtime_dir[96], tree[96];
struct guest_spec spec;

/* --- one call, to its end --- */

void on_done(void *arg, int error, const struct hearth_failure *failure)
{
    struct call *call = arg;
    ck_assert(!call->ended);
    call->ended = true;
    call->error = error;
    if (failure)
        call->failure = *failure;
    loop_stop(loop);
}

static void on_connected(void *arg, int fd, const struct hearth_failure *failure)
{
    on_done(arg, fd < 0 ? failure->error : 0, failure);
    ((struct call *)arg)->fd = fd;
}

struct call *finish(struct call *call)
{
    ck_assert(!call->ended); /* never before the call returns */
    while (!call->ended)
        loop_run(loop);
    return call;
}

void make_guest(struct guest *guest, uint32_t index)
{
    *guest = (struct guest){.driver = driver, .process = PIDREF_NONE, .index = index};
    id_make(guest->guest_id, "gu", "aa");
}

void start_guest(struct guest *guest, uint32_t index)
{
    make_guest(guest, index);
    MUST(CALL(prepare, guest, &spec));
    MUST(CALL(start, guest, &spec));
}

void end_guest(struct guest *guest)
{
    MUST(CALL(destroy, guest));
    driver->operations->forget(driver, guest);
    free(guest->driver_state);
    guest->driver_state = NULL;
}

int connect_guest(struct guest *guest)
{
    struct call call = {.fd = -1};
    driver->operations->connect(driver, guest, 1000, on_connected, &call);
    finish(&call);
    ck_assert_msg(call.fd >= 0, "%s", call.failure.detail);
    fcntl(call.fd, F_SETFL, 0);
    return call.fd;
}

/* What a shell script in the guest prints. */
const char *in_guest(struct guest *guest, const char *script)
{
    static char output[16384];
    int fd = connect_guest(guest);
    ck_assert_int_eq(write(fd, script, strlen(script)), (ssize_t)strlen(script));
    shutdown(fd, SHUT_WR);
    ck_assert_int_eq(recv(fd, output, 1, MSG_WAITALL), 1); /* the greeting */
    size_t used = 0;
    ssize_t got;
    while ((got = read(fd, output + used, sizeof output - 1 - used)) > 0)
        used += (size_t)got;
    output[used] = '\0';
    close(fd);
    return output;
}

/* --- what may be left --- */

char traces[1024];

void note_trace(void *arg, const char *guest_id)
{
    strcat(traces, guest_id);
}

static bool mentioned_in(const char *path, const char *text)
{
    FILE *file = fopen(path, "re");
    char line[4096];
    bool found = false;
    while (file && fgets(line, sizeof line, file))
        found = found || strstr(line, text);
    if (file)
        fclose(file);
    return found;
}

/* Anywhere in /proc: a process that was started for this guest. */
bool has_process(const char *guest_id)
{
    DIR *processes = opendir("/proc");
    bool found = false;
    for (struct dirent *entry; (entry = readdir(processes));) {
        char path[300], text[4096];
        snprintf(path, sizeof path, "/proc/%s/environ", entry->d_name);
        ssize_t length = path_read_small(AT_FDCWD, path, text, sizeof text);
        if (length > 0 && memmem(text, (size_t)length, guest_id, strlen(guest_id)))
            found = true;
    }
    closedir(processes);
    return found;
}

void assert_nothing_left(const struct guest *guest)
{
    *traces = '\0';
    driver->operations->each_trace(driver, note_trace, NULL);
    ck_assert_str_eq(traces, "");
    ck_assert(!has_process(guest->guest_id));
    ck_assert(!mentioned_in("/proc/self/mountinfo", top));
}

/* --- set-up --- */

static void copy_file(const char *from, const char *to)
{
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT, 0755);
    ck_assert(in >= 0 && out >= 0);
    while (sendfile(out, in, NULL, 1 << 20) > 0)
        continue;
    close(in);
    close(out);
}

static void make_tree(void)
{
    static const char *const applets[] = {"sh",    "cat",   "ls",    "id",   "sleep",   "mount",
                                          "touch", "mkdir", "stat",  "true", "unshare", "hostname",
                                          "ps",    "tty",   "chown", "nc",   "dd",      "rm"};
    char path[160];
    mkdir(tree, 0755);
    snprintf(path, sizeof path, "%s/bin", tree);
    mkdir(path, 0755);
    snprintf(path, sizeof path, "%s/bin/busybox", tree);
    copy_file("/bin/busybox", path);
    for (size_t i = 0; i < sizeof applets / sizeof applets[0]; i++) {
        snprintf(path, sizeof path, "%s/bin/%s", tree, applets[i]);
        ck_assert_int_eq(symlink("busybox", path), 0);
    }
    snprintf(path, sizeof path, "%s/tmp", tree);
    mkdir(path, 0755);
    snprintf(path, sizeof path, "%s/etc", tree);
    mkdir(path, 0755);
    snprintf(path, sizeof path, "%s/etc/from-tree", tree);
    copy_file("/etc/hostname", path);
}

void make_driver(void)
{
    config = (struct driver_config){
        .loop = loop,
        .workers = workers,
        .state_dir = state_dir,
        .runtime_dir = runtime_dir,
        .agent_path = getenv("TEST_AGENT"),
        .transport = "auto",
        .uid_base = UID_BASE,
        .runtime = getenv("TEST_RUNTIME"),
    };
    struct hearth_failure failure;
    ck_assert_msg(oci_driver_new(&driver, &config, &failure) == 0, "%s", failure.detail);
}

void setup(void)
{
    strcpy(top, "/tmp/hearth-oci-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(top));
    snprintf(state_dir, sizeof state_dir, "%s/state", top);
    snprintf(runtime_dir, sizeof runtime_dir, "%s/runtime", top);
    snprintf(tree, sizeof tree, "%s/tree", top);
    mkdir(state_dir, 0700);
    mkdir(runtime_dir, 0700);
    make_tree();
    ck_assert_int_eq(loop_new(&loop, NULL), 0);
    ck_assert_int_eq(worker_pool_new(&workers, loop, 2, NULL), 0);
    make_driver();
    spec = (struct guest_spec){
        .tree_path = tree, .vcpu_count = 1, .mem_mib = 256, .pids_max = 64, .hostname = "testbox"};
}

void teardown(void)
{
    driver->operations->free(driver);
    worker_pool_free(workers);
    loop_free(loop);
    int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_eq(path_remove_tree(tmp, top + strlen("/tmp/")), 0);
    close(tmp);
}
