/* Recorded commands that the agent may forget. A call for each would be as much work as the
 * command; what is not told, for want of a link, the agent bounds by itself. */
#include "supervisord/exec_internal.h"

#include <string.h>

#define FORGET_TIMEOUT_MS 30000
#define FORGET_US (100 * US_PER_MS)
#define FORGET_MANY 64

static void tell(void *arg)
{
    struct workspace *workspace = arg;
    Hearth__Agent__V1__ExecForgetRequest request = HEARTH__AGENT__V1__EXEC_FORGET_REQUEST__INIT;
    char *more[FORGET_MANY];
    char *id = workspace->forgets.ids.data;
    request.exec_id = id;
    request.more = more;
    while (request.n_more + 1 < workspace->forgets.count) {
        id += strlen(id) + 1;
        more[request.n_more++] = id;
    }
    if (workspace->sandbox && workspace->sandbox->link.state == AGENTLINK_UP)
        agent_call(&workspace->sandbox->link, "ExecForget", &request.base,
                   &hearth__agent__v1__empty__descriptor, FORGET_TIMEOUT_MS, NULL, NULL);
    timer_unset(&workspace->forgets.timer);
    buf_clear(&workspace->forgets.ids);
    workspace->forgets.count = 0;
}

void exec_forget_soon(struct workspace *workspace, const char *exec_id)
{
    if (buf_append(&workspace->forgets.ids, exec_id, strlen(exec_id) + 1))
        return;
    if (++workspace->forgets.count == 1)
        timer_set(&workspace->forgets.timer, clock_monotonic_us() + FORGET_US);
    if (workspace->forgets.count == FORGET_MANY)
        tell(workspace);
}

void exec_forgets_init(struct workspace *workspace)
{
    timer_init(&workspace->forgets.timer, workspace->supervisor->loop, tell, workspace);
}

void exec_forgets_free(struct workspace *workspace)
{
    timer_free(&workspace->forgets.timer);
    buf_free(&workspace->forgets.ids);
}
