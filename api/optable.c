#include "api/optable.h"

#include "api/operations/families.h"

#include <string.h>

#define ENTRIES_MAX 128

const struct operation_entry *const *optable(size_t *ret_count)
{
    static const struct operation_entry *const families[] = {
        vm_operations,      machine_operations, workspace_operations, sync_operations,
        exec_operations,    file_operations,    patch_operations,     file_change_operations,
        export_operations,  disk_operations,    upload_operations,    environment_operations,
        admin_operations,   event_operations,   snapshot_operations,  fork_operations,
        summary_operations, diff_operations,    shell_operations,     shell_stream_operations,
        service_operations, port_operations,    network_operations,   secret_operations,
    };
    static const struct operation_entry *table[ENTRIES_MAX];
    static size_t count;
    if (!count) /* the loop thread alone asks */
        for (size_t i = 0; i < sizeof families / sizeof *families; i++)
            for (const struct operation_entry *entry = families[i];
                 entry->name && count < ENTRIES_MAX; entry++)
                table[count++] = entry;
    *ret_count = count;
    return table;
}

const struct operation_entry *optable_find(const char *name)
{
    size_t count;
    const struct operation_entry *const *table = optable(&count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(table[i]->name, name) == 0)
            return table[i];
    return NULL;
}

bool optable_in_profile(const struct operation_entry *entry, enum profile profile)
{
    return entry->profile != PROFILE_NONE && entry->profile <= profile;
}

static const char *const profiles[] = {"none", "vm-run", "workspace-core", "workspace-full"};

enum profile optable_profile_parse(const char *name)
{
    for (int profile = PROFILE_VM_RUN; profile <= PROFILE_FULL; profile++)
        if (strcmp(name, profiles[profile]) == 0)
            return (enum profile)profile;
    return PROFILE_NONE;
}

const char *optable_profile_name(enum profile profile)
{
    return profiles[profile];
}
