/* dpkg's list of installed packages. Pure functions, any thread. */
#pragma once

#include "supervisord/environment.h"

#include <stddef.h>

/* Reads text, as /var/lib/dpkg/status is (deb-control(5)), which is written over and pointed into:
 * what is installed, in the order of names, then architectures. A stanza that makes no sense is
 * left out, for an imported tree's author wrote it. Gives an array of count that the caller frees,
 * or NULL (none, or out of memory). */
struct environment_package *environment_packages_parse(char *text, size_t *ret_count);
