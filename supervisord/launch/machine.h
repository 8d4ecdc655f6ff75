/* hearth-launch's form for virtual machines: becomes QEMU in a jail of its own.
 *
 *   hearth-launch --machine [--uid N] [--cgroup FILE]… [--file-limit BYTES] [--device FILE]…
 *                 [--show NAME=PATH]… [--own NAME=PATH]… [--run NAME=PATH]… [--pass COUNT]
 *                 -- QEMU ARGUMENT…
 *
 * QEMU is the first process of its own PID namespace, sees nothing of the host's file system but
 * /usr (read-only), the devices named and what --show (read-only), --run (the same, a program) and
 * --own (a directory, writable) put below /NAME, has no network, no privilege, no core dump, and
 * runs as N (as root) or as the user in a user namespace where that user is nobody else.
 * Descriptors 3 to 3 + COUNT - 1 go through to it; its output is hearth-launch's stderr.
 * hearth-launch itself ends as soon as QEMU is on its way, with its PID (as the caller sees it) on
 * stdout. What goes wrong is one line on stderr and exit status 1. */
#pragma once

#include <sys/types.h>

void machine_launch(int argc, char **argv, pid_t parent) __attribute__((noreturn));
