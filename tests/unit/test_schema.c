/* The rules of OpenAI's strict mode, held over every tool there is. */
#include "api/json_read.h"
#include "api/schema.h"
#include "suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const char *const allowed[] = {
    "type",  "description",          "properties", "required", "items",   "enum",
    "anyOf", "additionalProperties", "minimum",    "maximum",  "pattern", NULL};

static bool is_allowed(const char *key)
{
    for (const char *const *word = allowed; *word; word++)
        if (strcmp(*word, key) == 0)
            return true;
    return false;
}

static bool holds(const cJSON *list, const char *text)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        if (strcmp(item->valuestring, text) == 0)
            return true;
    }
    return false;
}

static void check_strict(const cJSON *schema, const char *where);

static void check_object(const cJSON *schema, const char *where)
{
    const cJSON *properties = cJSON_GetObjectItemCaseSensitive(schema, "properties");
    const cJSON *required = cJSON_GetObjectItemCaseSensitive(schema, "required"), *member;
    ck_assert_msg(cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(schema, "additionalProperties")),
                  "%s is open", where);
    ck_assert_msg(cJSON_IsObject(properties), "%s is a free-form map", where);
    ck_assert_int_eq(cJSON_GetArraySize(properties), cJSON_GetArraySize(required));
    cJSON_ArrayForEach(member, properties)
    {
        const cJSON *text = cJSON_GetObjectItemCaseSensitive(member, "description");
        ck_assert_msg(holds(required, member->string), "%s.%s is optional", where, member->string);
        ck_assert_msg(cJSON_IsString(text) && *text->valuestring &&
                          strlen(text->valuestring) <= 1024,
                      "%s.%s has no description", where, member->string);
        check_strict(member, where);
    }
}

static void check_strict(const cJSON *schema, const char *where)
{
    const cJSON *key, *type = cJSON_GetObjectItemCaseSensitive(schema, "type");
    const cJSON *branches = cJSON_GetObjectItemCaseSensitive(schema, "anyOf");
    const cJSON *pattern = cJSON_GetObjectItemCaseSensitive(schema, "pattern");
    cJSON_ArrayForEach(key, schema)
    {
        ck_assert_msg(is_allowed(key->string), "%s has %s", where, key->string);
    }
    ck_assert_msg(cJSON_IsString(type) != cJSON_IsArray(branches), "%s has no one type", where);
    ck_assert(!pattern || !strstr(pattern->valuestring, "(?"));
    cJSON_ArrayForEach(key, branches) check_strict(key, where);
    if (type && strcmp(type->valuestring, "object") == 0)
        check_object(schema, where);
    if (type && strcmp(type->valuestring, "array") == 0) {
        const cJSON *items = cJSON_GetObjectItemCaseSensitive(schema, "items");
        ck_assert_msg(items != NULL, "%s has a list of anything", where);
        check_strict(items, where);
    }
}

/* The schema of entry's parameters, the caller's. */
static cJSON *schema_of(const struct operation_entry *entry, enum schema_flavour flavour,
                        enum profile profile)
{
    auto_buf struct buf text = {0};
    struct json_writer json = JSON_WRITER(&text);
    struct hearth_failure failure;
    cJSON *tree = NULL;
    schema_write_input(&json, NULL, entry, flavour, profile, true);
    ck_assert_int_eq(json.error, 0);
    ck_assert_msg(json_parse(&tree, text.data, text.length, &failure) == 0, "%s: %s", entry->name,
                  failure.detail);
    return tree;
}

START_TEST(tools_obey_strict_mode)
{
    enum profile profile = (enum profile)_i;
    size_t count;
    const struct operation_entry *const *table = optable(&count);
    for (size_t i = 0; i < count; i++) {
        if (!optable_in_profile(table[i], profile))
            continue;
        cJSON *schema = schema_of(table[i], SCHEMA_STRICT, profile);
        check_strict(schema, table[i]->name);
        cJSON_Delete(schema);
        size_t length = strlen(table[i]->description), name = strlen(table[i]->name);
        ck_assert_msg(length >= 1 && length <= 1024, "%s's description", table[i]->name);
        ck_assert(name <= 64 &&
                  strspn(table[i]->name, "abcdefghijklmnopqrstuvwxyz0123456789_") == name);
    }
}
END_TEST

START_TEST(a_tool_about_a_workspace_takes_its_id_first)
{
    size_t count;
    const struct operation_entry *const *table = optable(&count);
    for (size_t i = 0; i < count; i++) {
        bool about = strstr(table[i]->path, "{workspace_id}") != NULL;
        ck_assert_msg(!about || strcmp(table[i]->input[0].name, "workspace_id") == 0, "%s",
                      table[i]->name);
    }
}
END_TEST

START_TEST(defaults_are_json_within_their_bounds)
{
    size_t count;
    const struct operation_entry *const *table = optable(&count);
    for (size_t i = 0; i < count; i++)
        for (const struct field *field = table[i]->input; field->name; field++) {
            int64_t value;
            cJSON *tree = field->default_json ? cJSON_Parse(field->default_json) : NULL;
            ck_assert_msg(!field->default_json == !tree, "%s.%s", table[i]->name, field->name);
            ck_assert_msg(!(field->flags & FIELD_REQUIRED) || !tree, "%s.%s", table[i]->name,
                          field->name);
            if (tree && field->type == FIELD_INTEGER)
                ck_assert(json_integer_of(tree, &value) && value >= field->minimum &&
                          value <= field->maximum);
            cJSON_Delete(tree);
        }
}
END_TEST

START_TEST(core_has_less_than_full)
{
    const struct operation_entry *create = optable_find("workspace_create");
    cJSON *core = schema_of(create, SCHEMA_STRICT, PROFILE_CORE);
    cJSON *full = schema_of(create, SCHEMA_STRICT, PROFILE_FULL);
    cJSON *rest = schema_of(create, SCHEMA_PLAIN, PROFILE_NONE);
    ck_assert(!cJSON_HasObjectItem(cJSON_GetObjectItem(core, "properties"), "network_policy"));
    ck_assert(cJSON_HasObjectItem(cJSON_GetObjectItem(full, "properties"), "network_policy"));
    ck_assert(cJSON_HasObjectItem(cJSON_GetObjectItem(rest, "properties"), "network_policy"));
    cJSON *tool = schema_of(optable_find("workspace_exec"), SCHEMA_STRICT, PROFILE_FULL);
    ck_assert(!cJSON_HasObjectItem(cJSON_GetObjectItem(tool, "properties"), "stream"));
    ck_assert(cJSON_HasObjectItem(cJSON_GetObjectItem(tool, "properties"), "encoding"));
    cJSON_Delete(tool);
    cJSON_Delete(core);
    cJSON_Delete(full);
    cJSON_Delete(rest);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("schema");
    TCase *test_case = tcase_create("schema");
    tcase_add_loop_test(test_case, tools_obey_strict_mode, PROFILE_VM_RUN, PROFILE_FULL + 1);
    tcase_add_test(test_case, a_tool_about_a_workspace_takes_its_id_first);
    tcase_add_test(test_case, defaults_are_json_within_their_bounds);
    tcase_add_test(test_case, core_has_less_than_full);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
