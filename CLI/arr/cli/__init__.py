"""The command line: commands parse, call and render; the verbs themselves know none of it."""
