/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * Names of files and cgroups, one component a step, read as in bpf/path.h.
 */
#ifndef SEGFAULT_CHAIN_PATH_H
#define SEGFAULT_CHAIN_PATH_H

#include "hidden.h"
#include "chain.h"

#define EXE_COMPONENTS 20
#define CGROUP_COMPONENTS 10

/* Appends one component; nonzero when nothing more fits. */
static __always_inline int path_append(struct scratch *s, const void *name)
{
	__u64 at = s->out_bytes;
	long bytes;

	keep(at);
	at &= OUT_BYTES - 1;
	bytes = bpf_probe_read_str(&s->out[at], NAME_MAX_BYTES, name);
	if (bytes <= 0)
		goto truncated;
	at += bytes;
	s->out_bytes = at;
	if (at <= OUT_BYTES - NAME_MAX_BYTES)
		return 0;
truncated:
	s->names.flags |= PATH_TRUNCATED;
	return 1;
}

/* Begins with the struct path in kernel memory at `path`. */
static __always_inline void path_begin(struct scratch *s, const void *path)
{
	struct vfsmount *mount = 0;
	struct dentry *dentry = 0;

	if (!bpf_core_field_exists(struct file, f_path))
		return;
	if (bpf_core_field_exists(struct path, mnt))
		read_kernel(mount, path + bpf_core_field_offset(struct path, mnt));
	if (bpf_core_field_exists(struct path, dentry))
		read_kernel(dentry, path + bpf_core_field_offset(struct path, dentry));
	s->names.dentry = (__u64)dentry;
	s->names.mount = (__u64)mount;
	if (bpf_core_field_exists(struct mount, mnt))
		s->names.mount = (__u64)((void *)mount - bpf_core_field_offset(struct mount, mnt));
	s->names.flags = 0;
	s->names.components = 0;
	if (!bpf_core_field_exists(dentry->d_hash))
		return;
	/* d_unhashed() and not a root: unlinked while in use */
	if (BPF_CORE_READ(dentry, d_parent) != dentry && !BPF_CORE_READ(dentry, d_hash.pprev))
		s->names.flags |= PATH_DELETED;
}

/* One step towards the root of the mount namespace; nonzero at its end. */
static __always_inline int path_step(struct scratch *s)
{
	struct dentry *dentry = (void *)s->names.dentry, *parent;
	struct mount *mount = (void *)s->names.mount;

	if (!bpf_core_field_exists(struct file, f_path))
		return 1;
	if (bpf_core_field_exists(mount->mnt_parent) &&
	    dentry == BPF_CORE_READ(mount, mnt.mnt_root)) {
		struct mount *above = BPF_CORE_READ(mount, mnt_parent);

		if (!above || above == mount)
			return 1;
		s->names.dentry = (__u64)BPF_CORE_READ(mount, mnt_mountpoint);
		s->names.mount = (__u64)above;
		return 0;
	}
	parent = BPF_CORE_READ(dentry, d_parent);
	if (path_append(s, BPF_CORE_READ(dentry, d_name.name)))
		return 1;
	if (!parent || parent == dentry) {
		if (bpf_core_field_exists(mount->mnt_parent))
			s->names.flags |= PATH_DETACHED;
		return 1;
	}
	s->names.dentry = (__u64)parent;
	return 0;
}

/* One step towards the root of the cgroup tree; nonzero at its end. */
static __always_inline int cgroup_step(struct scratch *s)
{
	struct kernfs_node *node = (void *)s->names.dentry, *parent = 0;
	struct kernfs_node___since_6_15 *newer = (void *)node;

	if (bpf_core_field_exists(node->parent))
		parent = BPF_CORE_READ(node, parent);
	if (bpf_core_field_exists(newer->__parent))
		parent = BPF_CORE_READ(newer, __parent);
	if (!parent)
		return 1;
	s->names.dentry = (__u64)parent;
	return path_append(s, BPF_CORE_READ(node, name));
}

static __always_inline void text_start(struct scratch *s)
{
	s->out_bytes = sizeof(struct event_text);
	s->names.flags = 0;
}

static __always_inline void text_send(void *ctx, struct scratch *s, __u32 kind)
{
	struct event_text *text = (struct event_text *)s->out;

	text->kind = kind;
	text->flags = s->names.flags;
	s->names.dentry = 0; /* otherwise the first mapping would go on with it */
	send_out(ctx, s, PART_TEXT, LOST_RING_TEXT);
}

static __always_inline void send_exe(void *ctx, struct scratch *s, struct mm_struct *mm)
{
	struct file *file = read_if_there(mm, exe_file);

	if (!bpf_core_field_exists(mm->exe_file) || !bpf_core_field_exists(file->f_path))
		return;
	if (!file) {
		s->end.lost |= LOST_EXE;
		return;
	}
	text_start(s);
	path_begin(s, (void *)file + bpf_core_field_offset(struct file, f_path));
	for (;;) {
		if (path_step(s))
			goto ended;
		end_round(EXE_COMPONENTS, cut);
	}
cut:
	s->names.flags |= PATH_TRUNCATED;
ended:
	text_send(ctx, s, TEXT_EXE);
}

static __always_inline void send_cgroup(void *ctx, struct scratch *s, struct task_struct *task)
{
	if (!bpf_core_field_exists(task->cgroups))
		return;
	text_start(s);
	s->names.dentry = (__u64)BPF_CORE_READ(task, cgroups, dfl_cgrp, kn);
	if (!s->names.dentry)
		return;
	for (;;) {
		if (cgroup_step(s))
			goto ended;
		end_round(CGROUP_COMPONENTS, cut);
	}
cut:
	s->names.flags |= PATH_TRUNCATED;
ended:
	text_send(ctx, s, TEXT_CGROUP);
}

/* The arguments as the program's memory holds them: it may have changed them. */
static __always_inline void send_cmdline(void *ctx, struct scratch *s, int is_narrow)
{
	__u64 start = s->header.arg_start, bytes = argument_bytes(&s->header, is_narrow), first;
	__u8 *into = s->out + sizeof(struct event_text);

	if (!bytes) {
		if (s->header.arg_start != s->header.arg_end)
			s->end.lost |= LOST_CMDLINE;
		return;
	}
	text_start(s);
	if (bytes > PAGE_BYTES) {
		bytes = PAGE_BYTES;
		s->names.flags |= PATH_TRUNCATED;
	}
	if (bpf_probe_read_user(into, bounded(bytes, PAGE_BYTES), (void *)start)) {
		/* Some page of it is not in memory: send what the first page holds. */
		first = PAGE_BYTES - (start & (PAGE_BYTES - 1));
		if (first < bytes)
			bytes = first;
		s->names.flags |= PATH_TRUNCATED;
		if (bpf_probe_read_user(into, bounded(bytes, PAGE_BYTES), (void *)start)) {
			s->end.lost |= LOST_CMDLINE;
			return;
		}
	}
	s->out_bytes = sizeof(struct event_text) + bytes;
	text_send(ctx, s, TEXT_CMDLINE);
}

#endif
