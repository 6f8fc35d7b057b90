#!/usr/bin/env bash
# Runs the fuzz targets for some seconds each, two at a time, and stops at the first crash.
#
#   scripts/fuzz.sh [SECONDS [TARGET…]]     10 seconds, every target
#
# Needs stable Rust and a C++ compiler, nothing else: the targets are built with the coverage that
# stable rustc offers, and libFuzzer comes with libfuzzer-sys. (Those who have cargo-fuzz and a nightly
# toolchain may use `cargo fuzz run TARGET` as well.) No address sanitizer: unsafe code is forbidden.
#
# Inputs: fuzz/corpus/TARGET is kept and only read; what is found goes to fuzz/target/found/TARGET and
# is the beginning of the next run; what crashes is in fuzz/target/crashes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly LENGTH_SECONDS="${1:-10}"
if [[ ! $LENGTH_SECONDS =~ ^[1-9][0-9]*$ ]]; then
    printf 'usage: scripts/fuzz.sh [SECONDS [TARGET…]]\n' >&2
    exit 2
fi
shift || true

readonly TARGETS=(
    target_url publish_body idempotency_key cursor retry_after response_head dns_answer configuration
)
# At once: the machine this is made for has two cores.
readonly AT_ONCE=2
# One input may take so long, in seconds, and one target so much memory, before it counts as a crash.
readonly INPUT_SECONDS_MAX=10
readonly MEMORY_MB_MAX=1024
# Longest input, in bytes; longer ones find no new paths and are slow. Beyond the longest URL and
# beyond the bound of an answer's head.
declare -rA LENGTH_MAX=(
    [target_url]=2200 [publish_body]=4096 [idempotency_key]=300 [cursor]=256
    [retry_after]=256 [response_head]=20000 [dns_answer]=1500 [configuration]=2048
)

say() { printf 'fuzz: %s\n' "$*" >&2; }

selected=("$@")
((${#selected[@]} > 0)) || selected=("${TARGETS[@]}")
for target in "${selected[@]}"; do
    if [[ -z ${LENGTH_MAX[$target]:-} ]]; then
        say "$target is no target; there are: ${TARGETS[*]}"
        exit 2
    fi
done

if ! command -v "${CXX:-c++}" >/dev/null; then
    if [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
        say "installing g++"
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends g++
    else
        say "libFuzzer needs a C++ compiler; on Debian or Ubuntu: sudo apt-get install g++"
        exit 1
    fi
fi

# Named, so that the flags below do not reach build scripts and macros, which have no libFuzzer.
host="$(rustc -vV | sed -n 's/^host: //p')"
readonly host
coverage=(
    --cfg fuzzing
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
)
# The versions the product ships with, also here.
[[ fuzz/Cargo.lock -nt Cargo.lock ]] || cp Cargo.lock fuzz/Cargo.lock
binaries=()
for target in "${selected[@]}"; do binaries+=(--bin "$target"); done
RUSTFLAGS="${coverage[*]}" cargo build --manifest-path fuzz/Cargo.toml --target-dir fuzz/target \
    --target "$host" --release "${binaries[@]}"

readonly FOUND=fuzz/target/found CRASHES=fuzz/target/crashes LOGS=fuzz/target/logs
mkdir -p "$CRASHES" "$LOGS"

# What libFuzzer ran with, to be seen and repeated.
run() {
    local target="$1"
    mkdir -p "$FOUND/$target"
    # Entropic scheduling costs more here than it finds: it weighs thousands of features an input.
    "fuzz/target/$host/release/$target" -seed=1 -entropic=0 -max_total_time="$LENGTH_SECONDS" \
        -timeout="$INPUT_SECONDS_MAX" -rss_limit_mb="$MEMORY_MB_MAX" \
        -max_len="${LENGTH_MAX[$target]}" -artifact_prefix="$CRASHES/$target-" \
        -print_final_stats=1 "$FOUND/$target" "fuzz/corpus/$target" >"$LOGS/$target" 2>&1
}

declare -A target_of
running=0

stop() { ((${#target_of[@]} == 0)) || kill "${!target_of[@]}" 2>/dev/null || true; }
trap stop EXIT

# Waits for one of those that run.
finish() {
    local pid status=0 target executions input
    wait -n -p pid || status=$?
    target="${target_of[$pid]}"
    unset "target_of[$pid]"
    running=$((running - 1))
    if ((status != 0)); then
        tail -n 40 "$LOGS/$target" >&2
        input="$(sed -n 's/.*Test unit written to //p' "$LOGS/$target" | tail -n 1)"
        say "$target failed; its whole log: $LOGS/$target; to replay:"
        say "  fuzz/target/$host/release/$target ${input:-(no input was written)}"
        exit 1
    fi
    executions="$(sed -n 's/^stat::number_of_executed_units: *//p' "$LOGS/$target")"
    say "$target: $executions executions, no crash"
}

for target in "${selected[@]}"; do
    ((running < AT_ONCE)) || finish
    run "$target" &
    target_of[$!]="$target"
    running=$((running + 1))
done
while ((running > 0)); do finish; done
