#!/bin/sh
# Crashes tests/crashers/locals.c while the binary watches with --core, then lets gdb print
# calls and locals from the core file, and says how large the kernel's own core is. Needs a
# C compiler, gdb, and root or sudo for the binary.
set -eu
binary=$1
here=$(dirname "$0")
command -v gdb >/dev/null || { echo "demo-core: no gdb here" >&2; exit 1; }
if [ "$(id -u)" = 0 ]; then
	sudo=
else
	sudo=sudo
fi
# Now, while it can ask for a password.
$sudo true

work=$(mktemp -d "${TMPDIR:-/tmp}/demo.XXXX")
monitor=
trap 'test -z "$monitor" || $sudo kill "$monitor" 2>/dev/null || true; $sudo rm -rf "$work"' EXIT
mkdir "$work/cores"
${CC:-cc} -g -O1 -o "$work/demo_locals" "$here/../crashers/locals.c"

wait_for() { # text file
	tries=0
	until grep -q "$1" "$2" 2>/dev/null; do
		tries=$((tries + 1))
		if [ $tries -gt 100 ] || ! $sudo kill -0 "$monitor" 2>/dev/null; then
			echo "demo-core: '$1' did not appear; the tool printed:" >&2
			cat "$work/said" >&2
			exit 1
		fi
		sleep 0.1
	done
}

echo "+ ${sudo:+$sudo }$binary -t -n demo_locals --core $work/cores"
$sudo "$binary" -t -n demo_locals --core "$work/cores" >"$work/report" 2>"$work/said" &
monitor=$!
wait_for '^Monitoring' "$work/said"
echo "+ demo_locals"
(cd "$work" && ulimit -c unlimited 2>/dev/null && ./demo_locals) 2>/dev/null || true
wait_for 'main+0x' "$work/report"
$sudo kill "$monitor"
wait "$monitor"
monitor=
echo
cat "$work/report"
core=$(sed -n 's/^  Core: *//p' "$work/report")
$sudo chmod 644 "$core"
echo "+ gdb demo_locals $(basename "$core")"
gdb -batch -nx -iex 'set auto-load no' -ex 'set debuginfod enabled off' -ex 'bt' -ex 'frame 0' \
	-ex 'info locals' -ex 'p *node->next' "$work/demo_locals" "$core" 2>/dev/null |
	sed -n '/^Program terminated/,$p'
echo
echo "The tool's core:    $(wc -c <"$core") bytes"
for kernels in "$work"/core "$work"/core.[0-9]*; do
	test -f "$kernels" || continue
	echo "The kernel's core:  $(wc -c <"$kernels") bytes"
	exit
done
echo "The kernel's core:  none in the working directory, see /proc/sys/kernel/core_pattern"
