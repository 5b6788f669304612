/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * What the programs for old kernels share. Kernels from 4.15 on must accept them, which
 * means at most 4,096 instructions a program, no jump backward, no call between
 * functions, no global data, no ring buffer and no helper that came later.
 *
 * So each program is a sequence of unrolled steps that ends in a tail call to the next
 * program. The scratch holds all their state of a record. A separate map holds the
 * settings; the tool fills it before it attaches the programs.
 */
#ifndef SEGFAULT_CHAIN_H
#define SEGFAULT_CHAIN_H

/* Before 5.5 one helper reads all memory. If a later kernel still has it, it distinguishes
 * user and kernel memory by the address. */
#define bpf_probe_read_kernel bpf_probe_read
#define bpf_probe_read_user bpf_probe_read
#define bpf_probe_read_kernel_str bpf_probe_read_str

#include <bpf/bpf_core_read.h>

#include "common.h"
#include "delivery.h"
#include "head.h"
#include "thread.h"

/* As in common.h, but with a kernel address that is never mapped: at address zero this
 * helper might read something. */
#undef clear
#define clear(into, bytes) bpf_probe_read(into, bytes, (void *)NOWHERE)

#define NOWHERE (-4096l)	/* a kernel address that is never mapped */
#define VM_EXEC_BIT 2
#define MAX_ENTRIES 256		/* mappings whose names are sent */
#define MAX_CALLS 30		/* tail calls a pass; the kernel's limit is 32, the first is not counted */
#define WALK_CALLS 20		/* in the last pass, the walk ends after this many calls */
#define KEPT_ENTRIES 16		/* entries that stay if all are taken: those of the program itself */
#define FILE_NUMBER_SHIFT 8	/* in a mapping's flags */
#define COMPILED_SITES 64	/* frame records whose code is read */
#define MAX_TEXT 128		/* bytes of the names that -n searches */

/* What programs return. After a 0 at a tracepoint, perf events would miss the delivery. */
#define SEEN 1

/* The settings: the tool writes them before it attaches the programs.
 * src/capture/record/abi.rs has the mirror. */
struct chain_config {
	__u64 watched_signals;
	__u64 name_last;	/* -n: the bit of its last byte, 0 for any name */
	__u64 name_masks[256];	/* bit i: byte i of the name is this */
	__u64 thread_size;	/* of a kernel stack */
	__u64 stack_bytes;	/* budget of the main window */
	__u64 fold_ns;		/* --fold-handled: the window, 0 for none */
	__u64 thread_stack_bytes;	/* of each other thread */
	__u64 thread_bytes;	/* of all of them in a record */
	__u32 aarch64;
	__u32 own_pid;		/* of the tool, as its own namespace numbers it */
	__u32 own_pid_ns;	/* inode of that namespace */
	__u32 own_mnt_ns;	/* likewise, of the mount namespace */
	__u32 only_pid;		/* -p */
	__u32 all_mappings;	/* -r: also those that are not executable */
	__u32 memory;		/* --memory */
	__u32 passes;		/* after the first one: see more() */
	__u32 threads;		/* --threads, 0 for none */
	__u32 thread_passes;	/* of the passes, those that are kept for them */
};

struct chain_walk {
	__u64 mm;
	__u64 next;		/* list: the next vma; tree: the next address */
	__u64 covered;		/* end of the last mapping that counted */
	__u64 highest;		/* a walk that ends below this was torn */
	__u64 fault;		/* both cut to 62 bits, see take_mapping() */
	__u64 sp;
	__u64 fault_seen;	/* the walk has met a mapping that ends above the fault */
	__u64 stack_seen;
	__u64 stack_start;	/* the mapping that ends above sp */
	__u64 stack_end;
	__u64 last_wanted;	/* whether the previous mapping was wanted */
	__u64 last_moved;	/* whether it had code, and no file */
	__u64 entries;
	__u64 ranges;		/* mappings in out, without their names */
	__u64 file;		/* of the last entry that has one, */
	__u64 file_number;	/* and that entry's number, from one */
	__u64 flushed;		/* entries that were sent without names, to make room */
	__u64 node_entry;	/* tree: encoded node to descend into, 0 for the root */
	__u64 node_max;		/* last address under it */
	__u64 child;
	__u64 slots_at;
	__u64 slot;
	__u32 in_leaf;
	__u32 level;
	__u32 done;
	__u32 seen;
	__u32 sent;
	__u32 retries;
	struct head head;	/* of the current mapping */
	__u64 vma[NODE_WORDS];	/* a copy of the current mapping, */
	__u64 node[NODE_WORDS];	/* and of the current node */
};

