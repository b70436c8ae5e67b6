"""The terminal: one module a command group; each parses, calls the library, and renders."""
