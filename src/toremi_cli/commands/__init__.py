"""One module a command: parse, build a config, call, map errors to exit codes. Nothing heavy is imported here."""
