/* hearth-net: outbound network for one guest, with no privilege outside the guest's user namespace.
 *
 *   hearth-net [--cgroup FILE]… --policy FILE --log FILE --pid PID | --machine[=UID]
 *
 * Between the guest and the host is a network namespace of its own, the gate. One pasta carries
 * connections from the guest's namespace into the gate, where they become sockets; another carries
 * the gate's to the host's network. What may not be reached is routed to this process instead,
 * which counts it (gate.h), and which is the guest's name server (resolver.h): the guest has no
 * process in the gate, and no capability over it.
 *
 *   guest ── eth0 ── pasta ──▶ gate (routes, names) ── tap ── pasta ──▶ host ──▶ internet
 *
 * A machine (--machine, its device's stream is descriptor 3) has passt in the gate instead, which
 * takes its packets from the stream; the user namespace is one of its own, of the IDs from UID on.
 *
 *   machine ── stream ── this process (relay.h) ── passt ──▶ gate …
 *
 * The policy (policy.h) is read again whenever its file is written. Nothing is forwarded inwards.
 * With the line "ready" on descriptor 1 the guest has its network and the first process ends; what
 * stays behind ends with the guest, or takes the rest along when a part of it dies. What goes wrong
 * is one line on descriptor 2 and exit status 1. */
#include "supervisord/net/net.h"
#include "supervisord/launch/enter.h"
#include "supervisord/launch/userns.h"
#include "supervisord/net/relay.h"
#include "supervisord/net/resolver.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

/* The gate's own end; the guest's is as in net.h. */
#define GATE_ADDRESS "10.0.3.2"
#define GATE_ROUTER "10.0.3.1"
/* In pasta: where it writes its PID once it is up, and the guest's network namespace. */
#define READY_FD 3
#define NET_FD 4
#define NET_FD_NAME "4"
#define NET_PATH "/proc/self/fd/4"
#define STREAM_FD 3 /* ours, of a machine */

struct order {
    pid_t guest; /* 0: it is a machine, and the rest counts */
    bool machine, as_root;
    uid_t uid_base;
    const char *policy, *log;
};

static void parse(int argc, char **argv, struct order *order)
{
    static const struct option options[] = {
        {"cgroup", required_argument, NULL, 'c'}, {"policy", required_argument, NULL, 'o'},
        {"log", required_argument, NULL, 'l'},    {"machine", optional_argument, NULL, 'm'},
        {"pid", required_argument, NULL, 'p'},    {0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'c')
            launch_join_cgroup(optarg); /* before there is anything that could stay outside */
        else if (option == 'p')
            order->guest = (pid_t)strtol(optarg, NULL, 10);
        else if (option == 'o')
            order->policy = optarg;
        else if (option == 'l')
            order->log = optarg;
        else if (option == 'm') {
            order->machine = true;
            order->as_root = optarg != NULL;
            order->uid_base = optarg ? (uid_t)strtoul(optarg, NULL, 10) : 0;
        } else
            exit(2);
    }
    if ((order->guest >= 2) == order->machine || (order->as_root && !order->uid_base) ||
        !order->policy || !order->log || optind != argc)
        exit(2);
}

static int open_namespace(pid_t pid, const char *kind)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, kind);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        launch_die(errno, "cannot open a %s namespace", kind);
    return fd;
}

/* Where root alone may use the tun device, what is to run without root's privileges gets one that
 * only it sees. */
static void make_tun(void)
{
    if (geteuid() != 0)
        return;
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        launch_die(errno, "cannot make a private mount namespace");
    if (mkdir("/dev/net", 0755) < 0 && errno != EEXIST)
        launch_die(errno, "cannot make /dev/net");
    mode_t mask = umask(0);
    if (mount("none", "/dev/net", "tmpfs", MS_NOSUID | MS_NOEXEC, "size=4k,mode=0755") < 0 ||
        mknod("/dev/net/tun", S_IFCHR | 0666, makedev(10, 200)) < 0)
        launch_die(errno, "cannot make a tun device");
    umask(mask);
}

/* --- children --- */

