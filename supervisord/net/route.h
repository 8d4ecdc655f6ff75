/* Routes of the network namespace that the socket was made in. */
#pragma once

#include "supervisord/net/denied.h"

/* A socket to the kernel; or a negative errno. */
int route_open(void);
/* In place of what it has. Gives 0 or a negative errno. */
int route_set(int fd, const struct net_prefix *prefix, unsigned interface);
/* One that is not there is no error. */
int route_remove(int fd, const struct net_prefix *prefix);
