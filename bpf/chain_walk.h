/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * The walk over the mappings, as bpf/mappings.h describes it, in unrolled steps.
 *
 * It comes first and is fast: one read a mapping. The first wanted mapping of each file
 * becomes an entry, with the address of its struct file. Its name is read later, after the
 * stack (bpf/chain_names.h). The other wanted mappings are sent from here, as ranges, with
 * the number of their file's entry. Code that was made at run time has no file, so it
 * takes no entry from the libraries.
 */
#ifndef SEGFAULT_CHAIN_WALK_H
#define SEGFAULT_CHAIN_WALK_H

#include "chain.h"
#include "maple.h"

#define MAX_RETRIES 200
#define TREE_ROUNDS 2		/* a program: kernels with this tree take long ones (since 5.2) */
#define TREE_LEVELS 4		/* descended in a round; a deeper tree takes more rounds */
#define LEAF_SLOTS 10		/* of 16, looked at in a round */
#define MAX_RANGES 128		/* more than the mappings that one program can meet */

#define no_address_above (1ull << 62)

enum walk_result { WALK_ON, WALK_END, WALK_TORN, WALK_FULL };

/* All fields of a vma that are needed end here or before. The compiler moves this number
 * out of the loop and onto the stack, hence bounded(). */
#define VMA_BYTES \
	bounded(bpf_core_field_offset(struct vm_area_struct, vm_file) + 8, sizeof(__u64) * NODE_WORDS)

/* The offset is part of the load instruction: there is no number that the verifier could
 * forget. */
#define vma_word(s, field) ((__u64)((struct vm_area_struct *)(s)->walk.vma)->field)

/* 1 if `low` < `high`, else 0; both must be below 2^63. A branch here would double the
 * work of the verifier. */
static __always_inline __u64 is_below(__u64 low, __u64 high)
{
	return (low - high) >> 63;
}

/* 1 if a number is not zero, else 0. */
static __always_inline __u64 is_set(__u64 number)
{
	return (number | -number) >> 63;
}

/*
 * Decides whether the mapping in walk.vma becomes an entry, a range or nothing, by the
 * rules of mapping_wanted() in bpf/mappings.h. To avoid branches, it is written after the
 * last entry and after the last range in any case; only then the counts decide whether it
 * stays.
 */
static __always_inline int take_mapping(struct scratch *s, struct chain_config *c)
{
	struct chain_walk *w = &s->walk;
	__u64 start = vma_word(s, vm_start), end = vma_word(s, vm_end);
	__u64 flags = vma_word(s, vm_flags), page_offset = vma_word(s, vm_pgoff);
	__u64 file = vma_word(s, vm_file), has_file = is_set(file), wanted, hit, at, is_first;
	__u64 moved;
	struct event_range *entry;

	w->covered = end;
	w->seen++;
	head_step(&w->head, vma_word(s, vm_file), start, vma_word(s, vm_pgoff));
	/* A guard that sp has run into is not the stack: the stack is above it. */
	hit = is_below(w->sp, end) & (w->stack_seen ^ 1) & (flags | flags >> 1);
	w->stack_seen |= hit;
	w->stack_start |= start & -hit;
	w->stack_end |= end & -hit;
	wanted = hit | (flags >> VM_EXEC_BIT & 1) | c->all_mappings;
	hit = is_below(w->fault, end) & (w->fault_seen ^ 1);
	w->fault_seen |= hit;
	wanted |= hit | w->last_moved;
	/* Code without a file may be the program's own, moved there: the mappings next to it
	 * show that. */
	moved = (flags >> VM_EXEC_BIT & 1) & (has_file ^ 1);
	w->last_moved = moved;
	hit |= moved;
	/* The mapping below the fault was written there already: it stays. */
	at = w->entries + (hit & (w->last_wanted ^ 1));
	w->last_wanted = wanted;
	is_first = wanted & has_file & is_set(file ^ w->file);
	w->file ^= (w->file ^ file) & -is_first;
	w->file_number ^= (w->file_number ^ (at + 1 + w->flushed)) & -is_first;
	w->entries = at + is_first;
	keep(at);
	at &= MAX_ENTRIES - 1;
	entry = &s->entries[at];
	entry->start = start;
	entry->end = end;
	entry->vm_flags = flags;
	entry->page_offset = page_offset;
	entry->file = file;
	entry->head = w->head.address;
	at = w->ranges;
	w->ranges = at + (wanted & (is_first ^ 1));
	keep(at);
	at &= MAX_RANGES - 1;
	entry = (struct event_range *)(s->out + sizeof(struct part)) + at;
	entry->start = start;
	entry->end = end;
	entry->vm_flags = flags;
	entry->page_offset = page_offset;
	entry->file = w->file_number & -has_file;
	entry->head = w->head.address;
	/* Room for one more, with the mapping below it. */
	return w->entries > MAX_ENTRIES - 2 ? WALK_FULL : WALK_ON;
}

