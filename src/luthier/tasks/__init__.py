"""The tasks, by the hub's pipeline tags. A new task is one file and one line here."""

from luthier.registry import Registry

TASKS = Registry(
    "task",
    {
        "text-classification": "luthier.tasks.text_classification:TextClassification",
        "token-classification": "luthier.tasks.token_classification:TokenClassification",
        "question-answering": "luthier.tasks.question_answering:QuestionAnswering",
        "translation": "luthier.tasks.sequence_to_sequence:Translation",
        "summarization": "luthier.tasks.sequence_to_sequence:Summarization",
        "text-generation": "luthier.tasks.text_generation:TextGeneration",
    },
)
