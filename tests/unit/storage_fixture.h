/* A database file in a directory of the test's own, and the loop's stand-in: completions are queued
 * and run by the test's thread. */
#pragma once

#include "storage/change.h"

extern char directory[64], path[96]; /* of the file */

/* What note was told, in order: the error, and the failure's code. */
extern int results[512], result_count;
extern char codes[512][48];
void note(void *arg, int error, const struct hearth_failure *failure);
/* Runs one completion, waiting for it. */
void run_one(void);
/* Until so many were noted since the set-up. */
void run(int count);

void setup(void);
void teardown(void);

struct writer *start(enum db_kind kind);
struct db *open_reader(enum db_kind kind);

extern const struct row_tenant tenant;
