/* The entries of each family, ended by a NULL name; in the order of the contract. */
#pragma once

#include "api/optable.h"

extern const struct operation_entry vm_operations[], workspace_operations[], exec_operations[],
    file_operations[], disk_operations[], upload_operations[], environment_operations[],
    admin_operations[], event_operations[], sync_operations[], export_operations[],
    snapshot_operations[], fork_operations[], summary_operations[], shell_stream_operations[],
    diff_operations[], machine_operations[], shell_operations[], patch_operations[],
    file_change_operations[], service_operations[], port_operations[], network_operations[],
    secret_operations[];
