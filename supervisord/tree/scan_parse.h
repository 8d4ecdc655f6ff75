/* What an agent's scan says, as entries. The agent may say anything. Pure. */
#pragma once

#include "agent.pb-c.h"
#include "base/buf.h"
#include "supervisord/tree/known.h"

/* Brings known up to date with a scan's messages (agent_tree.h). hints, which may be NULL, is a
 * tree that was put there just before: its contents are taken where size and time agree.
 * ret_changed: known's list is not what it was. On error known is empty: HEARTH_EUNAVAILABLE
 * `agent_broken`, HEARTH_ETOOLARGE `tree_too_large`, HEARTH_ENOMEMORY. */
int scan_parse(struct known *known, const struct buf *messages, const struct tree_list *hints,
               bool *ret_changed, struct hearth_failure *failure);

/* An entry of the agent's, its texts in path and target (TREE_PATH_MAX + 1 bytes each). 1; 0 where
 * it is of a kind that trees do not have (sockets, devices); HEARTH_EUNAVAILABLE `agent_broken`. */
int scan_entry_take(const Hearth__Agent__V1__ScanEntry *from, char *path, char *target,
                    struct tree_entry *ret_entry, struct hearth_failure *failure);
