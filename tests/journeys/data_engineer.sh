#!/usr/bin/env bash
# A data engineer has films in tars in an S3 bucket and a cluster: Ray builds, two ranks train from the bucket.
#
#   bash data_engineer.sh FOLDER      a new folder for everything; in an environment with filmstrip's extras ray, s3 and dev
#
# The bucket is moto's, on loopback; the programs are in tests/journeys/data_engineer. Then the store goes away for a while,
# a file of the cache rots, and an object of the bucket does.
set -euo pipefail
JOURNEYS=$(cd "$(dirname "$0")" && pwd)
cp -r "$JOURNEYS/data_engineer" "$1"
cd "$1"

say() { printf '\n# %s\n' "$*"; }
run() { printf '\n$ %s\n' "$*"; "$@"; }

say "Before: a store, and films in tars in it, a JSON file beside each"
python store.py address &
STORE=$!
trap 'kill "$STORE"' EXIT
until [ -e address ]; do sleep 0.1; done
AWS_ENDPOINT_URL=$(cat address)
export AWS_ENDPOINT_URL AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1
export AWS_EC2_METADATA_DISABLED=true
run filmstrip build demo --output drawn --speakers 20 --videos-per-speaker 4 --omg-train 1 --omg-validation 1 --size 64
mkdir -p films/{0,1,2,3} tars
number=0
for video in drawn/voxceleb/dev/mp4/*/*/*.mp4; do
    folder=$(dirname "$video")
    key=films/$((number % 4))/$(printf %06d "$number")
    cp "$video" "$key.mp4"
    printf '{"speaker": "%s", "video_id": "%s"}' "$(basename "$(dirname "$folder")")" "$(basename "$folder")" > "$key.json"
    number=$((number + 1))
done
for part in 0 1 2 3; do tar -cf "tars/$part.tar" -C "films/$part" .; done
python -c "import s3fs; s3 = s3fs.S3FileSystem(); s3.mkdir('films'); s3.mkdir('datasets'); s3.put('tars/', 'films/raw/', recursive=True)"

say "Built by Ray from the bucket into the bucket, and verified there"
run filmstrip build webdataset --source 's3://films/raw/{0..3}.tar' --engine ray --workers 2 --size 64 --shard-mb 1 \
    --scratch scratch --output s3://datasets/films
run filmstrip verify s3://datasets/films
run filmstrip info s3://datasets/films

say "Two ranks read it, with room for two windows of it on the disk"
export OMP_NUM_THREADS=1  # a rank
read_it() { run torchrun --nproc_per_node 2 read.py s3://datasets/films "$@"; }
read_it cache quiet.json

say "The same from an empty cache, and once the first batch is there the store is away for eight seconds"
{
    until [ -e away.json.begun ]; do sleep 0.1; done
    kill -USR1 "$STORE"
} &
read_it cache-away away.json

say "The same from the first one's cache, whose files have rotted since"
for file in cache/shards/*.tar; do run python rot.py "$file"; done
read_it cache rotten.json

say "An object of the bucket has rotted: verify names it, and who has to read it does not wait for ever"
run python rot.py s3://datasets/films/train/000001.tar
run filmstrip verify s3://datasets/films && exit 1
read_it cache-faulty faulty.json --patience 5 2> faulty.log && exit 1
grep "error: " faulty.log

say "Put back, it is whole"
run python rot.py s3://datasets/films/train/000001.tar
run filmstrip verify s3://datasets/films

python - <<'PYTHON'
import json
from pathlib import Path

quiet, away, rotten = (json.loads(Path(f"{name}.json").read_text()) for name in ("quiet", "away", "rotten"))


def order(ranks: list[dict]) -> list:
    return [(rank["epochs"], rank["whole"]) for rank in ranks]


def counted(ranks: list[dict], what: str) -> int:
    return sum(rank["train"][what] for rank in ranks)


for epoch in range(2):
    assert sorted(clip for rank in quiet for clip in rank["epochs"][epoch]) == list(range(64)), "each clip once an epoch"
assert sorted(clip for rank in quiet for clip in rank["whole"]) == list(range(16)), "each clip of test once"
assert order(quiet) == order(away) == order(rotten), "the same clips in the same order whatever happens"
assert counted(away, "fetch_retries") > counted(quiet, "fetch_retries") == 0
assert counted(rotten, "damaged_shards") > counted(quiet, "damaged_shards") == 0
assert sum(counted(ranks, "bad_clips") for ranks in (quiet, away, rotten)) == 0
told = Path("faulty.log").read_text()
assert "train/000001.tar" in told and "other bytes came than dataset.json declares" in told
print(
    "\nresult: 64 + 16 clips, each once an epoch over two ranks; the same order with the store away for a while "
    f"({counted(away, 'fetch_retries')} attempts failed) and with rotten files in the cache "
    f"({counted(rotten, 'damaged_shards')} fetched again); the rotten object is named"
)
PYTHON
