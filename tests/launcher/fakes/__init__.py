"""Strict stand-ins for W&B's API and for Vertex AI, each a threaded HTTP server on loopback."""
