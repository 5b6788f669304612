/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * The scratch, in which a record is put together before it goes into the ring: one for
 * each CPU, because it is too large for the 512 bytes of a BPF stack. Also the ring
 * itself, the settings and the counters.
 */
#ifndef SEGFAULT_SCRATCH_H
#define SEGFAULT_SCRATCH_H

#include "common.h"
#include "delivery.h"
#include "head.h"
#include "thread.h"

/* The state of a walk over the mappings; survives from step to step. */
struct mapping_walk {
	__u64 mm;
	__u64 index;		/* maple: next address wanted; list: next vma */
	__u64 node_max;		/* last address under the current node */
	__u64 node_entry;	/* encoded node to descend into, 0 for the root */
	__u64 covered;		/* end of the last mapping that counted */
	__u64 vma;		/* the current mapping, */
	__u64 start;
	__u64 end;
	__u64 moved_end;	/* of a mapping with code and without a file */
	__u64 below;		/* the one before it, and its start, */
	__u64 below_start;
	__u64 below_fault;	/* and the one below the fault address, */
	__u64 below_fault_start;
	__u64 fault;
	__u64 sp;
	__u64 stack_start;	/* first accessible mapping that ends above sp */
	__u64 stack_end;
	__u64 interrupted_sp;	/* sp of the stack that a handler has interrupted, or 0 */
	__u64 interrupted_start;	/* first mapping that ends above it */
	__u64 interrupted_end;
	__u64 until;		/* stop after the mapping that ends above this, if not 0 */
	__u64 child;		/* slot to descend through, and where slots begin */
	__u64 slots_at;
	__u32 slot;
	__u32 in_leaf;
	__u32 level;
	__u32 done;
	__u32 fault_seen;
	__u32 below_sent;
	__u32 seen;
	__u32 sent;
	__u32 limit;
	__u32 retries;
	__u32 components;	/* of all paths together */
	__u32 pad;
	__u64 previous;		/* the mapping below the current one */
	struct head head;	/* of the last with code, */
	__u64 head_sent;	/* and the last whose bytes were sent */
	__u64 node[NODE_WORDS];
};

/* The state of a walk from a dentry up to its root. */
struct path_walk {
	struct dentry *dentry;
	struct mount *mount;
	struct kernfs_node *cgroup;
	__u32 flags;		/* enum path_flags */
	__u32 layer;		/* stop at the root of the file system, and ignore mounts */
};

#define COMPILED_RANGES 4
#define COMPILED_SITES 64

/* Code that is in no file: its ranges, and the bytes that were read. See compiled.h. */
struct compiled {
	__u64 low;	/* all ranges lie between */
	__u64 high;
	__u64 start[COMPILED_RANGES];
	__u64 end[COMPILED_RANGES];
	__u64 last[2];	/* addresses that were read */
	__u32 count;	/* of ranges */
	__u32 sites;
	struct part part;	/* and, right after it, its content */
	struct event_code site[COMPILED_SITES];
};

struct scratch {
	__u64 busy;
	__u64 count;
	__u64 began_ns;
	__u64 name_found;	/* -n: see out_holds_name() */
	__u64 above;		/* a process above the current one, and whether it is the tool */
	__u64 is_below;
	__u32 out_bytes;	/* used of out */
	__u32 mapping_at;	/* offset in out of the current mapping */
	__u64 stack_next;	/* next address of the window being read */
	__u64 stack_end;
	__u64 alternate_start;	/* sigaltstack(2), if sp lies in it */
	__u64 alternate_end;
	__u64 between_from;	/* records between the two windows of a stack: */
	__u64 between_gap;	/* where the first window ends, */
	__u64 between_to;	/* and where the second begins */
	__u64 frame_pointer;	/* address of the current record, */
	__u64 other_stack;	/* and the first that lies on another stack, or 0 */
	__u64 switched_end;	/* the end of the last window of another stack, or 0 */
	__u64 is_narrow;	/* a 32-bit task */
	__u64 user;		/* who has crashed, as share.h has it, */
	__u64 exe;
	__u64 ring_from;	/* where in the ring the record begins, */
	__u64 keep_free;	/* and what optional parts must leave free there */
	struct event_header header;
	struct event_end end;
	struct mapping_walk walk;
	struct path_walk path;
	struct compiled compiled;
	struct thread_walk threads;
	__u8 out[OUT_BYTES + NAME_MAX_BYTES];
	__u8 slack[OUT_BYTES / 2];	/* for the verifier: masked length past a masked offset */
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} segfault_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} segfault_cpu SEC(".maps");

