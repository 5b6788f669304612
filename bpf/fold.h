/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * Handled faults, reported once. A runtime that faults on purpose, ten thousand times
 * a second, gets one record for each place in a window of time. Faults in between are
 * only counted here. The next record of that place has their number; if there is none,
 * the tool reads it from the map.
 */
#ifndef SEGFAULT_FOLD_H
#define SEGFAULT_FOLD_H

#include "common.h"

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct fold_key);
	__type(value, struct fold);
} segfault_folds SEC(".maps");

/*
 * Whether a fault is only counted. If not, `repeats` is the number of those that were,
 * since the last record. Without atomic exchange (5.12), two threads that fault at one
 * place at the end of the window may both get a record.
 */
static __always_inline int is_folded(struct fold_key *key, __u64 now_ns, __u64 window_ns,
				     __u64 *repeats)
{
	struct fold *fold = bpf_map_lookup_elem(&segfault_folds, key);
	struct fold new = { .since_ns = now_ns };

	if (!fold) {
		bpf_map_update_elem(&segfault_folds, key, &new, BPF_NOEXIST);
		return 0;
	}
	if (now_ns - fold->since_ns < window_ns) {
		__sync_fetch_and_add(&fold->count, 1);
		fold->last_ns = now_ns;
		return 1;
	}
	fold->since_ns = now_ns;
	*repeats = fold->count - fold->reported;
	fold->reported += *repeats;
	return 0;
}

#endif
