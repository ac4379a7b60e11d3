#!/usr/bin/env python3
"""Compares a running gateway with its own description: every path and method, every answer.

usage: openapi.py HOST:PORT SERVICE SERVER
"""

import http.client
import json
import sys
from urllib.parse import quote

import jsonschema
import openapi_spec_validator

HOST, SERVICE, SERVER = sys.argv[1:]
NAMES = {"service": SERVICE, "server": SERVER, "client": "203.0.113.9", "limit": "hard"}
METHODS = ["get", "put", "post", "delete", "patch", "head", "options"]


def ask(method, path, control=True):
    connection = http.client.HTTPConnection(HOST, timeout=30)
    connection.request(method.upper(), path, headers={"X-Probegate-Control": "1"} if control else {})
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def closed(schema):
    """The schema without room for what it does not name: whatever is in an answer has to be described."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema and "required" in schema:
        schema.setdefault("additionalProperties", False)
    return schema


def main():
    status, _, body = ask("GET", "/openapi.json", control=False)
    assert status == 200, status
    description = json.loads(body)
    openapi_spec_validator.validate(description)
    assert description["openapi"].startswith("3.1")
    strict = closed(description["components"])
    checked = 0
    for path, operations in description["paths"].items():
        real = path
        for name, value in NAMES.items():
            real = real.replace("{%s}" % name, quote(value, safe=""))
        assert "{" not in real, real
        for method in METHODS:
            if method == "head":
                continue
            operation = operations.get(method)
            if operation is None:
                status, headers, body = ask(method, real)
                assert status == 405, (method, real, status)
                allowed = {word.strip().lower() for word in headers["Allow"].split(",")} - {"head"}
                assert allowed == set(operations), (real, allowed)
                continue
            if method in ("delete", "put") and real.endswith("/drain"):
                real_target = real + ("?force=true" if method == "put" else "")
            else:
                real_target = real
            [(media, content)] = operation["responses"]["200"]["content"].items()
            if media == "text/event-stream":
                # It has no end.
                status, headers, body = ask("head", real_target)
            else:
                status, headers, body = ask(method, real_target)
            checked += 1
            if real.endswith("/switch"):
                # This service has no slots: what is said of that is a problem document.
                assert status in (400, 409), (method, real, status, body)
                problem = {"$ref": "#/components/schemas/Problem", "components": strict}
                jsonschema.Draft202012Validator(problem).validate(json.loads(body))
                continue
            assert status == 200, (method, real, status, body)
            assert headers["Content-Type"].split(";")[0] == media, (real, headers["Content-Type"])
            if media == "application/json":
                schema = {**content["schema"], "components": strict}
                if real == "/openapi.json":
                    schema = {"type": "object"}
                jsonschema.Draft202012Validator(schema).validate(json.loads(body))
            if operation["security"] == [] and real != "/openapi.json" or media.startswith("text/"):
                continue
            # What nobody knows is a problem document, and described as one.
            status, headers, body = ask(method, real + "?nobody=knows")
            assert status == 400 and headers["Content-Type"] == "application/problem+json", (real, status, body)
            problem = {"$ref": "#/components/schemas/Problem", "components": strict}
            jsonschema.Draft202012Validator(problem).validate(json.loads(body))
            if method == "get":
                assert ask("head", real)[0] == 200, real
            elif operation["parameters"]:
                assert ask(method, real, control=False)[0] == 403, real
    assert ask("GET", "/no/such/path")[0] == 404
    print(f"all paths and methods are as described: {checked}")


main()
