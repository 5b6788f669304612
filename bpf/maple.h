/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * Nodes of the maple tree that holds a process's mappings from 6.1 on, read without a
 * lock: lib/maple_tree.c and include/linux/maple_tree.h.
 */
#ifndef SEGFAULT_MAPLE_H
#define SEGFAULT_MAPLE_H

#include "common.h"

#define MAX_LEVELS 12
#define NODE_SLOTS 16
#define RANGE_PIVOTS 15
#define ARANGE_PIVOTS 9

/* The encoding of a node in a slot. */
#define node_address(entry) ((entry) & ~0xffull)
#define node_type(entry) (((entry) >> 3) & 15)
#define NODE_LEAF 1
#define NODE_RANGE 2
#define NODE_ARANGE 3
#define RESERVED_ENTRIES 4096	/* entries up to here are not pointers */
#define is_internal(entry) (((entry) & 3) == 2)

/* The number of pivots of an inner node, and the offsets of pivots and slots in words. */
struct node_layout {
	__u32 pivots;
	__u32 pivot_at;
	__u32 slots_at;
};

/*
 * Copies a node. The result is 0 if the copy is valid: the node's parent word still equals
 * the one in the copy, and is not the node itself, as it is in a dead node.
 */
static __always_inline int read_node(__u64 *node, __u64 entry)
{
	__u64 parent = 0;

	if (bpf_probe_read_kernel(node, NODE_WORDS * sizeof(*node), (void *)node_address(entry)))
		return -1;
	read_kernel(parent, node_address(entry));
	return node_address(parent) == node_address(entry) || parent != node[0] ? -1 : 0;
}

#define field_at(type, field) ((__u32)bpf_core_field_offset(struct type, field) / 8)

#endif
