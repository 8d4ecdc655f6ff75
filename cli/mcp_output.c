#include "cli/mcp_output.h"

#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS_MAX 10

extern char **environ;

static const struct {
    const char *tool, *words[3]; /* NULL-terminated */
    bool has_path, core;
} tools[] = {{"workspace_export", {"workspace", "export"}, true, true},
             {"workspace_disk_export", {"workspace", "disk", "export"}, false, false}};
#define TOOL_COUNT (sizeof tools / sizeof *tools)

static size_t find(const char *tool)
{
    size_t i = 0;
    while (i < TOOL_COUNT && strcmp(tools[i].tool, tool) != 0)
        i++;
    return i;
}

bool mcp_output_concerns_us(const char *tool, const cJSON *arguments, const char *profile)
{
    size_t at = find(tool);
    if (at == TOOL_COUNT || strcmp(profile, "vm-run") == 0 ||
        (!tools[at].core && strcmp(profile, "workspace-full") != 0))
        return false;
    const cJSON *item;
    cJSON_ArrayForEach(item, arguments)
    {
        if (strcmp(item->string, "workspace_id") != 0 && strcmp(item->string, "output_path") != 0 &&
            !(tools[at].has_path && strcmp(item->string, "path") == 0))
            return false;
    }
    return json_text(arguments, "workspace_id", NULL) &&
           json_text(arguments, "output_path", NULL) &&
           (!tools[at].has_path || json_text(arguments, "path", NULL));
}

/* What the child writes, to its end. */
static int read_all(int fd, struct buf *out)
{
    char piece[4096];
    ssize_t got;
    while ((got = read(fd, piece, sizeof piece)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 || buf_append(out, piece, (size_t)got))
            return -1;
    }
    return 0;
}

static int run(const char *const *words, struct buf *out)
{
    posix_spawn_file_actions_t actions;
    int fds[2], status = -1;
    pid_t pid;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
    int error = posix_spawn(&pid, "/proc/self/exe", &actions, NULL, (char *const *)words, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(fds[1]);
    if (!error)
        error = read_all(fds[0], out);
    close(fds[0]);
    if (error)
        return -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int mcp_output_run(const char *tool, const cJSON *arguments, struct buf *out)
{
    const char *words[WORDS_MAX] = {"hearth", "--json"};
    auto_buf struct buf output = {0};
    size_t count = 2, at = find(tool);
    if (at == TOOL_COUNT ||
        buf_printf(&output, "--output=%s", json_text(arguments, "output_path", NULL)))
        return -1;
    for (size_t i = 0; i < 3 && tools[at].words[i]; i++)
        words[count++] = tools[at].words[i];
    words[count++] = output.data;
    words[count++] = "--";
    words[count++] = json_text(arguments, "workspace_id", NULL);
    if (tools[at].has_path)
        words[count++] = json_text(arguments, "path", NULL);
    return run(words, out);
}
