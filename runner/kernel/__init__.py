"""The only rooms that make system calls of their own: one module a subject, no policy, OSError for what fails."""
