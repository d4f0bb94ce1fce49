"""Answers against the types of a client's package: strictly, and with nothing that it does not know."""

import functools

import pydantic


def extras(value, path=""):
    """Where the package's types have no field: "choices.message.reasoning_content"."""
    if isinstance(value, pydantic.BaseModel):
        found = {f"{path}{name}" for name in value.model_extra or {}}
        for name in type(value).model_fields:
            found |= extras(getattr(value, name), f"{path}{name}.")
        return found
    if isinstance(value, (list, tuple)):
        return set().union(*(extras(item, path) for item in value)) if value else set()
    return set()


@functools.lru_cache
def adapter(kind):
    return pydantic.TypeAdapter(kind)


def strict(kind, data, allowed=()):
    """The JSON as a value of the package's type. Fields beyond it must be among those allowed."""
    value = adapter(kind).validate_json(data, strict=True)
    more = extras(value) - set(allowed)
    assert not more, f"unknown to the package: {sorted(more)}"
    return value
