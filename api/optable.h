/* The operation table: every operation once, as data. REST routes, JSON Schemas, OpenAPI, OpenAI
 * and MCP tools, the CLI's description and docs/api.md are printed from it; requests from every
 * surface are checked and decoded by it. One file a family under api/operations/ holds its entries
 * and handlers. A handler gets a typed input struct and a call, and never sees HTTP or JSON trees;
 * a surface never sees a workspace. */
#pragma once

#include "api/call.h"
#include "base/failure.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum field_type {
    FIELD_STRING,      /* const char *; NULL when absent */
    FIELD_INTEGER,     /* struct optional_integer where FIELD_OPTIONAL_VALUE, else int64_t */
    FIELD_NUMBER,      /* double */
    FIELD_BOOLEAN,     /* bool */
    FIELD_STRING_LIST, /* struct string_list */
    FIELD_MAP,         /* struct pair_list: an object of strings, or an array of {name, value} */
    FIELD_OBJECT,      /* nested: `fields`; in input structs a pointer, NULL when absent */
    FIELD_OBJECT_LIST, /* nested: struct object_list */
    FIELD_ANY,         /* outputs only: free-form */
};

enum field_place { PLACE_BODY, PLACE_QUERY, PLACE_PATH };

enum field_flags {
    FIELD_REQUIRED =
        1, /* inputs: must be there. Outputs: fields are always there unless FIELD_SOMETIMES */
    FIELD_NULLABLE = 2,       /* outputs: may be null. Inputs: null always means absent */
    FIELD_SECRET = 4,         /* never logged, never in a failure */
    FIELD_OPTIONAL_VALUE = 8, /* FIELD_INTEGER without a default: struct optional_integer */
    FIELD_REST_ONLY = 16,     /* not offered to models and MCP (stream, raw bodies) */
    FIELD_SOMETIMES = 32,     /* outputs: may be missing */
    FIELD_FULL_ONLY = 64,     /* in tool definitions of workspace-full only */
    FIELD_BLANK_OK = 128,     /* FIELD_STRING: "" is a value */
    FIELD_CHARACTERS = 256,   /* FIELD_STRING: its length is of characters, else of UTF-8's bytes */
};

struct optional_integer {
    bool set;
    int64_t value;
};
struct string_list {
    size_t count;
    const char *const *items;
};
struct pair_item {
    const char *name, *value;
};
struct pair_list {
    bool set;
    size_t count;
    const struct pair_item *items;
};
struct object_list {
    size_t count;
    const void *items; /* array of the nested input struct, `nested_size` apart */
};

struct field {
    const char *name;
    enum field_type type;
    enum field_place place;
    unsigned flags;
    int64_t minimum, maximum;   /* of an integer; of a string's, list's or map's length. maximum 0:
                                   the general limit */
    const char *default_json;   /* NULL: none */
    const char *const *choices; /* NULL-terminated; FIELD_STRING */
    const char *pattern;        /* documented (ECMA 262); checked by `check` */
    int (*check)(
        const char *value,
        struct hearth_failure *failure); /* FIELD_STRING; field is filled in by the caller */
    const char *description;             /* one sentence, for people and models */
    size_t offset;                       /* in the input struct */
    const struct field *fields;          /* nested, ended by a NULL name; of a map: its names' and
                                            its values' rows, for the schemas */
    size_t nested_size;
};

enum profile { PROFILE_NONE, PROFILE_VM_RUN, PROFILE_CORE, PROFILE_FULL };
enum surface { SURFACE_REST = 1, SURFACE_TOOL = 2 };

enum operation_flags {
    OPERATION_READ_ONLY = 1,
    OPERATION_DESTRUCTIVE = 2,
    OPERATION_IDEMPOTENT = 4,
    OPERATION_LONG = 8,     /* may take longer than the request deadline */
    OPERATION_STREAMS = 16, /* may answer as a stream over REST, of one of stream_types */
    OPERATION_RAW_BODY =
        32, /* REST: the body is content, not JSON; other fields come in the query */
    OPERATION_ACTIVITY = 64, /* bumps last_activity_at */
    OPERATION_ADMIN = 128,   /* needs RIGHT_ADMIN; else OPERATE, or READ if READ_ONLY */
    OPERATION_OPEN_WORLD = 256,
    OPERATION_ATOMIC = 512, /* its effect and the audit row of it are one commit: without the row
                               nothing has happened */
    OPERATION_NEEDS_INPUT = 1024, /* no one argument is needed, but some is */
    OPERATION_RELAY = 2048,   /* REST: any method, and the rest of the path is the last parameter's;
                                 it has no handler, the guest answers (api/port_proxy.c) */
    OPERATION_UPGRADE = 4096, /* REST: the connection becomes another protocol's; no handler */
    OPERATION_WAKES = 8192,   /* needs the workspace's guest: a suspended one is resumed first */
    OPERATION_SETTLES = 16384,      /* … needs no guest: one that is being suspended is awaited */
    OPERATION_TELLS_SECRET = 32768, /* its answer is kept sealed, where it is kept */
};

struct operation_entry {
    const char *name;    /* tool name and operationId */
    const char *family;  /* "workspace", "exec", … : the CLI's noun and the docs' chapter */
    const char *title;   /* a few words */
    const char *summary; /* one sentence for people */
    const char
        *description; /* for models: when to use, what comes back, limits; at most 1024 bytes */
    const char *method, *path; /* "POST", "/v1/workspaces/{workspace_id}/exec" */
    enum profile profile;      /* the smallest that has it; PROFILE_NONE: no tool */
    unsigned surfaces, flags;
    int status;                /* on success: 200, 201 … */
    const struct field *input; /* ended by a NULL name */
    size_t input_size;
    const struct field *output; /* the result's fields, ended by a NULL name */
    const char *const *errors;  /* codes it can give besides the general ones, NULL-terminated */
    const char *const *stream_types; /* media types, NULL-terminated; with OPERATION_STREAMS */
    void (*handler)(struct call *call, const void *input);
    /* Replies as the handler did, of the subject that its audit row names, where a crash came
     * between the effect and the answer (api/idempotency.c). NULL: cannot be told again. */
    void (*tell)(struct call *call, const void *input, const char *subject_id);
};

/* Every entry, in the order of docs/contract and of tool lists; ended by a NULL name. */
const struct operation_entry *const *optable(size_t *ret_count);
const struct operation_entry *optable_find(const char *name);
/* Is entry in the tool set of profile? vm-run ⊂ core ⊂ full. */
bool optable_in_profile(const struct operation_entry *entry, enum profile profile);
enum profile optable_profile_parse(const char *name); /* PROFILE_NONE if unknown */
const char *optable_profile_name(enum profile profile);

/* Prints the table: "text", "markdown" (docs/api.md) or "json". HEARTH_EINVALID for another format.
 */
int optable_describe(FILE *out, const char *format);
