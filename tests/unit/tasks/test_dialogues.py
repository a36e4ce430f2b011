"""Rows of every known shape become turns; what is no dialogue is refused with file, line and column."""

import json

import pytest

from luthier.data.rows import Row
from luthier.errors import RowError
from luthier.tasks.dialogues import Message, has_dialogue, read_dialogue


def row(**values) -> Row:
    return Row(values, file="train.jsonl", line=7)


def turns(**values) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in read_dialogue(row(**values))]


HUB = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
BOTH = [("user", "Hi"), ("assistant", "Hello")]


def test_hub_messages_are_read_with_and_without_an_instruction():
    assert turns(messages=HUB) == BOTH
    assert turns(messages=[{"role": "system", "content": "Be brief."}, *HUB]) == [("system", "Be brief."), *BOTH]


def test_messages_may_be_json_in_a_column_of_text():
    assert turns(messages=json.dumps(HUB)) == BOTH


def test_sharegpt_conversations_are_read_under_each_of_their_names():
    for human, machine in (("human", "gpt"), ("user", "assistant")):
        assert turns(conversations=[{"from": human, "value": "Hi"}, {"from": machine, "value": "Hello"}]) == BOTH
    with_system = [{"from": "system", "value": "S"}, {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    assert turns(conversations=with_system) == [("system", "S"), *BOTH]


def test_a_prompt_and_its_response_are_a_dialogue():
    assert turns(prompt="Hi", response="Hello") == BOTH


def test_alpacas_input_stands_below_the_instruction():
    assert turns(instruction="Sum up.", input="A long text.", output="Short.") == [
        ("user", "Sum up.\n\nA long text."),
        ("assistant", "Short."),
    ]


@pytest.mark.parametrize("nothing", [None, "", "  ", "noinput", "<noinput>", "No input", "N/A"])
def test_an_input_that_says_there_is_none_is_left_out(nothing):
    assert turns(instruction="Say hello.", input=nothing, output="Hello") == [("user", "Say hello."), ("assistant", "Hello")]


def test_a_column_of_its_own_may_hold_the_instruction_of_every_shape():
    system = ("system", "Be brief.")
    assert turns(system="Be brief.", prompt="Hi", response="Hello") == [system, *BOTH]
    assert turns(system="Be brief.", messages=HUB) == [system, *BOTH]
    assert turns(system="Be brief.", instruction="Hi", output="Hello") == [system, *BOTH]
    assert turns(system="Be brief.", messages=[{"role": "system", "content": "Be brief."}, *HUB]) == [system, *BOTH]
    assert turns(system=" ", prompt="Hi", response="Hello") == BOTH


def test_two_instructions_that_differ_are_refused():
    with pytest.raises(RowError, match='column "system": the dialogue begins with another instruction'):
        turns(system="Be long.", messages=[{"role": "system", "content": "Be brief."}, *HUB])


def test_contents_are_kept_to_the_character():
    said = "  two\nlines \t"
    assert turns(prompt=said, response=said) == [("user", said), ("assistant", said)]


def test_a_row_for_prediction_ends_with_the_user():
    assert turns(prompt="Hi") == [("user", "Hi")]
    assert turns(instruction="Hi", input="there") == [("user", "Hi\n\nthere")]
    assert turns(messages=[*HUB, {"role": "user", "content": "Bye"}]) == [*BOTH, ("user", "Bye")]


def test_keys_without_a_value_are_as_good_as_absent():
    arrow = [{"role": "user", "content": "Hi", "tool_calls": None, "thinking": None}]
    assert read_dialogue(row(messages=arrow, prompt=None)) == (Message("user", "Hi"),)


def test_a_row_says_whether_it_holds_a_dialogue():
    assert has_dialogue(row(prompt="Hi"))
    assert not has_dialogue(row(text="Once upon a time", prompt=None))


USER, ASSISTANT = HUB


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"messages": []}, 'column "messages": nobody says anything'),
        ({"messages": [{"role": "system", "content": "S"}]}, "nobody says anything"),
        ({"messages": "no json"}, "text that is no JSON"),
        ({"messages": '{"role": "user"}'}, "found dict, expected a list of turns"),
        ({"messages": 3}, "found int, expected a list of turns"),
        ({"messages": ["Hi"]}, "turn 1 is str, expected {role, content}"),
        ({"conversations": [None]}, "turn 1 is NoneType, expected {from, value}"),
        ({"messages": [USER, {"role": "narrator", "content": "x"}]}, "turn 2 has the role 'narrator'; known are system, user"),
        ({"messages": [{"content": "x"}]}, "turn 1 has the role None"),
        ({"messages": [USER, {"role": "assistant", "content": ["x"]}]}, "turn 2 holds list, expected text"),
        ({"messages": [USER, {"role": "assistant"}]}, "turn 2 holds NoneType, expected text"),
        ({"messages": [USER, {"role": "assistant", "content": " \n"}]}, "a turn of the assistant is empty"),
        ({"messages": [*HUB, USER, {"role": "assistant", "content": ""}]}, "a turn of the assistant is empty"),
        ({"messages": [{"role": "user", "content": ""}, ASSISTANT]}, "a turn of the user is empty"),
        ({"messages": [USER, USER]}, "turn 2 is the user's, where the assistant's should be"),
        ({"messages": [*HUB, ASSISTANT]}, "turn 3 is the assistant's, where the user's should be"),
        ({"messages": [ASSISTANT]}, "turn 1 is the assistant's, where the user's should be"),
        ({"messages": [{"role": "system", "content": "S"}, ASSISTANT]}, "turn 2 is the assistant's"),
        ({"messages": [*HUB, {"role": "system", "content": "S"}]}, "turn 3 is the system's, where the user's should be"),
        ({"messages": [USER, {"role": "tool", "content": "3"}]}, "turn 2 uses a tool; dialogues with tools cannot be learned"),
        ({"conversations": [{"from": "function", "value": "3"}]}, "turn 1 uses a tool"),
        ({"messages": [USER, {**ASSISTANT, "tool_calls": [{"id": "1"}]}]}, "turn 2 uses a tool"),
        (
            {"messages": [USER, {**ASSISTANT, "reasoning_content": "Hm."}]},
            "turn 2 keeps its reasoning apart, which would be lost",
        ),
        ({"prompt": " "}, 'column "prompt": the text is empty'),
        ({"prompt": "Hi", "response": ""}, 'column "response": the text is empty'),
        ({"prompt": "Hi", "response": 3}, 'column "response": found int, expected text'),
        ({"instruction": "Hi", "output": "\n"}, 'column "output": the text is empty'),
        ({"instruction": "Hi", "input": 3, "output": "x"}, 'column "input": found int, expected text'),
        ({"system": 3, "prompt": "Hi"}, 'column "system": found int, expected text'),
    ],
)
def test_what_is_no_dialogue_is_refused_with_its_place(values, what):
    with pytest.raises(RowError) as raised:
        turns(**values)
    assert str(raised.value).startswith("train.jsonl:7: column ")
    assert what in str(raised.value)
