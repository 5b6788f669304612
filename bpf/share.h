/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * Who may write into the ring. A flood of one user's crashes must leave room for the
 * crashes of others, and one of handled faults for deaths.
 *
 * A record may begin if the bytes of its user plus the bytes of its executable in the ring are at most
 * twice the free bytes. A record counts for both. So one user alone gets half of the ring, the next one a quarter, and
 * whoever has nothing in it yet always finds room (Choudhury and Hahne, Dynamic queue
 * length thresholds, 1998). For handled faults half of the ring counts as not free.
 */
#ifndef SEGFAULT_SHARE_H
#define SEGFAULT_SHARE_H

#include "scratch.h"

/*
 * What somebody has in the ring, at most. If the reader has passed the mark, what was
 * written before it is gone.
 */
struct share {
	__u64 mark;	/* a position in the ring */
	__u64 before;	/* bytes written before the mark, */
	__u64 since;	/* and since */
};

/* The key is a user's number, or the kernel's address of an executable's inode. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, __u64);
	__type(value, struct share);
} segfault_shares SEC(".maps");

/* What was dropped, by user. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u64);
} segfault_drops SEC(".maps");

/* Counts a crash that gets no report. */
separate int count_drop(void)
{
	__u32 uid = bpf_get_current_uid_gid();
	__u64 one = 1, *known = bpf_map_lookup_elem(&segfault_drops, &uid);

	count(dropped);
	if (known)
		__sync_fetch_and_add(known, 1);
	else
		bpf_map_update_elem(&segfault_drops, &uid, &one, BPF_NOEXIST);
	return 0;
}

/* The bytes that somebody has in the ring. */
separate __u64 share_used(__u64 who)
{
	struct share *share = bpf_map_lookup_elem(&segfault_shares, &who);
	__u64 read;

	if (!share)
		return 0;
	read = bpf_ringbuf_query(&segfault_ring, BPF_RB_CONS_POS);
	if ((__s64)(read - share->mark) >= 0) {
		share->mark = bpf_ringbuf_query(&segfault_ring, BPF_RB_PROD_POS);
		share->before = share->mark == read ? 0 : share->since;
		share->since = 0;
	}
	return share->before + share->since;
}

separate int share_add(__u64 who, __u64 bytes)
{
	struct share *share = bpf_map_lookup_elem(&segfault_shares, &who);
	struct share new = { .since = bytes };

	if (share) {
		__sync_fetch_and_add(&share->since, bytes);
		return 0;
	}
	new.mark = bpf_ringbuf_query(&segfault_ring, BPF_RB_PROD_POS);
	bpf_map_update_elem(&segfault_shares, &who, &new, BPF_NOEXIST);
	return 0;
}

/*
 * Whether a record may begin. Then keep_free is what it must leave free: a quarter, so that
 * not even the largest record takes everything.
 */
separate int share_allows(__u64 exe, __u32 is_handled)
{
	struct scratch *s = scratch();
	__u64 free = ring_free(), half = ring_bytes / 2;

	if (!s)
		return 0;
	s->user = (__u32)bpf_get_current_uid_gid();
	s->exe = exe;
	s->keep_free = ring_reserve + free / 4;
	s->ring_from = bpf_ringbuf_query(&segfault_ring, BPF_RB_PROD_POS);
	if (is_handled)
		free = free > half ? free - half : 0;
	return free && share_used(s->user) + share_used(exe) <= 2 * free;
}

/* Called at the end of a record. What others wrote meanwhile counts too. */
separate int share_charge(void)
{
	struct scratch *s = scratch();
	__u64 bytes;

	if (!s)
		return 0;
	bytes = bpf_ringbuf_query(&segfault_ring, BPF_RB_PROD_POS) - s->ring_from;
	share_add(s->user, bytes);
	share_add(s->exe, bytes);
	return 0;
}

#endif
