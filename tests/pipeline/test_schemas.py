"""Random schemas: what their grammars accept and give, against the jsonschema package."""

import json
import random
import subprocess

import pytest

from cluster import PROGRAMS

jsonschema = pytest.importorskip("jsonschema")

WORDS = ["a", "ab", "b", "key", "ключ", "q\"t", "x y", "\n", ""]
PATTERNS = ["^[a-c]{1,3}$", "b", "^a|z$", "^(ab)*c?$", "^\\d{2,}", "[^a-z]$", "^.{2}$", "[a-z]\\s"]
FORMATS = ["date", "uuid", "ipv4", "email", "nothing known"]


class Writer:
    """Schemas, and instances that mean to satisfy them, with members in the order of the schema."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.names = [f"d{i}" for i in range(self.random.randint(0, 2))]

    def schema(self):
        schema = self.any(0)
        kinds = [self.object, self.array, self.string]  # no reference that leads to itself at once
        defs = {name: self.random.choice(kinds)(1) for name in self.names}
        if isinstance(schema, dict) and defs:
            schema["$defs"] = defs
        return schema

    def any(self, depth):
        kinds = [self.number, self.integer, self.string, self.enum, self.plain]
        if depth < 3:
            kinds += [self.object, self.object, self.array, self.any_of, self.all_of]
        if self.names and depth > 0:
            kinds.append(self.ref)
        return self.random.choice(kinds)(depth)

    def ref(self, depth):
        return {"$ref": "#/$defs/" + self.random.choice(self.names)}

    def plain(self, depth):
        return self.random.choice([{}, True, {"type": "boolean"}, {"type": ["null", "integer"]},
                                   {"type": "object"}, {"type": "array", "maxItems": 3}])

    def enum(self, depth):
        values = [1, "a", None, True, [1, "x"], {"a": {"b": 2}}, "q\"\n", -7, 0.5]
        if self.random.random() < 0.3:
            return {"const": self.random.choice(values)}
        return {"enum": self.random.sample(values, self.random.randint(1, 4))}

    def bounds(self, values):
        low, high = sorted(self.random.sample(values, 2))
        schema = {}
        if self.random.random() < 0.7:
            schema[self.random.choice(["minimum", "exclusiveMinimum"])] = low
        if self.random.random() < 0.7:
            schema[self.random.choice(["maximum", "exclusiveMaximum"])] = high
        return schema

    def integer(self, depth):
        return {"type": "integer",
                **self.bounds([-1000, -101, -100, -9, -1, 0, 1, 7, 10, 99, 100, 255, 1000, 2.5])}

    def number(self, depth):
        return {"type": "number",
                **self.bounds([-100, -2.5, -1, -0.05, 0, 0.001, 0.5, 1, 1.25, 9.99, 10, 1000])}

    def string(self, depth):
        schema = {"type": "string"}
        if self.random.random() < 0.4:
            schema["minLength"] = self.random.randint(0, 3)
        if self.random.random() < 0.4:
            schema["maxLength"] = schema.get("minLength", 0) + self.random.choice([0, 1, 3, 40])
        if self.random.random() < 0.3:
            schema["pattern"] = self.random.choice(PATTERNS)
        elif self.random.random() < 0.2 and len(schema) == 1:
            schema["format"] = self.random.choice(FORMATS)
        return schema

    def array(self, depth):
        schema = {"type": "array", "items": self.any(depth + 1)}
        if self.random.random() < 0.3:
            schema["prefixItems"] = [self.any(depth + 1) for _ in range(self.random.randint(1, 2))]
        if self.random.random() < 0.4:
            schema["minItems"] = self.random.randint(0, 2)
        if self.random.random() < 0.4:
            schema["maxItems"] = schema.get("minItems", 0) + self.random.randint(0, 2)
        return schema

    def object(self, depth):
        names = self.random.sample(WORDS, self.random.randint(0, 4))
        schema = {"type": "object", "properties": {name: self.any(depth + 1) for name in names}}
        schema["required"] = [name for name in names if self.random.random() < 0.5]
        extra = self.random.random()
        if extra < 0.5:
            schema["additionalProperties"] = False
        elif extra < 0.75:
            schema["additionalProperties"] = self.any(depth + 1)
        return schema

    def any_of(self, depth):
        return {"anyOf": [self.any(depth + 1) for _ in range(self.random.randint(1, 3))]}

    def all_of(self, depth):
        return {"allOf": [self.object(depth + 1), {"description": "and"}]}

    # ---- instances ----

    def instance(self, schema, root, depth=0):
        if depth > 12 or not isinstance(schema, dict):
            return self.random.choice([1, "a", None])
        if "$ref" in schema:
            return self.instance(root.get("$defs", {})[schema["$ref"].split("/")[-1]], root, depth + 1)
        if "anyOf" in schema:
            return self.instance(self.random.choice(schema["anyOf"]), root, depth + 1)
        if "allOf" in schema:
            return self.instance(schema["allOf"][0], root, depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self.random.choice(schema["enum"])
        kind = schema.get("type", "null")
        kind = self.random.choice(kind) if isinstance(kind, list) else kind
        return {"object": self.an_object, "array": self.an_array, "string": self.a_string,
                "number": self.a_number, "integer": self.an_integer,
                "boolean": lambda *_: self.random.random() < 0.5,
                "null": lambda *_: None}[kind](schema, root, depth)

    def an_object(self, schema, root, depth):
        value = {}
        for name, own in schema.get("properties", {}).items():
            if name in schema.get("required", []) or self.random.random() < 0.5:
                value[name] = self.instance(own, root, depth + 1)
        if self.random.random() < 0.4:
            value["other"] = self.instance(schema.get("additionalProperties", {}), root, depth + 1)
        return value

    def an_array(self, schema, root, depth):
        prefix = schema.get("prefixItems", [])
        length = self.random.randint(schema.get("minItems", 0), schema.get("maxItems", 3))
        return [self.instance(prefix[i] if i < len(prefix) else schema.get("items", {}), root,
                              depth + 1) for i in range(length)]

    def a_string(self, schema, root, depth):
        known = {"date": "2024-02-29", "ipv4": "10.0.0.255", "email": "a@b.org",
                 "uuid": "123e4567-e89b-12d3-a456-426614174000"}.get(schema.get("format"))
        if known:
            return known
        length = self.random.randint(schema.get("minLength", 0), schema.get("maxLength", 5) + 1)
        return "".join(self.random.choice("abcz12 _é你😀\"\\") for _ in range(length))

    def a_number(self, schema, root, depth):
        edges = [v for k, v in schema.items() if "imum" in k]
        value = self.random.choice([*edges, 0, 1, -1, 0.5, 3.25, -2.75, 100, 0.001])
        value += self.random.choice([0, 0, 0.5, -0.25])
        return int(value) if value == int(value) else value  # 1.0 is no integer here

    def an_integer(self, schema, root, depth):
        return int(self.a_number(schema, root, depth))


def spellings(value):
    """The value as text, as people and programs write it."""
    return [json.dumps(value, ensure_ascii=False, separators=(",", ":")),
            json.dumps(value, ensure_ascii=False), json.dumps(value, ensure_ascii=False, indent=2)]


@pytest.fixture(scope="module")
def judge():
    program = PROGRAMS / "judge_schema"
    if not program.exists():
        pytest.skip(f"{program} is not built")
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        def ask(question):
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())
        yield ask
        process.stdin.close()


@pytest.mark.parametrize("part", range(4))
def test_random_schemas(judge, part):
    checker = jsonschema.FormatChecker()
    counts = {"refused": 0, "accepted": 0, "rejected": 0, "samples": 0}
    for seed in range(150 * part, 150 * (part + 1)):
        writer = Writer(seed)
        schema = writer.schema()
        validator = jsonschema.Draft202012Validator(schema, format_checker=checker)
        root = schema if isinstance(schema, dict) else {}
        values = [writer.instance(schema, root) for _ in range(12)]
        values += [1, "a", None, [], {}, {"a": 1}, 2.5]
        texts = [text for value in values for text in spellings(value)]
        answer = judge({"schema": schema, "texts": texts, "samples": 25, "seed": seed})
        if "error" in answer:
            assert answer["error"] == "no text at all can match it", (schema, answer)
            assert not any(map(validator.is_valid, values)), schema
            counts["refused"] += 1
            continue
        for i, accepted in enumerate(answer["accepted"]):
            valid = validator.is_valid(values[i // 3])
            counts["accepted" if accepted else "rejected"] += 1
            assert accepted == valid, (schema, texts[i], "is valid" if valid else "is not valid")
        for text in answer["samples"]:
            counts["samples"] += 1
            value = json.loads(text)
            assert validator.is_valid(value), (schema, text)
    assert counts["accepted"] > 1000 and counts["rejected"] > 1000 and counts["samples"] > 1000
