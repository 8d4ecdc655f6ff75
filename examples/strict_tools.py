"""What the Responses API demands of function tools in strict mode, as a list of faults."""

import re

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
TOOL_KEYS = {"type", "name", "description", "parameters", "strict"}
DESCRIPTION_MAX = 1024
PROPERTIES_MAX, DEPTH_MAX, ENUM_MAX = 5000, 10, 1000
# JSON Schema that strict mode refuses, and what only an older or newer draft knows.
REFUSED = {"default", "oneOf", "allOf", "not", "if", "then", "else", "dependentRequired",
           "dependentSchemas", "minLength", "maxLength", "patternProperties", "uniqueItems",
           "unevaluatedProperties", "propertyNames", "minProperties", "maxProperties",
           "unevaluatedItems", "contains", "minContains", "maxContains"}
LOOK_AROUND = re.compile(r"\(\?(=|!|<=|<!)")


def faults(tools):
    """Yields what is wrong with the tool definitions of a request."""
    if not isinstance(tools, list) or not tools:
        yield "there are none"
        return
    names = [tool.get("name") for tool in tools]
    yield from (f"{name} stands twice" for name in sorted(set(names)) if names.count(name) > 1)
    for tool in tools:
        yield from (f"{tool.get('name')}: {fault}" for fault in tool_faults(tool))


def tool_faults(tool):
    if tool.keys() != TOOL_KEYS:
        yield f"has the members {sorted(tool)}"
        return
    if tool["type"] != "function":
        yield "is no function"
    if tool["strict"] is not True:
        yield "is not strict"
    if not NAME.fullmatch(tool["name"]):
        yield "has a bad name"
    yield from description_faults(tool, "")
    if tool["parameters"].get("type") != "object":
        yield "takes no object"
    yield from schema_faults(tool["parameters"], "", 1)
    if sum(1 for _ in properties(tool["parameters"])) > PROPERTIES_MAX:
        yield "has too many properties"


def description_faults(schema, where):
    text = schema.get("description")
    if not isinstance(text, str) or not 1 <= len(text) <= DESCRIPTION_MAX:
        yield f"{where or '/'} has no description of 1 to {DESCRIPTION_MAX} characters"


def schema_faults(schema, where, depth):
    """Faults of one schema and all below it."""
    if depth > DEPTH_MAX:
        yield f"{where} is nested too deep"
        return
    yield from (f"{where} uses {word}" for word in sorted(REFUSED & schema.keys()))
    if "$ref" in schema and len(schema) > 1:
        yield f"{where} has neighbours of a $ref"
    if not schema.keys() & {"type", "anyOf", "$ref", "enum", "const"}:
        yield f"{where} says no type"
    if LOOK_AROUND.search(schema.get("pattern", "")):
        yield f"{where} has a pattern that looks around"
    if len(schema.get("enum", ())) > ENUM_MAX:
        yield f"{where} has too many choices"
    if schema.get("type") == "object" or "properties" in schema:
        yield from object_faults(schema, where, depth)
    if schema.get("type") == "array":
        if isinstance(schema.get("items"), dict):
            yield from schema_faults(schema["items"], f"{where}/items", depth + 1)
        else:
            yield f"{where} does not say what it holds"
    for place, branch in enumerate(schema.get("anyOf", ())):
        yield from schema_faults(branch, f"{where}/anyOf/{place}", depth)


def object_faults(schema, where, depth):
    members = schema.get("properties", {})
    if schema.get("additionalProperties") is not False:
        yield f"{where or '/'} is not closed"
    if sorted(schema.get("required", ())) != sorted(members):
        yield f"{where or '/'} does not require all its properties"
    for name, member in members.items():
        yield from description_faults(member, f"{where}/{name}")
        yield from schema_faults(member, f"{where}/{name}", depth + 1)


def properties(schema):
    """Every property in a schema, at any depth."""
    for member in schema.get("properties", {}).values():
        yield member
        yield from properties(member)
    if isinstance(schema.get("items"), dict):
        yield from properties(schema["items"])
    for branch in schema.get("anyOf", ()):
        yield from properties(branch)
