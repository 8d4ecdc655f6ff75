#include "cli/private_daemon.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/path_at.h"
#include "base/text.h"
#include "cli/http.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <spawn.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* A first start may have to try out which guests this host can run. */
#define READY_TIMEOUT_US (90 * US_PER_S)
#define LOG_TAIL 400

extern char **environ;

void private_paths_free(struct private_paths *paths)
{
    free(paths->state_dir);
    free(paths->image_dir);
    free(paths->runtime_dir);
    free(paths->socket_path);
    *paths = (struct private_paths){0};
}

static const char *home_directory(void)
{
    const char *home = getenv("HOME");
    if (home && home[0] == '/')
        return home;
    const struct passwd *user = getpwuid(getuid());
    return user ? user->pw_dir : NULL;
}

/* $VARIABLE/hearth[/leaf] or HOME/fallback/hearth[/leaf]: the XDG base directories. */
static char *xdg_path(const char *variable, const char *home, const char *fallback,
                      const char *leaf)
{
    auto_buf struct buf path = {0};
    const char *base = getenv(variable);
    int error = base && base[0] == '/' ? buf_printf(&path, "%s/hearth%s", base, leaf)
                                       : buf_printf(&path, "%s/%s/hearth%s", home, fallback, leaf);
    return error ? NULL : buf_steal(&path);
}

static char *runtime_path(void)
{
    auto_buf struct buf path = {0};
    const char *base = getenv("XDG_RUNTIME_DIR");
    bool usable = base && base[0] == '/' && access(base, W_OK) == 0;
    int error = usable ? buf_printf(&path, "%s/hearth", base)
                       : buf_printf(&path, "/tmp/hearth-%u", (unsigned)getuid());
    return error ? NULL : buf_steal(&path);
}

int private_paths_find(struct private_paths *ret_paths, struct hearth_failure *failure)
{
    struct private_paths paths = {0};
    const char *home = home_directory();
    if (!home)
        return hearth_fail(failure, HEARTH_EUNSUPPORTED, "no_home",
                           "this user has no home directory");

    const char *images = getenv("HEARTHD_IMAGE_DIR");
    paths.state_dir = xdg_path("XDG_STATE_HOME", home, ".local/state", "");
    paths.image_dir = images && *images
                          ? text_copy(images)
                          : xdg_path("XDG_DATA_HOME", home, ".local/share", "/images");
    paths.runtime_dir = runtime_path();
    auto_buf struct buf socket = {0};
    if (paths.runtime_dir && !buf_printf(&socket, "%s/hearthd.sock", paths.runtime_dir))
        paths.socket_path = buf_steal(&socket);
    if (!paths.state_dir || !paths.image_dir || !paths.socket_path) {
        private_paths_free(&paths);
        return hearth_fail(failure, HEARTH_ENOMEMORY, "out_of_memory", "out of memory");
    }
    *ret_paths = paths;
    return 0;
}

/* A directory, not a symlink, of this user, that nobody else may enter. */
static bool directory_is_ours(const char *path)
{
    struct stat stat;
    return lstat(path, &stat) == 0 && S_ISDIR(stat.st_mode) && stat.st_uid == geteuid() &&
           (stat.st_mode & 077) == 0;
}

bool private_paths_trusted(const struct private_paths *paths)
{
    return directory_is_ours(paths->runtime_dir);
}

/* path and what is missing above it, 0700; a part of it may be a symlink, the user's or the host's.
 */
static int make_directory(const char *path, struct hearth_failure *failure)
{
    int error = path_make_own_directories(path, 0700);
    if (error)
        return hearth_fail_errno(failure, -error, "no_directory", "%s cannot be made", path);
    return 0;
}

static int make_directories(const struct private_paths *paths, struct hearth_failure *failure)
{
    int error = make_directory(paths->state_dir, failure);
    if (!error)
        error = make_directory(paths->image_dir, failure);
    if (error)
        return error;

    if (mkdir(paths->runtime_dir, 0700) < 0 && errno != EEXIST)
        return hearth_fail_errno(failure, errno, "no_directory", "%s cannot be made",
                                 paths->runtime_dir);
    if (!directory_is_ours(paths->runtime_dir))
        return hearth_fail(failure, HEARTH_EFORBIDDEN, "runtime_dir_not_ours",
                           "%s is not a directory of this user's alone (mode 0700)",
                           paths->runtime_dir);
    return 0;
}

/* hearthd beside the running hearth. */
static int find_program(char out[PATH_MAX], struct hearth_failure *failure)
{
    ssize_t length = readlink("/proc/self/exe", out, PATH_MAX - sizeof "hearthd");
    char *slash = length < 0 ? NULL : memrchr(out, '/', (size_t)length);
    if (!slash)
        return hearth_fail(failure, HEARTH_EIO, "no_program", "/proc/self/exe cannot be read");
    strcpy(slash + 1, "hearthd");
    if (access(out, X_OK) < 0) {
        int error = hearth_fail(failure, HEARTH_EUNAVAILABLE, "no_daemon",
                                "no hearthd runs, and there is none to start at %s", out);
        hearth_failure_hint(failure, "set HEARTH_URL to where one is, or install hearthd");
        return error;
    }
    return 0;
}

