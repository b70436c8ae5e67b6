"""A root filesystem and a container specification in; a supervised process tree out."""
