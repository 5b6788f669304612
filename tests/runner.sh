#!/bin/sh
# What cargo runs test programs with, in `make test`: makes root those that load
# BPF programs, and only those. SUDO is how; if it is empty they run as they are,
# and say themselves what they left out.
case ${1##*/} in
live-* | loader_live-* | measure_live-* | threads_live-*)
	if [ -n "${SUDO:-}" ]; then
		# sudo would put its own PATH, without rustc.
		exec "$SUDO" -E env PATH="$PATH" RUSTC="$(rustc --print sysroot)/bin/rustc" "$@"
	fi
	if [ "$(id -u)" != 0 ]; then
		echo "${1##*/}: neither root nor sudo here: what needs them is left out" >&2
	fi
	;;
esac
exec "$@"
