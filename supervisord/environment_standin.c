/* Stands in for building, importing and pruning until they land: weak, so that the real ones win.
 */
#include "supervisord/environment.h"

static int not_yet(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_EUNSUPPORTED, "not_implemented",
                       "this build cannot do this yet");
}

__attribute__((weak)) int environment_import(struct environment_job **ret_job,
                                             struct environments *environments, const char *name,
                                             enum environment_format format, const char *path,
                                             environment_on_progress on_progress,
                                             environment_done done, void *arg,
                                             struct hearth_failure *failure)
{
    return not_yet(failure);
}
