"""What the student has downloaded: ``python published.py CORPUS DOWNLOADS``.

The people of a drawn corpus (``filmstrip build demo``), laid out as VoxCeleb2 and OMG-Emotion come, with what is odd
about those: VoxCeleb2 in dev and test, YouTube's ids, a list of speakers that is padded with blanks; OMG with blank
rows, a video that YouTube has no longer, a download that broke off, and what file managers and downloaders leave
behind.
"""

import csv
import hashlib
import shutil
import sys
from base64 import urlsafe_b64encode
from pathlib import Path


def youtube_id(name: str) -> str:
    """Eleven of YouTube's characters, always the same for a name."""
    return urlsafe_b64encode(hashlib.sha256(name.encode()).digest())[:11].decode()


def voxceleb2(corpus: Path, downloads: Path) -> None:
    """``VoxCeleb2/{dev,test}/mp4/<speaker>/<id>/<number>.mp4``, OpenFace's tables likewise, and ``vox2_meta.csv``."""
    rows = ["VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set "]
    for number, speaker in enumerate(sorted((corpus / "voxceleb/dev/mp4").iterdir())):
        part = "test" if number % 6 == 5 else "dev"
        rows.append(f"{speaker.name} ,n{speaker.name[2:]} ,{'mf'[number % 2]} ,{part} ")
        for video in sorted(speaker.iterdir()):
            name = youtube_id(video.name)
            shutil.copytree(video, downloads / "VoxCeleb2" / part / "mp4" / speaker.name / name)
            shutil.copytree(
                corpus / "openface/voxceleb" / speaker.name / video.name,
                downloads / "OpenFace/VoxCeleb2" / speaker.name / name,
            )
    (downloads / "VoxCeleb2/vox2_meta.csv").write_text("\r\n".join(rows) + "\r\n")
    (downloads / "VoxCeleb2/dev/.DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (downloads / "VoxCeleb2/dev/mp4/README.txt").write_text("The VoxCeleb2 dataset\n")


def omg(corpus: Path, downloads: Path) -> None:
    """``OMG/<video>/utterance_<number>.mp4``, OpenFace's tables, and the two tables of labels."""
    shutil.copytree(corpus / "omg/videos", downloads / "OMG")
    shutil.copytree(corpus / "openface/omg", downloads / "OpenFace/OMG")
    for split in ("Train", "Validation"):
        name = f"omg_{split}Videos.csv"
        with (corpus / "omg" / name).open(newline="") as file:
            rows = list(csv.reader(file))
        rows.insert(3, [""] * len(rows[0]))
        rows.append([""] * len(rows[0]))
        with (downloads / name).open("w", newline="", encoding="utf-8-sig") as file:
            csv.writer(file).writerows(rows)
    first, second, *_ = sorted((downloads / "OMG").glob("*/*.mp4"))
    first.unlink()  # the video is private now
    second.write_bytes(second.read_bytes()[: second.stat().st_size // 2])
    second.with_name("utterance_9.mp4.part").write_bytes(b"\0" * 1000)


if __name__ == "__main__":
    voxceleb2(Path(sys.argv[1]), Path(sys.argv[2]))
    omg(Path(sys.argv[1]), Path(sys.argv[2]))
