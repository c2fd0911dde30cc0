"""How models become JSON Schema, in the published files and in the AsyncAPI document."""

from typing import Any

from pydantic import Field
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
