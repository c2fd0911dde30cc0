"""Models as the LLM service describes them."""

from schemas.generation import ModelInfo


def model(name: str, provider: str = "ollama", *aliases: str) -> ModelInfo:
    """A model whose sizes do not matter."""
    return ModelInfo(name=name, aliases=list(aliases), provider=provider, context_tokens=1, max_output_tokens=1)
