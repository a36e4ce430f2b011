"""Templates with markers of their own around each turn: Llama 3, Gemma, Phi-3, Zephyr, Command R, GPT-OSS, GLM-4."""

from datetime import datetime

from chat_templates.family import ALTERNATE, NO_SYSTEM, Family, Pieces, Turns, apart, folded

_LLAMA3_TURNS = """
{%- for message in turns -%}
{{ '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\\n\\n' ~ message.content | trim ~ '<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif -%}"""
_LLAMA3 = "{{- bos_token -}}{%- set turns = messages -%}" + _LLAMA3_TURNS
_LLAMA31 = (
    """{{- bos_token -}}
{%- set system, turns = '', messages -%}
{%- if messages[0].role == 'system' -%}{%- set system, turns = messages[0].content | trim, messages[1:] -%}{%- endif -%}
{{ '<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2023\\nToday Date: ' }}
{{- date_string | default('26 Jul 2024') ~ '\\n\\n' ~ system ~ '<|eot_id|>' -}}"""
    + _LLAMA3_TURNS
)


def _write_llama3(turns: Turns) -> Pieces:
    pieces: Pieces = [("<|begin_of_text|>", False)]
    for role, content in turns:
        pieces += [(f"<|start_header_id|>{role}<|end_header_id|>\n\n", False)]
        pieces += [(content.strip() + "<|eot_id|>", role == "assistant")]
    return pieces


def _write_llama31(turns: Turns) -> Pieces:
    system, turns = apart(turns)
    header = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n" + (system or "").strip()
    head, *rest = _write_llama3(turns)
    return [head, (f"<|start_header_id|>system<|end_header_id|>\n\n{header}<|eot_id|>", False), *rest]


_GEMMA_TURNS = """
{{- bos_token -}}
{%- for message in turns -%}
  {{ '<start_of_turn>' ~ ('model' if message.role == 'assistant' else message.role) ~ '\\n' }}
  {{- first if loop.first }}{{ message.content | trim ~ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}"""
_GEMMA = NO_SYSTEM + ALTERNATE + "{%- set turns, first = messages, '' -%}" + _GEMMA_TURNS
_GEMMA3 = (
    ALTERNATE
    + """{%- set turns, first = messages, '' -%}
{%- if messages[0].role == 'system' -%}{%- set turns, first = messages[1:], messages[0].content ~ '\\n\\n' -%}{%- endif -%}"""
    + _GEMMA_TURNS
)


def _write_gemma(turns: Turns) -> Pieces:
    return _write_gemma3(folded(turns))


def _write_gemma3(turns: Turns) -> Pieces:
    system, turns = apart(turns)
    pieces: Pieces = [("<bos>", False)]
    for place, (role, content) in enumerate(turns):
        if role == "user":
            first = f"{system}\n\n" if place == 0 and system is not None else ""
            pieces += [(f"<start_of_turn>user\n{first}{content.strip()}<end_of_turn>\n", False)]
        else:
            pieces += [("<start_of_turn>model\n", False), (content.strip() + "<end_of_turn>", True), ("\n", False)]
    return pieces


# The first Phi-3 leaves instructions out, and has the generation prompt in the user's turn.
_PHI3 = """{{- bos_token -}}
{%- for message in messages -%}
  {%- if message.role == 'user' -%}{{ '<|user|>\\n' ~ message.content ~ '<|end|>\\n<|assistant|>\\n' }}
  {%- elif message.role == 'assistant' -%}{{ message.content ~ '<|end|>\\n' }}{%- endif -%}
{%- endfor -%}"""
_PHI35 = """
{%- for message in messages -%}{{ '<|' ~ message.role ~ '|>\\n' ~ message.content ~ '<|end|>\\n' }}{%- endfor -%}
{{- '<|assistant|>\\n' if add_generation_prompt else eos_token -}}"""