static __always_inline void walk_begin(struct scratch *s, struct mm_struct *mm)
{
	struct chain_walk *w = &s->walk;

	w->mm = (__u64)mm;
	w->last_wanted = 1; /* there is no previous mapping to keep */
	w->highest = s->header.start_stack;
	if (bpf_core_field_exists(mm->highest_vm_end))
		w->highest = BPF_CORE_READ(mm, highest_vm_end);
	if (bpf_core_field_exists(mm->mmap))
		w->next = (__u64)BPF_CORE_READ(mm, mmap);
	w->fault = s->header.siginfo;
	/* A fault whose handler failed, or raised the signal again. */
	if ((s->header.flags & HEADER_FIRST_FAULT) && !has_address(s->header.code))
		w->fault = s->header.first.address;
	if (w->fault > no_address_above)
		w->fault = no_address_above;
	if (w->sp > no_address_above)
		w->sp = no_address_above;
}

/* Makes room if there are more files than entries: sends the entries without names, and
 * keeps only the first ones. */
static __always_inline void flush_entries(void *ctx, struct scratch *s)
{
	struct chain_walk *w = &s->walk;

	send_entries(ctx, s);
	w->flushed += w->entries - KEPT_ENTRIES;
	w->sent += w->entries - KEPT_ENTRIES;
	w->entries = KEPT_ENTRIES;
}

/* Sends the ranges and goes on to the next step; the result is that of go_on(). */
static __always_inline int walk_end(void *ctx, struct scratch *s, struct chain_config *c, int result)
{
	struct chain_walk *w = &s->walk;

	if (w->ranges) {
		w->sent += w->ranges;
		s->out_bytes = sizeof(struct part) + w->ranges * sizeof(struct event_range);
		w->ranges = 0;
		send_out(ctx, s, PART_RANGES, LOST_RING_MAPPINGS);
	}
	if (result == WALK_FULL)
		flush_entries(ctx, s);
	if (result != WALK_END) {
		if (!is_short_of_calls(s, c, WALK_CALLS) && go_on(ctx, s, c, STEP_WALK))
			return 1;
		s->end.lost |= result == WALK_TORN ? LOST_WALK_TORN : LOST_WALK_CUT;
	}
	return go_on(ctx, s, c, STEP_STACK);
}

/* Up to 6.0 the mappings are a list, sorted by address. */
static __always_inline int list_step(struct scratch *s, struct chain_config *c)
{
	struct chain_walk *w = &s->walk;
	__u64 start, end;

	if (!w->next)
		return w->covered < w->highest ? WALK_TORN : WALK_END;
	if (bpf_probe_read_kernel(w->vma, VMA_BYTES, (void *)w->next))
		return WALK_TORN;
	start = vma_word(s, vm_start);
	end = vma_word(s, vm_end);
	if (end <= start || end >> 57)
		return WALK_TORN;
	if (bpf_core_field_exists(struct vm_area_struct, vm_mm))
		if (vma_word(s, vm_mm) != w->mm)
			return WALK_TORN;
	w->next = vma_word(s, vm_next);
	if (start < w->covered)
		return WALK_ON; /* seen before the walk began again at the head */
	return take_mapping(s, c);
}

static __always_inline int walk_list(void *ctx, struct scratch *s, struct chain_config *c)
{
	struct mm_struct *mm = (void *)s->walk.mm;
	int result;

	for (;;) {
		result = list_step(s, c);
		if (result != WALK_ON)
			break;
		end_round(0, out);
	}
out:
	if (result == WALK_TORN) {
		s->walk.retries++;
		s->walk.next = (__u64)BPF_CORE_READ(mm, mmap);
	}
	if (walk_end(ctx, s, c, result))
		return SEEN;
	return finish(ctx, s, c);
}

/* Starts over at the root, after the last good mapping. */
static __always_inline int tree_retry(struct chain_walk *w)
{
	w->in_leaf = 0;
	w->node_entry = 0;
	w->next = w->covered;
	w->done = 0;
	return ++w->retries > MAX_RETRIES ? WALK_TORN : WALK_ON;
}

/* One step of a binary search for the first pivot that is not below walk.next. The pivots
 * end at their number, or at a zero before that. The last one may be all ones: its top bit
 * is cleared so that is_below() can compare it. */
static __always_inline void halve(struct chain_walk *w, __u32 pivot_at, __u32 pivots, __u64 step)
{
	__u64 at = w->child + step - 1;
	__u64 pivot = w->node[(pivot_at + at) & (NODE_WORDS - 1)] & ~0ull >> 1;

	w->child += step & -(is_below(at, pivots) & is_set(pivot) & is_below(pivot, w->next));
}

/* Finds the child of a node that holds walk.next, and where that child ends. */
static __always_inline void child_of(struct chain_walk *w, __u32 pivot_at, __u32 pivots)
{
	__u64 pivot;

	w->child = 0;
	halve(w, pivot_at, pivots, 8);
	halve(w, pivot_at, pivots, 4);
	halve(w, pivot_at, pivots, 2);
	halve(w, pivot_at, pivots, 1);
	pivot = w->node[(pivot_at + w->child) & (NODE_WORDS - 1)];
	if (w->child < pivots && pivot)
		w->node_max = pivot;
}

