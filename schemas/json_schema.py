"""How models become JSON Schema, in the published files and in the AsyncAPI document."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import BaseModel, Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema


class PlainJsonSchema(GenerateJsonSchema):
    """JSON Schema alone, without what only OpenAPI has.

    Leaves out field titles: "Request Id" next to `request_id` adds nothing.
    """

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 (pydantic's signature)
        """Never."""
        return False

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        """Without ``discriminator``, which is another keyword in AsyncAPI."""
        union = super().tagged_union_schema(schema)
        union.pop("discriminator", None)
        return union


def described(text: str, *examples: object) -> Any:
    """The description and the examples of a field, for its ``Annotated``."""
    return Field(description=text, examples=list(examples)) if examples else Field(description=text)


@cache
def names_of(model: type[BaseModel]) -> frozenset[str]:
    """The names of a model's fields, and of those of all objects in it."""
    return frozenset(_names(model.model_json_schema(schema_generator=PlainJsonSchema)))


def _names(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for each in schema:
            yield from _names(each)
    elif isinstance(schema, dict):
        if isinstance(properties := schema.get("properties"), dict):
            yield from properties
        for each in schema.values():
            yield from _names(each)