static pid_t start(const char *const *argv, int ready_fd, int errors_fd, int net_fd)
{
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        launch_die(errno, "cannot start %s", argv[0]);
    if (pid)
        return pid;
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        _exit(1);
    dup2(null_fd, 0);
    dup2(null_fd, 1);
    dup2(errors_fd, 2);
    /* Above what they become: none is written over before it is used. */
    ready_fd = fcntl(ready_fd, F_DUPFD_CLOEXEC, NET_FD + 1);
    net_fd = fcntl(net_fd, F_DUPFD_CLOEXEC, NET_FD + 1);
    dup2(ready_fd, READY_FD);
    dup2(net_fd, NET_FD);
    close_range(NET_FD + 1, ~0U, 0);
    execvp(argv[0], (char *const *)argv);
    dprintf(2, "cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(1);
}

struct pasta {
    pid_t pid;
    int ready_fd, errors_fd;
};

static struct pasta start_pasta(const char *const *argv, int net_fd)
{
    int ready[2], errors[2];
    if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(errors, O_CLOEXEC) < 0)
        launch_die(errno, "cannot make a pipe");
    struct pasta pasta = {.pid = start(argv, ready[1], errors[1], net_fd),
                          .ready_fd = ready[0],
                          .errors_fd = errors[0]};
    close(ready[1]);
    close(errors[1]);
    return pasta;
}

/* What it says when it fails is its last line. */
static void wait_for_pasta(struct pasta *pasta)
{
    char text[2048];
    if (read(pasta->ready_fd, text, 1) == 1) {
        close(pasta->ready_fd);
        close(pasta->errors_fd);
        return;
    }
    size_t length = 0;
    for (ssize_t got; length < sizeof text - 1 &&
                      (got = read(pasta->errors_fd, text + length, sizeof text - 1 - length)) > 0;)
        length += (size_t)got;
    while (length && text[length - 1] == '\n')
        length--;
    text[length] = '\0';
    char *line = strrchr(text, '\n');
    launch_die(ENETUNREACH, "pasta failed: %.300s", line ? line + 1 : text);
}

/* --- the gate --- */

static void run_ip(const char *batch)
{
    const char *const argv[] = {"ip", "-batch", "-", NULL};
    int ends[2], status;
    if (pipe2(ends, O_CLOEXEC) < 0)
        launch_die(errno, "cannot make a pipe");
    pid_t pid = fork();
    if (pid < 0)
        launch_die(errno, "cannot start ip");
    if (pid == 0) {
        dup2(ends[0], 0);
        execvp(argv[0], (char *const *)argv);
        launch_die(errno, "cannot run ip");
    }
    close(ends[0]);
    if (write(ends[1], batch, strlen(batch)) < 0)
        launch_die(errno, "cannot talk to ip");
    close(ends[1]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        launch_die(EIO, "ip cannot set the routes");
}

#define QUIET "-f", "-4", "-P", "/proc/self/fd/3", "--netns-only"
#define NOTHING_INWARDS "-t", "none", "-u", "none", "-T", "none", "-U", "none", "--no-map-gw"

/* A network namespace of its own, by way of a process whose only work is to be in it until there is
 * a descriptor. */
static int make_namespace(void)
{
    pid_t holder = (pid_t)syscall(SYS_clone, CLONE_NEWNET | SIGCHLD, NULL, NULL, NULL, NULL);
    if (holder < 0)
        launch_die(errno, "cannot make a network namespace");
    if (holder == 0) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() == 1)
            _exit(1);
        for (;;)
            pause();
    }
    int fd = open_namespace(holder, "net");
    kill(holder, SIGKILL);
    while (waitpid(holder, NULL, 0) < 0 && errno == EINTR)
        continue;
    return fd;
}

static void enter(int namespace)
{
    if (setns(namespace, CLONE_NEWNET) < 0)
        launch_die(errno, "cannot enter a network namespace");
}

/* The outer pasta has its sockets in the host's network namespace, which this process leaves for
 * the gate. */
