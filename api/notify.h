/* What systemd is told (sd_notify(3)): one datagram to $NOTIFY_SOCKET. Without that variable
 * nothing is done. */
#pragma once

#include <stdint.h>

void notify(const char *state);
/* $WATCHDOG_USEC where the watchdog is meant for this process, else 0. */
uint64_t notify_watchdog_us(void);