struct chain_names {
	__u64 entry;		/* the current one's index */
	__u64 path;		/* kernel address of the path to read next, or 0 */
	__u64 lower;		/* and of the one to read after it */
	__u64 dentry;		/* of the path that is being read, 0 for none */
	__u64 mount;
	__u64 mapping_at;	/* offset in out of its mapping */
	__u64 path_at;		/* and of its path */
	__u64 components;
	__u32 flags;		/* enum path_flags */
	__u32 layer;		/* up to the root of the file system, past all mounts */
	__u64 is_foreign;	/* the mount namespace is not the tool's */
	__u64 heads;		/* whether the first bytes of files are wanted */
	__u64 head_sent;	/* address of the last that were sent */
};

enum other_stack { OTHER_NONE, OTHER_INTERRUPTED, OTHER_SWITCHED };

struct scratch {
	__u64 busy;
	__u64 resume;		/* 1 + the step at which the next pass begins, 0 for none */
	__u64 count;
	struct glance glance;
	__u64 frame;		/* receives the address of the BPF stack: see user_regs() */
	__u64 began_ns;
	__u64 calls;		/* tail calls in this pass; from here on cleared for each record */
	__u64 passes;		/* further passes that were used */
	__u64 out_bytes;	/* used of out */
	__u64 stack_next;	/* next address of the window being read, */
	__u64 stack_gap;	/* where the window ends, */
	__u64 stack_resume;	/* where the window next to main begins, */
	__u64 stack_stop;	/* and where it ends */
	__u64 other;		/* enum other_stack: the stack to send after this one */
	__u64 alternate_start;	/* sigaltstack(2), */
	__u64 alternate_bytes;
	__u64 alternate_top;	/* end of the rest that is still to be searched, */
	__u64 alternate_chunks;	/* and how many chunks were searched */
	__u64 memory_at;	/* next register that --memory looks at */
	struct event_header header;
	struct event_end end;
	struct chain_names names;
	struct thread_walk threads;
	struct chain_walk walk;
	struct part unnamed;	/* head of the part if entries are sent without names */
	struct event_range entries[MAX_ENTRIES];
	__u8 out[OUT_BYTES + NAME_MAX_BYTES];
};
_Static_assert(sizeof(struct scratch) <= 32768, "the largest value of a per-CPU map");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} segfault_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} segfault_cpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct chain_config);
} segfault_config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} segfault_books SEC(".maps");

/* Slots of segfault_steps, which the tool fills: it knows which walk fits the kernel. */
enum step {
	STEP_BEGIN,
	STEP_CONTEXT,
	STEP_WALK,
	STEP_STACK,
	STEP_INTERRUPTED,
	STEP_SWITCHED,
	STEP_COMPILED,
	STEP_NAMES,
	STEP_MEMORY,
	STEP_THREADS,
	STEPS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, STEPS);
	__uint(key_size, 4);
	__uint(value_size, 4);
} segfault_steps SEC(".maps");

/*
 * Ends a round of a loop `for (;;)`. The loader unrolls the loop `rounds` times, or for 0
 * as often as the limit of instructions allows; after the last round it jumps to `out`.
 * See src/loader/unroll.rs. Every path through the loop must reach this.
 */
#define end_round(rounds, out) \
	asm volatile goto("if r10 == %[n] goto %l[" #out "]" : : [n] "i"(rounds) : : out)

static __always_inline struct scratch *scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&segfault_cpu, &zero);
}

static __always_inline struct chain_config *config(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&segfault_config, &zero);
}

static __always_inline struct counters *books(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&segfault_books, &zero);
}

