#!/bin/sh
# Builds the small kernel for virtual machines from Debian's packaged source: build.sh OUTPUT
# Needs: apt-get install linux-source-6.1 build-essential flex bison bc libelf-dev xz-utils lz4 cpio
# Takes some 5 minutes of two cores and 2 GB of TMPDIR; nothing is left there.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
output=${1:?usage: build.sh OUTPUT}
source=${LINUX_SOURCE:-/usr/src/linux-source-6.1.tar.xz}
[ -r "$source" ] || { echo "build.sh: $source is missing: apt-get install linux-source-6.1" >&2; exit 1; }

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
tar -xf "$source" -C "$directory" --strip-components=1
cd "$directory"

# The same source and fragment are the same kernel, wherever and whenever it is built.
export KBUILD_BUILD_TIMESTAMP='1970-01-01' KBUILD_BUILD_USER=hearth KBUILD_BUILD_HOST=hearth
make -s tinyconfig >tiny.log
scripts/kconfig/merge_config.sh -m .config "$here/hearth.config" >merge.log
make -s olddefconfig 2>override.log
missing=$(grep -E '^(# )?CONFIG_' "$here/hearth.config" | grep -Fxv -f .config || true)
[ -z "$missing" ] || { printf 'build.sh: this kernel does not take:\n%s\n' "$missing" >&2; exit 1; }

nice -n 19 make -s -j"$(nproc)" bzImage
install -m 0644 arch/x86/boot/bzImage "$output"
ls -l "$output"
