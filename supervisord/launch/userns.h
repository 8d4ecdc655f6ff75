/* The user namespace of a guest, and how a program that enters it ends when something fails. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#define USERNS_SIZE 65536 /* IDs in a guest's range */

/* Gives a descriptor of a new user namespace with its ID maps written. As root: USERNS_SIZE IDs
 * from uid_base. As a plain user: the user as root, and the user's ranges in /etc/subuid and
 * /etc/subgid (through newuidmap and newgidmap) where there are any. */
int userns_make(bool as_root, uid_t uid_base);

/* Enters it, and is its root from now on. */
void userns_become_root(int user_namespace);

/* Where errors go; 2 until stdio is closed. */
extern int launch_errors_fd;
/* One line "PROGRAM: …: strerror(error)" and exit status 1. */
void launch_die(int error, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));
