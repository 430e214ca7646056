"""The reference of the API: what its OpenAPI description says, in the order in which people read it.

Shown by the page ``/api-docs/``, and written to ``docs/api-reference.md`` by ``cmdb/tools/api_reference.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ezadmin_cmdb.web.openapi import TOKEN

Spec = Mapping[str, Any]
FAMILY = ("Page", "New", "Patch", "Chosen", "BulkNew", "BulkChange", "BulkDelete")
"""Endings of schemas that follow from the one of the object; what they are is told once."""
SHARED = "shared"
METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class Value:
    """A parameter, or a member of an object. ``write``: "required", "optional", or "" for what is only read."""

    name: str
    type: str
    about: str
    operators: tuple[str, ...] = ()
    required: bool = False
    write: str = ""

    @property
    def shown_operators(self) -> tuple[str, ...]:
        """``=`` for the name alone; nothing for what has no other."""
        return () if self.operators in ((), ("",)) else tuple(one or "=" for one in self.operators)


@dataclass(frozen=True)
class Request:
    """What can be asked for. ``permission`` None: nobody is asked who he is; "": any token is enough."""

    method: str
    path: str
    summary: str
    permission: str | None
    body: str
    answer: str
    errors: tuple[str, ...]
    parameters: tuple[Value, ...]


@dataclass(frozen=True)
class Object:
    """A shape of JSON."""

    name: str
    about: str
    values: tuple[Value, ...]
    written: bool = False


@dataclass
class Section:
    """What belongs together."""

    name: str
    title: str
    requests: list[Request] = field(default_factory=list)
    objects: list[Object] = field(default_factory=list)


def sections(spec: Spec) -> list[Section]:
    """The sections of a description of the API; the last one has the shapes that several use."""
    found = {one["name"]: Section(one["name"], one["description"]) for one in spec["tags"]}
    users: dict[str, set[str]] = {}
    for path, operations in spec["paths"].items():
        for method in METHODS:
            if method in operations:
                operation = operations[method]
                tag = operation["tags"][0]
                found[tag].requests.append(_request(spec, method, path, operation))
                for name in _used(spec, operation):
                    users.setdefault(name, set()).add(tag)
    schemas = spec["components"]["schemas"]
    shared = Section(SHARED, "Shapes that several use")
    for name in sorted(users):
        if not _of_family(schemas, name):
            (section,) = [found[tag] for tag in users[name]] if len(users[name]) == 1 else [shared]
            section.objects.append(_object(schemas, name))
    for section in found.values():
        section.requests.sort(key=lambda one: (one.path, METHODS.index(one.method.lower())))
    return [*sorted(found.values(), key=lambda one: one.title), shared]


def _of_family(schemas: Mapping[str, Any], name: str) -> bool:
    return any(name.endswith(ending) and name.removesuffix(ending) in schemas for ending in FAMILY)


def _request(spec: Spec, method: str, path: str, operation: Mapping[str, Any]) -> Request:
    security = operation["security"]
    statuses = sorted(operation["responses"])
    good = next(one for one in statuses if one < "300")
    content = operation["responses"][good].get("content", {})
    body = operation.get("requestBody", {}).get("content", {})
    return Request(
        method=method.upper(),
        path=path,
        summary=operation.get("summary", ""),
        permission=None if not security else ", ".join(security[0][TOKEN]),
        body=", ".join(_type(one["schema"]) if kind == "application/json" else kind for kind, one in body.items()),
        answer=" ".join([good, *(_type(one["schema"]) for one in content.values())]),
        errors=tuple(one for one in statuses if one >= "400"),
        parameters=tuple(_parameters(operation)),
    )


def _parameters(operation: Mapping[str, Any]) -> Iterator[Value]:
    """Those of query and headers; the operators of a field stand together."""
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for one in operation.get("parameters", []):
        if one["in"] != "path":
            grouped.setdefault(one["name"].partition("__")[0], []).append(one)
    for name, members in grouped.items():
        first = members[0]
        about = first.get("description", "")
        yield Value(
            name=name,
            type=_type(first["schema"]),
            about=about.partition(": is ")[0] if ": is " in about else about,
            operators=tuple(one["name"].partition("__")[2] for one in members),
            required=first.get("required", False),
        )


def _object(schemas: Mapping[str, Any], name: str) -> Object:
    schema = schemas[name]
    new, patch = schemas.get(f"{name}New", {}), schemas.get(f"{name}Patch", {})
    members: dict[str, Any] = {**new.get("properties", {}), **schema.get("properties", {})}
    values = []
    for member, shape in members.items():
        write = ""
        if member in new.get("properties", {}) or member in patch.get("properties", {}):
            write = "required" if member in new.get("required", ()) else "optional"
        values.append(Value(member, _type(shape), shape.get("description", ""), (), False, write))
    return Object(name, schema.get("description", ""), tuple(values), bool(new or patch))


def _used(spec: Spec, node: Any, seen: frozenset[str] = frozenset()) -> set[str]:
    """The names of the schemas that a part of the description refers to, and of those that they refer to."""
    found: set[str] = set()
    if isinstance(node, Mapping):
        reference = node.get("$ref")
        if isinstance(reference, str):
            _hash, _components, kind, name = reference.split("/")
            if name not in seen:
                found |= {name} if kind == "schemas" else set()
                found |= _used(spec, spec["components"][kind][name], seen | {name})
        for one in node.values():
            found |= _used(spec, one, seen)
    elif isinstance(node, list):
        for one in node:
            found |= _used(spec, one, seen)
    return found


def _type(schema: Mapping[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for keyword in ("oneOf", "anyOf", "allOf"):
        if keyword in schema:
            return " or ".join("null" if one == {"type": "null"} else _type(one) for one in schema[keyword])
    kinds = schema.get("type", "any")
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    if "enum" in schema:
        return " or ".join("null" if one is None else f'"{one}"' for one in schema["enum"])
    words = []
    for kind in kinds:
        if kind == "array":
            words.append(f"list of {_type(schema.get('items', {}))}")
        elif kind == "object" and "properties" in schema:
            words.append("{" + ", ".join(schema["properties"]) + "}")
        else:
            words.append(schema.get("format", kind) if kind == "string" else kind)
    limits = [
        f"{sign} {schema[key]:g}"
        for key, sign in (("minimum", "≥"), ("maximum", "≤"), ("maxLength", "at most"))
        if key in schema
    ]
    return " or ".join(words) + (f", {', '.join(limits)}" if limits else "")


def markdown(spec: Spec) -> str:
    """All of it as Markdown."""
    lines = [
        "# Reference of the REST API",
        "",
        "Made by `python cmdb/tools/api_reference.py` of the OpenAPI description, which the application has at",
        "`/api/v1/openapi.json`, and shows at `/api-docs/`. How to work with it says [api.md](api.md).",
        "",
        "A filter `name` can be given with the operators that stand behind it, as `name__contains=…` (`=`: as `name=…`). Of an",
        "object `X`, `XNew` is what is sent to make one (it says what is required), `XPatch` what is sent to change one (nothing",
        "is), `XPage` a page of them: `total`, `page`, `pages`, `size`, `items`. `XBulkNew`, `XBulkChange` and `XBulkDelete`",
        "are told of in [api.md](api.md#many-at-once). Every error is a [Problem](#shapes-that-several-use).",
    ]
    for section in sections(spec):
        lines += ["", f"## {section.title}"]
        if section.requests:
            lines += [
                "",
                "| Request | What it does | Permission | Body | Answer | Errors |",
                "|---|---|---|---|---|---|",
            ]
        for one in section.requests:
            permission = "none" if one.permission is None else f"`{one.permission}`" if one.permission else "any token"
            cells = [
                f"`{one.method} {one.path}`", _cell(one.summary), permission, _code(one.body), _code(one.answer),
                " ".join(one.errors),
            ]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
        for one in section.requests:
            if one.parameters:
                lines += ["", f"Parameters of `{one.method} {one.path}`:", "", "| Name | Operators | Type | About |"]
                lines += ["|---|---|---|---|", *map(_parameter_row, one.parameters)]
        for shape in section.objects:
            lines += ["", f"### {shape.name}", ""]
            if shape.about:
                lines += [shape.about, ""]
            head = "| Member | Type | Written | About |" if shape.written else "| Member | Type | About |"
            lines += [head, re.sub(r"[^|]+", "---", head)]
            for value in shape.values:
                written = f" {value.write} |" if shape.written else ""
                lines.append(f"| `{value.name}` | {_code(value.type)} |{written} {_cell(value.about)} |")
    return "\n".join(lines) + "\n"


def _parameter_row(one: Value) -> str:
    operators = " ".join(f"`{operator}`" for operator in one.shown_operators)
    needed = " (required)" if one.required else ""
    return f"| `{one.name}`{needed} | {operators} | {_code(one.type)} | {_cell(one.about)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else ""
