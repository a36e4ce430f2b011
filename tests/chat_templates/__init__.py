"""Chat templates of well-known model families, and for each, by hand, what it writes and what of that is learned.

The templates say what those of the families' tokenizer configs say, in our own words and without what concerns
tools; each renders dialogues to the same text, quirks included: default instructions, contents trimmed or not,
instructions refused, left out or moved, a generation prompt or none, markers that differ in the last turn.

A writer returns a dialogue's rendered text in pieces, each with whether it is learned. It uses no jinja, and nothing
of Luthier's.
"""

from chat_templates.chatml import CHATML
from chat_templates.family import Family, Turns, folded
from chat_templates.instruct import INSTRUCT
from chat_templates.marked import MARKED
from chat_templates.worded import WORDED

FAMILIES = [*CHATML, *INSTRUCT, *MARKED, *WORDED]

__all__ = ["FAMILIES", "Family", "Turns", "folded"]
