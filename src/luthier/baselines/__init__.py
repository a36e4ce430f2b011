"""Simple methods to beat, trained on the same rows and scored by the same measure."""
