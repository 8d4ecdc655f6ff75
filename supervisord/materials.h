/* What a virtual machine is made of besides its driver: the kernel and the environment as an ext4
 * image. The first machine waits for both. Loop thread. */
#pragma once

#include "supervisord/drivers/driver.h"

struct supervisor;

/* done comes once, never before this returns; the failure's hint says what to install or pull. */
void materials_ensure(struct supervisor *supervisor, const char *environment_version,
                      guest_done done, void *arg);
