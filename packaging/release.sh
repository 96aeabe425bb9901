#!/usr/bin/env bash
# Makes a release in build/release, or OUT: release.sh [OS/ARCH...], all of them without. The same commit and the same
# Go give the same bytes on every machine.
set -euo pipefail
cd "$(dirname "$0")/.."
all=(linux/amd64 linux/arm64 linux/arm linux/riscv64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64)
if [ $# -eq 0 ]; then set -- "${all[@]}"; fi
out=${OUT:-build/release}
rm -rf "$out"
mkdir -p "$out/bin"
# Without a history, as in an archive of the source, it has no version and no time.
if epoch=$(git log -1 --format=%ct 2>/dev/null); then vcs=true; else epoch=0 vcs=false; fi
SOURCE_DATE_EPOCH=$epoch
export SOURCE_DATE_EPOCH
# Whatever the machine prefers must not show.
export CGO_ENABLED=0 GOFLAGS= GOEXPERIMENT= GOAMD64=v1 GOARM64=v8.0 GOARM=7 GORISCV64=rva20u64
for platform in "$@"; do
	os=${platform%/*} arch=${platform#*/}
	binary=$out/bin/firth_${os}_$arch
	echo "building $platform"
	GOOS=$os GOARCH=$arch go build -trimpath -buildvcs=$vcs -ldflags='-w -buildid=' -o "$binary" ./cmd/firth
done
packaging/build.sh
# Go names the version itself, but in a work tree besides the checkout.
version=0.0.0
if $vcs; then version=$(TZ=UTC git log -1 --abbrev=12 --date=format-local:%Y%m%d%H%M%S --format=0.0.0-%cd-%h); fi
build/packaging -out "$out" -version "$version" "$out"/bin/*
(cd "$out" && sha256sum --quiet -c SHA256SUMS && ls -l bin && ls -l firth*)
