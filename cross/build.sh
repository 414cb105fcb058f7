#!/usr/bin/env bash
# Builds a static binary for one of the targets in cross/targets and prints its path.
#
#   cross/build.sh armv7-unknown-linux-musleabihf
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=cross/toolchain.sh
. cross/toolchain.sh

target=${1:-}
if [ -z "$target" ] || ! grep -qE "^$target " cross/targets; then
  echo "usage: cross/build.sh TARGET, one of:" >&2
  awk '!/^#/ { print "  " $1 }' cross/targets >&2
  exit 2
fi
find_toolchain "$target" std,panic_abort

[ -z "$cargo_path" ] || PATH=$cargo_path:$PATH
# Apart from the host's target folder: the standard library built there is used again.
export CARGO_TARGET_DIR=${HOLDFAST_CROSS_TARGET_DIR:-$PWD/target/cross}
# After the toolchain, so that it stands before it: cargo-zigbuild asks the first python3 for zig.
find_zig "$CARGO_TARGET_DIR/zig"
# In build-std mode the C start files come from zig, not from the toolchain's folder.
[ -z "$build_std" ] || export RUSTFLAGS="-Clink-self-contained=no"
export PATH
# shellcheck disable=SC2086
cargo zigbuild --release --locked $build_std --target "$target" >&2
echo "$CARGO_TARGET_DIR/$target/release/holdfast"