def _write_phi3(turns: Turns) -> Pieces:
    pieces: Pieces = [("<s>", False)]
    for role, text in folded(turns):
        if role == "user":
            pieces += [(f"<|user|>\n{text}<|end|>\n<|assistant|>\n", False)]
        else:
            pieces += [(f"{text}<|end|>", True), ("\n", False)]
    return pieces


def _write_phi35(turns: Turns) -> Pieces:
    pieces: Pieces = []
    for role, text in turns:
        pieces += [(f"<|{role}|>\n", False), (f"{text}<|end|>", role == "assistant"), ("\n", False)]
    return [*pieces, ("<|endoftext|>", False)]


_ZEPHYR = """
{%- for message in messages -%}{{ '<|' ~ message.role ~ '|>\\n' ~ message.content ~ eos_token ~ '\\n' }}{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|assistant|>\\n' }}{%- endif -%}"""


def _write_zephyr(turns: Turns) -> Pieces:
    pieces: Pieces = []
    for role, text in turns:
        pieces += [(f"<|{role}|>\n", False), (f"{text}</s>", role == "assistant"), ("\n", False)]
    return pieces


_COMMAND_R = (
    ALTERNATE
    + """{{- bos_token -}}
{%- set names = {'system': 'SYSTEM', 'user': 'USER', 'assistant': 'CHATBOT'} -%}
{%- for message in messages -%}
  {%- set said = message.content if message.role == 'system' else message.content.strip() -%}
  {{ '<|START_OF_TURN_TOKEN|><|' ~ names[message.role] ~ '_TOKEN|>' ~ said ~ '<|END_OF_TURN_TOKEN|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{%- endif -%}"""
)
# Two markers end an answer; the preamble is longer in truth.
_COMMAND_R7B = """{{- bos_token ~ '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|># System Preamble\\n' }}
{%- if messages[0].role == 'system' -%}{{ '\\n# Developer Preamble\\n' ~ messages[0].content }}{%- endif -%}
{{ '<|END_OF_TURN_TOKEN|>' }}
{%- for message in messages if message.role != 'system' -%}
  {%- if message.role == 'user' -%}{{ '<|START_OF_TURN_TOKEN|><|USER_TOKEN|>' ~ message.content }}
  {%- else -%}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>' ~ message.content ~ '<|END_RESPONSE|>' }}
  {%- endif -%}
  {{ '<|END_OF_TURN_TOKEN|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>' }}{%- endif -%}"""


def _write_command_r(turns: Turns) -> Pieces:
    names = {"system": "SYSTEM", "user": "USER", "assistant": "CHATBOT"}
    pieces: Pieces = [("<BOS_TOKEN>", False)]
    for role, text in turns:
        said = text if role == "system" else text.strip()
        pieces += [(f"<|START_OF_TURN_TOKEN|><|{names[role]}_TOKEN|>", False)]
        pieces += [(f"{said}<|END_OF_TURN_TOKEN|>", role == "assistant")]
    return pieces


def _write_command_r7b(turns: Turns) -> Pieces:
    system, turns = apart(turns)
    preamble = "# System Preamble\n" + ("" if system is None else f"\n# Developer Preamble\n{system}")
    pieces: Pieces = [(f"<BOS_TOKEN><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{preamble}<|END_OF_TURN_TOKEN|>", False)]
    for role, text in turns:
        if role == "user":
            pieces += [(f"<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{text}<|END_OF_TURN_TOKEN|>", False)]
        else:
            pieces += [("<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>", False)]
            pieces += [(f"{text}<|END_RESPONSE|><|END_OF_TURN_TOKEN|>", True)]
    return pieces


