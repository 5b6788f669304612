// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0
/*
 * Reads kernel memory for the tool if the kernel has no type information: then the tool
 * measures the offsets that it needs (src/measure/).
 *
 * Two kinds of threads have the magic name. Children of the tool fault on purpose: the
 * program keeps their task and the top of their kernel stack, which has the user
 * registers. The tool sends itself a signal, at which the program reads pieces of memory
 * for it. The program uses no structure of the kernel, not even its own context, so it
 * needs no relocation and runs at a tracepoint of either kind. It has no loop and no
 * global data, so that 4.15 accepts it.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#define PIECES 16
#define PIECE_BYTES 256
#define TOP_BYTES 4096
#define SEEN 1		/* after a 0, perf events would miss the delivery */
#define IS_CHILD 'c'	/* after the magic and a dash */

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* The tool writes this. */
struct peek_request {
	__u64 magic;	/* first eight bytes of the name */
	__u64 stack_bytes;
	__u64 address[PIECES];
};

/* The tool reads this. */
struct peek_answer {
	__u64 task;		/* of the last child that faulted */
	__u64 ids;
	__u64 stack_top;
	__u64 own_task;
	__u64 frame;		/* an address in the kernel's stack */
	__u64 failed[PIECES];
	__u8 piece[PIECES][PIECE_BYTES];
	__u8 top[TOP_BYTES];	/* of the child's stack */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct peek_request);
} segfault_ask SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct peek_answer);
} segfault_answer SEC(".maps");

SEC("raw_tp/signal_deliver")
int segfault_peek(void *ctx)
{
	__u32 zero = 0;
	union {
		char bytes[16];
		__u64 words[2];
	} name;
	struct peek_request *ask = bpf_map_lookup_elem(&segfault_ask, &zero);
	struct peek_answer *answer = bpf_map_lookup_elem(&segfault_answer, &zero);

	if (!ask || !answer || bpf_get_current_comm(&name, sizeof(name)) || name.words[0] != ask->magic)
		return SEEN;
	if (name.bytes[9] == IS_CHILD) {
		answer->ids = bpf_get_current_pid_tgid();
		/* Through memory: arithmetic on the register itself is refused. */
		asm volatile("*(u64 *)(%0 + %1) = r10"
			     :: "r"(answer), "i"(__builtin_offsetof(struct peek_answer, frame)) : "memory");
		__u64 frame = *(volatile __u64 *)&answer->frame;

		answer->stack_top = (frame & ~(ask->stack_bytes - 1)) + ask->stack_bytes;
		bpf_probe_read(answer->top, TOP_BYTES, (void *)(answer->stack_top - TOP_BYTES));
		answer->task = bpf_get_current_task();
		return SEEN;
	}
	answer->own_task = bpf_get_current_task();
#pragma clang loop unroll(full)
	for (int i = 0; i < PIECES; i++)
		answer->failed[i] = bpf_probe_read(answer->piece[i], PIECE_BYTES, (void *)ask->address[i]);
	return SEEN;
}
