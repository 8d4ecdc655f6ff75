/* `hearth store verify`: is a tenant's content store whole? Loop thread. */
#pragma once

#include "storage/store.h"

struct supervisor;

typedef void (*store_checked)(void *arg, int error, const struct hearth_failure *failure,
                              const struct store_report *report);
/* Reads all of it, and gives back the room of what nobody needs first. done once, never before this
 * returns. */
void store_check(struct supervisor *supervisor, const char *tenant_id, store_checked done,
                 void *arg);
