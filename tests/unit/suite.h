/* How the programs of the unit tests end. */
#pragma once

#include <check.h>
#include <stdlib.h>

/* Runs and frees it; gives what main returns. */
static inline int run_and_free(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
