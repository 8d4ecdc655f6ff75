/* The supervisor's own life, for main alone. */
#pragma once

#include "supervisord/supervisor.h"

/* Takes the state directory's lock, opens storage, makes drivers; borrows loop and config. Nothing
 * runs yet. HEARTH_ECONFLICT `state_dir_in_use` where another daemon has the lock. */
int supervisor_new(struct supervisor **ret_supervisor, struct loop *loop,
                   const struct config *config, struct hearth_failure *failure);
/* Probes the drivers, loads every row, takes running guests back, goes on with what was cut short;
 * then calls ready, once. */
void supervisor_recover(struct supervisor *supervisor, void (*ready)(void *arg), void *arg);
/* No new workspaces from now on; with stop_guests every started workspace is stopped first. done
 * once. */
void supervisor_drain(struct supervisor *supervisor, bool stop_guests, void (*done)(void *arg),
                      void *arg);
/* True where nothing runs and nothing is under way: a private daemon may end. */
bool supervisor_idle(struct supervisor *supervisor);
/* Guests go on running. Everything acknowledged is on disk. */
void supervisor_free(struct supervisor *supervisor);
