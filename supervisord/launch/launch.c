/* hearth-launch: the few privileged steps between hearthd and an OCI runtime, in a process of its
 * own. It enters the guest's user namespace, puts the guest's root file system together in a
 * private mount namespace and becomes the runtime there, so that
 *   - the runtime and everything after it has no privilege outside the guest's user namespace,
 *   - every mount vanishes with the guest's last process; none is ever seen from outside,
 *   - as root and as a plain user are one way, but for who writes the ID map.
 *
 *   hearth-launch [--uid-base N] [--cgroup FILE]… --bundle DIR --disk DIR --tree DIR --agent FILE
 *                 -- RUNTIME ARGUMENT…
 *   hearth-launch [--uid-base N] --remove DIR…
 *   hearth-launch --machine …
 *
 * The second form removes directories that a guest has filled, the third is machine.h's.
 * In the private namespace DIR of --bundle is /tmp, and holds what the runtime is told of by name:
 * config.json, rootfs, agent, state. Descriptor 3 (the agent's listening socket) goes through to
 * the runtime. What goes wrong is one line on stderr and exit status 1; the runtime's own stdio is
 * /dev/null, because the guest's init inherits it. */
#include "supervisord/launch/enter.h"
#include "supervisord/launch/machine.h"
#include "supervisord/launch/mounts.h"
#include "supervisord/launch/remove.h"
#include "supervisord/launch/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#define CGROUP_FILES_MAX 16
#define CGROUP2_MAGIC 0x63677270

struct order {
    const char *bundle, *disk, *tree, *agent;
    const char *cgroup_files[CGROUP_FILES_MAX];
    size_t cgroup_count;
    bool as_root, remove;
    uid_t uid_base;
    char **rest; /* the runtime's arguments, or directories */
};

static void parse(int argc, char **argv, struct order *order)
{
    static const struct option options[] = {
        {"uid-base", required_argument, NULL, 'u'}, {"cgroup", required_argument, NULL, 'c'},
        {"bundle", required_argument, NULL, 'b'},   {"disk", required_argument, NULL, 'd'},
        {"tree", required_argument, NULL, 't'},     {"agent", required_argument, NULL, 'a'},
        {"remove", no_argument, NULL, 'r'},         {0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        switch (option) {
        case 'u':
            order->as_root = true;
            order->uid_base = (uid_t)strtoul(optarg, NULL, 10);
            break;
        case 'c':
            if (order->cgroup_count == CGROUP_FILES_MAX)
                launch_die(E2BIG, "too many cgroups");
            order->cgroup_files[order->cgroup_count++] = optarg;
            break;
        case 'b':
            order->bundle = optarg;
            break;
        case 'd':
            order->disk = optarg;
            break;
        case 't':
            order->tree = optarg;
            break;
        case 'a':
            order->agent = optarg;
            break;
        case 'r':
            order->remove = true;
            break;
        default:
            exit(2);
        }
    }
    order->rest = argv + optind;
    if (!order->rest[0] ||
        (!order->remove && (!order->bundle || !order->disk || !order->tree || !order->agent)))
        launch_die(EINVAL, "an argument is missing");
}

/* Before anything else: what is left of a launch that dies half-way is then in the cgroup too. */
static void join_cgroups(const struct order *order)
{
    for (size_t i = 0; i < order->cgroup_count; i++)
        launch_join_cgroup(order->cgroup_files[i]);
    launch_raise_oom_score();
}

static void become_root_inside(int user_namespace)
{
    userns_become_root(user_namespace);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        launch_die(errno, "cannot make a private mount namespace");
}

/* crun refuses to start where a cgroup2 is mounted beside cgroup v1, even if it is to make no
 * cgroup at all. It looks at this one path. */
static void hide_hybrid_cgroups(void)
{
    static const char path[] = "/sys/fs/cgroup/unified";
    struct statfs above, status;
    if (statfs("/sys/fs/cgroup", &above) == 0 && above.f_type != CGROUP2_MAGIC &&
        statfs(path, &status) == 0 && status.f_type == CGROUP2_MAGIC &&
        mount("none", path, "tmpfs", MS_RDONLY, "size=4k") < 0)
        launch_die(errno, "cannot hide %s", path);
}

/* From now on 0, 1 and 2 are /dev/null; errors still go to where they went. */
static void close_stdio(void)
{
    launch_errors_fd = fcntl(2, F_DUPFD_CLOEXEC, 4);
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0)
        launch_die(errno, "cannot open /dev/null");
    for (int fd = 0; fd <= 2; fd++)
        if (dup2(null_fd, fd) < 0)
            launch_die(errno, "cannot close the standard streams");
}

/* A plain user's guest has files of IDs that are the user's only inside. */
static void remove_all(const struct order *order)
{
    if (!order->as_root)
        become_root_inside(userns_make(false, 0));
    for (char **path = order->rest; *path; path++)
        remove_tree(*path);
}

__attribute__((noreturn)) static void run(const struct order *order, pid_t parent)
{
    struct launch_mounts mounts;
    join_cgroups(order);
    /* Root opens while it may go everywhere; a plain user once it may make mounts. */
    if (order->as_root)
        mounts_open(&mounts, order->bundle, order->disk, order->tree, order->agent);
    int user_namespace = userns_make(order->as_root, order->uid_base);
    if (order->as_root)
        mounts_idmap_tree(&mounts, user_namespace);
    become_root_inside(user_namespace);
    if (!order->as_root)
        mounts_open(&mounts, order->bundle, order->disk, order->tree, order->agent);
    mounts_attach(&mounts);
    hide_hybrid_cgroups();
    close_stdio();
    /* A daemon that dies now leaves either a whole guest or none. After the last change of
     * identity, which would clear it. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        launch_die(ECANCELED, "the daemon has gone");
    execv(order->rest[0], order->rest);
    launch_die(errno, "cannot run %s", order->rest[0]);
}

int main(int argc, char **argv)
{
    struct order order = {0};
    pid_t parent = getppid();
    if (argc > 1 && strcmp(argv[1], "--machine") == 0)
        machine_launch(argc - 1, argv + 1, parent);
    parse(argc, argv, &order);
    if (close_range(4, ~0U, 0) < 0)
        launch_die(errno, "cannot close descriptors");
    if (!order.remove)
        run(&order, parent);
    remove_all(&order);
    return 0;
}
