#include "supervisord/workspace_state.h"

#define MOVE(state)                                                                                \
    {                                                                                              \
        WORKSPACE_POLICY_MOVE, WORKSPACE_##state                                                   \
    }
#define IGNORE                                                                                     \
    {                                                                                              \
        WORKSPACE_POLICY_IGNORE, WORKSPACE_CREATING                                                \
    }
#define BUG                                                                                        \
    {                                                                                              \
        WORKSPACE_POLICY_BUG, WORKSPACE_CREATING                                                   \
    }

static const struct workspace_cell cells[WORKSPACE_STATE_MAX][WORKSPACE_EVENT_MAX] = {
    [WORKSPACE_CREATING] =
        {
            [WORKSPACE_EVENT_CREATED] = MOVE(STARTED),
            [WORKSPACE_EVENT_STOPPED] = BUG,
            [WORKSPACE_EVENT_BOOTED] = BUG,
            [WORKSPACE_EVENT_BOOT_FAILED] = BUG,
            /* The create's own deadline or call fails and undoes it. */
            [WORKSPACE_EVENT_GUEST_DIED] = IGNORE,
            [WORKSPACE_EVENT_HOST_REBOOTED] = IGNORE,
            [WORKSPACE_EVENT_DELETE] = BUG,
            [WORKSPACE_EVENT_SUSPENDED] = BUG,
        },
    [WORKSPACE_STARTED] =
        {
            [WORKSPACE_EVENT_CREATED] = BUG,
            [WORKSPACE_EVENT_STOPPED] = MOVE(STOPPED),
            [WORKSPACE_EVENT_BOOTED] = IGNORE,
            [WORKSPACE_EVENT_BOOT_FAILED] = MOVE(FAILED),
            [WORKSPACE_EVENT_GUEST_DIED] = MOVE(FAILED),
            [WORKSPACE_EVENT_HOST_REBOOTED] = MOVE(STOPPED),
            [WORKSPACE_EVENT_DELETE] = MOVE(DELETING),
            [WORKSPACE_EVENT_SUSPENDED] = MOVE(SUSPENDED),
        },
    [WORKSPACE_STOPPED] =
        {
            [WORKSPACE_EVENT_CREATED] = BUG,
            [WORKSPACE_EVENT_STOPPED] = IGNORE,
            [WORKSPACE_EVENT_BOOTED] = MOVE(STARTED),
            [WORKSPACE_EVENT_BOOT_FAILED] = MOVE(FAILED),
            [WORKSPACE_EVENT_GUEST_DIED] = IGNORE,
            [WORKSPACE_EVENT_HOST_REBOOTED] = IGNORE,
            [WORKSPACE_EVENT_DELETE] = MOVE(DELETING),
            [WORKSPACE_EVENT_SUSPENDED] = BUG,
        },
    [WORKSPACE_FAILED] =
        {
            [WORKSPACE_EVENT_CREATED] = BUG,
            [WORKSPACE_EVENT_STOPPED] = MOVE(STOPPED),
            [WORKSPACE_EVENT_BOOTED] = MOVE(STARTED),
            [WORKSPACE_EVENT_BOOT_FAILED] = MOVE(FAILED),
            [WORKSPACE_EVENT_GUEST_DIED] = IGNORE,
            [WORKSPACE_EVENT_HOST_REBOOTED] = IGNORE,
            [WORKSPACE_EVENT_DELETE] = MOVE(DELETING),
            [WORKSPACE_EVENT_SUSPENDED] = BUG,
        },
    [WORKSPACE_SUSPENDED] =
        {
            [WORKSPACE_EVENT_CREATED] = BUG,
            [WORKSPACE_EVENT_STOPPED] = MOVE(STOPPED),
            [WORKSPACE_EVENT_BOOTED] = MOVE(STARTED),
            [WORKSPACE_EVENT_BOOT_FAILED] = MOVE(FAILED),
            [WORKSPACE_EVENT_GUEST_DIED] = IGNORE,
            [WORKSPACE_EVENT_HOST_REBOOTED] = IGNORE, /* what is on the disk is still there */
            [WORKSPACE_EVENT_DELETE] = MOVE(DELETING),
            [WORKSPACE_EVENT_SUSPENDED] = IGNORE,
        },
    [WORKSPACE_DELETING] =
        {
            [WORKSPACE_EVENT_CREATED] = BUG,
            [WORKSPACE_EVENT_STOPPED] = IGNORE,
            [WORKSPACE_EVENT_BOOTED] = BUG,
            [WORKSPACE_EVENT_BOOT_FAILED] = BUG,
            [WORKSPACE_EVENT_GUEST_DIED] = IGNORE,
            [WORKSPACE_EVENT_HOST_REBOOTED] = IGNORE,
            [WORKSPACE_EVENT_DELETE] = IGNORE,
            [WORKSPACE_EVENT_SUSPENDED] = IGNORE,
        },
};

struct workspace_cell workspace_state_cell(enum workspace_state state, enum workspace_event event)
{
    return cells[state][event];
}

const char *workspace_event_name(enum workspace_event event)
{
    static const char *const names[WORKSPACE_EVENT_MAX] = {
        "created",    "stopped",       "booted", "boot_failed",
        "guest_died", "host_rebooted", "delete", "suspended",
    };
    return names[event];
}
