"""The keys that leave a container running. Pure."""

DEFAULT_DETACH_KEYS = b"\x10\x11"  # ctrl-p, ctrl-q


class DetachKeys:
    """Looks for the keys that mean "leave it running" in what is typed."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._seen = 0  # how many of the keys have been typed in a row

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to pass on, and whether the keys were typed; keys that may be the beginning are held back."""
        if not self._keys:
            return data, False
        passed = bytearray()
        for byte in data:
            if byte != self._keys[self._seen]:
                passed += self._keys[: self._seen]
                self._seen = 0
            if byte == self._keys[self._seen]:
                self._seen += 1
                if self._seen == len(self._keys):
                    return bytes(passed), True
            else:
                passed.append(byte)
        return bytes(passed), False
