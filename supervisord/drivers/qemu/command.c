#include "supervisord/drivers/qemu/qemu.h"
#include "supervisord/net/net.h"

#include <sodium.h>
#include <string.h>

/* reboot=t: a panic is QEMU's end at once. mitigations and the self-tests cost a quarter of a boot
 * under TCG; what the guest could leak by them is its own. The console that is there from the first
 * moment is the plain serial port's; its driver would only cost time. */
#define KERNEL_ARGUMENTS                                                                           \
    "rdinit=/init quiet panic=-1 reboot=t no_timer_check mitigations=off random.trust_cpu=on "     \
    "cryptomgr.notests 8250.nr_uarts=0 earlyprintk=serial,ttyS0,115200,keep"
#define AGENT_NETWORK " --network " NET_GUEST_ADDRESS "," NET_GUEST_ROUTER "," NET_NAME_SERVER
#define OVERHEAD_MIB 512 /* what a disk's metadata and a saved machine may take besides */

static void add(struct arguments *arguments, const char *first, const char *second)
{
    arguments_add(arguments, "%s", first);
    arguments_add(arguments, "%s", second);
}

/* What the jail does not have of itself is shown in it. */
static const char *program_in_jail(const struct qemu_guest *guest)
{
    static const char *const system[] = {"/usr/", "/bin/", "/lib/"};
    for (size_t i = 0; i < sizeof system / sizeof *system; i++)
        if (strncmp(guest->driver->program, system[i], strlen(system[i])) == 0)
            return guest->driver->program;
    return "/program";
}

/* Blanks and commas are as good as any: every name that QEMU is told is one of the jail's. */
static void add_jail(const struct qemu_guest *guest, struct arguments *arguments)
{
    const struct qemu_driver *driver = guest->driver;
    uint64_t file_limit = ((uint64_t)guest->disk_mib * 9 / 8 + guest->mem_mib + OVERHEAD_MIB) << 20;
    arguments_add(arguments, "%s", driver->launch_path);
    arguments_add(arguments, "--machine");
    if (driver->as_root)
        arguments_add(arguments, "--uid=%u", (unsigned)guest->owner);
    for (size_t i = 0; i < driver->cgroups.base_count; i++) {
        char file[CGROUP_PATH_SIZE];
        cgroup_join_file(&driver->cgroups, i, guest->guest_id, file);
        arguments_add(arguments, "--cgroup=%s", file);
    }
    arguments_add(arguments, "--file-limit=%llu", (unsigned long long)file_limit);
    if (strcmp(guest->accelerator, "kvm") == 0)
        arguments_add(arguments, "--device=/dev/kvm");
    if (strcmp(program_in_jail(guest), guest->driver->program) != 0)
        arguments_add(arguments, "--run=program=%s", guest->driver->program);
    bool cut = guest->template_state_fd >= 0 && *guest->stub;
    arguments_add(arguments, "--show=kernel=%s", cut ? guest->stub : guest->kernel.path);
    arguments_add(arguments, "--show=initrd=%s", cut ? guest->stub : guest->initrd);
    if (!guest->trial) {
        arguments_add(arguments, "--show=base=%s", guest->image_path);
        arguments_add(arguments, "--own=guest=%s/machines/%s", driver->config.state_dir,
                      guest->guest_id);
    }
    arguments_add(arguments, "--pass=%d",
                  qemu_network_fd(guest) - QEMU_FD_QMP + qemu_network_fd_count(guest));
    arguments_add(arguments, "--");
}

/* norandmaps: QEMU translates code anew for every address at which it finds it, so that under TCG a
 * command takes three to four times as long where each process has its programs elsewhere. */
static void add_kernel_arguments(const struct qemu_guest *guest, struct arguments *arguments)
{
    bool kvm = strcmp(guest->accelerator, "kvm") == 0;
    const char *network = guest->network ? AGENT_NETWORK : "";
    const char *maps = kvm ? "" : " norandmaps";
    const char *words = guest->transport->agent_words ? guest->transport->agent_words : "";
    if (guest->trial)
        arguments_add(arguments, KERNEL_ARGUMENTS " -- --machine --no-disk%s", words);
    else if (guest->template_ram_fd >= 0) /* word for word the same for a template and its clones */
        arguments_add(arguments,
                      KERNEL_ARGUMENTS "%s tsc=reliable tsc_early_khz=%u -- --machine --warm%s%s",
                      maps, kvm ? 0 : guest->timestamp_khz, words, network);
    else if (!kvm && guest->timestamp_khz)
        arguments_add(arguments,
                      KERNEL_ARGUMENTS "%s tsc=reliable tsc_early_khz=%u -- --machine%s%s", maps,
                      guest->timestamp_khz, words, network);
    else
        arguments_add(arguments, KERNEL_ARGUMENTS "%s -- --machine%s%s", maps, words, network);
}

