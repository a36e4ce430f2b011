"""Templates that name the roles in words: Vicuna, Falcon, OpenChat, DeepSeek, and Luthier's own for models without one."""

from chat_templates.family import ALTERNATE, Family, Pieces, Turns, apart
from luthier.chat import DEFAULT_TEMPLATE

_DEEPSEEK2 = """{{- bos_token -}}
{%- for message in messages -%}
  {%- if message.role == 'assistant' -%}{{ 'Assistant: ' ~ message.content ~ eos_token }}
  {%- else -%}{{ ('User: ' if message.role == 'user' else '') ~ message.content ~ '\\n\\n' }}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'Assistant:' }}{%- endif -%}"""
# The prompt opens the reasoning, which finished answers never hold.
_DEEPSEEK_R1 = """{{- bos_token -}}
{%- for message in messages if message.role == 'system' -%}{{ message.content }}{%- endfor -%}
{%- for message in messages -%}
  {%- if message.role == 'user' -%}{{ '<｜User｜>' ~ message.content }}
  {%- elif message.role == 'assistant' -%}
    {{ '<｜Assistant｜>' ~ message.content.split('</think>')[-1] ~ '<｜end▁of▁sentence｜>' }}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<｜Assistant｜><think>\\n' }}{%- endif -%}"""


def _write_deepseek2(turns: Turns) -> Pieces:
    pieces: Pieces = [("<｜begin▁of▁sentence｜>", False)]
    for role, text in turns:
        if role == "assistant":
            pieces += [("Assistant:", False), (f" {text}<｜end▁of▁sentence｜>", True)]
        else:
            pieces += [(("User: " if role == "user" else "") + text + "\n\n", False)]
    return pieces


def _write_deepseek_r1(turns: Turns) -> Pieces:
    system, turns = apart(turns)
    pieces: Pieces = [("<｜begin▁of▁sentence｜>" + (system or ""), False)]
    for role, text in turns:
        if role == "user":
            pieces += [("<｜User｜>" + text, False)]
        else:
            pieces += [("<｜Assistant｜>", False), (text + "<｜end▁of▁sentence｜>", True)]
    return pieces


_VICUNA = (
    ALTERNATE
    + """{{- bos_token -}}
{%- for message in messages -%}
  {%- if message.role == 'system' -%}{{ message.content.strip() ~ '\\n\\n' }}
  {%- elif message.role == 'user' -%}{{ 'USER: ' ~ message.content.strip() ~ '\\n' }}
  {%- else -%}{{ 'ASSISTANT: ' ~ message.content.strip() ~ eos_token ~ '\\n' }}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}"""
)
_FALCON = (
    ALTERNATE
    + """
{%- for message in messages -%}
  {%- if message.role == 'system' -%}{{ message.content }}
  {%- else -%}{{ '\\n\\n' ~ message.role.title() ~ ': ' ~ message.content.strip() }}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '\\n\\nAssistant:' }}{%- endif -%}"""
)


def _write_vicuna(turns: Turns) -> Pieces:
    system, turns = apart(turns)
    pieces: Pieces = [("<s>" + ("" if system is None else system.strip() + "\n\n"), False)]
    for role, text in turns:
        if role == "user":
            pieces += [(f"USER: {text.strip()}\n", False)]
        else:
            pieces += [("ASSISTANT:", False), (f" {text.strip()}</s>", True), ("\n", False)]
    return pieces


def _write_falcon(turns: Turns) -> Pieces:
    system, turns = apart(turns)
    pieces: Pieces = [(system or "", False)]
    for role, text in turns:
        if role == "user":
            pieces += [(f"\n\nUser: {text.strip()}", False)]
        else:
            pieces += [("\n\nAssistant:", False), (f" {text.strip()}", True)]
    return [*pieces, ("<|endoftext|>", True)]


_OPENCHAT = """{{- bos_token -}}
{%- for message in messages -%}
{{ 'GPT4 Correct ' ~ message.role.title() ~ ': ' ~ message.content ~ '<|end_of_turn|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'GPT4 Correct Assistant:' }}{%- endif -%}"""


def _write_openchat(turns: Turns) -> Pieces:
    pieces: Pieces = [("<s>", False)]
    for role, text in turns:
        if role == "assistant":
            pieces += [("GPT4 Correct Assistant:", False), (f" {text}<|end_of_turn|>", True)]
        else:
            pieces += [(f"GPT4 Correct {role.title()}: {text}<|end_of_turn|>", False)]
    return pieces


def _write_default(turns: Turns) -> Pieces:
    pieces: Pieces = []
    for role, text in turns:
        if role == "system":
            pieces += [(f"{text}\n\n", False)]
        elif role == "user":
            pieces += [(f"User: {text}\n", False)]
        else:
            pieces += [("Assistant:", False), (f" {text}<|endoftext|>", True), ("\n", False)]
    return pieces


_DEEPSEEK = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>")
_DEEPSEEK_ADDED = ("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>")
WORDED = [
    Family("DeepSeek-V2", _DEEPSEEK2, _write_deepseek2, *_DEEPSEEK),
    Family("DeepSeek-R1", _DEEPSEEK_R1, _write_deepseek_r1, *_DEEPSEEK, _DEEPSEEK_ADDED),
    Family("Vicuna", _VICUNA, _write_vicuna),
    Family("Falcon", _FALCON, _write_falcon, "", "<|endoftext|>", "<|endoftext|>"),
    Family("OpenChat", _OPENCHAT, _write_openchat, "<s>", "<|end_of_turn|>", "<|end_of_turn|>"),
    Family("Luthier's own", DEFAULT_TEMPLATE, _write_default, "<|endoftext|>", "<|endoftext|>", "<|endoftext|>"),
]
