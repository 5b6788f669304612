/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * The crashed program's mappings, walked without a lock while its other threads
 * may change them.
 *
 * The walk goes upward by address. One step takes one mapping, or one level of the
 * tree. Everything that it reads is checked before it counts:
 *   - each descent begins at the root as it is then;
 *   - a node counts if it is not a dead one: see read_node();
 *   - a mapping counts if it belongs to this mm, is not empty, and ends where
 *     the tree says (in a freed one the rcu_head has overwritten these fields);
 *   - after a failed check the walk looks again from the end of the last good mapping;
 *   - a walk that ends below the stack's start was torn, and goes on.
 */
#ifndef SEGFAULT_MAPPINGS_H
#define SEGFAULT_MAPPINGS_H

#include "compiled.h"
#include "file.h"
#include "maple.h"
#include "path.h"
#include "scratch.h"

#define VM_READ 1
#define VM_WRITE 2
#define VM_EXEC 4
#define MAX_RETRIES 200
#define MAX_WALK_COMPONENTS 16384	/* of all paths: interrupts are off meanwhile */
#define MAX_STEPS (1 << 16)	/* of the callback; mappings have their own limit */

enum walk_result { WALK_NOTHING, WALK_MAPPING, WALK_END };

/* Starts over at the root, after the last good mapping. */
static __always_inline int walk_retry(struct mapping_walk *w)
{
	if (++w->retries > MAX_RETRIES)
		return WALK_END;
	w->in_leaf = 0;
	w->node_entry = 0;
	w->index = w->covered;
	w->done = 0;
	return WALK_NOTHING;
}

/*
 * The layout of an inner node; the result is 0 if the type is one. Constants behind a branch:
 * a number of pivots that is only known to be 9 or 15 would be narrowed by each turn of the
 * loop below, in ways that verifiers cannot join again. That of 6.1 then ran out of memory.
 */
static __always_inline int inner_layout(struct node_layout *layout, __u32 type)
{
	if (type == NODE_ARANGE) {
		layout->pivots = ARANGE_PIVOTS;
		layout->pivot_at = field_at(maple_arange_64, pivot);
		layout->slots_at = field_at(maple_arange_64, slot);
	} else if (type == NODE_RANGE) {
		layout->pivots = RANGE_PIVOTS;
		layout->pivot_at = field_at(maple_range_64, pivot);
		layout->slots_at = field_at(maple_range_64, slot);
	} else {
		return -1;
	}
	return 0;
}

/* Descends one level towards the leaf that holds index. */
separate int tree_descend(void)
{
	struct scratch *s = scratch();
	struct mapping_walk *w;
	struct node_layout layout;
	__u64 entry, index;

	if (!s)
		return WALK_END;
	w = &s->walk;
	entry = w->node_entry;
	index = w->index;
	if (!entry) {
		struct mm_struct *mm = (void *)w->mm;

		entry = (__u64)BPF_CORE_READ(mm, mm_mt.ma_root);
		w->node_max = ~0ull;
		w->level = 0;
		if (!is_internal(entry))
			return WALK_END;
	}
	if (entry <= RESERVED_ENTRIES || ++w->level > MAX_LEVELS)
		return walk_retry(w);
	if (read_node(w->node, entry))
		return walk_retry(w);
	if (node_type(entry) == NODE_LEAF) {
		w->in_leaf = 1;
		w->node_entry = 0;
		w->slot = 0;
		return WALK_NOTHING;
	}
	if (inner_layout(&layout, node_type(entry)))
		return walk_retry(w);
	w->slots_at = layout.slots_at;
	/* Kept in memory: in a register, each way out of the loop would be a separate
	 * state for the verifier. */
	w->child = layout.pivots;
	for (__u32 i = 0; i < NODE_SLOTS - 1; i++) {
		__u64 pivot;

		if (i >= layout.pivots)
			break;
		pivot = w->node[(layout.pivot_at + i) & (NODE_WORDS - 1)];
		if (!pivot && i) {
			w->child = i;
			break;
		}
		if (index <= pivot) {
			w->node_max = pivot;
			w->child = i;
			break;
		}
	}
	w->node_entry = w->node[(w->slots_at + w->child) & (NODE_WORDS - 1)];
	return WALK_NOTHING;
}

