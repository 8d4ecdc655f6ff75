/* A guest's identity, clock and entropy, as the host gives them. */
#include "base/log.h"
#include "guestagent/agent/agent.h"
#include "guestagent/agent/machine.h"
#include "guestagent/agent/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define ENTROPY_MAX 256

static bool add_entropy(const ProtobufCBinaryData *entropy)
{
    auto_close int fd = open("/dev/random", O_WRONLY | O_CLOEXEC);
    size_t length = entropy->len < ENTROPY_MAX ? entropy->len : ENTROPY_MAX;
    if (fd < 0 || !length)
        return false;
    auto_free struct rand_pool_info *pool = calloc(1, sizeof *pool + ENTROPY_MAX);
    if (!pool)
        return false;
    pool->buf_size = (int)length;
    pool->entropy_count = (int)length * 8;
    memcpy(pool->buf, entropy->data, length);
    /* Not permitted in a container, where the host's kernel has its own. */
    return ioctl(fd, RNDADDENTROPY, pool) == 0 && ioctl(fd, RNDRESEEDCRNG) == 0;
}

static void write_machine_id(const char *machine_id)
{
    if (strlen(machine_id) != 32 || strspn(machine_id, "0123456789abcdef") != 32)
        return;
    auto_close int fd =
        open("/etc/machine-id", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0444);
    if (fd < 0)
        return;
    if (write(fd, machine_id, 32) == 32 && write(fd, "\n", 1) < 0)
        log_warning("machine_id_not_written", "%s", strerror(errno));
}

void configure_handle(struct agent *agent, struct link_call *call,
                      const Hearth__Agent__V1__ConfigureRequest *request)
{
    Hearth__Agent__V1__ConfigureReply reply = HEARTH__AGENT__V1__CONFIGURE_REPLY__INIT;
    int error = secrets_set(agent, request->secrets, request->n_secrets);
    if (error) {
        call_refuse_errno(call, -error, "secrets");
        return;
    }
    reply.entropy_added = add_entropy(&request->entropy);
    if (request->wall_clock_us) {
        struct timespec now = {.tv_sec = (time_t)(request->wall_clock_us / 1000000),
                               .tv_nsec = (long)(request->wall_clock_us % 1000000) * 1000};
        reply.clock_set = clock_settime(CLOCK_REALTIME, &now) == 0;
    }
    if (*request->hostname)
        reply.hostname_set = sethostname(request->hostname, strlen(request->hostname)) == 0;
    if (*request->hostname && agent->options.machine) {
        machine_name(request->hostname);
        machine_grow_root(request->disk_bytes); /* a clone may have been given more */
    }
    if (*request->machine_id)
        write_machine_id(request->machine_id);
    link_call_reply(call, &reply.base);
}
