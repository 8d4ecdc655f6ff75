#include "supervisord/environment_internal.h"

bool environment_job_running(const struct environments *environments, const char *name)
{
    (void)environments;
    (void)name;
    return false;
}

void environment_jobs_free(struct environments *environments)
{
    (void)environments;
}
