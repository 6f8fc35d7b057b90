#!/usr/bin/env bash
# Counts instructions per event under callgrind and fails when an event has become dearer than the
# counts kept in crates/bench/instructions.json allow.
#
#   scripts/instructions.sh                 build, count, judge
#   scripts/instructions.sh --accept        build, count, keep the new counts
#   scripts/instructions.sh --functions 30  also show where the instructions are
#
# Arguments go to `bench instructions`. POSTRIDER_PROFILE names the profile to build with (release).
# Counts belong to one compiler, profile and valgrind; with others this reports and judges nothing.
# Valgrind is installed with apt-get when this runs as root on a Debian-like system; otherwise this
# says what to install and exits 1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly PROFILE="${POSTRIDER_PROFILE:-release}"

say() { printf 'instructions: %s\n' "$*" >&2; }

if ! command -v valgrind >/dev/null; then
    if [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
        say "installing valgrind"
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends valgrind
    else
        say "the counts need valgrind; on Debian or Ubuntu: sudo apt-get install valgrind"
        exit 1
    fi
fi

# Both at once, as the product is measured: other packages would bring features that it has not.
cargo build --profile "$PROFILE" -p server -p bench
exec "target/$PROFILE/bench" instructions "$@"
