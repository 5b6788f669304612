#!/bin/sh
# Installs what the tests use beside Rust, on Debian 12 or later. `make demo` and
# `make test` need no more than a C compiler; with the rest nothing is left out.
set -eu
export DEBIAN_FRONTEND=noninteractive

packages=
want() { # why package...
	shift
	packages="$packages $*"
}

want "build the tool, the crash programs, the fuzz targets" make gcc g++ libc6-dev git ca-certificates
want "compile bpf/"                                     clang-19 llvm-19 libbpf-dev linux-libc-dev
want "crash programs for musl"                          musl-tools
# Other machines have none.
[ "$(dpkg --print-architecture)" != amd64 ] ||
	want "crash programs of 32 bits"                gcc-multilib
want "look at binaries: strip, nm, objcopy, readelf"    binutils file
want "crash programs in Go"                             golang-go
want "debug information as distributions have it"      dwz libc6-dbg
want "ask a debuginfod server, also by https"           debuginfod curl openssl
want "compare backtraces"                               gdb elfutils linux-perf bpftrace
# Programs of the system, and a library of more than 100 MB: clang-19 brings it.
want "crash what others have written"                   perl-base libllvm19
want "run the examples of the manual"                   python3 jq bash
want "file systems and namespaces of their own"         mount util-linux
want "next to nothing beside the tool"                  busybox-static libcap2-bin
want "boot kernels"                                     qemu-system-x86 qemu-system-arm gpgv
want "build kernels as boards have them"                flex bison bc lld-19 libelf-dev xz-utils dwarves
want "check the unit for systemd"                       systemd
want "read instructions of 32-bit ARM"                  binutils-arm-linux-gnueabihf
want "run containers"                                   podman runc
# For the architecture that this machine does not have.
case $(dpkg --print-architecture) in
amd64) other=arm64 machine=aarch64 ;;
*) other=amd64 machine=x86-64 ;;
esac
want "crash programs for the other architecture"        libc6-dev-$other-cross \
	libgcc-12-dev-$other-cross binutils-$machine-linux-gnu

missing=
for package in $packages; do
	dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
		missing="$missing $package"
done
if [ -z "$missing" ]; then
	echo "all packages are there"
	exit 0
fi
if [ "$(id -u)" != 0 ]; then
	echo "missing:$missing" >&2
	echo "run this as root, or: sudo apt-get install$missing" >&2
	exit 1
fi

# Mirrors have bad moments.
retry() {
	for pause in 5 20 60; do
		"$@" && return
		echo "again in $pause seconds: $*" >&2
		sleep $pause
	done
	"$@"
}
retry apt-get update -q
# shellcheck disable=SC2086 # one word for each package
retry apt-get install -q -y --no-install-recommends $missing