#define count(books, name) __sync_fetch_and_add(&(books)->name, 1)

/* Sends one part. Up to 5.0 the result is 0 even if the ring had no room: then the
 * reader learns of the loss from the ring. */
static __always_inline long send(void *ctx, struct scratch *s, void *data, __u64 bytes, __u32 lost)
{
	long failed = bpf_perf_event_output(ctx, &segfault_events, BPF_F_CURRENT_CPU, data, bytes);

	if (failed) {
		struct counters *b = books();

		s->end.lost |= lost;
		if (b)
			count(b, parts_lost);
	}
	return failed;
}

/* Sends the first out_bytes of out as one part, and empties it. */
static __always_inline void send_out(void *ctx, struct scratch *s, __u32 kind, __u32 lost)
{
	struct part *part = (struct part *)s->out;
	__u64 bytes = s->out_bytes;

	s->out_bytes = 0;
	part->kind = kind;
	part->size = bytes;
	part->id = s->header.part.id;
	send(ctx, s, s->out, bounded(bytes, OUT_BYTES), lost);
}

/* Sends the entries of the walk without their names, so that at least their addresses
 * are known. */
static __always_inline void send_entries(void *ctx, struct scratch *s)
{
	__u64 bytes = sizeof(struct part) + s->walk.entries * sizeof(struct event_range);

	s->unnamed.kind = PART_RANGES;
	s->unnamed.size = bytes;
	s->unnamed.id = s->header.part.id;
	s->end.lost |= LOST_NAMES;
	send(ctx, s, &s->unnamed, bounded(bytes, OUT_BYTES), LOST_RING_MAPPINGS);
}

/*
 * Makes a tail call to the program of a step. The interpreter of 6.12 and later gives a
 * program a stack of that program's size, and a tail call does not enlarge it: a program
 * with a larger stack would write past the end. So every program that makes tail calls
 * writes the last word of the largest stack, and thereby has that size.
 */
static __always_inline void tail_call(void *ctx, __u32 step)
{
	asm volatile("*(u64 *)(r10 - 512) = %0" :: "r"(ctx) : "memory");
	bpf_tail_call(ctx, &segfault_steps, step);
}

/*
 * Goes on with the program of a step. If this pass has no tail call left, the step is left
 * to the next pass: the result is 1, and the caller must return at once. The result is 0
 * if there is no such program, or no further pass.
 */
static __always_inline int go_on(void *ctx, struct scratch *s, struct chain_config *c, __u32 step)
{
	if (s->calls >= MAX_CALLS) {
		if (s->passes >= c->passes)
			return 0;
		s->passes++;
		s->calls = 0;
		s->resume = step + 1;
		return 1;
	}
	s->calls++;
	tail_call(ctx, step);
	return 0;
}

/* Whether this is the last pass that is not kept for the threads, and it has made `most`
 * calls: the rest is for later steps. */
static __always_inline int is_short_of_calls(struct scratch *s, struct chain_config *c, __u64 most)
{
	return s->passes + c->thread_passes >= c->passes && s->calls >= most;
}

/* Sends the record's last part and releases the scratch. */
static __always_inline int finish(void *ctx, struct scratch *s, struct chain_config *c)
{
	struct event_end *e = &s->end;

	if (!s->header.code_bytes)
		e->lost |= LOST_CODE;
	/* No tail call was left to send the names. */
	if (s->names.entry < s->walk.entries)
		e->lost |= LOST_NAMES;
	if (c->stack_bytes && !e->stack_bytes) {
		struct counters *b = books();

		e->lost |= LOST_STACK_READ;
		if (b)
			count(b, stack_failures);
	}
	e->part.kind = PART_END;
	e->part.size = sizeof(*e);
	e->part.id = s->header.part.id;
	e->mappings_seen = s->walk.seen;
	e->mappings_sent = s->walk.sent;
	e->retries = s->walk.retries;
	e->duration_ns = bpf_ktime_get_ns() - s->began_ns;
	send(ctx, s, e, sizeof(*e), 0);
	s->busy = 0;
	return SEEN;
}

#endif
