"""How a person or a program sees what happens: terminal, plain lines, JSON lines."""