static struct pasta make_gate(struct gate *gate, struct resolver *resolver, int namespace)
{
    const char *const argv[] = {
        "pasta", QUIET,           "--netns", NET_PATH, "--config-net", "-I",        GATE_OUT,
        "-a",    GATE_ADDRESS,    "-n",      "24",     "-g",           GATE_ROUTER, "-D",
        "none",  NOTHING_INWARDS, NULL};
    resolver_open_upstream(resolver);
    struct pasta outer = start_pasta(argv, namespace);
    wait_for_pasta(&outer);
    enter(namespace);
    run_ip("route flush dev " GATE_OUT "\n"
           "link set lo up\n"
           "addr add " NET_NAME_SERVER "/32 dev lo\n");
    int error = gate_open_side(gate, GATE_OUT);
    if (error)
        launch_die(-error, "cannot set the gate's routes");
    error = resolver_listen(resolver, gate);
    if (error)
        launch_die(-error, "cannot serve names");
    return outer;
}

/* The gate's interface is named: by itself pasta takes the one that the default route leads to,
 * which may be the one to what is denied. */
static struct pasta connect_guest(int net_fd)
{
    const char *const argv[] = {"pasta",
                                QUIET,
                                "--netns",
                                NET_PATH,
                                "--config-net",
                                "-i",
                                GATE_OUT,
                                "-I",
                                NET_GUEST_INTERFACE,
                                "-a",
                                NET_GUEST_ADDRESS,
                                "-n",
                                "24",
                                "-g",
                                NET_GUEST_ROUTER,
                                "-D",
                                "none",
                                NOTHING_INWARDS,
                                NULL};
    struct pasta inner = start_pasta(argv, net_fd);
    wait_for_pasta(&inner);
    return inner;
}

static void never_block(int fd)
{
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        launch_die(errno, "cannot set up a socket");
}

static struct pasta connect_machine(struct relay *relay, int stream_fd)
{
    const char *const argv[] = {"passt",
                                "-f",
                                "-4",
                                "-P",
                                "/proc/self/fd/3",
                                "--fd",
                                NET_FD_NAME,
                                "-i",
                                GATE_OUT,
                                "-a",
                                NET_GUEST_ADDRESS,
                                "-n",
                                "24",
                                "-g",
                                NET_GUEST_ROUTER,
                                "-M",
                                NET_ROUTER_MAC,
                                "-D",
                                "none",
                                "--no-dhcp",
                                "-t",
                                "none",
                                "-u",
                                "none",
                                "--no-map-gw",
                                NULL};
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        launch_die(errno, "cannot make a socket");
    struct pasta inner = start_pasta(argv, ends[1]);
    close(ends[1]);
    wait_for_pasta(&inner);
    never_block(stream_fd);
    never_block(ends[0]);
    relay->fds[RELAY_MACHINE] = stream_fd;
    relay->fds[RELAY_PASST] = ends[0];
    return inner;
}

/* --- staying --- */

static void close_stdio(void)
{
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd <= 2; fd++)
        if (null_fd < 0 || dup2(null_fd, fd) < 0)
            launch_die(errno, "cannot close the standard streams");
}

static int watch_process(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        launch_die(errno, "cannot watch a process");
    return fd;
}

enum {
    GUEST,
    OUTER,
    INNER,
    ENDS,
    POLICY = ENDS,
    QUESTIONS,
    PACKETS,
    RELAY = PACKETS + GATE_SIDES_MAX,
    ANSWERS = RELAY + RELAY_SIDES,
};

static void watch(struct pollfd *watched, int fd)
{
    *watched = (struct pollfd){.fd = fd, .events = POLLIN};
}

/* Until the guest or one of the two ends; the others follow, for they end with their parent. */
_Noreturn static void stay(struct gate *gate, struct resolver *resolver, struct relay *relay,
                           const int ends[ENDS])
{
    struct pollfd watched[ANSWERS + RESOLVER_UNDERWAY_MAX];
    for (int i = 0; i < ENDS; i++)
        watch(&watched[i], ends[i]);
    for (size_t i = 0; i < GATE_SIDES_MAX; i++)
        watch(&watched[PACKETS + i], i < gate->side_count ? gate->sides[i].tun_fd : -1);
    watch(&watched[POLICY], gate->change_fd);
    watch(&watched[QUESTIONS], resolver->listen_fd);
    for (int i = 0; i < RESOLVER_UNDERWAY_MAX; i++)
        watch(&watched[ANSWERS + i], resolver->asked[i].fd);
    close_stdio();
    for (;;) {
        relay_watch(relay, &watched[RELAY]);
        if (poll(watched, ANSWERS + RESOLVER_UNDERWAY_MAX, gate_expire(gate)) < 0) {
            if (errno == EINTR)
                continue;
            _exit(1);
        }
        if (watched[GUEST].revents || watched[OUTER].revents || watched[INNER].revents)
            _exit(0);
        if ((watched[RELAY].revents || watched[RELAY + 1].revents) && !relay_run(relay))
            _exit(0);
        if (watched[POLICY].revents)
            gate_policy_changed(gate);
        for (size_t i = 0; i < gate->side_count; i++)
            if (watched[PACKETS + i].revents)
                gate_packets(gate, &gate->sides[i]);
        for (int i = 0; i < RESOLVER_UNDERWAY_MAX; i++)
            if (watched[ANSWERS + i].revents)
                resolver_answer(resolver, &resolver->asked[i]);
        if (watched[QUESTIONS].revents)
            resolver_questions(resolver);
    }
}

