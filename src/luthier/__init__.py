"""Luthier: fine-tune a pretrained language model for one text task, and prove that it helped."""

__version__ = "0.1.0"