/*
 * The layout of an inner node; the result is 0 if the type is one. The two types share the
 * code: after a branch the verifier would follow all of the unrolled walk twice.
 */
static __always_inline int inner_layout(struct node_layout *layout, __u32 type)
{
	const __u32 range_pivot = field_at(maple_range_64, pivot);
	const __u32 range_slot = field_at(maple_range_64, slot);
	const __u32 more_pivot = field_at(maple_arange_64, pivot) - range_pivot;
	const __u32 more_slot = field_at(maple_arange_64, slot) - range_slot;
	__u32 is_arange = type & 1;

	if (type >> 1 != NODE_RANGE >> 1)
		return -1;
	layout->pivots = RANGE_PIVOTS - (RANGE_PIVOTS - ARANGE_PIVOTS) * is_arange;
	layout->pivot_at = range_pivot + more_pivot * is_arange;
	layout->slots_at = range_slot + more_slot * is_arange;
	return 0;
}

/* From 6.1 on: descends one level towards the leaf that holds walk.next. */
static __always_inline int tree_descend(struct scratch *s)
{
	struct chain_walk *w = &s->walk;
	struct node_layout layout;
	__u64 entry = w->node_entry;

	if (!entry) {
		struct mm_struct *mm = (void *)w->mm;

		entry = (__u64)BPF_CORE_READ(mm, mm_mt.ma_root);
		w->node_max = ~0ull;
		w->level = 0;
		if (!is_internal(entry))
			return WALK_END;
	}
	if (entry <= RESERVED_ENTRIES || ++w->level > MAX_LEVELS)
		return tree_retry(w);
	if (read_node(w->node, entry))
		return tree_retry(w);
	if (node_type(entry) == NODE_LEAF) {
		w->in_leaf = 1;
		w->node_entry = 0;
		w->slot = 0;
		return WALK_ON;
	}
	if (inner_layout(&layout, node_type(entry)))
		return tree_retry(w);
	w->slots_at = layout.slots_at;
	child_of(w, layout.pivot_at, layout.pivots);
	w->node_entry = w->node[(w->slots_at + w->child) & (NODE_WORDS - 1)];
	return WALK_ON;
}

/* Looks at the next slot of the leaf. */
static __always_inline int leaf_step(struct scratch *s, struct chain_config *c)
{
	struct chain_walk *w = &s->walk;
	const __u32 pivot_at = bpf_core_field_offset(struct maple_range_64, pivot) / 8;
	const __u32 slot_at = bpf_core_field_offset(struct maple_range_64, slot) / 8;
	__u64 slot = w->slot, last = w->node_max, entry;

	if (slot < NODE_SLOTS - 1) {
		last = w->node[(pivot_at + slot) & (NODE_WORDS - 1)];
		if (!last && slot)
			last = w->node_max;
	}
	entry = w->node[(slot_at + slot) & (NODE_WORDS - 1)];
	w->slot = slot + 1;
	if (last >= w->node_max || slot >= NODE_SLOTS - 1) {
		w->in_leaf = 0;
		w->node_entry = 0;
		w->next = w->node_max + 1;
		w->done = w->node_max == ~0ull;
	}
	if (entry <= RESERVED_ENTRIES || is_internal(entry))
		return WALK_ON;
	if (bpf_probe_read_kernel(w->vma, VMA_BYTES, (void *)entry))
		return tree_retry(w);
	if (vma_word(s, vm_mm) != w->mm || vma_word(s, vm_end) != last + 1 ||
	    vma_word(s, vm_start) > last)
		return tree_retry(w);
	if (last < w->covered)
		return WALK_ON; /* seen before a retry */
	return take_mapping(s, c);
}

/* Nothing is mapped above the first stack but the vDSO. */
static __always_inline int tree_ended(struct chain_walk *w)
{
	if (!w->done)
		return WALK_ON;
	return w->covered > w->highest ? WALK_END : tree_retry(w);
}

static __always_inline int walk_tree(void *ctx, struct scratch *s, struct chain_config *c)
{
	struct chain_walk *w = &s->walk;
	int result = WALK_ON;

	for (;;) {
		for (;;) {
			if (w->in_leaf)
				break;
			result = tree_descend(s);
			if (result != WALK_ON)
				goto out;
			end_round(TREE_LEVELS, in_leaf);
		}
in_leaf:
		for (;;) {
			if (!w->in_leaf)
				break;
			result = leaf_step(s, c);
			if (result != WALK_ON)
				goto out;
			end_round(LEAF_SLOTS, leaf_done);
		}
leaf_done:
		result = tree_ended(w);
		if (result != WALK_ON)
			goto out;
		end_round(TREE_ROUNDS, out);
	}
out:
	if (walk_end(ctx, s, c, result))
		return SEEN;
	return finish(ctx, s, c);
}

#endif
