/* The ID maps of a user namespace, by whoever may write them: a process in it, or its maker. For
 * programs of one thread; how they end where it fails is theirs. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* Writes text to the file of this name of a process ("/proc/self", "/proc/PID"). False: errno says
 * why not. */
bool id_map_write(const char *process, const char *name, const char *text);
/* This user and group of the caller's (who asks for them before it is in the namespace), and nobody
 * else, are there: as root, or as who they are. Gives NULL, or the name of the file that could not
 * be written; errno says why. */
const char *id_map_alone(const char *process, uid_t uid, gid_t gid, bool as_root);