/* Looks at the next slot of the leaf. */
separate int leaf_next(void)
{
	struct scratch *s = scratch();
	struct mapping_walk *w;
	const __u32 pivot_at = bpf_core_field_offset(struct maple_range_64, pivot) / 8;
	const __u32 slot_at = bpf_core_field_offset(struct maple_range_64, slot) / 8;
	__u64 slot, last, entry;

	if (!s)
		return WALK_END;
	w = &s->walk;
	slot = w->slot;
	last = w->node_max;
	if (slot > NODE_SLOTS - 1)
		slot = NODE_SLOTS - 1;
	if (slot < NODE_SLOTS - 1) {
		last = w->node[(pivot_at + slot) & (NODE_WORDS - 1)];
		if (!last && slot)
			last = w->node_max;
	}
	entry = w->node[(slot_at + slot) & (NODE_WORDS - 1)];
	w->slot = slot + 1;
	if (last >= w->node_max) {
		w->in_leaf = 0;
		w->node_entry = 0;
		w->index = w->node_max + 1;
		if (w->node_max == ~0ull)
			w->done = 1;
	}
	if (entry <= RESERVED_ENTRIES || is_internal(entry))
		return WALK_NOTHING;
	struct vm_area_struct *vma = (void *)entry;

	w->start = BPF_CORE_READ(vma, vm_start);
	w->end = BPF_CORE_READ(vma, vm_end);
	if ((__u64)BPF_CORE_READ(vma, vm_mm) != w->mm || w->end <= w->start || w->end != last + 1)
		return walk_retry(w);
	if (w->end <= w->covered)
		return WALK_NOTHING; /* seen before a retry */
	w->covered = w->end;
	w->vma = entry;
	return WALK_MAPPING;
}

static __always_inline int tree_next(struct mapping_walk *w, __u64 start_stack)
{
	if (w->done) {
		/* Nothing is mapped above the first stack but the vDSO. */
		if (w->covered > start_stack)
			return WALK_END;
		return walk_retry(w);
	}
	return w->in_leaf ? leaf_next() : tree_descend();
}

/* Up to 6.0 the mappings are also a list, sorted by address. */
static __always_inline int list_next(struct mapping_walk *w)
{
	struct mm_struct *mm = (void *)w->mm;
	struct vm_area_struct *vma = (void *)w->index;

	if (!vma) {
		if (w->covered >= BPF_CORE_READ(mm, highest_vm_end) || ++w->retries > MAX_RETRIES)
			return WALK_END;
		w->index = (__u64)BPF_CORE_READ(mm, mmap);
		return WALK_NOTHING;
	}
	w->start = BPF_CORE_READ(vma, vm_start);
	w->end = BPF_CORE_READ(vma, vm_end);
	if ((__u64)BPF_CORE_READ(vma, vm_mm) != w->mm || w->end <= w->start || w->end >> 57) {
		w->index = 0;
		return WALK_NOTHING; /* begins again at the head, and skips what it has */
	}
	w->vma = (__u64)vma;
	w->index = (__u64)BPF_CORE_READ(vma, vm_next);
	if (w->start < w->covered)
		return WALK_NOTHING;
	w->covered = w->end;
	return WALK_MAPPING;
}

static __always_inline int next_mapping(struct scratch *s)
{
	struct mm_struct *mm = (void *)s->walk.mm;

	if (bpf_core_field_exists(mm->mmap))
		return list_next(&s->walk);
	return tree_next(&s->walk, s->header.start_stack);
}

/* Appends the first bytes of the current mapping's file, once for all its code. */
static __always_inline void append_head(struct scratch *s, struct event_mapping *m, __u64 file)
{
	struct mapping_walk *w = &s->walk;
	__u32 at = s->out_bytes & (OUT_BYTES - 1);

	if (m->page_offset && w->head.file != file && w->previous) {
		/* Linkers put a file's code at its beginning, or right behind it. */
		struct vm_area_struct *lower = (void *)w->previous;

		head_step(&w->head, (__u64)BPF_CORE_READ(lower, vm_file),
			  BPF_CORE_READ(lower, vm_start), BPF_CORE_READ(lower, vm_pgoff));
	}
	head_step(&w->head, file, m->start, m->page_offset);
	m->head = w->head.address;
	if (!m->head || m->head == w->head_sent)
		return;
	w->head_sent = m->head;
	if (bpf_probe_read_user(&s->out[at], HEAD_BYTES, (void *)m->head))
		return;
	m->head_bytes = HEAD_BYTES;
	s->out_bytes = at + HEAD_BYTES;
}

