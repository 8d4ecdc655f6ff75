/* The life of a workspace as a table: every state and event has a cell, and every cell is a move or
 * a named policy. Pure. */
#pragma once

#include "supervisord/workspace.h"

enum workspace_event {
    WORKSPACE_EVENT_CREATED,       /* booted, seeded: create is done */
    WORKSPACE_EVENT_STOPPED,       /* orderly end of its guest */
    WORKSPACE_EVENT_BOOTED,        /* start is done */
    WORKSPACE_EVENT_BOOT_FAILED,   /* start could not be done */
    WORKSPACE_EVENT_GUEST_DIED,    /* its guest ended by itself */
    WORKSPACE_EVENT_HOST_REBOOTED, /* found at start-up: nothing can run any more */
    WORKSPACE_EVENT_DELETE,        /* asked for */
    WORKSPACE_EVENT_SUSPENDED,     /* its guest was saved and ended */
    WORKSPACE_EVENT_MAX,
};

enum workspace_policy {
    WORKSPACE_POLICY_MOVE,
    WORKSPACE_POLICY_IGNORE, /* may happen, changes nothing */
    WORKSPACE_POLICY_BUG,    /* cannot happen: logged as an error, changes nothing */
};

struct workspace_cell {
    enum workspace_policy policy;
    enum workspace_state next; /* with MOVE */
};

struct workspace_cell workspace_state_cell(enum workspace_state state, enum workspace_event event);
const char *workspace_event_name(enum workspace_event event);
