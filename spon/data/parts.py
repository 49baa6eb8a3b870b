"""A folder of finished samples beside the file that they will be merged into.

Layout of `FILE.parts`, beside FILE:

- `manifest.json`: what the samples are generated from (`Manifest`);
- `shard-NUMBER.h5`: a block of finished samples, solved and failed, named by the lowest number among them:
  `numbers`, `inputs`, `outputs`, `statistics/NAME`, `failures/numbers` and `failures/reasons` as in a data
  set; attributes `manifest`, the digest of the manifest, and `checksum`;
- `costs-GROUP.json`: what solves have cost by each method of a tuned solver (`spon.data.costs`);
- `merged.h5`: the data set, about to be renamed to FILE;
- `lock`: held by the run that writes here, and released by the system however that ends;
- anything else was left by a killed run, and is removed by the next one.

Every file appears complete under its name. FILE is replaced in one step before the folder is removed, the
manifest last, so that whenever a run is killed, a finished sample is in FILE or in a shard.
"""

from __future__ import annotations

import fcntl
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import h5py

from spon.data.blocks import Block
from spon.data.costs import COSTS
from spon.data.dataset import Dataset
from spon.data.manifest import Manifest
from spon.errors import SponError
from spon.files import replacing
from spon.storage import check, open_hdf5, seal

__all__ = ["Parts"]

_MANIFEST, _MERGED, _LOCK = "manifest.json", "merged.h5", "lock"


class Parts:
    """The folder of finished samples of a data set.

    Args:
        output: FILE, the data set to be.
        manifest: what the samples are generated from.
    """

    def __init__(self, output: Path, manifest: Manifest) -> None:
        self.output, self.manifest = output, manifest
        self.folder = output.with_name(f"{output.name}.parts")
        self._digest = manifest.digest
        self._held: IO[str] | None = None

    def open(self, overwrite: bool) -> None:
        """Make the folder or take one over; one rank does.

        Args:
            overwrite: whether to remove what another generation left.

        Raises:
            SponError: another run writes there, the folder belongs to another generation or is not one of
                parts, or cannot be made.
        """
        try:
            self.folder.mkdir(exist_ok=True)
            self._lock()
            file = self.folder / _MANIFEST
            others = [p.name for p in self.folder.iterdir() if p.name != _LOCK]
            found = file.read_text() if file.exists() else None
        except OSError as error:
            raise SponError(f"cannot write into {self.folder}: {error.strerror}") from error
        if found is None and not all(name.startswith(f".{_MANIFEST}.") for name in others):
            raise SponError(
                f"{self.folder} is no folder of parts, it has '{min(others)}'; allowed: no such folder"
            )
        reason = None if found is None else self.manifest.difference(found)
        if reason is not None and not overwrite:
            raise SponError(
                f"{self.folder} is the start of another generation: {reason}; finish that, or discard it "
                "with --overwrite"
            )
        self._tidy(keep_shards=reason is None)
        if found is None or reason is not None:
            with replacing(file) as temporary:
                temporary.write_text(self.manifest.to_json())

    def _lock(self) -> None:
        self._held = (self.folder / _LOCK).open("w")
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise SponError(f"another run is generating {self.output}; wait for it, or end it") from error

    def close(self) -> None:
        """Release the lock."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def _tidy(self, keep_shards: bool) -> None:
        for path in sorted(self.folder.iterdir()):
            kept = keep_shards and any(map(path.match, ("shard-*.h5", COSTS)))
            if path.name in (_MANIFEST, _LOCK) or kept:
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def write(self, block: Block) -> None:
        """Write a shard; the leader of any group does.

        Raises:
            SponError: the folder is not writable, or its disk is full.
        """
        image = io.BytesIO()  # HDF5 itself would not always survive a full disk
        with h5py.File(image, "w") as file:
            file.attrs["manifest"] = self._digest
            block.write(file)
            seal(file)
        with replacing(self.folder / f"shard-{min(block.done):09d}.h5") as temporary:
            temporary.write_bytes(image.getvalue())

    def read(self, dropped: list[str] | None = None) -> Iterator[Block]:
        """Read the shards.

        Args:
            dropped: damaged shards are removed and named here; None: they are errors.
        """
        for path in sorted(self.folder.glob("shard-*.h5")):
            try:
                with open_hdf5(path) as file:
                    check(file, "shard")
                    if file.attrs["manifest"] != self._digest:
                        raise SponError(f"{path}: of another generation")
                    block = Block.read(file)
            except (SponError, KeyError, OSError, RuntimeError) as error:
                if dropped is None:
                    raise SponError(f"{path}: damaged since it was read last: {error}") from error
                dropped.append(path.name)
                path.unlink()
                continue
            yield block

    def publish(self, data: Dataset) -> None:
        """Write the data set, put it in the place of FILE in one step, and remove the folder.

        Raises:
            SponError: the folder is not writable, or its disk is full; FILE is as it was.
        """
        merged = self.folder / _MERGED
        try:
            with replacing(merged) as temporary:
                data.save(temporary)
                self.manifest.write(temporary)
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
            merged.replace(self.output)
        except (OSError, RuntimeError, SponError) as error:  # h5py reports a full disk as either of two
            cause = error.__cause__ if isinstance(error, SponError) else error
            known = cause.errno if isinstance(cause, OSError) else None
            reason = os.strerror(known) if known else " ".join(str(error).split())
            raise SponError(f"cannot write {self.output}: {reason}") from error
        self.remove()

    @property
    def left_over(self) -> bool:
        """Whether there is a folder that `remove` has begun with, or would have."""
        if not self.folder.is_dir():
            return False
        names = {path.name for path in self.folder.iterdir()}
        if _MANIFEST not in names:
            return names <= {_LOCK}
        return self.manifest.difference((self.folder / _MANIFEST).read_text()) is None

    def remove(self) -> None:
        """Remove the folder, if there is one; it has nothing that FILE has not."""
        if not self.folder.exists():
            return
        self._tidy(keep_shards=False)
        for name in (_MANIFEST, _LOCK):
            (self.folder / name).unlink(missing_ok=True)
        self.close()
        self.folder.rmdir()