/* Appends one mapping, sending what was gathered when it gets full. */
separate int emit_mapping(__u64 address, __u64 start, __u64 end, __u64 vm_flags)
{
	struct scratch *s = scratch();
	struct vm_area_struct *vma = (void *)address;
	struct event_mapping *m;
	struct file *file;
	__u64 path, user_path;
	int overlaid;

	if (!s)
		return 0;
	/* Do not look up names that cannot be sent. */
	if ((s->end.lost & LOST_RING_MAPPINGS) && ring_free() < OUT_BYTES + s->keep_free)
		return 0;
	file = BPF_CORE_READ(vma, vm_file);
	if (s->out_bytes > OUT_BYTES / 2)
		send_out(PART_MAPPINGS, LOST_RING_MAPPINGS);
	if (!s->out_bytes)
		s->out_bytes = sizeof(struct part);
	s->mapping_at = s->out_bytes & (OUT_BYTES - 1);
	s->out_bytes = s->mapping_at + sizeof(*m);
	m = (struct event_mapping *)&s->out[s->mapping_at & (OUT_BYTES - 1)];
	__builtin_memset(m, 0, sizeof(*m));
	m->start = start;
	m->end = end;
	m->vm_flags = vm_flags;
	s->walk.sent++;
	if (vm_flags & VM_EXEC)
		note_compiled(s, file, start, end);
	if (!file)
		return 0;
	m->flags = MAPPING_FILE;
	m->page_offset = BPF_CORE_READ(vma, vm_pgoff);
	file_identity(m, file);
	if (stack_bytes && (vm_flags & VM_EXEC))
		append_head(s, m, (__u64)file);
	path = (__u64)file + bpf_core_field_offset(struct file, f_path);
	user_path = path;
	/* A count and not a time limit: in a virtual machine time passes while nothing runs. */
	if (s->walk.components > MAX_WALK_COMPONENTS) {
		s->end.lost |= LOST_WALK_CUT;
		return 0;
	}
	overlaid = has_user_path(file);
	if (overlaid) {
		user_path = (__u64)file + bpf_core_field_offset(struct backing_file, user_path);
		keep(user_path); /* keeps this in the block: kernels without the type refuse it */
	}
	m->path_bytes = append_path(user_path);
	m->flags |= s->path.flags << 1 | MAPPING_PATH;
	/* A path in another mount namespace may not exist in the tool's, but the file system
	 * is the same: the path from its root shows where the file is. The same holds for
	 * the lower file of an overlay. */
	if ((overlaid || s->header.mnt_ns != own_mnt_ns) && s->out_bytes < OUT_BYTES - 2 * NAME_MAX_BYTES) {
		s->path.layer = 1;
		m->lower_bytes = append_path(path);
		s->path.layer = 0;
	}
	s->out_bytes = (s->out_bytes + 7) & ~7;
	return 0;
}

/*
 * Decides whether the current mapping is wanted: one with code, the one that holds or
 * follows the fault address, and the stack at or above the stack pointer. The mapping
 * that precedes the fault address is wanted too, but is known only one step later.
 */
static __always_inline int mapping_wanted(struct scratch *s, __u64 vm_flags)
{
	struct mapping_walk *w = &s->walk;
	int wanted = (vm_flags & VM_EXEC) || all_mappings || w->start == w->moved_end;

	/* A guard that sp has run into is not the stack: the stack is above it. */
	if (!w->stack_end && w->end > w->sp && (vm_flags & (VM_READ | VM_WRITE))) {
		w->stack_start = w->start;
		w->stack_end = w->end;
		wanted = 1;
	}
	if (w->interrupted_sp && !w->interrupted_end && w->end > w->interrupted_sp) {
		w->interrupted_start = w->start;
		w->interrupted_end = w->end;
		wanted = 1;
	}
	if (!w->fault_seen && w->end > w->fault) {
		w->fault_seen = 1;
		wanted = 1;
		if (!w->below_sent) {
			w->below_fault = w->below;
			w->below_fault_start = w->below_start;
		}
	}
	w->below = w->vma;
	w->below_start = w->start;
	w->below_sent = wanted;
	return wanted;
}

