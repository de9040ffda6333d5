# Everything runs in .venv, which the first command sets up and the others find ready; test-python has its own.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
DEMO   ?= demo
JOBS   ?= $(shell nproc)
EXTRAS := dev,cuda13,faces,mediapipe,egemaps,ray,s3,plots,export,planes,interop,tools,docs
# accelerate would give a CPU process one thread.
# After train.py's own line of error accelerate would print a traceback of its own.
LAUNCH := $(BIN)/accelerate launch --quiet --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
    --num_cpu_threads_per_process $(JOBS)

# What two cores train in minutes; benchmarks/thesis_tables.py --demo takes the same files.
RECIPE   := benchmarks/recipes/demo
PRETRAIN := --config $(RECIPE)/pretrain.yaml --model ave
FINETUNE := --config $(RECIPE)/finetune.yaml
SCRATCH  := --config $(RECIPE)/scratch.yaml

# Set-up compiles nothing, as most files are never imported. What is imported is compiled once, even where the environment
# forbids that, or each of the many processes that tests start would compile torch again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo networks bench-setup architecture docs lock test types tests test-python test-install format clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(STAMP)  ## make .venv with everything the demo and the tests need

# Where CenterFace cannot be fetched, it says so, and tests that find faces are skipped.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt setuptools wheel
	$(BIN)/python -m pip install -q --no-compile -c constraints.txt --no-build-isolation -e '.[$(EXTRAS)]'
	-$(BIN)/python -m sharding.networks centerface
	touch $@

demo: $(STAMP)  ## make a corpus, build it, pre-train, fine-tune, train from scratch and compare (minutes on two cores)
	rm -rf $(DEMO)
	$(BIN)/python sharding/build.py demo --output $(DEMO)/corpus --size 96 --omg-validation 300
	$(BIN)/python sharding/build.py voxceleb --source $(DEMO)/corpus/voxceleb --openface $(DEMO)/corpus/openface/voxceleb \
	    --output $(DEMO)/vox --size 80
	$(BIN)/python sharding/build.py omg --source $(DEMO)/corpus/omg/videos --openface $(DEMO)/corpus/openface/omg \
	    --train-csv $(DEMO)/corpus/omg/omg_TrainVideos.csv \
	    --validation-csv $(DEMO)/corpus/omg/omg_ValidationVideos.csv --crop centre --output $(DEMO)/omg --size 80
	$(LAUNCH) train.py --stage pretrain --data $(DEMO)/vox --output $(DEMO)/pretrained $(PRETRAIN)
	$(LAUNCH) train.py --stage finetune --data $(DEMO)/omg --init $(DEMO)/pretrained --output $(DEMO)/finetuned $(FINETUNE)
	$(LAUNCH) train.py --stage finetune --data $(DEMO)/omg --output $(DEMO)/scratch $(SCRATCH)
	$(LAUNCH) train.py --stage evaluate --checkpoint $(DEMO)/finetuned --data $(DEMO)/omg
	$(BIN)/python -m models.compare $(DEMO)/finetuned $(DEMO)/scratch

networks: $(STAMP)  ## fetch the networks of --crop face and --gaze mediapipe into the cache (7 MB each)
	$(BIN)/python -m sharding.networks

architecture: $(STAMP)  ## draw docs/rooms.svg from the imports
	$(BIN)/python docs/rooms.py

# Pages and links that do not fit together are errors. mkdocs-material's advertisement of another mkdocs is not wanted.
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(STAMP)  ## make the site of docs/ in site/, and check its links
	$(BIN)/python -m mkdocs build --strict --quiet

lock: $(STAMP)  ## make uv.lock anew, of constraints.txt; needs uv
	$(BIN)/python docs/lock.py

bench-setup:  ## make .venv-bench, with the loaders that ours is compared with
	test -x $(VENV)-bench/bin/python || $(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install -q -c constraints-bench.txt setuptools wheel
	$(VENV)-bench/bin/python -m pip install -q -c constraints-bench.txt --no-build-isolation -e '.[bench,cuda13]'

# As many tests as cores run side by side, each with torch's threads: those that wait must not spin, or all of them crawl.
test: export OMP_WAIT_POLICY = PASSIVE
test: $(STAMP)  ## lint, types and every test that can run here
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --no-print-directory -j 2 types tests

# Side by side: mypy alone would leave cores idle, whatever its own number of processes.
types: $(STAMP)
	$(BIN)/mypy
tests: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

# What `pip install .` without the constraints brings today, on a Python that may be newer than that of .venv. TESTS: others
# than the whole way in small, such as tests/loaders.
test-python: TESTS ?= tests/test_pythons.py --full
test-python: BIN = $(VENV)-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')/bin
test-python:  ## make .venv-3.13 with the newest packages, and build, load and train there: PYTHON=python3.13
	test -x $(BIN)/python || $(PYTHON) -m venv $(BIN:/bin=)
	$(BIN)/python -m pip install -q --upgrade setuptools wheel
	$(BIN)/python -m pip install -q --upgrade --upgrade-strategy eager --no-compile --no-build-isolation -e '.[$(EXTRAS)]'
	$(BIN)/python -VV
	$(BIN)/python -m pip list --format=freeze --exclude-editable
	$(BIN)/python -m pytest $(TESTS)

# README's first block word for word, in an environment with nothing but Debian's own.
test-install: $(STAMP)  ## install as README says, from the index (gigabytes, minutes)
	$(BIN)/python -m pytest -n 0 -s tests/test_readme.py --full

format: $(STAMP)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what the demo made (no environment)
	rm -rf $(DEMO)
