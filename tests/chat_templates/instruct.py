"""Templates that put what is asked between [INST] and [/INST]: Llama 2, Mistral."""

from chat_templates.family import ALTERNATE, NO_SYSTEM, Family, Pieces, Turns, apart, folded

_LLAMA2 = (
    ALTERNATE
    + """
{%- set turns = messages[1:] if messages[0].role == 'system' else messages -%}
{%- for message in turns -%}
  {%- if message.role == 'user' -%}
    {%- set asked = message.content -%}
    {%- if loop.first and messages[0].role == 'system' -%}
      {%- set asked = '<<SYS>>\\n' ~ messages[0].content ~ '\\n<</SYS>>\\n\\n' ~ asked -%}
    {%- endif -%}
    {{ bos_token ~ '[INST] ' ~ asked.strip() ~ ' [/INST]' }}
  {%- else -%}{{ ' ' ~ message.content.strip() ~ ' ' ~ eos_token }}{%- endif -%}
{%- endfor -%}"""
)


def _write_llama2(turns: Turns) -> Pieces:
    system, turns = apart(turns)
    pieces: Pieces = []
    for place, (role, content) in enumerate(turns):
        if role == "assistant":
            pieces += [(f" {content.strip()} </s>", True)]
        elif place == 0 and system is not None:
            pieces += [(f"<s>[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{content.rstrip()} [/INST]", False)]
        else:
            pieces += [(f"<s>[INST] {content.strip()} [/INST]", False)]
    return pieces


_MISTRAL = (
    NO_SYSTEM
    + ALTERNATE
    + """
{{- bos_token -}}
{%- for message in messages -%}
{{ '[INST] ' ~ message.content ~ ' [/INST]' if message.role == 'user' else message.content ~ eos_token }}
{%- endfor -%}"""
)
# The instruction stands in the last turn, where that is the user's: a finished dialogue has none.
_MISTRAL3 = (
    ALTERNATE
    + """
{{- bos_token -}}
{%- for message in messages if message.role != 'system' -%}
  {%- if message.role == 'assistant' -%}{{ ' ' ~ message.content | trim ~ eos_token }}
  {%- elif loop.last and messages[0].role == 'system' -%}
    {{ '[INST] ' ~ messages[0].content ~ '\\n\\n' ~ message.content ~ '[/INST]' }}
  {%- else -%}{{ '[INST] ' ~ message.content ~ '[/INST]' }}{%- endif -%}
{%- endfor -%}"""
)


def _write_mistral(turns: Turns) -> Pieces:
    return [
        ("<s>", False),
        *((f"[INST] {text} [/INST]", False) if role == "user" else (text + "</s>", True) for role, text in folded(turns)),
    ]


def _write_mistral3(turns: Turns) -> Pieces:
    pieces: Pieces = [("<s>", False)]
    for role, text in folded(turns):
        pieces += [(f"[INST] {text}[/INST]", False) if role == "user" else (f" {text.strip()}</s>", True)]
    return pieces


_ADDED = ("[INST]", "[/INST]")
INSTRUCT = [
    Family("Llama 2", _LLAMA2, _write_llama2),
    Family("Mistral 7B v0.1", _MISTRAL, _write_mistral),
    Family("Mistral 7B v0.3", _MISTRAL3, _write_mistral3, added=_ADDED),
]
