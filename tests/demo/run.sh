#!/bin/sh
# Starts the binary, crashes tests/demo/crash.c while it watches, and prints the
# report. Needs a C compiler, and root or sudo for the binary.
set -eu
binary=$1
here=$(dirname "$0")
if [ "$(id -u)" = 0 ]; then
	sudo=
elif command -v sudo >/dev/null; then
	sudo=sudo
else
	echo "demo: loading a program into the kernel needs root, and there is no sudo here." >&2
	echo "demo: as root: sh $here/run.sh $binary" >&2
	exit 1
fi
# Now, while it can ask for a password.
$sudo true

work=$(mktemp -d "${TMPDIR:-/tmp}/demo.XXXX")
monitor=
trap 'test -z "$monitor" || $sudo kill "$monitor" 2>/dev/null || true; rm -rf "$work"' EXIT

${CC:-cc} -O2 -o "$work/demo_crash" "$here/crash.c"

wait_for() { # text file
	tries=0
	until grep -q "$1" "$2" 2>/dev/null; do
		tries=$((tries + 1))
		if [ $tries -gt 100 ] || ! $sudo kill -0 "$monitor" 2>/dev/null; then
			echo "demo: '$1' did not appear; the tool printed:" >&2
			cat "$work/said" >&2
			exit 1
		fi
		sleep 0.1
	done
}

echo "+ ${sudo:+$sudo }$binary -t -r -n demo_crash"
$sudo "$binary" -t -r -n demo_crash >"$work/report" 2>"$work/said" &
monitor=$!
wait_for '^Monitoring' "$work/said"
cat "$work/said"

echo "+ demo_crash"
("$work/demo_crash") 2>/dev/null || true
wait_for 'main+0x' "$work/report"
$sudo kill "$monitor"
wait "$monitor"
monitor=
echo
cat "$work/report"
