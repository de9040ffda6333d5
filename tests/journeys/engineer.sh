#!/usr/bin/env bash
# An engineer has a Lightning project with a package `models` of its own, and videos, and wants the loader.
#
#   bash engineer.sh FOLDER      a new folder for everything; in an environment with filmstrip's extra interop
#
# The project is tests/journeys/engineer. A training is killed as by a power cut, resumed, and has to go on as if nothing
# had been.
set -euo pipefail
JOURNEYS=$(cd "$(dirname "$0")" && pwd)
cp -r "$JOURNEYS/engineer" "$1"
cd "$1"

say() { printf '\n# %s\n' "$*"; }
run() { printf '\n$ %s\n' "$*"; "$@"; }

say "Before: videos, and a table of them"
run filmstrip build demo --output drawn --speakers 12 --videos-per-speaker 4 --omg-train 1 --omg-validation 1 --size 64
{
    echo video,speaker,video_id
    for video in drawn/voxceleb/dev/mp4/*/*/*.mp4; do
        folder=$(dirname "$video")
        echo "$video,$(basename "$(dirname "$folder")"),$(basename "$folder")"
    done
} > videos.csv
head -3 videos.csv

say "The dataset, built in the project's folder, where \`import models\` is the project's own"
run filmstrip build table --table videos.csv --size 64 --output data/videos
run filmstrip verify data/videos

say "A training that nothing happens to"
run python train.py data/videos whole

say "The same, killed in the middle of its second epoch or later"
printf '\n$ python train.py data/videos killed &\n'
python train.py data/videos killed &
training=$!
until [ "$(cat killed/clips.jsonl 2> /dev/null | wc -l)" -ge 14 ] && [ -e killed/last.ckpt ]; do
    kill -0 "$training"  # or it has ended by itself
    sleep 0.05
done
run kill -9 "$training"
wait "$training" || echo "it ended with $?"
cp killed/clips.jsonl before.jsonl

say "Resumed"
run python train.py data/videos killed --resume

python - <<'PYTHON'
import json
from pathlib import Path

import torch


def steps(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


whole, before, both = steps("whole/clips.jsonl"), steps("before.jsonl"), steps("killed/clips.jsonl")
after = both[len(before) :]
epoch = len(whole) // 5
assert before == whole[: len(before)], "before the kill"
assert 0 < len(before) < len(whole), len(before)
assert after[0]["step"] % epoch, "it was to be resumed within an epoch"
assert after == whole[after[0]["step"] :], "after it"
ends = [torch.load(f"{run}/end.ckpt", weights_only=False)["state_dict"] for run in ("whole", "killed")]
assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items()), "weights"
print(
    f"\nresult: killed after {len(before)} of {len(whole)} steps, resumed at step {after[0]['step']} of epochs of {epoch}: "
    f"the clips of {len(after)} steps and the weights at the end are those of the run that was not killed"
)
PYTHON
