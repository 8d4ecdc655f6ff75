/* A guest's identity, clock and entropy, as the host gives them. */
#include "base/log.h"
#include "guestagent/agent/agent.h"
#include "guestagent/agent/machine.h"
#include "guestagent/agent/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ENTROPY_MAX 256

static bool add_entropy(const struct agent *agent, const ProtobufCBinaryData *entropy)
{
    auto_close int fd = open("/dev/random", O_WRONLY | O_CLOEXEC);
    size_t length = entropy->len < ENTROPY_MAX ? entropy->len : ENTROPY_MAX;
    if (!length)
        return false;
    auto_free struct rand_pool_info *pool = calloc(1, sizeof *pool + ENTROPY_MAX);
    if (!pool)
        return false;
    pool->buf_size = (int)length;
    pool->entropy_count = (int)length * 8;
    memcpy(pool->buf, entropy->data, length);
    if (fd >= 0 && ioctl(fd, RNDADDENTROPY, pool) == 0 && ioctl(fd, RNDRESEEDCRNG) == 0)
        return true;
    /* Not permitted in a container, where the host's kernel has its own. */
    if (agent->options.machine)
        log_warning("entropy_not_added", "%s", strerror(errno));
    return false;
}

/* In its place: what is cut to nothing first gets new blocks, and ext4 writes those out at once. */
static void write_text(const char *path, const char *text, mode_t mode)
{
    auto_close int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, mode);
    off_t length = (off_t)strlen(text);
    struct stat status;
    if (fd < 0 || pwrite(fd, text, (size_t)length, 0) != length || fstat(fd, &status) < 0 ||
        (status.st_size != length && ftruncate(fd, length) < 0))
        log_warning("identity_not_written", "%s: %s", path, strerror(errno));
}

static void write_machine_id(const char *machine_id)
{
    char text[34];
    if (strlen(machine_id) != 32 || strspn(machine_id, "0123456789abcdef") != 32)
        return;
    snprintf(text, sizeof text, "%s\n", machine_id);
    write_text("/etc/machine-id", text, 0444);
}

static void write_names(const char *hostname)
{
    char text[256];
    /* What listens on "localhost" is reached by ports and probes, which go to 127.0.0.1. */
    snprintf(text, sizeof text, "127.0.0.1 localhost %.64s\n::1 ip6-localhost ip6-loopback\n",
             hostname);
    write_text("/etc/hosts", text, 0644);
    snprintf(text, sizeof text, "%.64s\n", hostname);
    write_text("/etc/hostname", text, 0644);
}

/* As long as real ones, and never told to anybody: a clone gets its own before it answers. */
void configure_rehearse(void)
{
    write_names("0000000000000000");
    write_machine_id("00000000000000000000000000000000");
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
    reply.entropy_added = add_entropy(agent, &request->entropy);
    if (request->wall_clock_us) {
        struct timespec now = {.tv_sec = (time_t)(request->wall_clock_us / 1000000),
                               .tv_nsec = (long)(request->wall_clock_us % 1000000) * 1000};
        reply.clock_set = clock_settime(CLOCK_REALTIME, &now) == 0;
    }
    if (*request->hostname)
        reply.hostname_set = sethostname(request->hostname, strlen(request->hostname)) == 0;
    if (*request->hostname && agent->options.machine) {
        write_names(request->hostname);
        machine_grow_root(request->disk_bytes); /* a clone may have been given more */
    }
    if (*request->machine_id)
        write_machine_id(request->machine_id);
    link_call_reply(call, &reply.base);
}
