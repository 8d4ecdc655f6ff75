/* hearth-agent: the daemon's hand in a guest. As PID 1 it also reaps what nobody else does. */
#include "base/log.h"
#include "guestagent/agent/agent.h"
#include "guestagent/agent/machine.h"
#include "guestagent/agent/stage.h"
#include "guestagent/preamble.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int usage(void)
{
    fputs("usage: hearth-agent (--listen-fd N | --listen PATH | --connect-fd N) [--workspace DIR]\n"
          "                    [--pid1] [--no-new-privs] [--seccomp]\n"
          "       hearth-agent --machine [--no-disk | --warm] [--greet]\n"
          "                    [--network ADDRESS,ROUTER,NAMESERVER]\n"
          "                    as the first process of a virtual machine\n",
          stderr);
    return 2;
}

static int listen_on(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return -1;
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 64) < 0)
        return -1;
    return fd;
}

static int parse(struct agent_options *options, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--machine") == 0)
            options->machine = options->pid1 = true;
        else if (strcmp(argv[i], "--no-disk") == 0)
            options->no_disk = true;
        else if (strcmp(argv[i], "--warm") == 0)
            options->warm = true;
        else if (strcmp(argv[i], "--greet") == 0)
            options->greet = true;
        else if (strcmp(argv[i], "--pid1") == 0)
            options->pid1 = true;
        else if (strcmp(argv[i], "--no-new-privs") == 0)
            options->no_new_privs = true;
        else if (strcmp(argv[i], "--seccomp") == 0)
            options->seccomp = true;
        else if (strcmp(argv[i], "--version") == 0) {
            puts("hearth-agent " HEARTH_VERSION);
            exit(0);
        } else if (!value)
            return -1;
        else if (strcmp(argv[i], "--listen-fd") == 0)
            options->listen_fd = atoi(argv[++i]);
        else if (strcmp(argv[i], "--listen") == 0)
            options->listen_fd = listen_on(argv[++i]);
        else if (strcmp(argv[i], "--connect-fd") == 0)
            options->connected_fd = atoi(argv[++i]);
        else if (strcmp(argv[i], "--network") == 0)
            options->network = argv[++i];
        else if (strcmp(argv[i], "--workspace") == 0)
            options->workspace = argv[++i];
        else
            return -1;
    }
    return options->listen_fd >= 0 || options->connected_fd >= 0 || options->machine ? 0 : -1;
}

/* Everything a machine is before there is a link. */
static int boot(struct agent_options *options)
{
    int error = machine_boot(!options->no_disk);
    if (error)
        return error;
    if (options->network)
        machine_network(options->network);
    if (options->warm) {
        configure_rehearse();
        machine_warm();
    }
    options->serial_fd = machine_open_port(AGENT_PORT_NAME);
    options->listen_fd = machine_listen_vsock(AGENT_VSOCK_PORT);
    if (options->greet)
        machine_greet(HOST_VSOCK_PORT);
    if (options->serial_fd >= 0 || options->listen_fd >= 0)
        return 0;
    log_error("no_transport", "%s", strerror(-options->serial_fd));
    return options->serial_fd;
}

/* Each command holds up to three descriptors, and six while it is started. */
#define FILES_RESERVED 256
#define FILES_EACH 3

static void raise_files(struct agent *agent)
{
    struct rlimit limit;
    agent->execs_max = AGENT_EXECS_MAX;
    agent->child_limits.goes_first = !agent->options.machine;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    struct rlimit raised = {limit.rlim_max, limit.rlim_max};
    if (limit.rlim_cur < limit.rlim_max && setrlimit(RLIMIT_NOFILE, &raised) == 0) {
        agent->child_limits.files = limit.rlim_cur;
        limit = raised;
    }
    uint64_t most =
        limit.rlim_cur > 2 * FILES_RESERVED ? (limit.rlim_cur - FILES_RESERVED) / FILES_EACH : 64;
    if (most < agent->execs_max)
        agent->execs_max = (unsigned)most;
}

int main(int argc, char **argv)
{
    struct agent agent = {
        .options = {.workspace = "/workspace",
                    .listen_fd = -1,
                    .connected_fd = -1,
                    .serial_fd = -1},
        .root_fd = -1,
    };
    if (parse(&agent.options, argc, argv))
        return usage();
    signal(SIGPIPE, SIG_IGN);
    umask(AGENT_UMASK);
    if (agent.options.machine && boot(&agent.options))
        return EXIT_FAILURE;
    /* What runs beside it in the guest may be root there: its memory is still its own. */
    prctl(PR_SET_DUMPABLE, 0);
    /* Orphans come to it, so that what outlives its command is reaped, also where it is not PID 1.
     */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    mkdir(agent.options.workspace, 0755);
    agent.root_fd = open(agent.options.workspace, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (agent.root_fd < 0) {
        log_error("workspace_unusable", "%s: %s", agent.options.workspace, strerror(errno));
        return EXIT_FAILURE;
    }
    int error = sandbox_enter(&agent.options);
    if (error) {
        log_error("sandbox_refused", "%s", strerror(-error));
        return EXIT_FAILURE;
    }
    raise_files(&agent);
    stage_recover(agent.root_fd, files_finish_staged);
    agent.base = event_base_new();
    if (!agent.base || agent_serve(&agent))
        return EXIT_FAILURE;
    event_base_free(agent.base);
    sync();
    if (agent.options.machine)
        machine_power_off();
    if (agent.options.pid1 && agent.power_off)
        reboot(RB_POWER_OFF); /* a container has no right to: there the exit is the end */
    return EXIT_SUCCESS;
}
