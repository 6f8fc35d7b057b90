#!/usr/bin/env bash
# Checks what comes in from outside, and writes down what is inside.
#
#   scripts/supply-chain.sh            both of:
#   scripts/supply-chain.sh check      advisories, bans, licences and sources, as deny.toml says
#   scripts/supply-chain.sh sbom       a CycloneDX bill of materials in target/sbom/
#
# Installs the tools it needs, in the versions below, into target/tools; that takes two minutes each on two
# cores, once.
# The database of advisories is fetched from GitHub. Where that cannot be reached the other checks
# still count, and this says loudly that advisories were not looked at; with
# POSTRIDER_REQUIRE_ADVISORIES=1 that is a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly CARGO_DENY=0.20.2
readonly CARGO_CYCLONEDX=0.5.9
# The versions of CycloneDX that readers commonly know; 1.5 is the newest the tool writes.
readonly CYCLONEDX_SPECIFICATION=1.5
readonly ADVISORIES_FETCHED_WITHIN_SECONDS=60
readonly TOOLS=target/tools
readonly SBOM=target/sbom/postrider.cdx.json

say() { printf 'supply-chain: %s\n' "$*" >&2; }

# Debug builds: they are there in half the time, and what they do takes seconds.
install_tool() {
    local name=$1 version=$2
    if cargo install --list --root "$TOOLS" | grep -qx "$name v$version:"; then
        return
    fi
    say "installing $name $version into $TOOLS"
    CARGO_PROFILE_DEV_DEBUG=false cargo install --quiet --locked --debug --force \
        --root "$TOOLS" --version "=$version" "$name"
}

check() {
    install_tool cargo-deny "$CARGO_DENY"
    "$TOOLS/bin/cargo-deny" --locked --log-level error check bans licenses sources
    if timeout "$ADVISORIES_FETCHED_WITHIN_SECONDS" \
        "$TOOLS/bin/cargo-deny" --locked --log-level off fetch db 2>/dev/null; then
        "$TOOLS/bin/cargo-deny" --locked check --disable-fetch advisories
        return
    fi
    say '*** ADVISORIES WERE NOT CHECKED: the database cannot be fetched from here.'
    say '*** Run this where github.com can be reached before a release.'
    [[ ${POSTRIDER_REQUIRE_ADVISORIES:-} != 1 ]]
}

# The tool writes beside each manifest of the workspace; only the product's file is kept.
sbom() {
    install_tool cargo-cyclonedx "$CARGO_CYCLONEDX"
    local stem=.sbom
    mkdir -p "$(dirname "$SBOM")"
    trap 'rm -f crates/*/"$stem"*.json' RETURN
    SOURCE_DATE_EPOCH="$(git log -1 --format=%ct 2>/dev/null || echo 0)" \
        "$TOOLS/bin/cargo-cyclonedx" cyclonedx --quiet \
        --manifest-path crates/server/Cargo.toml --no-build-deps \
        --format json --spec-version "$CYCLONEDX_SPECIFICATION" --override-filename "$stem"
    # Where this checkout lies is nobody else's business, and differs from build to build.
    sed "s|file://$PWD/|file:///|g" crates/server/"$stem".json >"$SBOM"
    say "wrote $SBOM"
}

case "${1:-all}" in
    check) check ;;
    sbom) sbom ;;
    all)
        check
        sbom
        ;;
    *)
        say 'say check, sbom or nothing'
        exit 2
        ;;
esac
