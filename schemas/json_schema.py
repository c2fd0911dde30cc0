"""How models become JSON Schema, in the published files and in the AsyncAPI document."""

from pydantic.json_schema import GenerateJsonSchema


class PlainJsonSchema(GenerateJsonSchema):
    """Without titles of fields: "Request Id" beside `request_id` tells a reader nothing."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 (pydantic's signature)
        """No."""
        return False
