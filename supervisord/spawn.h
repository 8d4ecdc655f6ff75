/* Child programs: posix_spawn (never fork: the daemon is large), watched through a pidfd, with a
 * deadline and bounded capture. The child starts in its own session with default signals, an empty
 * mask, /dev/null for what is not given, and no descriptor but 0, 1, 2 and those passed. Loop
 * thread only. */
#pragma once

#include "base/buf.h"
#include "supervisord/loop.h"

#include <limits.h>
#include <stddef.h>
#include <sys/types.h>

struct child;

struct spawn_spec {
    const char *const *argv;        /* argv[0]: absolute path, or looked up in PATH */
    const char *const *environment; /* NULL: PATH, HOME, LANG alone */
    int stdin_fd;                   /* borrowed; -1: /dev/null */
    int stdout_fd, stderr_fd;       /* borrowed; -1: captured, at most capture_limit bytes each */
    const int *pass_fds;            /* borrowed: become 3, 4, … in the child */
    size_t pass_count;
    size_t capture_limit; /* 0: 64 KiB. What is over is read and dropped */
    unsigned timeout_ms;  /* 0: none. Past it the session's process group is killed */
    /* Called with each piece of captured output as it comes (for progress). May be NULL. */
    void (*on_output)(void *arg, const char *data, size_t length);
    bool secret_output; /* what comes on descriptor 1 is on_output's alone, and stays nowhere here;
                           what comes on descriptor 2 is not its */
};

struct child_result {
    int exit_code; /* 128 + signal where one ended it */
    bool timed_out;
    const char *output, *errors; /* NUL-terminated captures, borrowed for the call */
    size_t output_length, errors_length;
};

typedef void (*child_done)(void *arg, const struct child_result *result);

/* done is called once, after the exit and the end of both captures (a grandchild may hold them 1 s
 * longer). */
int spawn(struct child **ret_child, struct loop *loop, const struct spawn_spec *spec,
          child_done done, void *arg, struct hearth_failure *failure);
pid_t child_pid(const struct child *child);
/* Kills its process group; done still comes. */
void child_kill(struct child *child);

/* Looks for a program in PATH. False, and "", where there is none. */
bool spawn_find(const char *name, char out[PATH_MAX]);

/* Path of a program installed beside this one (hearth-agent, hearth-launch, hearth-archive):
 * $HEARTH_LIBEXEC_DIR, else the directory of /proc/self/exe, else LIBEXECDIR. Gives a string the
 * caller frees, or NULL. */
char *spawn_sibling(const char *name);
