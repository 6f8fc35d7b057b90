#!/usr/bin/env bash
# Brings what the tests need beside Rust: Python and Node, and the Standard Webhooks libraries of
# both, the latter into target/test-tools only. Does nothing, quickly, when all is there.
#
# Missing programs are installed with apt-get when this runs as root on a Debian-like system;
# otherwise this says what to install and exits 1. A Go toolchain is used where there is one and
# never installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The versions the tests run against.
readonly STANDARDWEBHOOKS_PYPI=1.1.0
readonly STANDARDWEBHOOKS_NPM=1.1.1
readonly TOOLS=target/test-tools
readonly READY="$TOOLS/ready-pypi-$STANDARDWEBHOOKS_PYPI-npm-$STANDARDWEBHOOKS_NPM"

say() { printf 'test-tools: %s\n' "$*" >&2; }

has_venv() { python3 -c 'import venv, ensurepip' 2>/dev/null; }

# parseArgs, which the Node receivers use, came with Node 18.
has_node() { node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 18 ? 0 : 1)' 2>/dev/null; }

missing_packages() {
    command -v python3 >/dev/null || echo python3
    has_venv || echo python3-venv
    has_node || echo nodejs
    command -v npm >/dev/null || echo npm
}

works() {
    [[ -e $READY ]] && has_node &&
        "$TOOLS/venv/bin/python" -c 'import standardwebhooks' 2>/dev/null &&
        [[ -d $TOOLS/node/node_modules/standardwebhooks && -e $TOOLS/node/standard_webhooks.mjs ]]
}

if works; then
    exit 0
fi

mapfile -t missing < <(missing_packages)
if ((${#missing[@]} > 0)); then
    if [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
        say "installing ${missing[*]}"
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
        mapfile -t missing < <(missing_packages)
    fi
fi
if ((${#missing[@]} > 0)); then
    say "the tests need Python 3 with venv, and Node 18 or later with npm; missing here: ${missing[*]}"
    say "on Debian or Ubuntu: sudo apt-get install ${missing[*]}"
    exit 1
fi

mkdir -p "$TOOLS/node"
rm -f "$TOOLS"/ready-*
say "installing standardwebhooks $STANDARDWEBHOOKS_PYPI (PyPI) into $TOOLS/venv"
python3 -m venv --clear "$TOOLS/venv"
"$TOOLS/venv/bin/pip" install --quiet --disable-pip-version-check \
    "standardwebhooks==$STANDARDWEBHOOKS_PYPI"

say "installing standardwebhooks $STANDARDWEBHOOKS_NPM (npm) into $TOOLS/node"
npm install --prefix "$TOOLS/node" --silent --no-audit --no-fund --ignore-scripts --no-package-lock \
    "standardwebhooks@$STANDARDWEBHOOKS_NPM"
# Node looks for libraries beside the program it runs.
ln -sfn ../../../receivers/standard_webhooks.mjs "$TOOLS/node/standard_webhooks.mjs"

touch "$READY"
if ! works; then
    say "the libraries were installed but cannot be loaded; remove $TOOLS and try again"
    rm -f "$READY"
    exit 1
fi
