/* What a guest was denied, as results tell it (network.c). */
#pragma once

#include "api/json_write.h"
#include "api/optable.h"
#include "supervisord/guest_network.h"

extern const struct field denial_fields[];
void write_denial(struct json_writer *json, const struct net_log_entry *entry);
