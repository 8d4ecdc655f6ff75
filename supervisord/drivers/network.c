#include "supervisord/drivers/network.h"

#include "base/text.h"
#include "supervisord/drivers/arguments.h"
#include "supervisord/net/denied.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_TIMEOUT_MS 20000
#define ALLOW_MAX 64

bool network_allow_valid(const char *text)
{
    struct net_prefix prefix;
    auto_free char *copy = text_copy(text);
    char *rest = copy;
    size_t count = 0;
    for (char *item; copy && *text && (item = strsep(&rest, ","));)
        if (++count > ALLOW_MAX || !net_prefix_parse(item, &prefix))
            return false;
    return copy != NULL;
}

void network_paths(const char *state_dir, const char *guest_id, char policy[PATH_MAX],
                   char log[PATH_MAX])
{
    snprintf(policy, PATH_MAX, "%s/network/%s.policy", state_dir, guest_id);
    snprintf(log, PATH_MAX, "%s/network/%s.log", state_dir, guest_id);
}

struct connecting {
    guest_done done;
    void *arg;
};

static void on_connected(void *arg, const struct child_result *result)
{
    auto_free struct connecting *connecting = arg;
    struct hearth_failure failure;
    char said[300];
    if (result->exit_code == 0 && !result->timed_out) {
        connecting->done(connecting->arg, 0, NULL);
        return;
    }
    snprintf(said, sizeof said, "%.*s", (int)strcspn(result->errors, "\n"), result->errors);
    for (char *at = said; *at; at++)
        if (*at < ' ' || *at > '~')
            *at = '?';
    hearth_fail(&failure, HEARTH_EUNSUPPORTED, "network_unavailable",
                "the guest's network cannot be set up: %s",
                result->timed_out ? "it took too long" : said);
    hearth_failure_hint(&failure,
                        "It needs passt, pasta and ip (apt-get install passt iproute2), a tun "
                        "device, and a host that has an IPv4 network itself.");
    connecting->done(connecting->arg, (int)failure.error, &failure);
}

int network_connect(struct child **ret_child, struct loop *loop, const struct network_spec *spec,
                    guest_done done, void *arg, struct hearth_failure *failure)
{
    const char *const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", spec->environment,
                                       NULL};
    auto_arguments struct arguments arguments = {0};
    auto_free char *program = spawn_sibling("hearth-net");
    auto_free struct connecting *connecting = malloc(sizeof *connecting);
    if (!program || !connecting)
        return hearth_fail(failure, HEARTH_EUNSUPPORTED, "network_unavailable",
                           "hearth-net is not installed");
    arguments_add(&arguments, "%s", program);
    for (size_t i = 0; i < spec->cgroup_count; i++)
        arguments_add(&arguments, "--cgroup=%s", spec->cgroup_files[i]);
    arguments_add(&arguments, "--policy=%s", spec->policy);
    arguments_add(&arguments, "--log=%s", spec->log);
    if (spec->guest)
        arguments_add(&arguments, "--pid=%d", (int)spec->guest);
    else if (spec->as_root)
        arguments_add(&arguments, "--machine=%u", (unsigned)spec->owner);
    else
        arguments_add(&arguments, "--machine");
    if (arguments.failed)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    *connecting = (struct connecting){done, arg};
    const struct spawn_spec child = {.argv = (const char *const *)arguments.items,
                                     .environment = environment,
                                     .stdin_fd = -1,
                                     .stdout_fd = -1,
                                     .stderr_fd = -1,
                                     .pass_fds = &spec->stream_fd,
                                     .pass_count = spec->stream_fd >= 0,
                                     .capture_limit = 1024,
                                     .timeout_ms = CONNECT_TIMEOUT_MS};
    int error = spawn(ret_child, loop, &child, on_connected, connecting, failure);
    if (!error)
        steal_pointer(connecting);
    return error;
}
