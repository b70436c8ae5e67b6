"""Text that others wrote, such as registries, images and Dockerfiles, fit to be printed."""


def plain(text: str, keep: str = "\n\t") -> str:
    """Without what could drive a terminal."""
    return "".join(letter if letter.isprintable() or letter in keep else "\ufffd" for letter in text)
