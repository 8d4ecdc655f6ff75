#!/bin/bash
# dist-check.sh BUILD: `meson dist` twice gives the same bytes, and what is in the tarball builds
# and passes its unit tests without the repository around it.
set -euo pipefail
build=$(realpath "$1")
source=$(realpath "$(dirname "$0")/..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for round in 1 2; do
    meson dist -C "$build" --no-tests --formats xztar >"$work/dist.log" ||
        { cat "$work/dist.log"; exit 1; }
    mkdir "$work/$round"
    mv "$build"/meson-dist/hearth-*.tar.xz "$work/$round/"
done
tarball=$(basename "$work"/1/*.tar.xz)
cmp "$work/1/$tarball" "$work/2/$tarball"

tar -C "$work" -xf "$work/1/$tarball"
cd "$work/${tarball%.tar.xz}"
meson setup build >/dev/null
ninja -C build | tail -n 1
meson test -C build --quiet --print-errorlogs
build/bin/hearth --version
python=$source/.venv/bin/python
cp -r clients/python "$work/client"
"$python" -m build --no-isolation --outdir "$work/python" "$work/client" >"$work/build.log" 2>&1 ||
    { cat "$work/build.log"; exit 1; }
"$python" -m pip install --quiet --no-index --no-deps --target "$work/site" "$work"/python/*.whl
(cd / && PYTHONPATH=$work/site python3 -c 'import hearth, importlib.resources as r
assert r.files(hearth).joinpath("py.typed").is_file()')
mv "$work"/python/* "$build/meson-dist/"
mv "$work/1/$tarball" "$build/meson-dist/"
echo "dist-check: $build/meson-dist/$tarball is reproducible, builds and passes"
