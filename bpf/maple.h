/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * A maple tree's nodes, which hold a process's mappings from 6.1 on, read without a
 * lock: lib/maple_tree.c and include/linux/maple_tree.h.
 */
#ifndef SEGFAULT_MAPLE_H
#define SEGFAULT_MAPLE_H

#include "common.h"

#define MAX_LEVELS 12
#define NODE_SLOTS 16

/* The encoding of a node in a slot. */
#define node_address(entry) ((entry) & ~0xffull)
#define node_type(entry) (((entry) >> 3) & 15)
#define NODE_LEAF 1
#define NODE_RANGE 2
#define NODE_ARANGE 3
#define RESERVED_ENTRIES 4096	/* entries up to here are not pointers */
#define is_internal(entry) (((entry) & 3) == 2)

/* Where an inner node has its pivots, and how many, and its slots; in words. */
struct node_layout {
	__u32 pivots;
	__u32 pivot_at;
	__u32 slots_at;
};

/*
 * Copies a node; 0 if it counts: after it was copied its parent word is what the copy
 * has, and is not the node itself, as in a dead node.
 */
static __always_inline int read_node(__u64 *node, __u64 entry)
{
	__u64 parent = 0;

	if (bpf_probe_read_kernel(node, NODE_WORDS * sizeof(*node), (void *)node_address(entry)))
		return -1;
	read_kernel(parent, node_address(entry));
	return node_address(parent) == node_address(entry) || parent != node[0] ? -1 : 0;
}

/* The layout of an inner node; 0 if there is one of that type. */
static __always_inline int inner_layout(struct node_layout *layout, __u32 type)
{
	layout->pivots = NODE_SLOTS - 1;
	layout->pivot_at = bpf_core_field_offset(struct maple_range_64, pivot) / 8;
	layout->slots_at = bpf_core_field_offset(struct maple_range_64, slot) / 8;
	if (type == NODE_ARANGE) {
		layout->pivots = 9;
		layout->pivot_at = bpf_core_field_offset(struct maple_arange_64, pivot) / 8;
		layout->slots_at = bpf_core_field_offset(struct maple_arange_64, slot) / 8;
	} else if (type != NODE_RANGE) {
		return -1;
	}
	return 0;
}

#endif
