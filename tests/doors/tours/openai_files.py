"""OpenAI's library for Python: models and files."""

from functools import partial
from typing import Any

import openai
from checks import MODEL, check, holds, same
from openai_shared import client, other, refused, valid


@check("models.list")
def _() -> None:
    models = client.models.list()
    names = [model.id for model in models]
    same("list", models.object)
    holds(MODEL in names, f"{MODEL} is not in {names}")
    holds("agent:translation" in names, f"agent:translation is not in {names}")
    for model in models:
        valid(openai.types.Model, model)


@check("models.retrieve")
def _() -> None:
    same((MODEL, "model"), ((model := client.models.retrieve(MODEL)).id, model.object))
    valid(openai.types.Model, model)


@check("models.retrieve, unknown")
def _() -> None:
    refused(lambda: client.models.retrieve("unheard-of"), 404, "model_not_found")


@check("files")
def _() -> None:
    made = client.files.create(file=("note.txt", b"hello"), purpose="user_data")
    valid(openai.types.FileObject, made)
    same(("note.txt", 5, "user_data", "file"), (made.filename, made.bytes, made.purpose, made.object))
    same(made.id, client.files.retrieve(made.id).id)
    same(b"hello", client.files.content(made.id).content)
    page = client.files.list(limit=100)
    holds(made.id in [file.id for file in page], "it is not in the list")
    refused(partial(other.files.retrieve, made.id), 404)
    deleted = client.files.delete(made.id)
    same((made.id, True, "file"), (deleted.id, deleted.deleted, deleted.object))
    refused(partial(client.files.retrieve, made.id), 404)


@check("files in messages")
def _() -> None:
    made = client.files.create(file=("note.txt", b"hello"), purpose="user_data")
    part: Any = [{"type": "file", "file": {"file_id": made.id}}, {"type": "text", "text": "Read it"}]
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": part}])
    holds("Read it" in (answer.choices[0].message.content or ""), f"{answer.choices[0].message.content}")
