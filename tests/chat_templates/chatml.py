"""ChatML and its kin: OpenHermes, Yi, SmolLM2, Qwen 2.5, Qwen 3, Phi-4."""

from chat_templates.family import Family, Pieces, Turns

_CHATML = """
{%- for message in messages -%}
{{ '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"""


def _default_system(text: str) -> str:
    return (
        "{%- if messages[0].role != 'system' -%}{{ '<|im_start|>system\\n" + text + "<|im_end|>\\n' }}{%- endif -%}" + _CHATML
    )


_SMOLLM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
_QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."


def _write_chatml(turns: Turns, *, system: str = "", think_last: bool = False) -> Pieces:
    pieces: Pieces = []
    if system and turns[0][0] != "system":
        pieces += [(f"<|im_start|>system\n{system}<|im_end|>\n", False)]
    for place, (role, content) in enumerate(turns):
        if role == "assistant":
            if think_last and place == len(turns) - 1:
                content = "<think>\n\n</think>\n\n" + content.lstrip("\n")
            pieces += [("<|im_start|>assistant\n", False), (content + "<|im_end|>", True), ("\n", False)]
        else:
            pieces += [(f"<|im_start|>{role}\n{content}<|im_end|>\n", False)]
    return pieces


_QWEN3 = """
{%- set last = namespace(asked=-1) -%}
{%- for message in messages -%}{%- if message.role == 'user' -%}{%- set last.asked = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- for message in messages -%}
  {%- if message.role != 'assistant' -%}
    {{ '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}
  {%- else -%}
    {%- set said, thought = message.content, '' -%}
    {%- if '</think>' in said -%}
      {%- set thought = said.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') -%}
      {%- set said = said.split('</think>')[-1].lstrip('\\n') -%}
    {%- endif -%}
    {{ '<|im_start|>assistant\\n' }}
    {%- if loop.last and loop.index0 > last.asked -%}
      {{ '<think>\\n' ~ thought.strip('\\n') ~ '\\n</think>\\n\\n' ~ said.lstrip('\\n') }}
    {%- else -%}{{ said }}{%- endif -%}
    {{ '<|im_end|>\\n' }}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"""


_PHI4 = """
{%- for message in messages -%}
  {%- if message.role != 'assistant' -%}{{ '<|im_start|>' ~ message.role ~ '<|im_sep|>' }}{%- endif -%}
  {{ message.content ~ '<|im_end|>' }}
  {%- if message.role == 'user' -%}{{ '<|im_start|>assistant<|im_sep|>' }}{%- endif -%}
{%- endfor -%}"""


def _write_phi4(turns: Turns) -> Pieces:
    pieces: Pieces = []
    for role, text in turns:
        pieces += [(f"<|im_start|>{role}<|im_sep|>", False), (f"{text}<|im_end|>", role == "assistant")]
    return pieces


def _write_smollm(turns: Turns) -> Pieces:
    return _write_chatml(turns, system=_SMOLLM)


def _write_qwen(turns: Turns) -> Pieces:
    return _write_chatml(turns, system=_QWEN)


def _write_qwen3(turns: Turns) -> Pieces:
    return _write_chatml(turns, think_last=True)


_QWEN3_ADDED = ("<think>", "</think>")
CHATML = [
    Family("ChatML (OpenHermes, Yi)", _CHATML, _write_chatml, "", "<|im_end|>", "<|im_end|>", ("<|im_start|>",)),
    Family("SmolLM2", _default_system(_SMOLLM), _write_smollm, "<|im_start|>", "<|im_end|>", "<|im_end|>", ("<|im_start|>",)),
    Family("Qwen 2.5", _default_system(_QWEN), _write_qwen, "", "<|im_end|>", "<|im_end|>", ("<|im_start|>",)),
    Family("Qwen 3", _QWEN3, _write_qwen3, "", "<|im_end|>", "<|im_end|>", ("<|im_start|>", *_QWEN3_ADDED)),
    Family("Phi-4", _PHI4, _write_phi4, "", "<|endoftext|>", "<|im_end|>", ("<|im_start|>", "<|im_sep|>")),
]
