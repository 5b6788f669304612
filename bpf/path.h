/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * Names of files and cgroups, read from the leaf upward into scratch.out.
 *
 * d_path() cannot be called here. This reads the same links without its locks, so it may
 * meet a rename in progress: at worst it mixes the old path with the new one.
 */
#ifndef SEGFAULT_PATH_H
#define SEGFAULT_PATH_H

#include "hidden.h"
#include "scratch.h"

#define MAX_COMPONENTS 128

/* Appends one component; nonzero when nothing more fits. */
static __always_inline int path_append(struct scratch *s, const void *name)
{
	__u32 at = s->out_bytes & (OUT_BYTES - 1);
	long bytes = bpf_probe_read_kernel_str(&s->out[at], NAME_MAX_BYTES, name);

	if (bytes <= 0) {
		s->path.flags |= PATH_TRUNCATED;
		return 1;
	}
	s->out_bytes = at + bytes;
	s->walk.components++;
	if (s->out_bytes > OUT_BYTES - NAME_MAX_BYTES) {
		s->path.flags |= PATH_TRUNCATED;
		return 1;
	}
	return 0;
}

/* One step towards the root of the mount namespace; nonzero at its end. */
static __always_inline int path_step(struct scratch *s)
{
	struct dentry *dentry = s->path.dentry, *parent;
	struct mount *mount = s->path.mount;

	if (!s->path.layer && dentry == BPF_CORE_READ(mount, mnt.mnt_root)) {
		struct mount *above = BPF_CORE_READ(mount, mnt_parent);

		if (!above || above == mount)
			return 1;
		s->path.dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		s->path.mount = above;
		return 0;
	}
	parent = BPF_CORE_READ(dentry, d_parent);
	if (path_append(s, BPF_CORE_READ(dentry, d_name.name)))
		return 1;
	if (!parent || parent == dentry) {
		s->path.flags |= PATH_DETACHED;
		return 1;
	}
	s->path.dentry = parent;
	return 0;
}

static long path_callback(__u32 step, void *unused)
{
	struct scratch *s = scratch();

	return s ? path_step(s) : 1;
}

/* Appends the struct path in kernel memory at `path`; the result is the bytes it took. */
separate int append_path(__u64 path)
{
	struct scratch *s = scratch();
	struct vfsmount *mount = 0;
	struct dentry *dentry = 0;
	struct dentry *parent;
	__u32 before;

	if (!s)
		return 0;
	before = s->out_bytes;
	read_kernel(mount, path + bpf_core_field_offset(struct path, mnt));
	read_kernel(dentry, path + bpf_core_field_offset(struct path, dentry));
	s->path.dentry = dentry;
	s->path.mount = (void *)mount - bpf_core_field_offset(struct mount, mnt);
	s->path.flags = 0;
	parent = BPF_CORE_READ(dentry, d_parent);
	/* d_unhashed() and not a root: unlinked while in use */
	if (parent != dentry && !BPF_CORE_READ(dentry, d_hash.pprev))
		s->path.flags |= PATH_DELETED;
	if (bpf_loop(MAX_COMPONENTS, path_callback, 0, 0) == MAX_COMPONENTS)
		s->path.flags |= PATH_TRUNCATED;
	return s->out_bytes - before;
}

/* One step towards the root of the cgroup tree; nonzero at its end. */
static __always_inline int cgroup_step(struct scratch *s)
{
	struct kernfs_node *node = s->path.cgroup, *parent;

	if (bpf_core_field_exists(node->parent)) {
		parent = BPF_CORE_READ(node, parent);
	} else {
		struct kernfs_node___since_6_15 *newer = (void *)node;

		if (!bpf_core_field_exists(newer->__parent))
			return 1;
		parent = BPF_CORE_READ(newer, __parent);
	}
	if (!parent)
		return 1;
	s->path.cgroup = parent;
	return path_append(s, BPF_CORE_READ(node, name));
}

static long cgroup_callback(__u32 step, void *unused)
{
	struct scratch *s = scratch();

	return s ? cgroup_step(s) : 1;
}

/* Begins a text part; its bytes are appended to out. */
static __always_inline void text_start(struct scratch *s)
{
	s->out_bytes = sizeof(struct event_text);
	s->path.flags = 0;
}

static __always_inline void text_send(struct scratch *s, __u32 kind)
{
	struct event_text *text = (struct event_text *)s->out;

	text->kind = kind;
	text->flags = s->path.flags;
	send_out(PART_TEXT, LOST_RING_TEXT);
}

static __always_inline void send_exe(struct scratch *s, struct mm_struct *mm)
{
	struct file *file = BPF_CORE_READ(mm, exe_file);

	if (!file) {
		s->end.lost |= LOST_EXE;
		return;
	}
	text_start(s);
	append_path((__u64)file + bpf_core_field_offset(struct file, f_path));
	text_send(s, TEXT_EXE);
}

static __always_inline void send_cgroup(struct scratch *s, struct task_struct *task)
{
	if (!bpf_core_field_exists(task->cgroups))
		return;
	text_start(s);
	s->path.cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn);
	if (!s->path.cgroup)
		return;
	if (bpf_loop(MAX_COMPONENTS, cgroup_callback, 0, 0) == MAX_COMPONENTS)
		s->path.flags |= PATH_TRUNCATED;
	text_send(s, TEXT_CGROUP);
}

/* The arguments as the program's memory holds them: it may have changed them. */
static __always_inline void send_cmdline(struct scratch *s)
{
	__u64 start = s->header.arg_start, bytes = argument_bytes(&s->header, s->is_narrow);
	__u8 *into = s->out + sizeof(struct event_text);

	if (!bytes) {
		if (s->header.arg_start != s->header.arg_end)
			s->end.lost |= LOST_CMDLINE;
		return;
	}
	text_start(s);
	if (bytes > PAGE_BYTES) {
		bytes = PAGE_BYTES;
		s->path.flags |= PATH_TRUNCATED;
	}
	keep(bytes);
	if (bytes > PAGE_BYTES)
		return;
	if (bpf_probe_read_user(into, bytes, (void *)start)) {
		/* Some page of it is not in memory: send what the first page holds. */
		__u64 first = PAGE_BYTES - (start & (PAGE_BYTES - 1));

		if (first < bytes)
			bytes = first;
		s->path.flags |= PATH_TRUNCATED;
		keep(bytes);
		if (bytes > PAGE_BYTES || bpf_probe_read_user(into, bytes, (void *)start)) {
			s->end.lost |= LOST_CMDLINE;
			return;
		}
	}
	s->out_bytes = sizeof(struct event_text) + bytes;
	text_send(s, TEXT_CMDLINE);
}

#endif
