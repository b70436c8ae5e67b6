"""Bodies into uploads: who hashes and writes, the loop or a thread."""

from registry.server.threads import in_thread
from registry.server.transfer import Body
from registry.storage import Upload

BATCH = 1024 * 1024  # bytes that are worth a thread hop


class Receiver:
    """Hashing and writing one upload inline is fastest; with more at once, batches go to threads.

    There hashing, which frees the interpreter lock, runs beside the loop and beside the other uploads.
    """

    def __init__(self) -> None:
        self._running = 0

    async def receive(self, body: Body, upload: Upload) -> None:
        """Append the whole body. Whatever came before an error is kept and counts."""
        self._running += 1
        try:
            await self._receive(body, upload)
        finally:
            self._running -= 1

    async def _receive(self, body: Body, upload: Upload) -> None:
        pending: list[bytes] = []
        size = 0
        resumed = upload.size > 0  # maybe by another process, which then first reads what is there
        try:
            async for piece in body.pieces():
                if self._running == 1 and not pending and not resumed:
                    upload.append(piece)
                    continue
                pending.append(piece)
                size += len(piece)
                if size >= BATCH or resumed:
                    batch, pending, size, resumed = pending, [], 0, False
                    await in_thread(_append_all, upload, batch)
        finally:
            if pending:
                await in_thread(_append_all, upload, pending)


def _append_all(upload: Upload, pieces: list[bytes]) -> None:
    for piece in pieces:
        upload.append(piece)
