/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * Memory around the addresses in registers (--memory). A page is read only if it is in
 * memory; arguments and environment are never read.
 */
#ifndef SEGFAULT_MEMORY_H
#define SEGFAULT_MEMORY_H

#include "identity.h"
#include "scratch.h"

/* Sends the bytes around one address, as far as they can be read. */
separate int send_memory_at(__u64 address)
{
	struct scratch *s = scratch();
	struct event_stack *piece;
	__u64 start, end, bytes;

	if (!s || !memory_around(&s->header, address, 0, &start, &end))
		return 0;
	piece = (struct event_stack *)s->out;
	bytes = end - start;
	keep(bytes);
	if (bytes > MEMORY_BYTES)
		return 0;
	if (bpf_probe_read_user(s->out + sizeof(*piece), bytes, (void *)start)) {
		if (!memory_around(&s->header, address, 1, &start, &end))
			return 0;
		bytes = end - start;
		keep(bytes);
		if (bytes > MEMORY_BYTES)
			return 0;
		if (bpf_probe_read_user(s->out + sizeof(*piece), bytes, (void *)start))
			return 0;
	}
	piece->address = start;
	s->out_bytes = sizeof(*piece) + bytes;
	return send_out(PART_MEMORY, LOST_RING_MEMORY);
}

static long register_callback(__u32 at, void *unused)
{
	struct scratch *s = scratch();

	if (!s || at >= EVENT_REGS || (s->end.lost & LOST_RING_MEMORY))
		return 1;
	send_memory_at(s->header.regs[at]);
	return 0;
}

static __always_inline void send_memory(struct scratch *s)
{
	if (wants_memory)
		bpf_loop(EVENT_REGS, register_callback, 0, 0);
}

#endif
