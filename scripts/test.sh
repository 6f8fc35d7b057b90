#!/usr/bin/env bash
# Runs every test. Brings the foreign tools first; see test-tools.sh. Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

./scripts/test-tools.sh

export POSTRIDER_TEST_PYTHON="$PWD/target/test-tools/venv/bin/python"
export POSTRIDER_TEST_NODE="$(command -v node)"
export POSTRIDER_TEST_NODE_FOLDER="$PWD/target/test-tools/node"

exec cargo test --workspace "$@"
