"""A place for a database that can be full: a small file system of its own, else a limit on files' sizes."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE_MB = 512


class SmallDisk:
    """`fill` and `free`, each as often as one likes. `path` is the folder for the database."""

    def __init__(self, path: Path, *, is_mounted: bool) -> None:
        self.path, self.is_mounted = path, is_mounted
        self._limited: int | None = None

    def fill(self, pid: int) -> None:
        """No room for anything: on the small file system for anyone, else for what process `pid` writes."""
        if self.is_mounted:
            with (self.path / "ballast").open("wb") as ballast:
                self._grow(ballast.fileno())
            return
        self._limited = pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

    def _grow(self, descriptor: int) -> None:
        # Down to single pages: others write at the same time, so the room that is left is not known.
        at = 0
        for step in (1 << 24, 1 << 20, 1 << 12):
            while True:
                try:
                    os.posix_fallocate(descriptor, at, step)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break
                at += step

    def free(self) -> None:
        if self.is_mounted:
            (self.path / "ballast").unlink(missing_ok=True)
        elif self._limited is not None:
            resource.prlimit(
                self._limited, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            )
            self._limited = None


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """A new file system in memory where we may mount one, which is root's privilege."""
    folder.mkdir()
    options = f"size={SIZE_MB}m,mode=0711"
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    is_mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield SmallDisk(folder, is_mounted=is_mounted)
    finally:
        if is_mounted:
            subprocess.run(["umount", str(folder)], check=True)  # noqa: S607  where it is, is the system's affair
