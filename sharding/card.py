"""Write into a finished dataset what is to be said of it: ``python sharding/card.py DATASET --license CC-BY-4.0``.

Its README.md and croissant.json are written again, and dataset.json with their SHA-256. What is not given stays as it
is. No clip changes, and runs that were trained on the dataset go on with it. DATASET is a folder: of a dataset in an
object store, change a copy's description and upload these three files, dataset.json last.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro

from loaders.arguments import cli
from loaders.dataset.about import About
from loaders.dataset.manifest import Manifest, read_manifest, write_manifest
from loaders.errors import InputError, reported
from loaders.storage.urls import url_of
from sharding.cards.documents import write_documents
from sharding.packing.workfolder import may_be_builds
from sharding.packing.writer import WORK_FOLDER


def state(dataset: Path, about: About) -> Manifest:
    """Say more of a dataset, or something else than before; returns its dataset.json.

    Args:
        dataset: its folder.
        about: what is to be said; what it does not state stays.

    Raises:
        InputError: it is no statement of its kind, no dataset is there, a build is at work there, or the folder cannot
            be written.
    """
    if (problem := about.problem()) is not None:
        raise InputError(f"{problem}: state it, or leave the option away")
    if about == About():
        raise InputError("nothing is to be said: give --title, --description, --license, --citation or --url")
    if (url := url_of(dataset)) is not None:
        raise InputError(f"{url}: is in a store: change a copy in a folder, and upload what changes there")
    manifest = read_manifest(dataset)
    if may_be_builds(dataset / WORK_FOLDER):
        raise InputError(f"{dataset / WORK_FOLDER}: a build is at work here: run it to its end first")
    manifest = replace(manifest, about=manifest.about.replaced_by(about))
    try:
        manifest = replace(manifest, documents=write_documents(dataset, manifest))
        write_manifest(dataset, manifest)
    except OSError as error:
        raise InputError(f"{error.filename or dataset}: {error.strerror}: make it writable") from error
    return manifest


def main(dataset: tyro.conf.Positional[Path], about: Annotated[About, tyro.conf.arg(name="")]) -> None:
    """Write into a finished dataset what is to be said of it.

    Args:
        dataset: The dataset's folder.
        about: What to say.
    """
    with reported():
        manifest = state(dataset, about)
        print(f"{dataset}: {', '.join(manifest.documents)} and dataset.json are written")


if __name__ == "__main__":
    cli(main, description=__doc__)
