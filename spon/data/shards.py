"""Finished samples are kept for a moment and written some at a time."""

from __future__ import annotations

import time
from types import TracebackType

from spon.data.blocks import Block
from spon.data.parts import Parts

__all__ = ["ShardWriter"]

_PATIENCE = 5.0  # seconds of work that a kill may cost


class ShardWriter:
    """Writes shards of `size` samples, or of those of some seconds; the last at the end of the context.

    Args:
        parts: where to.
        size: samples in a shard, ≥ 1.
        writes: whether this rank does; others do nothing.
    """

    def __init__(self, parts: Parts, size: int, writes: bool) -> None:
        self._parts, self._size, self._writes = parts, size, writes
        self._pending: list[Block] = []
        self._since = time.monotonic()

    def add(self, block: Block) -> None:
        """Keep finished samples, and write if there are enough.

        Raises:
            SponError: the folder is not writable, or its disk is full.
        """
        if not self._writes:
            return
        self._pending.append(block)
        count = sum(len(b.done) for b in self._pending)
        if count >= self._size or time.monotonic() - self._since > _PATIENCE:
            self._flush()

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        if pending:
            self._parts.write(Block.merged(pending))
        self._since = time.monotonic()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
