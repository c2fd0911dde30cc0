"""Every call of the door by OpenAI's own library for Python. Each answer is also held against the library's types."""

from importlib import import_module

from checks import run

if __name__ == "__main__":
    for part in "files chat chat_streams responses streams background conversations errors".split():
        import_module(f"openai_{part}")
    run()
