/* What a person reads: fields and tables on stdout, one summary line on stderr. Text that came from
 * a tenant or guest is shown without its control characters where stdout is a terminal's. */
#pragma once

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>

/* With --json: the reply's bytes and a newline. */
void output_json(const char *text);

/* Text of a tenant or guest, without its control characters but for the ends of lines and tabs. */
void output_text(const char *text);
/* The same of so many bytes, within a line of our own: without those too. */
void output_words(FILE *out, const char *text, size_t length);

/* Every member on a line, "name: value"; those of objects indented below it, and a line each for
 * the objects of a list. */
void output_fields(const cJSON *object);

struct column {
    const char *title, *member;
};
/* A row an element, columns as wide as they need be; columns ends with a NULL title. */
void output_table(const cJSON *array, const struct column *columns);

/* "[verb] name=value …" on stderr, of the named members that are there; of one that is
 * an object its members. names ends with NULL. */
void output_summary(const char *verb, const cJSON *object, const char *const *names);

/* "[verb] count=N" on stderr: of a list that was shown whole. */
void output_count(const char *verb, const cJSON *array);

/* Members, or what stands for them. */
const char *json_text(const cJSON *object, const char *name, const char *otherwise);
double json_number(const cJSON *object, const char *name, double otherwise);
const cJSON *json_member(const cJSON *object, const char *name);
