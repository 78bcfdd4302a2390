"""One module a command; each is imported when it is named, and only then."""
