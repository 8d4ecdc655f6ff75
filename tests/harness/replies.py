"""Every reply that the suite sees is held against the API's own description of it."""

import json
import re
import urllib.parse

import jsonschema_rs


def route_pattern(template):
    """A regular expression for a path template: "/v1/x/{id}" takes one segment for {id}."""
    parts = re.split(r"(\{[^}]*\})", template)
    return re.compile("".join("[^/]+" if part.startswith("{") else re.escape(part)
                              for part in parts))


class Replies:
    """Called with (method, path, reply): fails the test that got a reply which /openapi.json does
    not describe."""

    def __init__(self, openapi):
        self.components = openapi.get("components", {})
        self.operations = [(route_pattern(template), methods)
                           for template, methods in openapi["paths"].items()]
        # A literal segment is meant before a parameter.
        self.operations.sort(key=lambda entry: entry[0].pattern.count("[^/]+"))
        self.validators = {}

    def find(self, method, path):
        path = urllib.parse.urlsplit(path).path
        for pattern, methods in self.operations:
            if pattern.fullmatch(path):
                return methods.get(method.lower())
        return None

    def validator(self, operation, status, media_type):
        key = (operation["operationId"], status, media_type)
        if key not in self.validators:
            responses = operation["responses"]
            response = responses.get(str(status)) or responses.get("default")
            assert response, f"{key[0]} answers {status}, which it does not declare"
            content = self._resolve(response).get("content", {})
            assert media_type in content, f"{key[0]} answers {status} with {media_type}"
            schema = content[media_type].get("schema", {})
            self.validators[key] = jsonschema_rs.validator_for(
                {"$schema": "https://json-schema.org/draft/2020-12/schema",
                 **schema, "components": self.components})
        return self.validators[key]

    def _resolve(self, node):
        while "$ref" in node:
            target = {"components": self.components}
            for step in node["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            node = target
        return node

    def __call__(self, method, path, reply):
        media_type = (reply.headers.get("Content-Type") or "").split(";")[0]
        operation = self.find(method, path)
        if operation is None or media_type not in ("application/json", "application/problem+json"):
            return
        if "default" in operation["responses"]:
            return  # a guest's own answer, which nobody describes
        validator = self.validator(operation, reply.status, media_type)
        faults = [f"{error.instance_path}: {error.message}"
                  for error in validator.iter_errors(json.loads(reply.body))]
        assert not faults, f"{method} {path} answered {reply.status}: {faults}"
