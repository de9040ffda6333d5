"""The command that makes the demo corpus: its options, and what it says."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from loaders.errors import InputError
from loaders.storage.urls import url_of
from sharding.demo.corpus import DemoSettings, DemoSummary, make_demo
from sharding.engines.local import default_workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """Make a corpus of talking heads with voices, in VoxCeleb's and OMG's layouts: no download, no real person."""

    output: Path
    """Folder to make; it must not be there, or be empty."""
    workers: int = field(default_factory=default_workers)
    """Processes that draw and speak."""
    settings: Annotated[DemoSettings, tyro.conf.arg(name="")] = field(default_factory=DemoSettings)

    def make(self) -> DemoSummary:
        """Make it, with a progress bar.

        Raises:
            InputError: the output is in an object store or holds something, or the disk is full.
        """
        if url_of(self.output) is not None:
            raise InputError(f"--output {url_of(self.output)}: a demo corpus is made in a folder: give one")
        return make_demo(self.output, self.settings, workers=self.workers)
