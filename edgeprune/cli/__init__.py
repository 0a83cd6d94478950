"""The command line: one file per command, imported when it is called; nobody imports this package."""
