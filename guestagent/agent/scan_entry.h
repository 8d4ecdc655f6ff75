/* A file as the scans tell it. One thread. */
#pragma once

#include "agent.pb-c.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* What was changed before this time (of the guest's clock) cannot be changed again without showing
 * it: the kernel's stamps move once a tick. */
int64_t scan_settled_before(void);
/* All but path and link target. */
void scan_entry_fill(const struct stat *status, int64_t settled_before,
                     Hearth__Agent__V1__ScanEntry *entry);
/* The same in everything that scan_entry_fill fills, but for `recent`. */
bool scan_entry_same(const Hearth__Agent__V1__ScanEntry *left,
                     const Hearth__Agent__V1__ScanEntry *right);
