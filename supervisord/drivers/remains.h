/* What a guest may leave where no cgroup holds its processes together. */
#pragma once

#include <stdbool.h>

#define GUEST_ID_VARIABLE "HEARTH_GUEST_ID" /* in the environment of what runs for a guest */

/* Blocking: kills all that was started for the guest, until nothing is left. False if that takes
 * too long. */
bool remains_kill(const char *guest_id);
