#include "supervisor_double.h"

#include <string.h>

static struct tenant tenant = {.tenant_id = "admin"};
static bool peer_trusted = true;

struct supervisor *supervisor_double(struct loop *loop)
{
    return (struct supervisor *)(void *)loop;
}

void supervisor_double_trust_peer(bool trust)
{
    peer_trusted = trust;
}

struct loop *supervisor_loop(struct supervisor *supervisor)
{
    return (struct loop *)(void *)supervisor;
}

static int refuse(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_EUNAUTHENTICATED, NULL, "a valid token is needed");
}

int tenant_authenticate(struct supervisor *supervisor, const char *token,
                        struct principal *ret_principal, struct hearth_failure *failure)
{
    (void)supervisor;
    bool good = !strcmp(token, DOUBLE_TOKEN), other = !strcmp(token, DOUBLE_OTHER_TOKEN);
    if (!good && !other)
        return refuse(failure);
    *ret_principal = (struct principal){.tenant = &tenant, .rights = RIGHT_OPERATE};
    strcpy(ret_principal->token_id, good ? "good" : "other");
    return 0;
}

int tenant_authenticate_peer(struct supervisor *supervisor, uid_t uid,
                             struct principal *ret_principal, struct hearth_failure *failure)
{
    (void)supervisor;
    (void)uid;
    if (!peer_trusted)
        return refuse(failure);
    *ret_principal = (struct principal){.tenant = &tenant, .rights = RIGHT_ADMIN};
    strcpy(ret_principal->token_id, "local");
    return 0;
}
