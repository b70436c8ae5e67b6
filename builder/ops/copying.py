"""COPY and ADD as a step: the inputs of its vertex opened, and handed to the copy engine."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from builder.layers.borrowed import Borrowed
from builder.ops.copy import CopyRequest, Fetched, Inline, Source, copy_into
from builder.ops.files import ContextFiles, Files, LateFiles, WebFile
from builder.ops.linking import Above, dress
from builder.ops.workshop import Workshop, closing
from builder.plan.vertices import CopyOp, InlineFile
from builder.progress import Step
from builder.snapshots import Snapshot
from builder.times import NANOSECONDS
from runner.kernel.mounts import overlay_tree


def copy_files(
    op: CopyOp,
    sources: Sequence[Files],
    snapshot: Snapshot,
    shop: Workshop,
    step: Step,
    *,
    above: tuple[Above, ...] = (),
    borrowed: Borrowed | None = None,
) -> int:
    """Do the copy in the snapshot; says how new the newest of the copied files is (ns).

    `above` is for COPY --link: the directories on the way to the destination. `borrowed` gets the contents of large
    files instead of the snapshot.

    Raises:
        ContextError: a source is not there. CopyError, LayerError, BuilderError: see copy_into.
    """
    with ExitStack() as opened:
        inputs = [_opened(op, files, shop, step, opened) for files in sources]
        request = CopyRequest(
            tuple(
                Inline(source.name, source.content.encode())
                if isinstance(source, InlineFile)
                else _at(inputs[source.input - 1], source.path)
                for source in op.sources
            ),
            op.destination,
            op.chown,
            op.chmod,
            op.excludes,
            check=shop.cancellation.check,
            # What is unpacked, or comes from several sources, may replace what came before.
            borrowed=borrowed if len(op.sources) == 1 and not (op.unpack or op.unpack_remote) else None,
        )
        if op.link:
            root = opened.enter_context(closing(os.open(snapshot.upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)))
            copied = copy_into(root, request)
            dress(root, above)
        else:
            root = opened.enter_context(closing(overlay_tree(snapshot.lower, snapshot.upper, snapshot.work)))
            copied = copy_into(root, request)
    if copied.overwrote:
        step.notice(
            f"files were copied over each other to {op.destination}; for a directory, write it as {op.destination}/"
        )
    return copied.newest_ns


def _opened(op: CopyOp, files: Files, shop: Workshop, step: Step, opened: ExitStack) -> Source | Fetched:
    """An input, ready to be copied from; it is told later which path."""
    if isinstance(files, WebFile):
        path = str(shop.store.path(files.content))
        return Fetched(files.op.filename, path, files.modified * NANOSECONDS, op.unpack_remote)
    if isinstance(files, LateFiles):
        files = files.files()
    if isinstance(files, ContextFiles):
        root = opened.enter_context(files.root())
        return Source(root, "/", files.context.rules, unpack=op.unpack, parents=op.parents)
    root = opened.enter_context(shop.view(files.tree, step))
    where = "the stage or image it comes from"
    return Source(root, "/", keep_owner=op.keep_owner, unpack=op.unpack, where=where, parents=op.parents)


def _at(source: Source | Fetched, path: str) -> Source | Fetched:
    return source if isinstance(source, Fetched) else replace(source, path=path)
