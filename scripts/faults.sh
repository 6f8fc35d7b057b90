#!/usr/bin/env bash
# Builds the service and the fault suite and runs it; see docs/reliability.md.
#
#   scripts/faults.sh                       every scenario, in its short form: minutes
#   scripts/faults.sh long                  every scenario, in its long form: hours
#   scripts/faults.sh SCENARIO [ARGUMENT…]  one of them, for example: scripts/faults.sh kill --cycles 100 --seed 7
#   scripts/faults.sh check                 whether this machine has what the scenarios need
#
# What they need is installed where this is run as root on Debian or Ubuntu; elsewhere it says what to install.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The short form makes the same decisions every time; the long one draws its seed and prints it.
readonly SHORT_SEED=11

# Command and package, in pairs.
readonly NEEDED=(strace strace fusermount3 fuse3 faketime faketime prlimit util-linux)

missing=()
for ((place = 0; place < ${#NEEDED[@]}; place += 2)); do
    command -v "${NEEDED[place]}" >/dev/null || missing+=("${NEEDED[place + 1]}")
done
if ((${#missing[@]} > 0)); then
    if [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
        printf 'faults: installing %s\n' "${missing[*]}" >&2
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
    else
        printf 'faults: this machine lacks %s; on Debian or Ubuntu: sudo apt-get install %s\n' \
            "${missing[*]}" "${missing[*]}" >&2
    fi
fi

cargo build -p server -p faults

case "${1:-short}" in
short) arguments=(all --short --seed "$SHORT_SEED") ;;
long) arguments=(all --long) ;;
*) arguments=("$@") ;;
esac
exec target/debug/postrider-faults "${arguments[@]}"
