/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * Code before return addresses, as in bpf/compiled.h, but only for the addresses that the
 * chain of frame pointers leads to: just-in-time compilers keep that chain.
 */
#ifndef SEGFAULT_CHAIN_COMPILED_H
#define SEGFAULT_CHAIN_COMPILED_H

#include "chain_stack.h"

static __always_inline int send_compiled(void *ctx, struct scratch *s, struct chain_config *c)
{
	__u64 at = s->header.regs[c->aarch64 ? REGS_ARM64_FP : REGS_X86_FP];
	__u64 low = s->walk.sp, first = first_stack(s), sites = 0, code, index;
	__u64 record[2]; /* the caller's frame pointer, the return address */
	struct event_code *site;

	for (;;) {
		if (at < low || at < PAGE_BYTES || at >= first ||
		    bpf_probe_read_user(record, sizeof(record), (void *)at))
			goto out;
		code = record[1];
		if (c->aarch64)
			code &= (1ull << ARM64_CODE_BITS) - 1;
		code -= EVENT_CODE_BEFORE;
		if (code < PAGE_BYTES || code >= first)
			goto out;
		index = sites;
		keep(index);
		index &= COMPILED_SITES - 1;
		site = (struct event_code *)(s->out + sizeof(struct part)) + index;
		site->address = code;
		if (bpf_probe_read_user(site->code, sizeof(site->code), (void *)code))
			goto out;
		sites++;
		low = at + sizeof(record);
		at = record[0];
		end_round(COMPILED_SITES, out);
	}
out:
	if (sites) {
		s->out_bytes = sizeof(struct part) + sites * sizeof(struct event_code);
		send_out(ctx, s, PART_CODE, LOST_RING_STACK);
	}
	if (go_on(ctx, s, c, c->memory ? STEP_MEMORY : STEP_NAMES))
		return SEEN;
	return finish(ctx, s, c);
}

#endif
