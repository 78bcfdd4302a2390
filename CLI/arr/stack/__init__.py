"""What the images are and which are stale: git and text only, no network, no engine."""
