"""fairseq's checkpoints, dictionaries and data, read and written without fairseq."""
