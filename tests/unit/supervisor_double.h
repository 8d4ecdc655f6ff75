/* Stands in for the three functions of supervisord/ that the HTTP edge calls, so that it can be
 * tested and measured alone. The supervisor is its loop. */
#pragma once

#include "supervisord/loop.h"
#include "supervisord/supervisor.h"

#define DOUBLE_TOKEN "hth_good_secret"
#define DOUBLE_OTHER_TOKEN "hth_other_secret"

struct supervisor *supervisor_double(struct loop *loop);
/* Does the Unix socket's peer count as the daemon's own user? True at first. */
void supervisor_double_trust_peer(bool trust);
