"""ARR-COC: a vision-language model that learns which parts of an image a question needs."""

__version__ = "0.1.0"
