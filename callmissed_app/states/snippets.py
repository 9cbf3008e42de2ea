"""A call as code to copy: curl, Python and JavaScript, ready to run but for the key."""

import json
import shlex
from collections.abc import Mapping
from textwrap import indent
from typing import Any

PLACEHOLDER = "cm_live_YOUR_KEY"
LANGUAGES = (("curl", "curl"), ("python", "Python"), ("javascript", "JavaScript"))


def snippet(language: str, origin: str, request: Mapping[str, Any], *, key: str = PLACEHOLDER) -> str:
    """The chat call `request` to the server at `origin`, in one of `LANGUAGES` (else curl)."""
    write = {"python": _python, "javascript": _javascript}.get(language, _curl)
    return write(f"{origin}/v1", key, request)


def first_call(language: str, origin: str, *, model: str, key: str) -> str:
    """A small whole call with a real key."""
    request = {"model": model, "messages": [{"role": "user", "content": "Namaste!"}]}
    return snippet(language, origin, request, key=key)


def _curl(base: str, key: str, request: Mapping[str, Any]) -> str:
    lines = [
        f"curl {'-N ' if request.get('stream') else ''}{base}/chat/completions",
        f'  -H "Authorization: Bearer {key}"',
        '  -H "Content-Type: application/json"',
        f"  -d {shlex.quote(_json(request))}",
    ]
    return " \\\n".join(lines)


def _python(base: str, key: str, request: Mapping[str, Any]) -> str:
    arguments = indent(",\n".join(f"{name}={_literal(value)}" for name, value in request.items()), "    ")
    call = f"client.chat.completions.create(\n{arguments},\n)"
    use = (
        f'for chunk in {call}:\n    if chunk.choices:\n        print(chunk.choices[0].delta.content or "", '
        'end="", flush=True)'
        if request.get("stream")
        else f"answer = {call}\nprint(answer.choices[0].message.content)"
    )
    return (
        "# pip install openai\nfrom openai import OpenAI\n\n"
        f'client = OpenAI(\n    base_url="{base}",\n    api_key="{key}",\n)\n\n{use}'
    )


def _javascript(base: str, key: str, request: Mapping[str, Any]) -> str:
    call = f"await client.chat.completions.create({_json(request)})"
    use = (
        f"const stream = {call};\n\nfor await (const chunk of stream) {{\n"
        '  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");\n}'
        if request.get("stream")
        else f"const answer = {call};\n\nconsole.log(answer.choices[0].message.content);"
    )
    return (
        '// npm install openai\nimport OpenAI from "openai";\n\n'
        f'const client = new OpenAI({{\n  baseURL: "{base}",\n  apiKey: "{key}",\n}});\n\n{use}'
    )


def _json(request: Mapping[str, Any]) -> str:
    fields = ",\n".join(f'"{name}": {_value(value)}' for name, value in request.items())
    return "{\n" + indent(fields, "  ") + "\n}"


def _value(value: Any) -> str:
    """As JSON, a message a line."""
    if isinstance(value, list):
        return "[\n" + indent(",\n".join(_line(item) for item in value), "  ") + "\n]"
    return _line(value)


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _literal(value: Any) -> str:
    """A JSON value in Python's words: text in JSON's quotes is text in Python's too."""
    return repr(value) if isinstance(value, bool) or value is None else _value(value)
