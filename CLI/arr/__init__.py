"""arr: a commit becomes a running training job."""

__version__ = "0.1.0"
