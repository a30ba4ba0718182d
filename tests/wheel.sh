#!/usr/bin/env bash
# Build the wheel, install it in an environment of its own, try it away from the sources.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
python=${PYTHON:-.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# nvcc takes minutes, for kernels whose tests need its sources
export CMAKE_ARGS="-DDNC_CUDA=${DNC_CUDA:-OFF}"
PIP_CONSTRAINT="$root/constraints.txt" "$python" -m build --wheel --outdir "$work/dist" . >"$work/log" ||
    { cat "$work/log"; exit 1; }
"$python" -m venv "$work/venv"
install=("$work/venv/bin/python" -m pip --disable-pip-version-check install --quiet -c constraints.txt)
"${install[@]}" torch ${TORCH_INDEX:+--index-url "$TORCH_INDEX"}
"${install[@]}" "$work"/dist/*.whl pytest pytest-benchmark pytest-xdist hypothesis matplotlib joblib optuna jinja2 "psycopg[binary]"

mkdir "$work/tree"
cp -r tests bench examples docs README.md CONTRIBUTING.md pyproject.toml "$work/tree"
# the copy has no neighbour folder with data files
data=$root/../shared/data
if [ -z "${DNC_DATA:-}" ] && [ -d "$data" ]; then export DNC_DATA=$data; fi
cd "$work/tree"
# processes that tests start find what the tests define
export PYTHONPATH=$work/tree
# what a wheel may lack: a module, a template, a compiled kernel, a command
"$work/venv/bin/python" - <<'END'
import importlib
import pkgutil

# a class of peft's is the base of one, the others are written in Triton
needs_an_extra = ("dnc_sparse.peft", "dnc_sparse.kernels")
for name in ("dnc_sparse", "dnc_search", "dnc_hw"):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        if not module.name.endswith("__main__") and not module.name.startswith(needs_an_extra):
            importlib.import_module(module.name)
END
"$work/venv/bin/pytest" -q -m "not slow" --numprocesses "${TEST_JOBS:-2}" --dist worksteal \
    tests/*/test_*cli*.py tests/sparse/test_{backends,nn_linear,nn_mlp}.py \
    tests/hw/test_{engine,machine}.py tests/search/test_search_{report,export}.py
