#!/bin/sh
# Starts the binary, crashes tests/demo/crash.c under its eyes, prints the
# report. Needs a C compiler; SUDO says how to become root, if that is needed.
set -eu
binary=$1
here=$(dirname "$0")
work=$(mktemp -d)
monitor=
trap 'test -z "$monitor" || ${SUDO:-} kill "$monitor" 2>/dev/null || true; rm -rf "$work"' EXIT

${CC:-cc} -O2 -o "$work/demo_crash" "$here/crash.c"

wait_for() { # text file
	tries=0
	until grep -q "$1" "$2" 2>/dev/null; do
		tries=$((tries + 1))
		if [ $tries -gt 100 ]; then
			echo "demo: no '$1' within 10 seconds; the tool said:" >&2
			cat "$work/said" >&2
			exit 1
		fi
		sleep 0.1
	done
}

echo "+ ${SUDO:+$SUDO }$binary -t -r -n demo_crash"
${SUDO:-} "$binary" -t -r -n demo_crash >"$work/report" 2>"$work/said" &
monitor=$!
wait_for '^Monitoring' "$work/said"
cat "$work/said"

echo "+ demo_crash"
(cd "$work" && ./demo_crash) 2>/dev/null || true
wait_for 'main+0x' "$work/report"
${SUDO:-} kill -INT "$monitor"
wait "$monitor"
monitor=
echo
cat "$work/report"
