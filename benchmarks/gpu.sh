#!/usr/bin/env bash
# Everything that docs/gpu.md has to be measured on a GPU, the most telling first, in ten minutes at most.
set -uo pipefail

usage() {
    cat <<'TEXT'
usage: benchmarks/gpu.sh [--dry-run] [--list] [--only NAME[,NAME…]] [--budget SECONDS] DATA [OUT]

  DATA       a dataset of full-size clips with WAV, as sharding/build.py makes; a few clips will do, they are repeated
  OUT        folder for a log a stage, summary.txt and results/*.json; by default $OUT
  --dry-run  the same stages on the CPU, with tiny settings
  --list     print each stage's name, limit in seconds and command, and run nothing
  --only     these stages alone; all but "machine" and the tests need "prepare"
  --budget   seconds for all of it (540): a stage that finds none left is skipped

A stage that fails or exceeds its limit does not stop the others; what it has written goes to OUT/partial. Records of a run on a GPU are copied to
benchmarks/results. Lines with WARNING, of which nvImageCodec prints some for every decoder, are counted and left out of
the logs. $PYTHON is the interpreter (python3). Exit status: 0 if every stage succeeded, 1 if
one failed or was skipped; 2 for wrong usage.
TEXT
}

wrong() {
    echo "error: $1 (--help tells more)" >&2
    exit 2
}

dry='' list='' only='' budget=540
while [[ ${1:-} == -* ]]; do
    case $1 in
    --help | -h) usage && exit 0 ;;
    --dry-run) dry=1 ;;
    --list) list=1 ;;
    --only | --budget)
        [[ -n ${2:-} ]] || wrong "$1: no value is given"
        [[ $1 == --only ]] && only=$2 || budget=$2
        shift
        ;;
    *) wrong "$1: no such option" ;;
    esac
    shift
done
data=${1:-}
out=${2:-${OUT:-}}
[[ -n $data && -n $out && $# -le 2 ]] || wrong "DATA and OUT are needed"
[[ $budget =~ ^[0-9]+$ ]] || wrong "--budget is $budget: give whole seconds"
stages=(machine prepare tests-kernels train train-cpu loaders windows tests tests-alone peers program train-large compiled compiled-test)
for name in ${only//,/ }; do
    [[ " ${stages[*]} " == *" $name "* ]] || wrong "--only $name: there are ${stages[*]}"
done
if [[ -z $list ]]; then
    [[ -f $data/dataset.json ]] || wrong "$data: no dataset there"
    mkdir -p "$out/results" || wrong "$out: cannot be made"
    rm -f "$out"/results/*_gpu*.json # of an earlier run: only what is measured now becomes a record
    out=$(cd "$out" && pwd)
    data=$(cd "$data" && pwd)
    work=$(mktemp -d "${TMPDIR:-/tmp}/filmstrip-gpu.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    : >"$out/summary.txt"
else
    work=/tmp/filmstrip-gpu
fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 2
export PYTHONPATH=${PYTHONPATH:+$PYTHONPATH:}$root PYTHONUNBUFFERED=1 LC_NUMERIC=C COLUMNS=200
python=${PYTHON:-python3}
failed=0

chosen() {
    [[ -z $only || ,$only, == *,$1,* ]]
}

# stage NAME LIMIT COMMAND…: run it, within its limit and what is left of the budget; a line of what came of it.
stage() {
    local name=$1 limit=$2
    shift 2
    chosen "$name" || return 0
    if [[ -n $list ]]; then
        printf '%s\t%s\t%s\n' "$name" "$limit" "$(printf '%q ' "$@")"
        return 0
    fi
    local left=$((budget - SECONDS)) begun=$EPOCHREALTIME status log=$out/$name.log
    if ((left < 1)); then
        say "$name" 0 skipped "no time left"
        failed=1
        return 0
    fi
    ((limit = limit < left ? limit : left))
    # An interrupt, for which every program here has an orderly end. Not through a pipe: what is left of a program that
    # was killed might hold it open.
    touch "$out/.stage"
    timeout --signal=INT --kill-after=10 "$limit" "$@" >"$log.whole" 2>&1
    status=$?
    {
        printf '%q ' "$@" && echo
        awk '/WARNING/ {n++; next} {print} END {if (n) print n " lines with WARNING were left out"}' "$log.whole"
    } >"$log"
    rm "$log.whole"
    say "$name" "$(awk "BEGIN {print $EPOCHREALTIME - $begun}")" "$status" \
        "$([[ $status == 124 ]] && echo "stopped at its limit of $limit s")"
    if [[ $status != 0 ]]; then
        failed=1
        # What it has written so far is kept beside the records, and is none.
        mkdir -p "$out/partial"
        find "$out/results" -name '*.json' -newer "$out/.stage" -exec mv -t "$out/partial" {} +
        tail -n 12 "$log" | cut -c 1-300
    elif [[ -z $dry ]]; then
        find "$out/results" -name '*.json' -exec cp {} benchmarks/results/ \;
    fi
}

say() { # name, seconds, status, remark
    printf '%-14s %7.1f s  status %s  %s\n' "$@" | tee -a "$out/summary.txt"
}

results=$out/results
clips=$work/prepared/dataset # so many as an epoch of training needs
if [[ -n $dry ]]; then
    size=(--preset tiny --device cpu)
    on_cpu=(--placement cpu)
    small=(--batch-size 4 --steps 2 --rounds 1) large=(--batch-size 8 --steps 2 --rounds 1)
    compiled=("${small[@]}")
    loaders=(--device cpu --clips 60 --batch-size 8 --rounds 1 --seconds 0.1)
    windows=(--device cpu --clips 60 --batch-size 8 --rounds 1)
    close=1 copies=60 first_peers=(none) other_peers=(none)
    program=(--preset tiny --width 4 --frame-size 16 --batch-size 8 --max-steps 3)
    launch=(--cpu --mixed_precision no)
else
    size=(--preset full --device cuda --placement gpu --mixed-precision bf16)
    on_cpu=(--placement cpu --profiled 0)
    small=(--batch-size 64 --steps 20 --rounds 3) large=(--batch-size 128 --steps 10 --rounds 2)
    compiled=(--batch-size 64 --steps 10 --rounds 2)
    loaders=(--device cuda --clips 2000 --batch-size 128 --rounds 1)
    windows=(--device cuda --placement gpu --clips 16000 --batch-size 128 --rounds 1)
    close=5 copies=2000 first_peers=(dali) other_peers=("torchcodec, NVDEC" "spdl, NVDEC or nvJPEG")
    program=(--preset full --batch-size 64 --max-steps 250)
    launch=(--mixed_precision bf16)
fi
loaders+=(--data "$data" --work "$work/prepared")

stage machine 30 "$python" -c 'import subprocess, shutil, torch, nvidia.dali as dali
smi = shutil.which("nvidia-smi")
print(torch.__version__, torch.version.cuda, dali.__version__, torch.cuda.is_available() and torch.cuda.get_device_name())
print(subprocess.run([smi], capture_output=True, text=True).stdout if smi else "no nvidia-smi")'
stage prepare 60 "$python" -m benchmarks.peers.prepare --data "$data" --work "$work/prepared" --clips "$copies"
kernels=(tests/models/towers/test_fused_norm.py tests/models/towers/test_fused_ranks.py)
kernels+=(tests/models/towers/test_stem.py tests/models/towers/test_convolutional.py)
stage tests-kernels 100 "$python" -m pytest "${kernels[@]}" -n 12 --dist worksteal -rs --durations=12
stage train 110 "$python" benchmarks/train.py --data "$clips" "${size[@]}" "${small[@]}" --json "$results/train_gpu.json"
stage train-cpu 80 "$python" benchmarks/train.py --data "$clips" "${size[@]}" "${small[@]}" "${on_cpu[@]}" \
    --json "$results/train_gpu_cpu.json"
stage loaders 160 "$python" benchmarks/loaders.py "${loaders[@]}" --close-rounds "$close" --peers "${first_peers[@]}" \
    --messages "$out/loaders.messages" --json "$results/loaders_gpu.json"
stage windows 90 "$python" benchmarks/windows.py --data "$data" "${windows[@]}" --json "$results/windows_gpu.json"
stage tests 110 "$python" -m pytest tests/gpu -n 8 --dist loadgroup -m 'not alone' -rs --durations=20 -k 'not compiled'
stage tests-alone 75 "$python" -m pytest tests/gpu -n 0 -m alone -rs --durations=10
# They need FFmpeg's libraries, which a bare machine lacks: PyAV brings them.
libraries=$work/ffmpeg
if [[ -n $list ]] || ! chosen peers || {
    timeout 30 "$python" -m benchmarks.peers.ffmpeg --folder "$libraries" &&
        LD_LIBRARY_PATH=$libraries timeout 60 "$python" -c 'import torch, spdl.io; spdl.io.demux_video'
} >"$out/peers.log" 2>&1; then
    stage peers 70 env LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "$python" benchmarks/loaders.py \
        "${loaders[@]}" --close-rounds 1 --no-ways --peers "${other_peers[@]}" \
        --messages "$out/peers.messages" --json "$results/loaders_gpu_peers.json"
else
    say peers 0 skipped "$(tail -n 1 "$out/peers.log")"
    failed=1
fi
stage program 80 "$python" -m accelerate.commands.launch --num_processes 1 --num_machines 1 --dynamo_backend no \
    "${launch[@]}" train.py --stage pretrain --data "$clips" --evaluation-split train --output "$work/run" "${program[@]}"
stage train-large 80 "$python" benchmarks/train.py --data "$clips" "${size[@]}" "${large[@]}" \
    --json "$results/train_gpu_large.json"
stage compiled 100 "$python" benchmarks/train.py --data "$clips" "${size[@]}" "${compiled[@]}" --compile \
    --json "$results/train_gpu_compiled.json"
stage compiled-test 75 "$python" -m pytest tests/gpu -rs -k compiled
[[ -n $list ]] || echo "all of it: $SECONDS s; logs in $out"
exit $failed
