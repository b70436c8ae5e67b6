"""Unpacking ahead: one thread inflates, another hashes, while the caller writes files."""

import hashlib
import queue
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from registry.model.digest import Digest

if TYPE_CHECKING:
    from concurrent.futures import Future

_AHEAD = 8  # chunks that may wait
_POLL = 0.1  # seconds between looks at whether the reader has given up


class Ahead:
    """Chunks of an iterator that runs in a thread of its own; `digest()` covers all of them."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._chunks = chunks
        self._hash = hashlib.sha256()
        self._waiting: queue.Queue[tuple[bytes, Future[None]] | BaseException | None] = queue.Queue(_AHEAD)
        self._given_up = threading.Event()
        self._hasher = ThreadPoolExecutor(1, "hash")
        self._thread = threading.Thread(target=self._run, name="unpack", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._given_up.set()
        self._thread.join()
        self._hasher.shutdown()

    def __iter__(self) -> Iterator[bytes]:
        while (found := self._waiting.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            chunk, hashed = found
            hashed.result()
            yield chunk

    def digest(self) -> Digest:
        """Of all chunks; only once they are used up."""
        return Digest("sha256", self._hash.hexdigest())

    def _run(self) -> None:
        try:
            for chunk in self._chunks:
                if not self._hand_on((chunk, self._hasher.submit(self._hash.update, chunk))):
                    return
        except BaseException as error:  # noqa: BLE001 - raised again where the chunks are read
            self._hand_on(error)
        else:
            self._hand_on(None)

    def _hand_on(self, item: "tuple[bytes, Future[None]] | BaseException | None") -> bool:
        while not self._given_up.is_set():
            try:
                self._waiting.put(item, timeout=_POLL)
                return True
            except queue.Full:
                continue
        return False
