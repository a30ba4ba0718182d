#!/usr/bin/env bash
# Build the wheel, install it in an environment of its own, run the tests away from the sources.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

PIP_CONSTRAINT="$root/constraints.txt" "$PYTHON" -m build --wheel --outdir "$work/dist" . >"$work/log" ||
    { cat "$work/log"; exit 1; }
"$PYTHON" -m venv "$work/venv"
install=("$work/venv/bin/python" -m pip --disable-pip-version-check install --quiet -c constraints.txt)
"${install[@]}" torch
"${install[@]}" "$work"/dist/*.whl pytest pytest-benchmark hypothesis matplotlib

mkdir "$work/tree"
cp -r tests examples pyproject.toml "$work/tree"
cd "$work/tree"
DNC_DATA=${DNC_DATA:-$root/../shared/data} "$work/venv/bin/pytest" -q