static void add_machine(const struct qemu_guest *guest, struct arguments *arguments)
{
    bool kvm = strcmp(guest->accelerator, "kvm") == 0;
    arguments_add(arguments, "%s", program_in_jail(guest));
    add(arguments, "-M",
        guest->transport->restorable ? "microvm,acpi=on,rtc=on,memory-backend=ram"
                                     : "microvm,acpi=on,rtc=on");
    if (guest->template_ram_fd >= 0) {
        arguments_add(arguments, "-object");
        arguments_add(arguments,
                      "memory-backend-file,id=ram,size=%uM,mem-path=/proc/self/fd/%d,share=%s",
                      (unsigned)guest->mem_mib, QEMU_FD_RAM, guest->making ? "on" : "off");
    } else if (guest->transport->restorable) { /* by its name, whatever it was started from */
        arguments_add(arguments, "-object");
        arguments_add(arguments, "memory-backend-ram,id=ram,size=%uM", (unsigned)guest->mem_mib);
    }
    if (guest->template_state_fd >= 0)
        add(arguments, "-incoming", "defer"); /* until the monitor says what is left out of it */
    if (guest->held)
        arguments_add(arguments, "-S");
    /* Room for what Python and git take to start: where it is full, all is translated again. */
    add(arguments, "-accel", kvm ? "kvm" : "tcg,tb-size=48");
    /* TCG moves one byte at a time by the instruction that these two flags call fast. */
    add(arguments, "-cpu", kvm ? "host" : "max,-erms,-fsrm");
    arguments_add(arguments, "-m");
    arguments_add(arguments, "%uM", (unsigned)guest->mem_mib);
    arguments_add(arguments, "-smp");
    arguments_add(arguments, "%u", (unsigned)guest->vcpu_count);
    add(arguments, "-name", guest->guest_id);
    arguments_add(arguments, "-nodefaults");
    arguments_add(arguments, "-no-user-config");
    arguments_add(arguments, "-no-reboot");
    add(arguments, "-display", "none");
    add(arguments, "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    add(arguments, "-kernel", "/kernel");
    add(arguments, "-initrd", "/initrd");
    arguments_add(arguments, "-append");
    add_kernel_arguments(guest, arguments);
}

static void add_disk(struct arguments *arguments)
{
    add(arguments, "-blockdev",
        "driver=file,node-name=base-file,filename=/base,read-only=on,auto-read-only=off");
    add(arguments, "-blockdev", "driver=raw,node-name=base,file=base-file,read-only=on");
    add(arguments, "-blockdev",
        "driver=file,node-name=root-file,filename=/guest/disk.qcow2,discard=unmap");
    add(arguments, "-blockdev",
        "driver=qcow2,node-name=root,file=root-file,backing=base,discard=unmap");
    add(arguments, "-device", "virtio-blk-device,id=disk,drive=root");
}

static void add_devices(const struct qemu_guest *guest, struct arguments *arguments)
{
    arguments_add(arguments, "-chardev");
    arguments_add(arguments, "socket,id=qmp,fd=%d,server=on,wait=off", QEMU_FD_QMP);
    add(arguments, "-mon", "chardev=qmp,mode=control");
    arguments_add(arguments, "-chardev");
    arguments_add(arguments, "socket,id=console,fd=%d,server=on,wait=off", QEMU_FD_CONSOLE);
    add(arguments, "-serial", "chardev:console");
    if (!guest->trial)
        add_disk(arguments);
    if (guest->network)
        qemu_network_command(guest, arguments);
    guest->transport->add_arguments(guest, arguments);
}

void qemu_command(const struct qemu_guest *guest, struct arguments *arguments)
{
    add_jail(guest, arguments);
    add_machine(guest, arguments);
    add_devices(guest, arguments);
}

void qemu_command_digest(const struct qemu_guest *guest, char out[QEMU_DIGEST_SIZE])
{
    auto_arguments struct arguments arguments = {0};
    struct qemu_guest like = *guest;
    unsigned char digest[(QEMU_DIGEST_SIZE - 1) / 2];
    crypto_generichash_state state;
    like.guest_id[0] = '\0';
    like.making = true;
    like.trial = false;
    like.template_ram_fd = 0;
    like.template_state_fd = -1;
    like.timestamp_khz = 0; /* measured anew by each daemon: the same for the machine */
    add_machine(&like, &arguments);
    add_devices(&like, &arguments);
    crypto_generichash_init(&state, NULL, 0, sizeof digest);
    for (size_t i = 0; i < arguments.count; i++)
        crypto_generichash_update(&state, (const void *)arguments.items[i],
                                  strlen(arguments.items[i]) + 1);
    crypto_generichash_final(&state, digest, sizeof digest);
    sodium_bin2hex(out, QEMU_DIGEST_SIZE, digest, sizeof digest);
}
