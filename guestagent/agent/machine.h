/* The agent as the first process of a virtual machine: from the initramfs to a root file system
 * that commands can live in, and in the end back to a file system that is whole. Blocking. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Loads the drivers, mounts everything, makes the disk the root. What is said goes to the kernel's
 * log, which the host keeps. Without disk the initramfs stays the root: enough to answer. 0 or a
 * negative errno: without a root there is nothing to go on with. */
int machine_boot(bool disk);
/* The root file system takes what its device has; online. Where that is to be `bytes`, which the
 * host has already said to the device, it is waited for a moment until the kernel has taken note.
 */
void machine_grow_root(uint64_t bytes);
/* eth0 is up: "ADDRESS,ROUTER,NAMESERVER" in its network of 24 bits, IPv4 alone. What cannot be had
 * is said in the log: a machine without a network is still one. */
void machine_network(const char *text);
/* Runs what people run first once, so that a machine that is saved now has it in memory; in the end
 * nothing waits to be written to the disk. */
void machine_warm(void);
/* Kills what runs, writes everything to the disk, powers off. Does not return. */
void machine_power_off(void) __attribute__((noreturn));
/* The virtio-serial port of this name, opened non-blocking, or a negative errno. */
int machine_open_port(const char *name);
/* A listening vsock socket, or a negative errno: the machine has none. */
int machine_listen_vsock(unsigned port);
/* A connection to the host that is closed again: whoever listens there knows by it that vsock works
 * from end to end. Where nobody does it is refused at once. */
void machine_greet(unsigned port);