/* Sends a mapping that the walk has passed, if it is still the same. */
separate int emit_below(__u64 address, __u64 start)
{
	struct scratch *s = scratch();
	struct vm_area_struct *vma = (void *)address;
	__u64 end = BPF_CORE_READ(vma, vm_end);

	if (s && (__u64)BPF_CORE_READ(vma, vm_mm) == s->walk.mm &&
	    BPF_CORE_READ(vma, vm_start) == start && end > start)
		emit_mapping(address, start, end, BPF_CORE_READ(vma, vm_flags));
	return 0;
}

static long mapping_callback(__u32 step, void *unused)
{
	struct scratch *s = scratch();
	long go_on = 0;
	int result;
	__u64 vm_flags;

	if (!s)
		return 1;
	/* Not `result`, because clang would return a copy of it: the verifier of 6.1 does
	 * not know that the copy is 0 if the original is, and refuses. */
	keep(go_on);
	result = next_mapping(s);
	if (result == WALK_NOTHING)
		return go_on;
	if (result == WALK_END)
		return 1;
	if (s->walk.seen >= s->walk.limit) {
		s->end.lost |= LOST_WALK_CUT;
		return 1;
	}
	s->walk.seen++;
	struct vm_area_struct *vma = (void *)s->walk.vma;

	vm_flags = BPF_CORE_READ(vma, vm_flags);
	/* A program that has moved its own code there: what lies beside it tells. */
	if ((vm_flags & VM_EXEC) && !BPF_CORE_READ(vma, vm_file)) {
		s->walk.moved_end = s->walk.end;
		if (s->walk.below && !s->walk.below_sent)
			emit_below(s->walk.below, s->walk.below_start);
	}
	s->walk.previous = s->walk.below;
	if (mapping_wanted(s, vm_flags))
		emit_mapping(s->walk.vma, s->walk.start, s->walk.end, vm_flags);
	return s->walk.until && s->walk.end > s->walk.until;
}

/* Sends the mapping at one address, after a walk that was cut. */
separate int mapping_at(__u64 address)
{
	struct scratch *s = scratch();
	struct mapping_walk *w;

	if (!s)
		return 0;
	w = &s->walk;
	if (!address || address < w->covered)
		return 0;
	w->in_leaf = 0;
	w->node_entry = 0;
	w->done = 0;
	w->index = address;
	w->covered = address;
	w->until = address;
	w->limit = w->seen + 64;
	return bpf_loop(128, mapping_callback, 0, 0);
}

static __always_inline void send_mappings(struct scratch *s, struct mm_struct *mm, __u64 pc)
{
	struct mapping_walk *w = &s->walk;

	w->mm = (__u64)mm;
	w->fault = s->header.siginfo;
	/* A fault whose handler failed, or raised the signal again. */
	if ((s->header.flags & HEADER_FIRST_FAULT) && !has_address(s->header.code))
		w->fault = s->header.first.address;
	w->limit = max_mappings;
	s->out_bytes = 0;
	bpf_loop(MAX_STEPS, mapping_callback, 0, 0);
	if (w->retries > MAX_RETRIES)
		s->end.lost |= LOST_WALK_TORN;
	if ((s->end.lost & LOST_WALK_CUT) && !bpf_core_field_exists(mm->mmap)) {
		/* In the order of the addresses, because the walk does not go back. */
		__u64 low = w->sp < pc ? w->sp : pc, high = w->sp < pc ? pc : w->sp;

		if (w->fault < low)
			mapping_at(w->fault);
		mapping_at(low);
		if (w->fault >= low && w->fault < high)
			mapping_at(w->fault);
		mapping_at(high);
		if (w->fault >= high)
			mapping_at(w->fault);
	}
	if (w->below_fault)
		emit_below(w->below_fault, w->below_fault_start);
	if (s->out_bytes)
		send_out(PART_MAPPINGS, LOST_RING_MAPPINGS);
	s->end.mappings_seen = w->seen;
	s->end.mappings_sent = w->sent;
	s->end.retries = w->retries;
}

#endif
