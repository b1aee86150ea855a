"""The commands: each parses its arguments and calls one function, imported on use so that help is quick."""
