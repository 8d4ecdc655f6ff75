/* Long work (create, delete, stop, start) as an array of steps. The intent is a row before anything
 * is done; each step is noted when it begins; a step that fails has those before it undone, in
 * reverse order. So a crash at any point leaves a row that says what to finish or undo: undo and
 * the steps of a forward-only kind may run twice. Loop thread. */
#pragma once

#include "base/failure.h"
#include "base/id.h"
#include "storage/change.h"

#include <stdbool.h>
#include <stddef.h>

struct principal;
struct steps;
struct supervisor;

struct step {
    const char *name;
    /* Ends by steps_next or steps_fail, now or later. */
    void (*run)(struct steps *steps, void *subject);
    /* Ends by steps_next. NULL: nothing to undo. */
    void (*undo)(struct steps *steps, void *subject);
};

struct steps_kind {
    const char *name; /* "create" */
    const struct step *steps;
    size_t count;
    bool forward_only; /* after a crash it goes on; else it is undone */
    /* The kind's own words, which steps_resume's row gives back after a crash (steps_asker_format
     * makes some). NULL: none. Borrowed while the row is written. */
    const char *(*request)(const void *subject);
    /* The end, once. After an undo error and failure say why. The row is deleted by what done
     * commits: it adds steps_finish to its change. The runner is freed after done returned. */
    void (*done)(struct steps *steps, void *subject, int error,
                 const struct hearth_failure *failure);
};

struct steps {
    struct supervisor *supervisor;
    const struct steps_kind *kind;
    void *subject;
    char operation_id[ID_SIZE];
    char tenant_id[64], subject_id[ID_SIZE];
    size_t at;
    bool undoing;
    bool begun; /* its intent is written */
    struct hearth_failure failure;
};

/* Who asked, as a journalled request: a resumed operation's audit names them. */
#define STEPS_ASKER_SIZE 128
void steps_asker_format(char out[STEPS_ASKER_SIZE], const struct principal *principal,
                        const char *request_id);
void steps_asker_parse(const char *request, struct principal *principal, char ret_request_id[68]);

/* Writes the intent together with change (taken) and runs the first step after the commit. Where
 * the commit fails, done is called with its failure and nothing has been done. */
void steps_begin(struct supervisor *supervisor, const struct steps_kind *kind, void *subject,
                 const char *tenant_id, const char *subject_id, struct change *change,
                 struct steps **ret_steps);
/* After a restart: goes on at the noted step, or undoes from there. */
struct steps *steps_resume(struct supervisor *supervisor, const struct steps_kind *kind,
                           void *subject, const struct row_operation *row);
void steps_next(struct steps *steps);
void steps_fail(struct steps *steps, const struct hearth_failure *failure);
/* Adds the deletion of the operation's row to change. */
void steps_finish(const struct steps *steps, struct change *change);