_GPT_OSS = """
{{- '<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\\n' }}
{{- 'Knowledge cutoff: 2024-06\\nCurrent date: ' ~ strftime_now('%Y-%m-%d') ~ '\\n\\nReasoning: medium\\n\\n' }}
{{- '# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>' }}
{%- for message in messages -%}
  {%- if message.role == 'system' -%}
    {{ '<|start|>developer<|message|># Instructions\\n\\n' ~ message.content ~ '\\n\\n<|end|>' }}
  {%- elif message.role == 'user' -%}{{ '<|start|>user<|message|>' ~ message.content ~ '<|end|>' }}
  {%- else -%}
    {{ '<|start|>assistant<|channel|>final<|message|>' ~ message.content }}
    {{- '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|start|>assistant' }}{%- endif -%}"""
_GLM4 = """[gMASK]<sop>
{%- for message in messages -%}{{ '<|' ~ message.role ~ '|>\\n' ~ message.content }}{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|assistant|>\\n' }}{%- endif -%}"""


def _write_gpt_oss(turns: Turns) -> Pieces:
    pieces: Pieces = [
        (
            "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"
            f"Knowledge cutoff: 2024-06\nCurrent date: {datetime.now():%Y-%m-%d}\n\nReasoning: medium\n\n"
            "# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>",
            False,
        )
    ]
    for place, (role, text) in enumerate(turns):
        if role == "system":
            pieces += [(f"<|start|>developer<|message|># Instructions\n\n{text}\n\n<|end|>", False)]
        elif role == "user":
            pieces += [(f"<|start|>user<|message|>{text}<|end|>", False)]
        elif place < len(turns) - 1:
            # A marker that the model writes only in the last turn is not learned elsewhere.
            pieces += [("<|start|>assistant", False), (f"<|channel|>final<|message|>{text}", True), ("<|end|>", False)]
        else:
            pieces += [("<|start|>assistant", False), (f"<|channel|>final<|message|>{text}<|return|>", True)]
    return pieces


def _write_glm4(turns: Turns) -> Pieces:
    pieces: Pieces = [("[gMASK]<sop>", False)]
    for role, text in turns:
        pieces += [(f"<|{role}|>\n", False), (text, role == "assistant")]
    return [*pieces, ("<|endoftext|>", True)]


_LLAMA3_ADDED = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_PHI3_ADDED = ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
_COMMAND_ADDED = ("<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|CHATBOT_TOKEN|>")
_COMMAND_END = "<|END_OF_TURN_TOKEN|>"
MARKED = [
    Family("Llama 3", _LLAMA3, _write_llama3, "<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>", _LLAMA3_ADDED),
    Family("Llama 3.1", _LLAMA31, _write_llama31, "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", _LLAMA3_ADDED),
    Family("Gemma 2", _GEMMA, _write_gemma, "<bos>", "<eos>", "<end_of_turn>", ("<start_of_turn>",)),
    Family("Gemma 3", _GEMMA3, _write_gemma3, "<bos>", "<eos>", "<end_of_turn>", ("<start_of_turn>",)),
    Family("Phi-3", _PHI3, _write_phi3, "<s>", "<|endoftext|>", "<|end|>", _PHI3_ADDED),
    Family("Phi-3.5", _PHI35, _write_phi35, "<s>", "<|endoftext|>", "<|end|>", _PHI3_ADDED),
    Family("Zephyr, TinyLlama", _ZEPHYR, _write_zephyr),
    Family("Command R", _COMMAND_R, _write_command_r, "<BOS_TOKEN>", _COMMAND_END, _COMMAND_END, _COMMAND_ADDED),
    Family(
        "Command R7B",
        _COMMAND_R7B,
        _write_command_r7b,
        "<BOS_TOKEN>",
        _COMMAND_END,
        _COMMAND_END,
        (*_COMMAND_ADDED, "<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ),
    Family(
        "GPT-OSS",
        _GPT_OSS,
        _write_gpt_oss,
        "<|startoftext|>",
        "<|return|>",
        "<|return|>",
        ("<|start|>", "<|message|>", "<|channel|>", "<|end|>"),
    ),
    Family("GLM-4", _GLM4, _write_glm4, "", "<|endoftext|>", "<|endoftext|>", ("[gMASK]", "<sop>", *_PHI3_ADDED[:3])),
]
