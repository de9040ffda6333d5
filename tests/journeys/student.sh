#!/usr/bin/env bash
# A student has VoxCeleb2 and OMG-Emotion on a disk, as they are published, and wants to know whether pre-training helps.
#
#   bash student.sh FOLDER      a new folder for everything; in an environment with filmstrip's extras plots and export
#
# The people are drawn by `filmstrip build demo`, and so few that the scores mean nothing: it is the way that is walked.
set -euo pipefail
JOURNEYS=$(cd "$(dirname "$0")" && pwd)
mkdir "$1"
cd "$1"

say() { printf '\n# %s\n' "$*"; }
run() { printf '\n$ %s\n' "$*"; "$@"; }

say "Before: the downloads, and a video of one's own"
run filmstrip build demo --output drawn --speakers 30 --videos-per-speaker 2 --omg-train 40 --omg-validation 40 --size 96
run python "$JOURNEYS/published.py" drawn downloads
run filmstrip build demo --output phone --seed 9 --speakers 1 --videos-per-speaker 1 --voxceleb-seconds 7 7 \
    --omg-train 1 --omg-validation 1 --size 160
run cp phone/voxceleb/dev/mp4/*/*/00001.mp4 me.mp4

say "Both datasets. A drawn face is none to a detector of faces, so that of OMG is the middle of the picture here"
run filmstrip build voxceleb --source downloads/VoxCeleb2 --meta downloads/VoxCeleb2/vox2_meta.csv \
    --openface downloads/OpenFace/VoxCeleb2 --size 80 --output data/vox
run filmstrip build omg --source downloads/OMG --train-csv downloads/omg_TrainVideos.csv \
    --validation-csv downloads/omg_ValidationVideos.csv --openface downloads/OpenFace/OMG --crop centre --size 80 \
    --output data/omg

say "Are they whole, what is in them, what do they look like?"
run filmstrip verify data/vox --decode
run filmstrip verify data/omg --decode
run filmstrip info data/omg
run filmstrip gallery data/omg --output gallery

# In an own video nobody tracks gaze: a network that is not to lean on it is given it seldom.
say "Pre-trained on pairs, then fine-tuned; and from scratch, to compare with"
steps=(--batch-size 16 --max-steps 40 --gaze-dropout 0.8)
run filmstrip train --stage pretrain --data data/vox --preset tiny "${steps[@]}" --output runs/l3
run filmstrip train --stage finetune --data data/omg --init runs/l3 "${steps[@]}" --output runs/emotion
run filmstrip train --stage finetune --data data/omg --preset tiny "${steps[@]}" --output runs/scratch
run filmstrip train --stage evaluate --checkpoint runs/emotion --data data/omg
run filmstrip compare runs/emotion runs/scratch

say "One's own video, and the network for others"
run filmstrip predict me.mp4 --checkpoint runs/emotion --every 0.5 --timeline me.png --json me.json
run filmstrip export runs/emotion --output exported


python - <<'PYTHON'
import json
from pathlib import Path

found = [json.loads(Path("runs", run, "results.json").read_text())["targets"]["emotion"] for run in ("emotion", "scratch")]
tuned, scratch = (f"{emotion['joint']['micro_f1']:.1%}" for emotion in found)
(video,) = json.loads(Path("me.json").read_text())["videos"]
made = ["gallery/index.html", "runs/emotion/predictions.parquet", "me.png", "exported/model.onnx", "exported/README.md"]
assert [name for name in made if not Path(name).stat().st_size] == []
print(
    f"\nresult: emotion of {found[0]['utterances']} utterances from sound and sight, micro-F1: {tuned} pre-trained, {scratch} "
    f"from scratch; me.mp4, {video['seconds']:g} s, is {video['targets']['emotion']['joint']['best']}; "
    f"{', '.join(made)} are there"
)
PYTHON
