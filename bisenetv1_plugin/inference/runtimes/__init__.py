"""The runtimes of an exported model."""
