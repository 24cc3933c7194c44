"""The demonstration: BERT pre-training on the documentation that ships with Python."""
