"""Training: one entry point (train.py) and the parts it joins."""