/* The environment without what speaks to this process alone. Borrows the texts. */
static char **daemon_environment(void)
{
    static const char *const dropped[] = {"HEARTH_", "LISTEN_", "NOTIFY_SOCKET=", "WATCHDOG_"};
    size_t count = 0;
    while (environ[count])
        count++;
    char **kept = calloc(count + 1, sizeof *kept);
    for (size_t i = 0, next = 0; kept && i < count; i++) {
        bool drop = false;
        for (size_t j = 0; j < sizeof dropped / sizeof *dropped; j++)
            drop = drop || text_starts_with(environ[i], dropped[j]);
        if (!drop)
            kept[next++] = environ[i];
    }
    return kept;
}

/* In a session of its own, away from this terminal and directory. 0 or an errno value. */
static int spawn_daemon(const char *program, const struct private_paths *paths, int ready_fd,
                        int log_fd)
{
    const char *const arguments[] = {program,
                                     "--state-dir",
                                     paths->state_dir,
                                     "--runtime-dir",
                                     paths->runtime_dir,
                                     "--image-dir",
                                     paths->image_dir,
                                     "--listen",
                                     "",
                                     "--set",
                                     "idle_exit_seconds=600",
                                     NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    auto_free char **environment = daemon_environment();
    if (!environment || posix_spawn_file_actions_init(&actions))
        return ENOMEM;
    if (posix_spawnattr_init(&attributes)) {
        posix_spawn_file_actions_destroy(&actions);
        return ENOMEM;
    }
    pid_t pid;
    int error = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    if (!error)
        error = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!error)
        error = posix_spawn_file_actions_adddup2(&actions, ready_fd, STDOUT_FILENO);
    if (!error)
        error = posix_spawn_file_actions_adddup2(&actions, log_fd, STDERR_FILENO);
    if (!error)
        error = posix_spawn_file_actions_addchdir_np(&actions, "/");
    if (!error)
        error = posix_spawn(&pid, program, &actions, &attributes, (char *const *)arguments,
                            environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

/* The last line of what the daemon logged since it was started at offset. */
static void describe_log(int log_fd, off_t offset, char *out, size_t size)
{
    char text[LOG_TAIL + 1];
    off_t end = lseek(log_fd, 0, SEEK_END);
    off_t from = end - offset > LOG_TAIL ? end - LOG_TAIL : offset;
    ssize_t length = pread(log_fd, text, LOG_TAIL, from);
    while (length > 0 && text[length - 1] == '\n')
        length--;
    if (length <= 0) {
        snprintf(out, size, "it said nothing");
        return;
    }
    text[length] = '\0';
    const char *line = strrchr(text, '\n');
    snprintf(out, size, "%s", line ? line + 1 : text);
}

/* Waits for the line "ready …" on the daemon's stdout. */
static bool wait_ready(int fd)
{
    int64_t deadline = clock_monotonic_us() + READY_TIMEOUT_US;
    char line[256];
    size_t length = 0;

    while (length < sizeof line - 1) {
        int64_t left = deadline - clock_monotonic_us();
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        int ready = left > 0 ? poll(&poll_fd, 1, (int)(left / US_PER_MS) + 1) : 0;
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            return false;
        ssize_t got = read(fd, line + length, sizeof line - 1 - length);
        if (got <= 0)
            return false;
        length += (size_t)got;
        if (memchr(line, '\n', length))
            break;
    }
    line[length] = '\0';
    return text_starts_with(line, "ready");
}

/* Under the lock. */
static int start(const struct private_paths *paths, struct hearth_failure *failure)
{
    char program[PATH_MAX] = "";
    int error = find_program(program, failure);
    if (error)
        return error;

    auto_buf struct buf log_path = {0};
    if (buf_printf(&log_path, "%s/hearthd.log", paths->state_dir))
        return hearth_fail(failure, HEARTH_ENOMEMORY, "out_of_memory", "out of memory");
    auto_close int log_fd = open(log_path.data, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int pipe_fds[2];
    if (log_fd < 0 || pipe2(pipe_fds, O_CLOEXEC) < 0)
        return hearth_fail_errno(failure, errno, "no_log", "%s cannot be opened", log_path.data);
    auto_close int ready_fd = pipe_fds[0];
    off_t offset = lseek(log_fd, 0, SEEK_END);

    int spawned = spawn_daemon(program, paths, pipe_fds[1], log_fd);
    close(pipe_fds[1]);
    if (spawned)
        return hearth_fail_errno(failure, spawned, "no_daemon", "%s cannot be started", program);
    if (wait_ready(ready_fd))
        return 0;

    char reason[LOG_TAIL + 1];
    describe_log(log_fd, offset, reason, sizeof reason);
    error = hearth_fail(failure, HEARTH_EUNAVAILABLE, "daemon_not_ready",
                        "hearthd did not start: %s", reason);
    hearth_failure_hint(failure, "its log is %s", log_path.data);
    return error;
}

int private_daemon_ensure(const struct private_paths *paths, struct hearth_failure *failure)
{
    int error = make_directories(paths, failure);
    if (error)
        return error;

    auto_buf struct buf lock_path = {0};
    if (buf_printf(&lock_path, "%s/start.lock", paths->runtime_dir))
        return hearth_fail(failure, HEARTH_ENOMEMORY, "out_of_memory", "out of memory");
    auto_close int lock = open(lock_path.data, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock < 0 || flock(lock, LOCK_EX) < 0)
        return hearth_fail_errno(failure, errno, "no_lock", "%s cannot be locked", lock_path.data);
    return http_socket_answers(paths->socket_path) ? 0 : start(paths, failure);
}
