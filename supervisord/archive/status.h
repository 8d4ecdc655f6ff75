/* The status that a hearth-archive exits with which reads or writes below a root it was given, and
 * the reason on descriptor 2 that goes with it. One thread. */
#pragma once

#include <stdbool.h>

#define ARCHIVE_LEADS_OUT 3 /* a symlink leads out of the root */

/* Whether this is what an open of path_at.h gives (a negative errno) for such a symlink. */
bool archive_leads_out(int error);
/* Gives 1. */
int archive_fail(const char *why);
/* Of a negative errno from such an open: gives ARCHIVE_LEADS_OUT, or 1 with the reason told. */
int archive_fail_errno(int error);
