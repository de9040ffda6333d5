"""Which sides there are: a name, what serves it, in which forms, and what must be installed for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.peers.served import FORMS, Device, Form


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A loader that others use."""

    module: str  #: below `benchmarks.peers`; its docstring says how it is set up
    packages: Sequence[str]  #: by their names on PyPI
    forms: Sequence[Form]  #: what it can read
    own_format: bool = False  #: whether the forms are written in a format of its own first
    options: Mapping[str, Any] = field(default_factory=dict)  #: of its ``batches``

    def missing(self) -> list[str]:
        """The packages that are not installed."""
        return [name for name in self.packages if not _installed(name)]


_WHOLE_AND_FILMSTRIP: tuple[Form, ...] = ("source", "filmstrip")

PEERS: Mapping[str, Peer] = {
    "webdataset+pyav": Peer(
        module="webdataset",
        packages=("webdataset", "av"),
        forms=("source", "h264", "mjpeg"),
        options={"decoder": "pyav"},
    ),
    "webdataset+torchcodec": Peer(
        module="webdataset",
        packages=("webdataset", "torchcodec", "simplejpeg"),
        forms=FORMS,
        options={"decoder": "torchcodec"},
    ),
    "spdl": Peer(module="spdl", packages=("spdl-core", "spdl-io"), forms=FORMS),
    # These three decode as webdataset+torchcodec does, and differ in what carries the bytes: two forms tell it all.
    "energon": Peer(
        module="energon",
        packages=("megatron-energon", "torchcodec", "simplejpeg"),
        forms=_WHOLE_AND_FILMSTRIP,
        own_format=True,
    ),
    "litdata": Peer(
        module="litdata", packages=("litdata", "torchcodec", "simplejpeg"), forms=_WHOLE_AND_FILMSTRIP, own_format=True
    ),
    "mosaic": Peer(
        module="mosaic",
        packages=("mosaicml-streaming", "torchcodec", "simplejpeg"),
        forms=_WHOLE_AND_FILMSTRIP,
        own_format=True,
    ),
    "dali": Peer(module="dali", packages=("nvidia-dali-cuda130",), forms=("filmstrip",)),
}


#: Those that decode on a GPU.
GPU_PEERS: Mapping[str, Peer] = {
    "torchcodec, NVDEC": Peer(module="torchcodec_cuda", packages=("torchcodec", "spdl-io"), forms=("source", "h264")),
    "spdl, NVDEC or nvJPEG": Peer(module="spdl_cuda", packages=("spdl-core", "spdl-io"), forms=("h264", "filmstrip")),
    "dali": Peer(module="dali", packages=("nvidia-dali-cuda130",), forms=("filmstrip",)),
}


def peers_on(device: Device) -> Mapping[str, Peer]:
    """All that decode there."""
    return PEERS if device == "cpu" else GPU_PEERS


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