/* Interfaces to come have not even link-local addresses. A kernel without IPv6 needs nothing. */
static void refuse_ipv6(void)
{
    int fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, "1", 1) < 0)
        launch_die(errno, "cannot refuse IPv6");
    if (fd >= 0)
        close(fd);
}

static struct pasta connect_container(struct gate *gate, int namespace, int net_fd)
{
    enter(net_fd);
    refuse_ipv6();
    enter(namespace); /* in which the inner pasta has its sockets */
    struct pasta inner = connect_guest(net_fd);
    enter(net_fd);
    int error = gate_open_side(gate, NET_GUEST_INTERFACE);
    if (error)
        launch_die(-error, "cannot set the guest's routes");
    enter(namespace);
    return inner;
}

/* In the background process; ready_fd is told when all is there. guest_fd is -1 and net_fd the
 * stream for a machine, whose end is the stream's. */
_Noreturn static void serve(struct gate *gate, int guest_fd, int net_fd, int ready_fd)
{
    static struct resolver resolver;
    static struct relay relay = {.fds = {-1, -1}};
    relay.gate = gate;
    int namespace = make_namespace();
    struct pasta outer = make_gate(gate, &resolver, namespace);
    struct pasta inner =
        guest_fd < 0 ? connect_machine(&relay, net_fd) : connect_container(gate, namespace, net_fd);
    close(namespace);
    const int ends[ENDS] = {guest_fd, watch_process(outer.pid), watch_process(inner.pid)};
    if (write(ready_fd, "", 1) != 1)
        launch_die(ECANCELED, "nobody waits");
    close(ready_fd);
    stay(gate, &resolver, &relay, ends);
}

int main(int argc, char **argv)
{
    static struct gate gate;
    struct order order = {0};
    int ready[2];
    char byte;
    parse(argc, argv, &order);
    if (close_range(order.machine ? STREAM_FD + 1 : 3, ~0U, 0) < 0 ||
        (order.machine && fcntl(STREAM_FD, F_SETFD, FD_CLOEXEC) < 0))
        launch_die(errno, "cannot close descriptors");
    launch_raise_oom_score();
    int own_count = net_own(gate.own, GATE_OWN_MAX);
    if (own_count < 0)
        launch_die(-own_count, "cannot tell the host's networks");
    gate.own_count = (size_t)own_count;
    int error = gate_open_files(&gate, order.policy, order.log);
    if (error)
        launch_die(-error, "cannot use the policy and log");
    int guest_fd = order.machine ? -1 : watch_process(order.guest);
    int net_fd = order.machine ? STREAM_FD : open_namespace(order.guest, "net");
    int user_fd = order.machine ? userns_make(order.as_root, order.uid_base)
                                : open_namespace(order.guest, "user");
    make_tun();
    userns_become_root(user_fd);
    /* The change of identity has closed /proc/PID to the process itself and its like. */
    if (prctl(PR_SET_DUMPABLE, 1) < 0 || pipe2(ready, O_CLOEXEC) < 0)
        launch_die(errno, "cannot go on");
    pid_t pid = fork();
    if (pid < 0)
        launch_die(errno, "cannot go into the background");
    if (pid == 0)
        serve(&gate, guest_fd, net_fd, ready[1]);
    close(ready[1]);
    if (read(ready[0], &byte, 1) != 1)
        return 1;
    puts("ready");
    return 0;
}