/* The settings: the tool sets them before it loads the program, so they are constants for
 * the verifier. */
const volatile __u64 watched_signals = 1ull << 11;
const volatile __u32 own_pid = 0;	/* of the tool, as its own namespace numbers it */
const volatile __u32 own_pid_ns = 0;	/* inode of that namespace */
const volatile __u32 own_mnt_ns = 0;	/* likewise, of the mount namespace */
const volatile __u32 only_pid = 0;	/* -p */
const volatile __u32 only_below = 0;	/* only descendants of the tool */
const volatile __u32 name_bytes = 0;	/* -n: its length, 0 for any */
const volatile __u64 name_masks[256] = {};	/* bit i: byte i of the name is this */
const volatile __u32 stack_bytes = 0;	/* budget of the main window */
const volatile __u32 all_mappings = 0;	/* -r: also those that are not executable */
const volatile __u32 wants_memory = 0;	/* --memory */
const volatile __u32 max_threads = 0;	/* --threads, 0 for none */
const volatile __u32 thread_stack_bytes = 0;	/* of each of them */
const volatile __u64 fold_ns = 0;	/* --fold-handled: the window, 0 for none */
const volatile __u32 max_mappings = 8192;
const volatile __u64 ring_bytes = 256 * 1024;
const volatile __u64 ring_reserve = 16 * 1024;	/* kept free for headers and ends */
const volatile __u64 thread_size = 16384;	/* of a kernel stack */

struct counters counters = {};

#define count(name) __sync_fetch_and_add(&counters.name, 1)

static __always_inline struct scratch *scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&segfault_cpu, &zero);
}

/* Free bytes in the ring at this moment: other CPUs may take some of them. */
static __always_inline __u64 ring_free(void)
{
	__u64 used = bpf_ringbuf_query(&segfault_ring, BPF_RB_AVAIL_DATA);

	return used < ring_bytes ? ring_bytes - used : 0;
}

/*
 * Sends one part. Only the end of a record wakes the reader. But if the ring had no room
 * for a part, which may have been an end, the next part that fits wakes the reader, which
 * would otherwise sleep although the ring is full.
 */
static __always_inline long send(void *data, __u64 bytes, __u64 flags)
{
	if (counters.wake_pending)
		flags = BPF_RB_FORCE_WAKEUP;
	long failed = bpf_ringbuf_output(&segfault_ring, data, bytes, flags);

	if (failed) {
		counters.wake_pending = 1;
		count(parts_lost);
	} else if (flags & BPF_RB_FORCE_WAKEUP) {
		counters.wake_pending = 0;
	}
	return failed;
}

/*
 * A function that is used in several places has external linkage and plain numbers as
 * arguments. So the verifier checks it once, and not at each call, which would be most of
 * the time that attaching takes.
 */
#define separate __attribute__((noinline))

/* Sends the first out_bytes of out as one optional part, and empties it. */
separate int send_out(__u32 kind, __u32 lost)
{
	struct scratch *s = scratch();
	struct part *part;
	__u64 bytes;

	if (!s)
		return 0;
	part = (struct part *)s->out;
	bytes = s->out_bytes;
	s->out_bytes = 0;
	part->kind = kind;
	part->size = bytes;
	part->id = s->header.part.id;
	if (ring_free() < bytes + s->keep_free) {
		count(parts_lost);
		s->end.lost |= lost;
		return 0;
	}
	keep(bytes);
	bytes &= 2 * OUT_BYTES - 1;
	if (bytes > OUT_BYTES + NAME_MAX_BYTES)
		return 0;
	if (send(s->out, bytes, BPF_RB_NO_WAKEUP))
		s->end.lost |= lost;
	return 0;
}

#endif
