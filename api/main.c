/* hearthd: reads its settings, makes the supervisor and the API, serves until it is told to end. */
#include "api/api.h"
#include "api/json_read.h"
#include "api/notify.h"
#include "api/optable.h"
#include "base/log.h"
#include "base/standard_fds.h"
#include "supervisord/lifecycle.h"

#include <event2/event.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define DRAIN_MS 10000
#define IDLE_CHECK_US (5 * US_PER_S)

struct daemon {
    struct config *config;
    struct loop *loop;
    struct supervisor *supervisor;
    struct api *api;
    struct event *signals[2];
    struct timer idle, watchdog;
    uint64_t requests_seen;
    int64_t last_use_us;
    uint64_t watchdog_us;
    bool ending;
    int exit_code;
};

static void complain(const char *what, const struct hearth_failure *failure)
{
    fprintf(stderr, "hearthd: %s: %s [%s]%s%s\n", what, failure->detail, failure->code,
            *failure->hint ? "\nhint: " : "", failure->hint);
}

/* Ending: replies go out, then guests (if asked for), then storage. */

static void drained(void *arg)
{
    loop_stop(((struct daemon *)arg)->loop);
}

static void api_drained(void *arg)
{
    struct daemon *daemon = arg;
    supervisor_drain(daemon->supervisor, daemon->config->stop_guests, drained, daemon);
}

static void end(struct daemon *daemon)
{
    if (daemon->ending)
        return;
    daemon->ending = true;
    notify("STOPPING=1");
    if (daemon->api)
        api_drain(daemon->api, DRAIN_MS, api_drained, daemon);
    else
        loop_stop(daemon->loop);
}

static void on_signal(evutil_socket_t signal, short what, void *arg)
{
    (void)what;
    log_info("signal", "number=%d", (int)signal);
    end(arg);
}

/* A private daemon ends when nobody uses it and no guest runs. */
static void check_idle(void *arg)
{
    struct daemon *daemon = arg;
    int64_t now = clock_monotonic_us();
    uint64_t requests = daemon->api ? api_request_count(daemon->api) : 0;
    if (requests != daemon->requests_seen || !supervisor_idle(daemon->supervisor) ||
        (daemon->api && api_in_use(daemon->api))) {
        daemon->requests_seen = requests;
        daemon->last_use_us = now;
    }
    if (now - daemon->last_use_us >= daemon->config->idle_exit_seconds * US_PER_S) {
        log_info("idle_exit", "seconds=%u", daemon->config->idle_exit_seconds);
        end(daemon);
        return;
    }
    timer_set(&daemon->idle, now + IDLE_CHECK_US);
}

/* Fed only while the loop turns and storage answers. */
static void feed_watchdog(void *arg)
{
    struct daemon *daemon = arg;
    struct supervisor_health health;
    supervisor_get_health(daemon->supervisor, &health);
    if (health.storage_ok)
        notify("WATCHDOG=1");
    timer_set(&daemon->watchdog, clock_monotonic_us() + (int64_t)daemon->watchdog_us / 2);
}

static void serve(void *arg)
{
    struct daemon *daemon = arg;
    struct hearth_failure failure;
    if (api_new(&daemon->api, daemon->supervisor, &failure)) {
        complain("cannot serve", &failure);
        daemon->exit_code = EXIT_FAILURE;
        loop_stop(daemon->loop);
        return;
    }
    malloc_trim(0); /* what was only needed to start: the filter's making, the recovery's rows */
    printf("ready %s\n", api_url(daemon->api));
    fflush(stdout);
    notify("READY=1");
    log_info("ready", "url=%s version=%s", api_url(daemon->api), HEARTH_VERSION);
    if (daemon->config->idle_exit_seconds) {
        daemon->last_use_us = clock_monotonic_us();
        check_idle(daemon);
    }
    if ((daemon->watchdog_us = notify_watchdog_us()))
        feed_watchdog(daemon);
}

static int run(struct daemon *daemon)
{
    static const int numbers[] = {SIGTERM, SIGINT};
    struct hearth_failure failure;
    if (loop_new(&daemon->loop, &failure) ||
        supervisor_new(&daemon->supervisor, daemon->loop, daemon->config, &failure)) {
        complain("cannot start", &failure);
        return EXIT_FAILURE;
    }
    for (int i = 0; i < 2; i++) {
        daemon->signals[i] = evsignal_new(loop_base(daemon->loop), numbers[i], on_signal, daemon);
        event_add(daemon->signals[i], NULL);
    }
    timer_init(&daemon->idle, daemon->loop, check_idle, daemon);
    timer_init(&daemon->watchdog, daemon->loop, feed_watchdog, daemon);
    supervisor_recover(daemon->supervisor, serve, daemon);
    loop_run(daemon->loop);
    timer_free(&daemon->idle);
    timer_free(&daemon->watchdog);
    if (daemon->api)
        api_close(daemon->api);
    for (int i = 0; i < 2; i++)
        event_free(daemon->signals[i]);
    return daemon->exit_code;
}

static void set_log_level(const char *name)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    for (int level = 0; level < 4; level++)
        if (strcmp(name, names[level]) == 0)
            log_set_level((enum log_level)level);
}

int main(int argc, char **argv)
{
    struct daemon daemon = {0};
    struct hearth_failure failure;
    standard_fds_hold();
    /* What guests' memory and secrets pass through here is nobody's core dump: the limit does not
     * hold for a program that the kernel would give one to. */
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    prctl(PR_SET_DUMPABLE, 0);
    if (config_load(&daemon.config, argc, argv, &failure)) {
        complain("bad settings", &failure);
        return 2;
    }
    int exit_code = EXIT_SUCCESS;
    if (daemon.config->help)
        config_print_help();
    else if (daemon.config->version)
        puts("hearthd " HEARTH_VERSION);
    else if (daemon.config->describe)
        exit_code = optable_describe(stdout, daemon.config->describe_format) ? 2 : EXIT_SUCCESS;
    else {
        json_wipe_what_is_freed();
        struct rlimit files;
        if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
            files.rlim_cur = files.rlim_max;
            setrlimit(RLIMIT_NOFILE, &files);
        }
        signal(SIGPIPE, SIG_IGN);
        umask(022); /* what is private says so by its own mode */
        set_log_level(daemon.config->log_level);
        exit_code = run(&daemon);
        if (daemon.supervisor)
            supervisor_free(daemon.supervisor);
        if (daemon.api)
            api_free(daemon.api);
        if (daemon.loop)
            loop_free(daemon.loop);
    }
    config_free(daemon.config);
    return exit_code;
}
