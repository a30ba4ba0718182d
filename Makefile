# Every verb sets up what it needs: a virtual environment with the pinned tools and the package.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
# an index with torch's CPU builds, where the usual one has only the large CUDA build
export TORCH_INDEX ?=
CPP := $(wildcard csrc/*.cpp csrc/*/*.cpp csrc/*/*.h csrc/*/*.hpp csrc/cuda/*.cu csrc/cuda/*.cuh)
CPP_TESTS := $(wildcard tests/cpp/*.cpp tests/cuda/*)
CROSS_CXX := aarch64-linux-gnu-g++
QEMU ?= qemu-aarch64

# processes that share the tests; each takes up to 1.5 GiB
TEST_JOBS ?= 2

.PHONY: demo dev check format peers postgresql test test-tritons sanitize neon-tools neon-test wheel-test bench gpu gpu-prepare clean
.DEFAULT_GOAL := help
help:
	@echo "make demo        train narrow dense and wide sparse networks for two minutes and compare them"
	@echo "make test        run every test"
	@echo "make check       lint, format, types, imports between layers"
	@echo "make test-tritons  test the Triton kernels on the oldest and the newest Triton"
	@echo "make sanitize    C++ tests under the address and undefined-behaviour sanitizers"
	@echo "make postgresql  install the server (Debian) that some tests of the search need"
	@echo "make neon-test   C++ tests built for 64-bit ARM and run in an emulator"
	@echo "make wheel-test  build the wheel, install it elsewhere and try it there"
	@echo "make bench       time sparse junctions against dense ones and other libraries, with pictures"
	@echo "make peers       install the libraries that bench compares with"
	@echo "make gpu         check and measure on this machine's GPU, in one folder of results"
	@echo "make gpu-prepare build what the same needs on another machine that has little more than a GPU"
	@echo "make dev         only set up $(VENV)"

# CUDA kernels are compiled wherever nvcc works, GPU or not: tests and checks need them
DNC_CUDA ?= NVCC
# those who only look spare the minutes that nvcc takes
demo bench peers: DNC_CUDA = AUTO

# torch comes first and alone, so that nothing else chooses its build
$(VENV)/installed: pyproject.toml constraints.txt CMakeLists.txt $(CPP)
	@echo "setting up $(VENV) (a few minutes the first time)"
	@case $(DNC_CUDA) in NVCC|ON) command -v nvcc >/dev/null && \
		echo "nvcc is here: the CUDA kernels take it a minute more; make DNC_CUDA=OFF leaves them out" || true;; esac
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c "import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f'Python 3.11 or newer is needed, {sys.executable} is {v.major}.{v.minor}; run make PYTHON=python3.11')"
	@$(PIP) torch $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	@CMAKE_ARGS="-DDNC_CUDA=$(DNC_CUDA) $$CMAKE_ARGS" $(PIP) --editable '.[dev]'
	@touch $@

dev: $(VENV)/installed

demo: dev
	@$(BIN)/dnc-sparse demo

check: dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/clang-format --dry-run --Werror $(CPP) $(CPP_TESTS)
	@$(BIN)/mypy
	@PYTHONPATH=.:search:hw $(BIN)/lint-imports --no-logo

format: dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/clang-format -i $(CPP) $(CPP_TESTS)

# the tests of the search start a server of their own; without one they are skipped
postgresql:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || \
		apt-get install --yes --no-install-recommends postgresql

# the libraries that other models come from, without building the package again; tests without one
# of them are skipped
MODELS := import tomllib; \
	extras = tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']; \
	names = [n for extra in ('onnx', 'peft', 'models') for n in extras[extra]]; \
	print(*(n for n in names if not n.startswith('dnc-sparse')))
$(VENV)/models: $(VENV)/installed
	@$(PIP) $$($(BIN)/python -c "$(MODELS)")
	@touch $@

test: $(VENV)/models
	@$(BIN)/pytest --numprocesses $(TEST_JOBS) --dist worksteal

# its interpreter fails with numpy 2.4
# the oldest supported and the newest; 3.6 needs the older numpy
OTHER_TRITONS := 3.6.0 3.9.0
$(VENV)/triton-%: pyproject.toml
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --upgrade --no-deps \
		--target $@ triton==$* 'numpy<2.4'
	@touch $@

test-triton-%: dev $(VENV)/triton-%
	@PYTHONPATH=$(VENV)/triton-$* $(BIN)/pytest tests/sparse/test_triton.py tests/sparse/test_triton_compiled.py

test-tritons: $(addprefix test-triton-,$(OTHER_TRITONS))

sanitize: dev
	@$(BIN)/cmake -S . -B build/sanitize -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
		-DDNC_SANITIZE=ON -DDNC_PYTHON=OFF -DCMAKE_BUILD_TYPE=None
	@$(BIN)/cmake --build build/sanitize
	@build/sanitize/test_kernels
	@build/sanitize/test_engine

neon-tools:
	@command -v $(CROSS_CXX) >/dev/null && command -v $(QEMU) >/dev/null || { \
		echo "neon-test needs $(CROSS_CXX) and $(QEMU): apt-get install g++-aarch64-linux-gnu qemu-user" >&2; \
		exit 1; }

# the oldest 64-bit ARM core, so that no later instruction passes unnoticed
neon-test: neon-tools dev
	@$(BIN)/cmake -S . -B build/neon -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
		-DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake -DDNC_PYTHON=OFF
	@$(BIN)/cmake --build build/neon
	@$(QEMU) -cpu cortex-a53 -L /usr/aarch64-linux-gnu build/neon/test_kernels neon
	@$(QEMU) -cpu cortex-a53 -L /usr/aarch64-linux-gnu build/neon/test_engine baseline

wheel-test: dev
	@PYTHON=$(BIN)/python tests/wheel.sh

# What bench compares with, each by itself: one that cannot be installed is named and left out.
# SparseLab asks only for what is here. SparseProp's setup calls the first python3 it finds, without
# what is installed there, so the compiler is told where pybind11 is.
PEER := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt --no-deps
peers: $(VENV)/installed
	@$(BIN)/python -c 'import sparselab' 2>/dev/null || $(PEER) sparselab >$(VENV)/sparselab.log 2>&1 || \
		echo "SparseLab cannot be installed here ($(VENV)/sparselab.log); bench leaves it out"
	@$(BIN)/python -c 'import sparseprop' 2>/dev/null || { $(PIP) pybind11 && \
		CPLUS_INCLUDE_PATH="$$($(BIN)/python -c 'import pybind11; print(pybind11.get_include())')" \
		PATH="$(abspath $(BIN)):$$PATH" $(PEER) sparseprop; } >$(VENV)/sparseprop.log 2>&1 || \
		echo "SparseProp cannot be installed here ($(VENV)/sparseprop.log); bench leaves it out"

bench: peers
	@$(BIN)/dnc-sparse bench --suite cpu --json runs/bench/cpu.json --plot runs/bench

# for a machine with a card and without a package index: build/gpu travels there
gpu-prepare: dev
	@$(BIN)/python bench/gpu_prepare.py

gpu: dev
	@$(BIN)/python bench/gpu_prepare.py --libraries
	@code=0; for call in check measure; do $(BIN)/python bench/gpu.py --call $$call || code=1; done; \
		exit $$code

clean:
	rm -rf $(VENV) build dist
